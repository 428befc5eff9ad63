//! What asks, and what answers.
use crate::cost::Usage;
use crate::prompt::Prompt;

/// A model that answers prompts.
pub trait Teacher {
    /// What its texts depend on: the model and how it writes, as JSON. Replies are only kept together
    /// where this is the same.
    fn identity(&self) -> serde_json::Value;

    /// Answers all prompts, in any order, several at once if it likes, and tells `heard` as it goes.
    ///
    /// A row that cannot be answered is told as [`Heard::Failed`], and the others go on.
    ///
    /// # Errors
    /// Whatever would meet every row: no such model, a wrong key, a teacher that is not there.
    fn ask(&mut self, asked: &Asked<'_>, heard: &mut dyn FnMut(Heard)) -> Result<(), TeacherError>;
}

/// The prompts that are to be answered.
pub struct Asked<'a> {
    /// How many there are.
    pub len: usize,
    /// The prompt at a position.
    pub prompt: &'a (dyn Fn(usize) -> Prompt + Sync),
    /// Asked for each position before it is worked on: whether it may be. Once it may not, neither may
    /// any other that has not begun; those that have are finished.
    pub may_begin: &'a (dyn Fn(usize) -> bool + Sync),
    /// Whether to finish at once what has begun: waiting for another try is given up.
    pub hurry: &'a (dyn Fn() -> bool + Sync),
}

/// What a teacher tells while it works; `index` is a position in [`Asked`].
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It answered.
    Reply {
        /// Which prompt.
        index: usize,
        /// The answer.
        reply: Reply,
    },
    /// It will be asked again.
    Retry {
        /// Which prompt.
        index: usize,
        /// What went wrong.
        reason: String,
        /// Seconds until then.
        wait: f64,
    },
    /// It did not answer, however often it was asked.
    Failed {
        /// Which prompt.
        index: usize,
        /// What went wrong at last.
        reason: String,
    },
    /// It was told to hurry before an answer came: nothing is wrong.
    GivenUp {
        /// Which prompt.
        index: usize,
    },
}

/// What a teacher wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The text; may be empty.
    pub text: String,
    /// Why it ended, in the teacher's words: `stop`, `length`.
    pub finish_reason: Option<String>,
    /// Tokens read and written.
    pub usage: Usage,
}

/// Why a teacher answers no row at all.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TeacherError {
    message: String,
    help: Option<String>,
}

impl TeacherError {
    /// What is wrong, and what to do about it.
    pub fn new(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help }
    }

    /// What to do.
    pub fn help(&self) -> Option<String> {
        self.help.clone()
    }
}
