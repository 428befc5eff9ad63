//! Classification metrics against scikit-learn's, from `objectives/metrics.json` in the folder
//! that `DISTILL_GOLDEN` names (default `../shared/golden` beside the workspace).

use distill_eval::{ClassReport, ClassificationReport, Predictions};
use serde::Deserialize;
use std::io::Write as _;
use std::path::PathBuf;

/// The reference is f64 printed in full; only the order of its sums may differ.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Golden {
    classification: Classification,
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

fn golden() -> Option<Classification> {
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
    let golden: Golden = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    Some(golden.classification)
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
    let Some(golden) = golden() else { return };
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
