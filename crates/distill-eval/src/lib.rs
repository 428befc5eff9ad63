//! Metrics of classification, language modelling and text generation.
//!
//! Model outputs enter as [`Predictions`], which are checked once; everything after that
//! cannot fail. [`ClassificationReport`] holds every metric of a data set,
//! [`LanguageModelReport`] those of a language model, [`GenerationReport`] those of the texts that
//! one wrote, [`answers`] tells whether an answer is right, and [`metrics`] finds one by the name that a recipe gives (`metric_for_best_model`).

pub mod answers;
mod error;
mod generated_text;
mod generation_report;
mod language_model_report;
pub mod metrics;
mod predictions;
mod rationale_report;
mod report;
mod seeds;
mod text;

pub use error::EvalError;
pub use generated_text::GeneratedText;
pub use generation_report::GenerationReport;
pub use language_model_report::LanguageModelReport;
pub use metrics::{Metric, by_name};
pub use predictions::{Predictions, softmax};
pub use rationale_report::{Choice, ExplainedAnswer, RationaleReport};
pub use report::{ClassReport, ClassificationReport};
pub use seeds::SeedSummary;
