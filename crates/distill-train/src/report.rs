//! What an evaluation finds, and the metric that chooses by it.

use distill_eval::{ClassificationReport, LanguageModelReport, Metric, metrics};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The metric that every recipe has: what training minimises, measured without dropout.
pub const OBJECTIVE: &str = "objective";

/// What an evaluation finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// Of a classifier.
    Classification(Box<ClassificationReport>),
    /// Of a language model.
    LanguageModel(LanguageModelReport),
    /// The losses themselves, where nothing else can be measured: a student whose head has not learnt yet.
    Losses(LossReport),
}

/// The losses of a run on held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossReport {
    /// The weighted sum.
    pub objective: f64,
    /// Each of them, unweighted.
    pub losses: IndexMap<String, f64>,
}

impl Report {
    /// That of a classifier.
    pub fn classification(&self) -> Option<&ClassificationReport> {
        match self {
            Self::Classification(report) => Some(report),
            _ => None,
        }
    }

    /// The numbers that tell most, by name.
    pub fn headline(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Classification(report) => {
                vec![("accuracy", report.accuracy), ("macro_f1", report.macro_f1), ("loss", report.loss)]
            }
            Self::LanguageModel(report) => {
                vec![("loss", report.loss), ("perplexity", report.perplexity), ("accuracy", report.accuracy)]
            }
            Self::Losses(report) => vec![(OBJECTIVE, report.objective)],
        }
    }
}

/// What chooses the best model.
#[derive(Clone, Copy, Debug)]
pub enum ChosenMetric {
    /// A metric of classifiers.
    Classification(Metric),
    /// A metric of language models.
    LanguageModel(Metric<LanguageModelReport>),
    /// What training minimises.
    Objective,
}

impl ChosenMetric {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Classification(metric) => metric.name,
            Self::LanguageModel(metric) => metric.name,
            Self::Objective => OBJECTIVE,
        }
    }

    /// Its value in a report of its kind; NaN, which is never better, in another.
    pub fn value(&self, report: &Report) -> f64 {
        match (self, report) {
            (Self::Classification(metric), Report::Classification(report)) => (metric.value)(report),
            (Self::LanguageModel(metric), Report::LanguageModel(report)) => (metric.value)(report),
            (Self::Objective, Report::Losses(report)) => report.objective,
            _ => f64::NAN,
        }
    }

    /// Whether `value` is better than `best`.
    pub fn improves(&self, value: f64, best: f64) -> bool {
        match self {
            Self::Classification(metric) => metric.improves(value, best),
            Self::LanguageModel(metric) => metric.improves(value, best),
            Self::Objective => value < best,
        }
    }

    /// The metric of that name, of classifiers or of language models.
    pub fn by_name(name: &str, of_language_model: bool) -> Option<Self> {
        if name == OBJECTIVE || name.strip_prefix("eval_") == Some(OBJECTIVE) {
            return Some(Self::Objective);
        }
        match of_language_model {
            true => metrics::language_model_by_name(name).map(Self::LanguageModel),
            false => metrics::by_name(name).map(Self::Classification),
        }
    }
}
