//! Why a command ended, and how that is told.

use crate::faults;
use crate::terminal::Paint;
use crate::terminal::table::fold;
use distill_data::DataError;
use distill_rationales::{RationaleError, TeacherError};
use distill_recipe::Faults;
use distill_train::TrainError;
use serde_json::{Value, json};
use std::error::Error;
use std::io;

/// The exit code of a command that did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Something went wrong on the way.
    Other = 1,
    /// The arguments, the recipe or the data are not usable.
    Input = 2,
    /// The user asked to stop: 128 + SIGINT, as shells count.
    Interrupted = 130,
}

/// Why a command ended before its time.
#[derive(Debug)]
pub enum Failure {
    /// A recipe with mistakes, each with its place.
    Recipe(Box<Faults>),
    /// Anything else that a message tells.
    Message(Message),
    /// Nobody reads our output any more; not worth a word.
    BrokenPipe,
}

/// What is told about a failure.
#[derive(Debug)]
pub struct Message {
    code: Code,
    text: String,
    causes: Vec<String>,
    help: Option<String>,
}

impl Failure {
    /// The user gave something that cannot be used.
    pub fn input(text: impl Into<String>) -> Self {
        Self::message(Code::Input, text)
    }

    /// The user asked to stop.
    pub fn interrupted(text: impl Into<String>) -> Self {
        Self::message(Code::Interrupted, text)
    }

    /// Something else went wrong.
    pub fn other(text: impl Into<String>) -> Self {
        Self::message(Code::Other, text)
    }

    /// A file or a stream that cannot be read or written.
    pub fn io(action: &str, what: impl std::fmt::Display, error: io::Error) -> Self {
        let missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory);
        let code = if missing { Code::Input } else { Code::Other };
        Self::Message(Message {
            code,
            text: format!("cannot {action} `{what}`"),
            causes: vec![error.to_string()],
            help: None,
        })
    }

    /// The same failure, with advice.
    pub fn with_help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Message(message) => Self::Message(Message { help: Some(help.into()), ..message }),
            other => other,
        }
    }

    /// The same failure, its place before the message.
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Message(message) => {
                Self::Message(Message { text: format!("{place}: {}", message.text), ..message })
            }
            other => other,
        }
    }

    fn message(code: Code, text: impl Into<String>) -> Self {
        Self::Message(Message { code, text: text.into(), causes: Vec::new(), help: None })
    }

    fn from_error(code: Code, error: &(dyn Error + 'static), help: Option<String>) -> Self {
        let text = error.to_string();
        Self::Message(Message { code, causes: causes(error, &text), text, help })
    }

    /// The code to exit with; `None` where nothing is wrong from the user's point of view.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Recipe(_) => Some(Code::Input),
            Self::Message(message) => Some(message.code),
            Self::BrokenPipe => None,
        }
    }

    /// The failure for people, with a line end; empty where there is nothing to say.
    pub fn render(&self, paint: Paint, width: usize) -> String {
        match self {
            Self::Recipe(found) => faults::render(found, paint, width),
            Self::Message(message) => message.render(paint, width),
            Self::BrokenPipe => String::new(),
        }
    }

    /// The failure for machines, one object a fault.
    pub fn to_json(&self) -> Vec<Value> {
        match self {
            Self::Recipe(found) => faults::to_json(found),
            Self::Message(message) => vec![json!({
                "event": if message.code == Code::Interrupted { "interrupted" } else { "error" },
                "message": message.text,
                "causes": message.causes,
                "help": message.help,
            })],
            Self::BrokenPipe => Vec::new(),
        }
    }
}

impl Message {
    fn render(&self, paint: Paint, width: usize) -> String {
        let heading = match self.code {
            Code::Interrupted => paint.yellow("interrupted:"),
            Code::Input | Code::Other => paint.red("error:"),
        };
        let mut lines = vec![format!("{heading} {}", self.text)];
        for cause in &self.causes {
            lines.push(format!("{} {cause}", paint.cyan("cause:")));
        }
        if let Some(help) = &self.help {
            lines.push(format!("{} {help}", paint.cyan("help:")));
        }
        // Lines of a message that are its author's, such as a list of differences, stay.
        let folded = lines.iter().flat_map(|line| line.lines()).map(|line| fold(line, width));
        folded.collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// The errors beneath `error`, those left out that a message above already quotes.
fn causes(error: &(dyn Error + 'static), text: &str) -> Vec<String> {
    let mut told = text.to_owned();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !told.contains(&words) {
            told.clone_from(&words);
            causes.push(words);
        }
        next = cause.source();
    }
    causes
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let code = if error.is_input() { Code::Input } else { Code::Other };
        let help = error.help();
        match error {
            TrainError::Recipe(found) => found.into(),
            error => Self::from_error(code, &error, help),
        }
    }
}

impl From<Faults> for Failure {
    fn from(found: Faults) -> Self {
        Self::Recipe(Box::new(found))
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<RationaleError> for Failure {
    fn from(error: RationaleError) -> Self {
        match error {
            RationaleError::Data(error) => error.into(),
            RationaleError::Teacher(error) => error.into(),
            RationaleError::Io { action, path, source } => Self::io(action, path.display(), source),
            error => Self::from_error(Code::Input, &error, error.help()),
        }
    }
}

/// A teacher that refuses or is not there; what is wrong with its address is the caller's to tell.
impl From<TeacherError> for Failure {
    fn from(error: TeacherError) -> Self {
        let help = error.help();
        Self::from_error(Code::Other, &error, help)
    }
}

/// An error of stdout, the only stream that is written without naming it.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::io("write to", "stdout", error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `{path}`: {source}")]
    struct Quoting {
        path: &'static str,
        source: io::Error,
    }

    #[test]
    fn a_cause_that_the_message_quotes_is_not_told_twice() {
        let error = Quoting { path: "a.csv", source: io::Error::other("the disk is gone") };
        let failure = Failure::from_error(Code::Other, &error, Some("buy another".into()));
        assert_eq!(
            failure.render(Paint::PLAIN, 80),
            "error: cannot read `a.csv`: the disk is gone\nhelp: buy another\n"
        );
    }

    #[test]
    fn a_cause_that_adds_something_is_told() {
        let failure = Failure::io("write", "out.jsonl", io::Error::other("the disk is full"));
        assert_eq!(
            failure.render(Paint::PLAIN, 80),
            "error: cannot write `out.jsonl`\ncause: the disk is full\n"
        );
        assert_eq!(failure.code(), Some(Code::Other));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.code(), None);
        assert_eq!(failure.render(Paint::PLAIN, 80), "");
    }

    #[test]
    fn missing_files_are_the_users_fault() {
        let failure = Failure::io("read", "in.jsonl", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(failure.code(), Some(Code::Input));
    }
}
