//! What an evaluation finds, and the metric that chooses by it.

use distill_eval::{
    ClassificationReport, GenerationReport, LanguageModelReport, Metric, RationaleReport, metrics,
};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The metric that every recipe has: what training minimises, measured without dropout.
pub const OBJECTIVE: &str = "objective";

/// Which metrics measure a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricSet {
    /// Labels.
    Classification,
    /// Tokens.
    LanguageModel,
    /// Written texts, and their tokens.
    Generation,
    /// Answers, their rationales, and the tokens of labels.
    Rationale,
}

/// What an evaluation finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// Of a model that explains its answers.
    Rationale(Box<RationaleReport>),
    /// Of a classifier.
    Classification(Box<ClassificationReport>),
    /// Of a model that answers prompts.
    Generation(Box<AnswerReport>),
    /// Of a language model.
    LanguageModel(LanguageModelReport),
    /// The losses themselves, where nothing else can be measured: a student whose head has not learnt yet.
    Losses(LossReport),
}

/// Written answers compared with their references, and the references' tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerReport {
    /// The answers; where none were asked for there is nothing of them.
    #[serde(flatten)]
    pub texts: GenerationReport,
    /// The references as the model would have to write them.
    #[serde(flatten)]
    pub tokens: LanguageModelReport,
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
                let mut all = vec![
                    ("loss", report.loss),
                    ("perplexity", report.perplexity),
                    ("accuracy", report.accuracy),
                ];
                all.extend(report.bits_per_byte.map(|bits| ("bits_per_byte", bits)));
                all
            }
            Self::Generation(report) => {
                let (texts, tokens) = (&report.texts, &report.tokens);
                vec![
                    ("rougeL", texts.rouge_l),
                    ("bleu", texts.bleu),
                    ("exact_match", texts.exact_match),
                    ("loss", tokens.loss),
                    ("perplexity", tokens.perplexity),
                ]
            }
            Self::Rationale(report) => {
                // Without choices it is what was written that counts.
                let written = report.written_accuracy.filter(|_| report.accuracy_by_token.is_some());
                let optional = [
                    ("accuracy_by_token", report.accuracy_by_token),
                    ("written_accuracy", written),
                    ("contradictions", report.contradictions),
                ];
                let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
                let loss = ("loss", report.label_tokens.loss);
                std::iter::once(("accuracy", report.accuracy)).chain(optional).chain([loss]).collect()
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
    /// A metric of language models, or of the tokens of references.
    LanguageModel(Metric<LanguageModelReport>),
    /// A metric of written texts.
    Generation(Metric<GenerationReport>),
    /// A metric of explained answers.
    Rationale(Metric<RationaleReport>),
    /// What training minimises.
    Objective,
}

impl ChosenMetric {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Classification(metric) => metric.name,
            Self::LanguageModel(metric) => metric.name,
            Self::Generation(metric) => metric.name,
            Self::Rationale(metric) => metric.name,
            Self::Objective => OBJECTIVE,
        }
    }

    /// Its value in a report of its kind; NaN, which is never better, in another.
    pub fn value(&self, report: &Report) -> f64 {
        match (self, report) {
            (Self::Classification(metric), Report::Classification(report)) => (metric.value)(report),
            (Self::LanguageModel(metric), Report::LanguageModel(report)) => (metric.value)(report),
            (Self::LanguageModel(metric), Report::Generation(report)) => (metric.value)(&report.tokens),
            (Self::Generation(metric), Report::Generation(report)) => (metric.value)(&report.texts),
            (Self::LanguageModel(metric), Report::Rationale(report)) => (metric.value)(&report.label_tokens),
            (Self::Rationale(metric), Report::Rationale(report)) => (metric.value)(report),
            (Self::Objective, Report::Losses(report)) => report.objective,
            _ => f64::NAN,
        }
    }

    /// Whether `value` is better than `best`.
    pub fn improves(&self, value: f64, best: f64) -> bool {
        match self {
            Self::Classification(metric) => metric.improves(value, best),
            Self::LanguageModel(metric) => metric.improves(value, best),
            Self::Generation(metric) => metric.improves(value, best),
            Self::Rationale(metric) => metric.improves(value, best),
            Self::Objective => value < best,
        }
    }

    /// The metric of that name among those of a task.
    pub fn by_name(name: &str, set: MetricSet) -> Option<Self> {
        if name == OBJECTIVE || name.strip_prefix("eval_") == Some(OBJECTIVE) {
            return Some(Self::Objective);
        }
        let of_tokens = || metrics::language_model_by_name(name).map(Self::LanguageModel);
        match set {
            MetricSet::Classification => metrics::by_name(name).map(Self::Classification),
            MetricSet::LanguageModel => of_tokens(),
            MetricSet::Generation => {
                metrics::generation_by_name(name).map(Self::Generation).or_else(of_tokens)
            }
            MetricSet::Rationale => metrics::rationale_by_name(name).map(Self::Rationale).or_else(of_tokens),
        }
    }
}
