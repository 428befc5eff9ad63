//! Classification metrics against scikit-learn's, those of generated texts against rouge_score's and
//! sacrebleu's, from `objectives/metrics.json` in the folder
//! that `DISTILL_GOLDEN` names (default `../shared/golden` beside the workspace).

use distill_eval::metrics::rouge::{RougeScore, RougeScores, Stemming, mean_rouge, rouge_of_best};
use distill_eval::{ClassReport, ClassificationReport, GeneratedText, GenerationReport, Predictions};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;

/// The reference is f64 printed in full; only the order of its sums may differ.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Golden {
    classification: Classification,
    generation: Generation,
}

#[derive(Deserialize)]
struct Classification {
    labels: Vec<u32>,
    predictions: Vec<u32>,
    accuracy: f64,
    f1_macro: f64,
    f1_micro: f64,
    f1_weighted: f64,
    precision_per_class: Vec<f64>,
    recall_per_class: Vec<f64>,
    f1_per_class: Vec<f64>,
    matthews: f64,
    cohen_kappa: f64,
    confusion_rows_are_labels: Vec<Vec<u64>>,
}

#[derive(Deserialize)]
struct Generation {
    references: Vec<References>,
    hypotheses: Vec<String>,
    rouge: Vec<HashMap<String, [f64; 3]>>,
    rouge_with_porter_stemmer: Vec<HashMap<String, [f64; 3]>>,
    sacrebleu: f64,
    chrf: f64,
}

/// A text may have one reference or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum References {
    One(String),
    Several(Vec<String>),
}

impl Generation {
    fn texts(&self) -> Vec<GeneratedText> {
        assert_eq!(self.references.len(), self.hypotheses.len());
        let references = self.references.iter().map(|references| match references {
            References::One(reference) => vec![reference.clone()],
            References::Several(references) => references.clone(),
        });
        let text = |(references, prediction): (_, &String)| GeneratedText {
            prediction: prediction.clone(),
            references,
        };
        references.zip(&self.hypotheses).map(text).collect()
    }
}

fn golden() -> Option<Golden> {
    let folder = std::env::var_os("DISTILL_GOLDEN")
        .map_or_else(|| PathBuf::from("../../../shared/golden"), PathBuf::from);
    let file = folder.join("objectives/metrics.json");
    if !file.exists() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: there are no reference values at `{}`; set DISTILL_GOLDEN",
            file.display()
        );
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}

/// scikit-learn lists only the classes that occur as label or prediction.
fn seen_classes(golden: &Classification) -> Vec<u32> {
    let mut classes = [golden.labels.as_slice(), &golden.predictions].concat();
    classes.sort_unstable();
    classes.dedup();
    classes
}

#[track_caller]
fn close(name: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= TOLERANCE, "{name}: found {found}, expected {expected}");
}

#[test]
fn golden_classification_metrics_equal_scikit_learn() {
    let Some(Golden { classification: golden, .. }) = golden() else { return };
    let seen = seen_classes(&golden);
    let classes = seen.iter().max().map_or(0, |&class| class as usize + 1);

    let mut logits = vec![0.0; golden.labels.len() * classes];
    for (row, &prediction) in golden.predictions.iter().enumerate() {
        logits[row * classes + prediction as usize] = 1.0;
    }
    let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let predictions = Predictions::new(logits, golden.labels.clone(), classes).unwrap();
    let report = ClassificationReport::from_predictions(&predictions, &names).unwrap();

    close("accuracy", report.accuracy, golden.accuracy);
    close("macro F1", report.macro_f1, golden.f1_macro);
    close("micro F1", report.micro_f1, golden.f1_micro);
    close("weighted F1", report.weighted_f1, golden.f1_weighted);
    close("Matthews correlation", report.mcc, golden.matthews);
    close("Cohen's kappa", report.kappa, golden.cohen_kappa);

    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    close("macro precision", report.macro_precision, mean(&golden.precision_per_class));
    close("macro recall", report.macro_recall, mean(&golden.recall_per_class));

    type OfClass = fn(&ClassReport) -> f64;
    let per_class: [(&str, OfClass, &[f64]); 3] = [
        ("precision", |class| class.precision, &golden.precision_per_class),
        ("recall", |class| class.recall, &golden.recall_per_class),
        ("F1", |class| class.f1, &golden.f1_per_class),
    ];
    for (name, value, expected) in per_class {
        assert_eq!(seen.len(), expected.len());
        for (&class, &expected) in seen.iter().zip(expected) {
            close(&format!("{name} of class {class}"), value(&report.per_class[class as usize]), expected);
        }
    }

    for (&label, row) in seen.iter().zip(&golden.confusion_rows_are_labels) {
        for (&prediction, &count) in seen.iter().zip(row) {
            assert_eq!(report.confusion_matrix[label as usize][prediction as usize], count);
        }
        assert_eq!(report.per_class[label as usize].support, row.iter().sum::<u64>());
    }
}

/// The measures of a report and its names for them, precision, recall and F-measure.
fn measures(scores: &RougeScores) -> [(&'static str, [f64; 3]); 4] {
    let values = |score: RougeScore| [score.precision, score.recall, score.f_measure];
    [
        ("rouge1", values(scores.rouge1)),
        ("rouge2", values(scores.rouge2)),
        ("rougeL", values(scores.rouge_l)),
        ("rougeLsum", values(scores.rouge_lsum)),
    ]
}

#[test]
fn golden_rouge_equals_rouge_score() {
    let Some(Golden { generation: golden, .. }) = golden() else { return };
    let texts = golden.texts();
    let cases = [(Stemming::Off, &golden.rouge), (Stemming::Porter, &golden.rouge_with_porter_stemmer)];
    for (stemming, expected) in cases {
        assert_eq!(texts.len(), expected.len());
        for (row, (text, expected)) in texts.iter().zip(expected).enumerate() {
            let found = rouge_of_best(&text.prediction, &text.references, stemming);
            for (name, found) in measures(&found) {
                for (found, expected) in found.into_iter().zip(expected[name]) {
                    close(&format!("{name} of row {row}, stemming {stemming:?}"), found, expected);
                }
            }
        }
        for (name, found) in measures(&mean_rouge(&texts, stemming)) {
            for (value, found) in found.into_iter().enumerate() {
                let sum: f64 = expected.iter().map(|row| row[name][value]).sum();
                close(&format!("mean {name}, stemming {stemming:?}"), found, sum / texts.len() as f64);
            }
        }
    }
}

#[test]
fn golden_bleu_and_chrf_equal_sacrebleu() {
    let Some(Golden { generation: golden, .. }) = golden() else { return };
    let report = GenerationReport::from_texts(&golden.texts()).unwrap();
    close("BLEU", report.bleu, golden.sacrebleu);
    close("chrF", report.chrf, golden.chrf);
}
