//! `predictions.jsonl`: what the kept model says of every row of the test set.

use crate::checkpoint::write_file;
use crate::error::TrainError;
use crate::rows::Rows;
use distill_eval::{Predictions, softmax};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Line<'a> {
    row: usize,
    text: &'a str,
    label: &'a str,
    prediction: &'a str,
    score: f64,
    logits: &'a [f32],
}

/// Writes a line a row: the text, its label, the prediction, its probability and all logits. The files are read again
/// for their texts.
///
/// # Errors
/// [`TrainError::Io`], or [`TrainError::Data`] if a file can no longer be read.
pub fn write_predictions(
    path: &Path,
    rows: &Rows,
    predictions: &Predictions,
    names: &[String],
) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    let name = |id: u32| names.get(id as usize).map_or("", String::as_str);
    let answers = predictions.top_classes();
    let mut answers = predictions.logit_rows().zip(predictions.labels()).zip(answers);
    rows.for_each_text(&mut |row, text| {
        let Some(((logits, label), answer)) = answers.next() else { return Ok(()) };
        let score = softmax(logits).get(answer as usize).copied().unwrap_or_default();
        let line = Line { row, text, label: name(*label), prediction: name(answer), score, logits };
        serde_json::to_writer(&mut bytes, &line).map_err(|error| TrainError::io(path)(error.into()))?;
        bytes.push(b'\n');
        Ok(())
    })?;
    write_file(path, &bytes)
}
