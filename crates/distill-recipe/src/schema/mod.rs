//! Checks a written table against the JSON Schema of the type that it is to become.
//!
//! The schemas come from `schemars`, so that the type, the checks and `distill schema` cannot
//! drift apart. Keywords of our own travel in them: `x-aliases` (names that users know from other
//! tools, to our names; on a table or on an enumeration), `x-help` (advice for a value out of range)
//! and `x-number` (advice for a number where there can be none); `{value}` stands for the value.

mod bounds;
mod checker;
mod expected;
mod homes;
mod place;

pub(crate) use checker::{Context, check};
pub(crate) use homes::Homes;
pub(crate) use place::Place;
