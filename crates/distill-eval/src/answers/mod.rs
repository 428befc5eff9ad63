//! Answers: what a text answers, whether it is right, and whether a rationale speaks against it.
//!
//! [`Compare`] is the one word that a task chooses; the rest are its parts.

mod choice;
mod compare;
mod contradiction;
mod expression;
mod plain_text;
mod stated_value;
mod sum_tokens;

pub use choice::{chosen, named};
pub use compare::Compare;
pub use contradiction::contradicts;
pub use expression::{same_value, value};
pub use plain_text::{normalized, same_text};
pub use stated_value::stated_value;
