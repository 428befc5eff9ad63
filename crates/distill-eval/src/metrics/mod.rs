//! The metrics, one a file, and the tables in which recipes find them by name.

pub mod accuracy;
pub mod averaging;
pub mod bleu;
pub mod chrf;
pub mod cohen_kappa;
pub mod confusion_matrix;
pub mod cross_entropy;
pub mod exact_match;
pub mod expected_calibration_error;
pub mod f1;
pub mod matthews_correlation;
pub mod perplexity;
pub mod precision;
pub mod recall;
pub mod rouge;

use crate::generation_report::GenerationReport;
use crate::language_model_report::LanguageModelReport;
use crate::rationale_report::RationaleReport;
use crate::report::ClassificationReport;

/// A metric that a recipe can name, read from the report `R`.
#[derive(Debug)]
pub struct Metric<R = ClassificationReport> {
    /// Name in recipes, reports and logs.
    pub name: &'static str,
    /// Whether more is better; Hugging Face's word.
    pub greater_is_better: bool,
    /// Reads the value from a report.
    pub value: fn(&R) -> f64,
}

// Derived, these would ask the same of `R`, of which a metric holds nothing.
impl<R> Clone for Metric<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Metric<R> {}

impl<R> Metric<R> {
    const fn greater(name: &'static str, value: fn(&R) -> f64) -> Self {
        Self { name, greater_is_better: true, value }
    }

    const fn less(name: &'static str, value: fn(&R) -> f64) -> Self {
        Self { name, greater_is_better: false, value }
    }

    /// Whether `value` is better than `best`; a value that is not a number never is.
    pub fn improves(&self, value: f64, best: f64) -> bool {
        if self.greater_is_better { value > best } else { value < best }
    }
}

/// Metrics of a classifier.
pub const CLASSIFICATION: &[Metric<ClassificationReport>] = &[
    Metric::greater("accuracy", |report| report.accuracy),
    Metric::less("loss", |report| report.loss),
    Metric::greater("macro_precision", |report| report.macro_precision),
    Metric::greater("macro_recall", |report| report.macro_recall),
    Metric::greater("macro_f1", |report| report.macro_f1),
    Metric::greater("micro_precision", |report| report.micro_precision),
    Metric::greater("micro_recall", |report| report.micro_recall),
    Metric::greater("micro_f1", |report| report.micro_f1),
    Metric::greater("weighted_precision", |report| report.weighted_precision),
    Metric::greater("weighted_recall", |report| report.weighted_recall),
    Metric::greater("weighted_f1", |report| report.weighted_f1),
    Metric::greater("mcc", |report| report.mcc),
    Metric::greater("kappa", |report| report.kappa),
    Metric::less("ece", |report| report.ece),
];

/// Metrics of a language model, masked or causal.
pub const LANGUAGE_MODEL: &[Metric<LanguageModelReport>] = &[
    Metric::less("loss", |report| report.loss),
    Metric::less("perplexity", |report| report.perplexity),
    Metric::greater("accuracy", |report| report.accuracy),
];

/// Metrics of generated texts; the names of Hugging Face's `evaluate`.
pub const GENERATION_METRICS: &[Metric<GenerationReport>] = &[
    Metric::greater("exact_match", |report| report.exact_match),
    Metric::greater("rouge1", |report| report.rouge1),
    Metric::greater("rouge2", |report| report.rouge2),
    Metric::greater("rougeL", |report| report.rouge_l),
    Metric::greater("rougeLsum", |report| report.rouge_lsum),
    Metric::greater("rouge1_stemmed", |report| report.rouge1_stemmed),
    Metric::greater("rouge2_stemmed", |report| report.rouge2_stemmed),
    Metric::greater("rougeL_stemmed", |report| report.rouge_l_stemmed),
    Metric::greater("rougeLsum_stemmed", |report| report.rouge_lsum_stemmed),
    Metric::greater("bleu", |report| report.bleu),
    Metric::greater("chrf", |report| report.chrf),
];

/// Metrics of answers with their rationales, NaN where there is nothing to measure.
pub const RATIONALE: &[Metric<RationaleReport>] = &[
    Metric::greater("accuracy", |report| report.accuracy),
    Metric::greater("accuracy_by_token", |report| report.accuracy_by_token.unwrap_or(f64::NAN)),
    Metric::greater("written_accuracy", |report| report.written_accuracy.unwrap_or(f64::NAN)),
];

/// The metric of answers of that name; `eval_` before it is understood.
pub fn rationale_by_name(name: &str) -> Option<Metric<RationaleReport>> {
    find(RATIONALE, name)
}

/// The classification metric of that name; `eval_` before it, as Hugging Face writes it, is
/// understood.
pub fn by_name(name: &str) -> Option<Metric> {
    find(CLASSIFICATION, name)
}

/// The language-model metric of that name; `eval_` before it is understood.
pub fn language_model_by_name(name: &str) -> Option<Metric<LanguageModelReport>> {
    find(LANGUAGE_MODEL, name)
}

/// The metric of generated texts of that name; `eval_` before it is understood, and so are the ways
/// in which papers write it: `ROUGE-L`, `rouge_l`, `sacreBLEU`.
pub fn generation_by_name(name: &str) -> Option<Metric<GenerationReport>> {
    let letters = |name: &str| name.replace(['_', '-'], "").to_lowercase();
    let wanted = match letters(without_prefix(name)).as_str() {
        "sacrebleu" => "bleu".to_owned(),
        other => other.to_owned(),
    };
    GENERATION_METRICS.iter().find(|metric| letters(metric.name) == wanted).copied()
}

/// The names in a table, in its order.
pub fn names<R>(table: &'static [Metric<R>]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|metric| metric.name)
}

/// The names of a table that look most like a mistyped one, the nearest first; none if nothing
/// is close.
pub fn did_you_mean<R>(table: &'static [Metric<R>], name: &str) -> Vec<&'static str> {
    // Jaro-Winkler of two unrelated words stays below this; `f1_macro` and `macro_f1`, the same
    // words turned round (scikit-learn's order), are caught by the words.
    const CLOSE: f64 = 0.8;
    let name = without_prefix(name).to_lowercase();
    let likeness = |candidate: &str| match candidate.split_once('_') {
        Some((average, metric)) if name == format!("{metric}_{average}") => 1.0,
        Some((_, metric)) if name == metric => CLOSE,
        _ => strsim::jaro_winkler(&name, candidate),
    };
    let mut near: Vec<_> = names(table).map(|candidate| (likeness(candidate), candidate)).collect();
    near.retain(|(score, _)| *score >= CLOSE);
    // The sort is stable: equals keep the order of the table.
    near.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

fn find<R>(table: &'static [Metric<R>], name: &str) -> Option<Metric<R>> {
    table.iter().find(|metric| metric.name == without_prefix(name)).copied()
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix("eval_").unwrap_or(name)
}

/// `numerator / denominator`, and 0 where there is nothing to divide by
/// (scikit-learn's `zero_division=0`).
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_metric_is_found_with_and_without_the_prefix() {
        for metric in CLASSIFICATION {
            assert_eq!(by_name(metric.name).unwrap().name, metric.name);
            assert_eq!(by_name(&format!("eval_{}", metric.name)).unwrap().name, metric.name);
        }
        assert!(language_model_by_name("eval_perplexity").is_some());
        assert!(by_name("perplexity").is_none() && by_name("").is_none() && by_name("eval_").is_none());
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(names(CLASSIFICATION).collect::<HashSet<_>>().len(), CLASSIFICATION.len());
        assert_eq!(names(GENERATION_METRICS).collect::<HashSet<_>>().len(), GENERATION_METRICS.len());
    }

    #[test]
    fn losses_get_better_downwards() {
        assert!(by_name("loss").unwrap().improves(0.1, 0.2));
        assert!(by_name("ece").unwrap().improves(0.1, 0.2));
        let accuracy = by_name("accuracy").unwrap();
        assert!(accuracy.improves(0.9, 0.8) && !accuracy.improves(0.8, 0.8));
        assert!(!accuracy.improves(f64::NAN, 0.8));
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(did_you_mean(CLASSIFICATION, "acuracy")[0], "accuracy");
        assert_eq!(did_you_mean(CLASSIFICATION, "eval_f1_macro")[0], "macro_f1");
        assert_eq!(did_you_mean(CLASSIFICATION, "Accuracy")[0], "accuracy");
        assert_eq!(did_you_mean(CLASSIFICATION, "f1"), ["macro_f1", "micro_f1", "weighted_f1"]);
        assert!(did_you_mean(CLASSIFICATION, "bleu").is_empty());
        assert_eq!(did_you_mean(GENERATION_METRICS, "rogue1")[0], "rouge1");
        assert_eq!(did_you_mean(GENERATION_METRICS, "eval_match")[0], "exact_match");
        assert_eq!(did_you_mean(GENERATION_METRICS, "bleurt"), ["bleu"]);
        assert!(did_you_mean(GENERATION_METRICS, "accuracy").is_empty());
    }

    #[test]
    fn generation_metrics_go_by_their_names_in_papers() {
        for metric in GENERATION_METRICS {
            assert_eq!(generation_by_name(metric.name).unwrap().name, metric.name);
            assert_eq!(generation_by_name(&format!("eval_{}", metric.name)).unwrap().name, metric.name);
        }
        let found = |name| generation_by_name(name).map(|metric| metric.name);
        assert_eq!(found("ROUGE-L"), Some("rougeL"));
        assert_eq!(found("rouge_lsum"), Some("rougeLsum"));
        assert_eq!(found("rouge_1_stemmed"), Some("rouge1_stemmed"));
        assert_eq!(found("eval_sacrebleu"), Some("bleu"));
        assert_eq!(
            (found("chrF"), found("rouge"), found(""), found("rouge3")),
            (Some("chrf"), None, None, None)
        );
    }
}
