//! Rows for generative models: documents, prompts with targets, and conversations.
use serde::Serialize;
use serde_json::Value;

use crate::content::ContentHasher;
use crate::error::Place;
use crate::rationale_row::RationaleRow;

/// A row that was checked, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageRow {
    /// What is in it.
    pub parts: RowParts,
    /// Where it stands.
    pub place: Place,
}

/// What a generative model reads of a row, and what it learns to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowParts {
    /// A text of which every token is learnt; not empty.
    Document(String),
    /// A text to read and what is to be written after it.
    Pair {
        /// Not empty; never learnt.
        prompt: String,
        /// References: the first is learnt, all count where texts are scored. Empty only where
        /// targets are not asked for.
        targets: Vec<String>,
    },
    /// Messages of which those of the assistant are learnt; one or more.
    Chat(Vec<Message>),
    /// A label after one prompt, and the steps that lead to it after another.
    Rationale(Box<RationaleRow>),
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool that the model called.
    Tool,
}

impl Message {
    /// What `role` says.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

impl Role {
    /// The name in chat templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role called `name` in data: a name of its own, or ShareGPT's.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "user" | "human" => Some(Self::User),
            "assistant" | "gpt" => Some(Self::Assistant),
            "tool" | "function" => Some(Self::Tool),
            _ => None,
        }
    }
}

impl RowParts {
    /// Bytes of UTF-8 of what is learnt: the document, the first target, the assistant's messages, the label.
    pub fn learnt_bytes(&self) -> u64 {
        let bytes: usize = match self {
            Self::Document(text) => text.len(),
            Self::Pair { targets, .. } => targets.first().map_or(0, String::len),
            Self::Chat(messages) => {
                messages.iter().filter(|one| one.role == Role::Assistant).map(|one| one.content.len()).sum()
            }
            Self::Rationale(row) => row.learnt_bytes(),
        };
        bytes as u64
    }

    /// A conversation up to its last answer, and that answer; `None` for other rows, or without one.
    pub fn last_answer(&self) -> Option<(&[Message], &str)> {
        let Self::Chat(messages) = self else { return None };
        let last = messages.iter().rposition(|one| one.role == Role::Assistant)?;
        Some((&messages[..last], &messages[last].content))
    }

    pub(crate) fn hash(&self, hasher: &mut ContentHasher) {
        match self {
            Self::Document(text) => hasher.text(text),
            Self::Pair { prompt, targets } => {
                hasher.text(prompt);
                hasher.text(&targets.len().to_string());
                targets.iter().for_each(|target| hasher.text(target));
            }
            Self::Chat(messages) => {
                hasher.text(&messages.len().to_string());
                for message in messages {
                    hasher.text(message.role.name());
                    hasher.text(&message.content);
                }
            }
            Self::Rationale(row) => row.hash(hasher),
        }
    }
}

/// Reads a list of messages: `role` and `content`, or ShareGPT's `from` and `value`.
///
/// # Errors
/// What is wrong with it.
pub fn messages(value: &Value) -> Result<Vec<Message>, String> {
    let Value::Array(items) = value else {
        return Err("it is no list".to_owned());
    };
    items.iter().zip(1..).map(|(item, number)| message(item, number)).collect()
}

fn message(item: &Value, number: usize) -> Result<Message, String> {
    let text = |keys: [&str; 2]| match keys.iter().find_map(|key| Some((key, item.get(key)?))) {
        Some((_, Value::String(text))) => Ok(text),
        Some((key, _)) => Err(format!("`{key}` of message {number} is no text")),
        None => Err(format!("message {number} has no `{}` (nor `{}`)", keys[0], keys[1])),
    };
    let (name, content) = (text(["role", "from"])?, text(["content", "value"])?);
    let role = Role::from_name(name).ok_or_else(|| {
        format!(
            "message {number} is by `{name}`; allowed are `system`, `user`, `assistant`, `tool` (and `human`, `gpt`, `function`)"
        )
    })?;
    Ok(Message::new(role, content.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_of_both_layouts() {
        let ours = json!([
            {"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "x"},
            {"role": "assistant", "content": "a"}, {"role": "tool", "content": ""},
        ]);
        let share_gpt = json!([
            {"from": "system", "value": "s"}, {"from": "human", "value": "u"},
            {"from": "gpt", "value": "a"}, {"from": "function", "value": ""},
        ]);
        let found = messages(&ours).unwrap();
        assert_eq!(found, messages(&share_gpt).unwrap());
        assert_eq!(
            found.iter().map(|one| (one.role.name(), one.content.as_str())).collect::<Vec<_>>(),
            [("system", "s"), ("user", "u"), ("assistant", "a"), ("tool", "")]
        );
        let row = RowParts::Chat(found);
        assert_eq!(row.learnt_bytes(), 1);
        let (before, answer) = row.last_answer().unwrap();
        assert_eq!((before.len(), answer), (2, "a"));
    }

    #[test]
    fn faulty_messages_are_counted() {
        for (value, expected) in [
            (json!({"role": "user"}), "it is no list"),
            (json!([{"role": "user"}]), "message 1 has no `content` (nor `value`)"),
            (json!(["hello"]), "message 1 has no `role` (nor `from`)"),
            (
                json!([{"role": "user", "content": ""}, {"role": "assistant", "content": null}]),
                "`content` of message 2 is no text",
            ),
        ] {
            assert_eq!(messages(&value).unwrap_err(), expected);
        }
        let error = messages(&json!([{"role": "bot", "content": ""}])).unwrap_err();
        assert!(error.starts_with("message 1 is by `bot`; allowed are `system`"), "{error}");
    }
}
