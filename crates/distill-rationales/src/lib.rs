//! Rationales asked of a teacher: a large model explains its answers, a small one learns from both
//! (Hsieh et al. 2023, "Distilling Step-by-Step!", arXiv:2305.02301).
//!
//! The way of a row: [`rows`] reads it, [`prompt`] makes a question of it, after [`examples`] of how
//! to answer; a [`teacher`] writes a reply, for example one behind an [`endpoint`], which tries again
//! by [`retry`] and keeps to a [`pace`]; [`journal`] keeps the reply, so that no row is asked twice;
//! [`reply`] finds rationale and answer in it, and [`output`] writes the files. [`session`] runs it all, within a [`cost`].
pub mod cost;
pub mod endpoint;
pub mod error;
pub mod examples;
mod http_date;
pub mod journal;
pub mod output;
pub mod pace;
pub mod prompt;
pub mod reply;
pub mod retry;
pub mod rows;
pub mod session;
pub mod teacher;

pub use cost::{Estimate, Prices, Usage};
pub use endpoint::{Address, ApiKey, DEFAULT_API_KEY_ENV, Endpoint, EndpointConfig};
pub use error::RationaleError;
pub use examples::{Example, drawn_examples, read_examples};
pub use journal::{Journal, Kept, Start};
pub use output::{Keep, OutputColumns, Summary, side_file, write_output};
pub use pace::{Clock, Pace, SystemClock};
pub use prompt::{Content, Form, GoldInPrompt, Prompt, PromptSettings, Prompter};
pub use reply::{Parsed, ReplyReader, Unparsed, usual_comparison};
pub use retry::RetryPolicy;
pub use rows::{Columns, Row, Rows};
pub use session::{Ended, Event, Limits, Session, Stopped};
pub use teacher::{Asked, Heard, Reply, Teacher, TeacherError};
