//! The teacher of a run: read and checked before it, asked in each step.
//!
//! [`PreparedTeacher`] knows sizes, labels and files without having loaded any weights; with the tokenised rows it
//! becomes a [`Teacher`], which either remembers its logits ([`cache`]) or runs along.

mod cache;
mod live;
mod of_run;
mod prepared;
mod top_k;

pub use cache::{CachedLogits, LogitKey, teacher_cache};
pub use live::{Asked, Caching, Teacher, TeacherRows};
pub(crate) use of_run::Teachers;
pub use prepared::{PreparedTeacher, TeacherSource, prepare_teachers};
