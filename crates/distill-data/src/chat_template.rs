//! Conversations as the text that a model was trained on, by the template of its tokenizer.
//!
//! Templates are Jinja, rendered as Transformers does (`utils/chat_template_utils.py`): blocks take
//! the white space around them along, and templates may call Python's methods of strings,
//! `raise_exception`, `strftime_now` and `tojson`.
mod functions;

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Value, context};
use serde_json::Value as Json;

use crate::language_row::{Message, Role};

const NAME: &str = "chat_template";

/// A template that makes one text of a conversation.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// `bos_token` and the like, by role.
    special_tokens: Vec<(String, String)>,
}

/// Whether the text goes on to where the model is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationPrompt {
    /// It does, by what begins a message of the assistant: `add_generation_prompt=True`.
    Add,
    /// It ends with the last message.
    Omit,
}

/// A chat template that cannot be used, or a conversation that it refuses.
#[derive(Debug, thiserror::Error)]
pub enum ChatTemplateError {
    /// The template is not one.
    #[error("the chat template cannot be read: {message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The template refuses a conversation.
    #[error("the chat template refuses the conversation: {message}")]
    Render {
        /// What the template, or its interpreter, says.
        message: String,
    },
    /// A message changes when others follow it.
    #[error(
        "what the model writes of message {number} cannot be told: the chat template renders it \
         in another way when messages follow, or without its content"
    )]
    NotIncremental {
        /// The message, from 1.
        number: usize,
    },
}

impl ChatTemplate {
    /// Reads a template; `special_tokens` are the names that it may use, such as `bos_token`, with
    /// their tokens.
    ///
    /// # Errors
    /// [`ChatTemplateError::Invalid`] for a mistake of syntax.
    pub fn new(
        source: impl Into<String>,
        special_tokens: Vec<(String, String)>,
    ) -> Result<Self, ChatTemplateError> {
        let source = source.into();
        let invalid = |error: minijinja::Error| ChatTemplateError::Invalid { message: error.to_string() };
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(invalid)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", functions::raise_exception);
        environment.add_function("strftime_now", functions::strftime_now);
        environment.add_filter("tojson", functions::to_json);
        environment.add_template_owned(NAME, without_generation_tags(&source)).map_err(invalid)?;
        Ok(Self { environment, source, special_tokens })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// [`ChatTemplateError::Render`] if the template refuses it.
    pub fn render(
        &self,
        messages: &[Message],
        prompt: GenerationPrompt,
    ) -> Result<String, ChatTemplateError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.content.as_str() })
            .collect();
        let special =
            self.special_tokens.iter().map(|(role, token)| (role.as_str(), Value::from(token.as_str())));
        let rest = [
            ("messages", Value::from(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", (prompt == GenerationPrompt::Add).into()),
        ];
        let context: BTreeMap<&str, Value> = special.chain(rest).collect();
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(Value::from(context))).map_err(|error| {
            // What the template itself says stands without the interpreter's words around it.
            let message = match error.kind() {
                functions::RAISED => error.detail().map(str::to_owned),
                _ => None,
            };
            ChatTemplateError::Render { message: message.unwrap_or_else(|| error.to_string()) }
        })
    }

    /// The text of a conversation, and the bytes of it that the assistant writes.
    ///
    /// That is what comes between the text with a generation prompt before a message, and the text
    /// up to the message: its content with what ends the turn.
    ///
    /// # Errors
    /// [`ChatTemplateError::Render`] if the template refuses a part of the conversation;
    /// [`ChatTemplateError::NotIncremental`] if the text of a part is no beginning of the whole.
    pub fn render_answers(
        &self,
        messages: &[Message],
    ) -> Result<(String, Vec<Range<usize>>), ChatTemplateError> {
        let whole = self.render(messages, GenerationPrompt::Omit)?;
        let mut answers = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            let not_incremental = || ChatTemplateError::NotIncremental { number: index + 1 };
            let with = self.render(&messages[..=index], GenerationPrompt::Omit)?;
            let without = match index {
                // Many templates refuse a conversation of no message.
                0 => String::new(),
                _ => self.render(&messages[..index], GenerationPrompt::Add)?,
            };
            if !whole.starts_with(&with) || !with.starts_with(&without) {
                return Err(not_incremental());
            }
            let has_prompt =
                index > 0 && without != self.render(&messages[..index], GenerationPrompt::Omit)?;
            let start = match has_prompt {
                true => without.len(),
                // A template that knows no generation prompt: the content tells where it begins.
                false => {
                    let within = with[without.len()..].find(message.content.trim());
                    without.len() + within.ok_or_else(not_incremental)?
                }
            };
            answers.push(start..with.len());
        }
        Ok((whole, answers))
    }
}

/// The template without `{% generation %}` and `{% endgeneration %}`, which only mark the answers for
/// Transformers: in their place stand tags without effect, as white space goes by tags.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end + 2);
        let inner = &tag[2..end];
        text.push_str(before);
        match inner.trim_matches(['-', '+']).trim() {
            "generation" | "endgeneration" => {
                let sign = |found: Option<char>| found.filter(|sign| "+-".contains(*sign)).map(String::from);
                let (left, right) = (sign(inner.chars().next()), sign(inner.chars().next_back()));
                text.push_str(&format!(
                    "{{%{} set generation_tag = true {}%}}",
                    left.unwrap_or_default(),
                    right.unwrap_or_default()
                ));
            }
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text + rest
}

/// The template that `chat_template` of `tokenizer_config.json` holds: a text, or the one called
/// `default` of several.
pub(crate) fn configured(value: &Json) -> Result<Option<&str>, ChatTemplateError> {
    let invalid = |message: String| ChatTemplateError::Invalid { message };
    match value {
        Json::Null => Ok(None),
        Json::String(source) => Ok(Some(source)),
        Json::Array(templates) => {
            let name = |template: &Json| Some(template.get("name")?.as_str()?.to_owned());
            let default = templates.iter().find(|template| name(template).as_deref() == Some("default"));
            let source = default.and_then(|template| template.get("template")?.as_str());
            source.map(Some).ok_or_else(|| {
                let names: Vec<String> =
                    templates.iter().filter_map(name).map(|name| format!("`{name}`")).collect();
                invalid(format!("none of the templates ({}) is called `default`", names.join(", ")))
            })
        }
        _ => Err(invalid("`chat_template` of `tokenizer_config.json` is neither text nor list".to_owned())),
    }
}

#[cfg(test)]
mod tests;
