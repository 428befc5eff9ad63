//! Prompts: instructions, examples of how to answer, and the question.
//!
//! The form is that of chain-of-thought prompting (Wei et al. 2022, arXiv:2201.11903): examples show
//! steps before an answer, and the reply goes on likewise. With the gold answer in the question it is
//! the rationalisation of STaR (Zelikman et al. 2022, arXiv:2203.14465, §3.2).
use distill_data::{Message, Role};
use distill_eval::answers::Compare;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cost::estimated_tokens;
use crate::examples::Example;
use crate::rows::Row;

/// Between the parts of a prompt in plain form; what follows one in a reply is no part of it.
pub const SEPARATOR: &str = "###";

/// Whether a prompt is a conversation or one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Instructions by the system, questions by the user, answers by the assistant.
    #[default]
    Chat,
    /// One text to continue, its parts separated by [`SEPARATOR`] lines: for models that know no chats.
    Plain,
}

/// How prompts are made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptSettings {
    /// Chat or plain.
    pub form: Form,
    /// What to do, and how to end; `None` is [`default_instructions`].
    pub instructions: Option<String>,
    /// What comes before the answer, on the last line; default `Answer:`.
    pub marker: String,
    /// Whether the question shows the gold answer of rows that have one.
    pub gold: GoldInPrompt,
}

/// Whether a prompt shows the gold answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GoldInPrompt {
    /// The teacher finds its own answer, which can be wrong.
    #[default]
    Hidden,
    /// The teacher explains the right one.
    Shown,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self {
            form: Form::Chat,
            instructions: None,
            marker: "Answer:".to_owned(),
            gold: GoldInPrompt::Hidden,
        }
    }
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// Number of its row, from 0.
    pub row: usize,
    /// What the teacher reads.
    pub content: Content,
}

/// What a teacher reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A conversation to answer.
    Chat(Vec<Message>),
    /// A text to continue.
    Plain(String),
}

impl Content {
    /// About how many tokens it has, as [`estimated_tokens`], with four a message for its frame.
    pub fn estimated_tokens(&self) -> u64 {
        match self {
            Self::Chat(messages) => {
                messages.iter().map(|message| 4 + estimated_tokens(&message.content)).sum()
            }
            Self::Plain(text) => estimated_tokens(text),
        }
    }

    /// SHA-256 in hexadecimal, its first 16 digits.
    pub fn digest(&self) -> String {
        match self {
            Self::Chat(messages) => {
                let parts = messages.iter().flat_map(|message| [message.role.name(), &message.content]);
                digest(&["chat"], parts)
            }
            Self::Plain(text) => digest(&["plain"], [text.as_str()]),
        }
    }
}

/// Makes the prompts.
#[derive(Debug, Clone)]
pub struct Prompter {
    settings: PromptSettings,
    instructions: String,
    examples: Vec<Example>,
}

impl Prompter {
    /// Prompts with `examples` before each question; `compare` is what the default instructions ask for.
    pub fn new(settings: PromptSettings, examples: Vec<Example>, compare: Compare) -> Self {
        let default = || default_instructions(compare, &settings.marker);
        let instructions = settings.instructions.clone().unwrap_or_else(default);
        Self { settings, instructions, examples }
    }

    /// The prompt of a row; `number` is its own, from 0.
    pub fn prompt(&self, number: usize, row: &Row) -> Prompt {
        let question = self.question(&row.question, row.gold.as_deref());
        Prompt { row: number, content: self.content(question) }
    }

    /// SHA-256 in hexadecimal of all that prompts share, its first 16 digits.
    pub fn digest(&self) -> String {
        self.content(String::new()).digest()
    }

    /// What comes before an answer.
    pub fn marker(&self) -> &str {
        &self.settings.marker
    }

    fn question(&self, question: &str, gold: Option<&str>) -> String {
        match gold.filter(|_| self.settings.gold == GoldInPrompt::Shown) {
            Some(gold) => format!(
                "{question}\n\nThe correct answer is: {gold}\nExplain the steps that lead to it as if you had found it \
                 yourself."
            ),
            None => question.to_owned(),
        }
    }

    fn content(&self, question: String) -> Content {
        let shown = self.examples.iter().map(|example| {
            let question = self.question(&example.question, Some(&example.answer));
            (question, format!("{}\n{} {}", example.rationale, self.settings.marker, example.answer))
        });
        match self.settings.form {
            Form::Chat => {
                let mut messages = Vec::new();
                if !self.instructions.is_empty() {
                    messages.push(Message::new(Role::System, &self.instructions));
                }
                for (question, answer) in shown {
                    messages.push(Message::new(Role::User, question));
                    messages.push(Message::new(Role::Assistant, answer));
                }
                messages.push(Message::new(Role::User, question));
                Content::Chat(messages)
            }
            Form::Plain => {
                let mut parts = Vec::new();
                if !self.instructions.is_empty() {
                    parts.push(self.instructions.clone());
                }
                parts.extend(shown.map(|(question, answer)| format!("{question}\n\n{answer}")));
                parts.push(format!("{question}\n\n"));
                Content::Plain(parts.join(&format!("\n\n{SEPARATOR}\n\n")))
            }
        }
    }
}

/// What a teacher is told where nobody says otherwise.
pub fn default_instructions(compare: Compare, marker: &str) -> String {
    let answer = match compare {
        Compare::Choice => "one of the choices, in its own words",
        Compare::Expression => "a number or an arithmetic expression and nothing else",
        Compare::Text => "the answer alone, as short as possible",
    };
    format!(
        "Answer the question. First explain in a few short sentences, step by step, how to find the answer. Then write \
         a last line that begins with `{marker}`, followed by {answer}."
    )
}

/// SHA-256 of texts with their lengths, so that no two lists of texts are alike; its first 16 digits.
fn digest<'a>(heads: &[&'a str], texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in heads.iter().copied().chain(texts) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Columns;
    use crate::rows::tests::rows;
    use serde_json::json;

    fn row() -> Row {
        rows(&[json!({"question": "2 + 2?", "answer": "4"})], &Columns::default()).unwrap().rows.remove(0)
    }

    fn example() -> Example {
        Example { question: "1 + 1?".into(), rationale: "1 and 1 are 2.".into(), answer: "2".into() }
    }

    fn prompter(form: Form, gold: GoldInPrompt, instructions: &str) -> Prompter {
        let settings = PromptSettings {
            form,
            gold,
            instructions: Some(instructions.into()),
            ..PromptSettings::default()
        };
        Prompter::new(settings, vec![example()], Compare::Expression)
    }

    #[test]
    fn a_chat_has_the_examples_as_turns() {
        let Content::Chat(messages) =
            prompter(Form::Chat, GoldInPrompt::Hidden, "Do.").prompt(3, &row()).content
        else {
            panic!("a chat")
        };
        let expected = [
            (Role::System, "Do."),
            (Role::User, "1 + 1?"),
            (Role::Assistant, "1 and 1 are 2.\nAnswer: 2"),
            (Role::User, "2 + 2?"),
        ];
        assert_eq!(messages, expected.map(|(role, text)| Message::new(role, text)));
    }

    #[test]
    fn a_plain_text_has_them_one_after_the_other() {
        let content = prompter(Form::Plain, GoldInPrompt::Hidden, "Do.").prompt(0, &row()).content;
        let text = "Do.\n\n###\n\n1 + 1?\n\n1 and 1 are 2.\nAnswer: 2\n\n###\n\n2 + 2?\n\n";
        assert_eq!(content, Content::Plain(text.into()));
        let bare = prompter(Form::Plain, GoldInPrompt::Hidden, "").prompt(0, &row()).content;
        assert_eq!(bare, Content::Plain(text.replace("Do.\n\n###\n\n", "")));
    }

    #[test]
    fn the_gold_answer_is_shown_if_asked_for() {
        let Content::Plain(text) = prompter(Form::Plain, GoldInPrompt::Shown, "").prompt(0, &row()).content
        else {
            panic!("a text")
        };
        assert!(text.contains("1 + 1?\n\nThe correct answer is: 2\n"), "{text}");
        assert!(text.contains("2 + 2?\n\nThe correct answer is: 4\n"), "{text}");
        let no_gold = Row { gold: None, ..row() };
        let Content::Plain(text) = prompter(Form::Plain, GoldInPrompt::Shown, "").prompt(0, &no_gold).content
        else {
            panic!("a text")
        };
        assert!(text.ends_with("###\n\n2 + 2?\n\n"), "{text}");
    }

    #[test]
    fn default_instructions_name_marker_and_kind() {
        let prompter = Prompter::new(PromptSettings::default(), Vec::new(), Compare::Choice);
        let Content::Chat(messages) = prompter.prompt(0, &row()).content else { panic!("a chat") };
        assert!(messages[0].content.contains("`Answer:`, followed by one of the choices"), "{messages:?}");
    }

    #[test]
    fn digests_tell_all_that_is_shared_apart() {
        let base = || prompter(Form::Chat, GoldInPrompt::Hidden, "Do.");
        let others = [
            prompter(Form::Plain, GoldInPrompt::Hidden, "Do."),
            prompter(Form::Chat, GoldInPrompt::Shown, "Do."),
            prompter(Form::Chat, GoldInPrompt::Hidden, "Do"),
            Prompter { examples: Vec::new(), ..base() },
        ];
        assert_eq!(base().digest(), base().digest());
        assert!(others.iter().all(|other| other.digest() != base().digest()));
        assert_ne!(digest(&[], ["ab", ""]), digest(&[], ["a", "b"]));
    }

    #[test]
    fn tokens_are_estimated_with_the_frames_of_messages() {
        let content = prompter(Form::Chat, GoldInPrompt::Hidden, "").prompt(0, &row()).content;
        assert_eq!(content.estimated_tokens(), 3 * 4 + 2 + 6 + 2);
    }
}
