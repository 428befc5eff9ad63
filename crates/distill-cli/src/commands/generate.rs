//! `distill generate`: texts that continue or answer others, as a stream.

mod conversation;

use super::Context;
use super::dtype::Dtype;
use super::generation_arguments::GenerationArguments;
use crate::failure::Failure;
use crate::json_rows::{JsonRows, RowFormat, RowSource, kind, missing, text_of};
use crate::sink::Sink;
use crate::threads;
use clap::{Args, ValueEnum};
use distill_data::{Message, Role};
use distill_generate::{FinishReason, Generated, GenerationConfig};
use distill_train::{Generator, Prompt};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Continue texts or answer them, or talk with a model
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// Output folder of a run, a checkpoint, a Hugging Face folder or a hub id
    #[arg(value_name = "MODEL")]
    model: String,
    /// A text to continue, or with `--chat` to answer; may be given more than once
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    prompt: Vec<String>,
    /// File of JSON lines, each with a key `prompt` or, with `--chat`, `messages`; `-` is stdin, which is also read if it is a pipe
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Put prompts in the model's chat template, as what a user says; without prompts, talk on the terminal
    #[arg(long)]
    chat: bool,
    /// What the model is told before a chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Write texts while they grow, one after the other [default: if stdout is a terminal]
    #[arg(long, overrides_with = "no_stream", conflicts_with = "output")]
    stream: bool,
    /// Write texts when they are complete
    #[arg(long)]
    no_stream: bool,
    /// How texts are written [default: json with --input, else text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// File to write instead of stdout; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Prompts that are continued together
    #[arg(long, value_name = "N", default_value = "8")]
    batch_size: NonZeroUsize,
    /// Where to compute: auto, flex, ndarray, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// What matrix products multiply in
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Dtype::Auto)]
    dtype: Dtype,
    #[command(flatten)]
    settings: GenerationArguments,
}

const EXAMPLES: &str = "\
Examples:
  distill generate HuggingFaceTB/SmolLM2-135M --prompt \"The capital of France is\"
  distill generate checkpoints/abstracts --input prompts.jsonl --output texts.jsonl --num-beams 4
  distill generate HuggingFaceTB/SmolLM2-135M-Instruct --chat --temperature 0.7 --top-p 0.9

Input:   {\"prompt\": \"The capital of France is\"}    other keys are allowed and not read
         {\"messages\": [{\"role\": \"user\", \"content\": \"Which is the capital of France?\"}]}
Output:  {\"text\": \" Paris.\", \"finish_reason\": \"eos\", \"tokens\": 3}     with beams also \"score\": -0.2
A line a text, in order; as text, a line `---` between several. Finish reasons are eos, stop_string and length. A bad line
ends the command with exit code 2, after the lines before it. Ctrl-D ends a conversation.";

/// How texts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As they are
    Text,
    /// JSON lines
    Json,
}

/// Where the prompts come from.
enum Source {
    Prompts(Vec<Prompt>),
    Rows(RowSource),
    /// Someone at the terminal.
    Conversation,
}

/// A line of the output.
#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    finish_reason: FinishReason,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl Generate {
    /// Writes the texts.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let source = self.source()?;
        let mut observer = context.voice.observer();
        let loaded = Generator::load(&self.model, &self.device, self.dtype.into(), observer.as_mut());
        drop(observer);
        let mut generator = loaded?;
        let config = self.settings.over(generator.generation_config().clone())?;
        let format = self.format(&source);
        if matches!(source, Source::Conversation) {
            return conversation::hold(&mut generator, &config, self.system.as_deref());
        }
        let streams = self.streams(format, &config)?;
        let sink = Sink::open(self.output.as_deref())?;
        let mut writer = Writer { sink, format, streams, written: 0, prompts: 0 };
        // A stream is read as it grows, so one text after the other.
        let batch_size = if streams { 1 } else { self.batch_size.get() };
        match source {
            Source::Conversation => {}
            Source::Prompts(prompts) => {
                for batch in prompts.chunks(batch_size) {
                    writer.generate(&mut generator, &config, batch)?;
                }
            }
            Source::Rows(source) => {
                let mut rows = JsonRows::read(source, batch_size, self.row_format());
                loop {
                    let batch: Vec<Prompt> =
                        rows.next_batch()?.into_iter().map(|prompt| self.told(prompt)).collect();
                    if batch.is_empty() {
                        break;
                    }
                    writer.generate(&mut generator, &config, &batch)?;
                }
            }
        }
        writer.sink.finish()
    }

    fn source(&self) -> Result<Source, Failure> {
        if let Some(number) = self.prompt.iter().position(String::is_empty) {
            return Err(Failure::input(format!("`--prompt` number {} is empty", number + 1)));
        }
        if !self.prompt.is_empty() {
            let prompt = |text: &String| {
                self.told(if self.chat { asked(text.clone()) } else { Prompt::Text(text.clone()) })
            };
            return Ok(Source::Prompts(self.prompt.iter().map(prompt).collect()));
        }
        if let Some(source) = RowSource::open(self.input.as_deref())? {
            return Ok(Source::Rows(source));
        }
        if !self.chat {
            return Err(Failure::input("there is no text to continue").with_help(
                "give `--prompt \"...\"` or `--input FILE`, pipe JSON lines in, or talk with `--chat`",
            ));
        }
        if self.output.is_some()
            || self.no_stream
            || self.format == Some(Format::Json)
            || !io::stdout().is_terminal()
        {
            return Err(Failure::input("a conversation takes place on the terminal").with_help(
                "give what is to be answered by `--prompt \"...\"` or `--input FILE`, or leave out `--output`, \
                 `--no-stream` and `--format json`",
            ));
        }
        Ok(Source::Conversation)
    }

    /// The prompt with `--system` before it, unless it has a system message of its own.
    fn told(&self, prompt: Prompt) -> Prompt {
        match (prompt, &self.system) {
            (Prompt::Chat(mut messages), Some(system))
                if messages.first().is_none_or(|first| first.role != Role::System) =>
            {
                messages.insert(0, Message::new(Role::System, system));
                Prompt::Chat(messages)
            }
            (prompt, _) => prompt,
        }
    }

    fn row_format(&self) -> RowFormat<Prompt> {
        if self.chat {
            RowFormat { example: r#"{"messages": [{"role": "user", "content": "..."}]}"#, parse: chat_of }
        } else {
            let parse = |object: &Map<String, Value>| text_of(object, "prompt").map(Prompt::Text);
            RowFormat { example: r#"{"prompt": "..."}"#, parse }
        }
    }

    fn format(&self, source: &Source) -> Format {
        let usual = if matches!(source, Source::Rows(_)) { Format::Json } else { Format::Text };
        self.format.unwrap_or(usual)
    }

    fn streams(&self, format: Format, config: &GenerationConfig) -> Result<bool, Failure> {
        let can = format == Format::Text && config.num_return_sequences == 1;
        if self.stream && !can {
            return Err(Failure::input("`--stream` writes one text at a time, as text")
                .with_help("leave it out, or write `--format text --num-return-sequences 1`"));
        }
        let usual = self.output.is_none() && io::stdout().is_terminal();
        Ok(can && !self.no_stream && (self.stream || usual))
    }
}

/// What a user says, as a chat.
fn asked(text: String) -> Prompt {
    Prompt::Chat(vec![Message::new(Role::User, text)])
}

/// A chat out of `messages`, or out of `prompt` as what a user says.
fn chat_of(object: &Map<String, Value>) -> Result<Prompt, Failure> {
    let Some(messages) = object.get("messages") else {
        if !object.contains_key("prompt") {
            return Err(missing(object, "`messages` or `prompt`"));
        }
        return text_of(object, "prompt").map(asked);
    };
    let Value::Array(messages) = messages else {
        return Err(Failure::input(format!("key `messages` holds {}, expected a list", kind(messages))));
    };
    if messages.is_empty() {
        return Err(Failure::input("key `messages` holds an empty list"));
    }
    let message = |(number, value): (usize, &Value)| {
        message_of(value).map_err(|failure| failure.at(&format!("message {}", number + 1)))
    };
    Ok(Prompt::Chat(messages.iter().enumerate().map(message).collect::<Result<_, _>>()?))
}

fn message_of(value: &Value) -> Result<Message, Failure> {
    let Value::Object(object) = value else {
        return Err(Failure::input(format!("expected a JSON object, found {}", kind(value))));
    };
    let role = match text_of(object, "role")?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            return Err(Failure::input(format!(
                "unknown role `{other}`; roles are `system`, `user`, `assistant` and `tool`"
            )));
        }
    };
    Ok(Message::new(role, text_of(object, "content")?))
}

/// Generates and writes, a batch at a time.
struct Writer {
    sink: Sink,
    format: Format,
    streams: bool,
    /// Texts so far.
    written: usize,
    /// Prompts so far.
    prompts: usize,
}

impl Writer {
    fn generate(
        &mut self,
        generator: &mut Generator,
        config: &GenerationConfig,
        prompts: &[Prompt],
    ) -> Result<(), Failure> {
        let first_prompt = self.prompts;
        self.prompts += prompts.len();
        if self.streams {
            return self.stream(generator, config, prompts, first_prompt);
        }
        let texts = generator.generate(prompts, first_prompt, config, &mut |_, _| ())?;
        let mut lines = Vec::new();
        for text in &texts {
            self.line(text, &mut lines)?;
        }
        self.sink.write(&lines)
    }

    fn stream(
        &mut self,
        generator: &mut Generator,
        config: &GenerationConfig,
        prompts: &[Prompt],
        first_prompt: usize,
    ) -> Result<(), Failure> {
        self.sink.write(self.between().as_bytes())?;
        self.written += 1;
        let mut result = Ok(());
        generator.generate(prompts, first_prompt, config, &mut |_, text| {
            if result.is_ok() && !text.is_empty() {
                result = self.sink.write(text.as_bytes());
            }
        })?;
        result?;
        self.sink.write(b"\n")
    }

    fn between(&self) -> &'static str {
        if self.format == Format::Text && self.written > 0 { "---\n" } else { "" }
    }

    fn line(&mut self, generated: &Generated, lines: &mut Vec<u8>) -> Result<(), Failure> {
        lines.extend(self.between().as_bytes());
        self.written += 1;
        match self.format {
            Format::Text => lines.extend(generated.text.as_bytes()),
            Format::Json => {
                let Generated { token_ids, text, finish_reason, score } = generated;
                let answer =
                    Answer { text, finish_reason: *finish_reason, tokens: token_ids.len(), score: *score };
                serde_json::to_writer(&mut *lines, &answer)
                    .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            }
        }
        lines.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    fn chat(line: &str) -> Result<Vec<(Role, String)>, String> {
        let Value::Object(object) = serde_json::from_str(line).unwrap() else { panic!("an object") };
        match chat_of(&object) {
            Ok(Prompt::Chat(messages)) => {
                Ok(messages.into_iter().map(|message| (message.role, message.content)).collect())
            }
            Ok(Prompt::Text(text)) => panic!("`{text}` is no chat"),
            Err(failure) => Err(failure.render(Paint::PLAIN, 200)),
        }
    }

    #[test]
    fn rows_are_chats() {
        assert_eq!(chat(r#"{"prompt": "hi"}"#).unwrap(), [(Role::User, "hi".to_owned())]);
        let line =
            r#"{"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]}"#;
        let expected = [(Role::System, "be kind".to_owned()), (Role::User, "hi".to_owned())];
        assert_eq!(chat(line).unwrap(), expected);
    }

    #[test]
    fn bad_chats_say_what_is_wrong() {
        for (line, message) in [
            (r#"{"text": "a"}"#, "error: no key `messages` or `prompt`; the keys are `text`\n"),
            (r#"{"messages": "a"}"#, "error: key `messages` holds a string, expected a list\n"),
            (r#"{"messages": []}"#, "error: key `messages` holds an empty list\n"),
            (r#"{"messages": [1]}"#, "error: message 1: expected a JSON object, found a number\n"),
            (
                r#"{"messages": [{"role": "bot", "content": "a"}]}"#,
                "error: message 1: unknown role `bot`; roles are `system`, `user`, `assistant` and `tool`\n",
            ),
            (
                r#"{"messages": [{"role": "user"}]}"#,
                "error: message 1: no key `content`; the keys are `role`\n",
            ),
        ] {
            assert_eq!(chat(line).unwrap_err(), message);
        }
    }

    #[test]
    fn texts_are_written_as_asked() {
        let generated = |text: &str, score| Generated {
            token_ids: vec![1, 2],
            text: text.to_owned(),
            finish_reason: FinishReason::StopString,
            score,
        };
        let written = |format, score| {
            let mut writer = Writer { sink: Sink::Stdout, format, streams: false, written: 0, prompts: 0 };
            let mut lines = Vec::new();
            writer.line(&generated("a\nb", score), &mut lines).unwrap();
            writer.line(&generated("c", None), &mut lines).unwrap();
            String::from_utf8(lines).unwrap()
        };
        assert_eq!(written(Format::Text, None), "a\nb\n---\nc\n");
        assert_eq!(
            written(Format::Json, Some(-0.5)),
            "{\"text\":\"a\\nb\",\"finish_reason\":\"stop_string\",\"tokens\":2,\"score\":-0.5}\n\
             {\"text\":\"c\",\"finish_reason\":\"stop_string\",\"tokens\":2}\n"
        );
    }
}
