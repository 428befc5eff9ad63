//! Metrics of classification and language modelling.
//!
//! Model outputs enter as [`Predictions`], which are checked once; everything after that
//! cannot fail. [`ClassificationReport`] holds every metric of a data set,
//! [`LanguageModelReport`] those of a language model, and [`metrics`] finds one by the name that
//! a recipe gives (`metric_for_best_model`).

mod error;
mod language_model_report;
pub mod metrics;
mod predictions;
mod report;
mod seeds;

pub use error::EvalError;
pub use language_model_report::LanguageModelReport;
pub use metrics::{Metric, by_name};
pub use predictions::{Predictions, softmax};
pub use report::{ClassReport, ClassificationReport};
pub use seeds::SeedSummary;
