//! Held-out prompts answered by the model, and the answers compared with their references.

use crate::checkpoint::write_file;
use crate::error::TrainError;
use crate::rows::{Rows, TokenizedRows};
use crate::writing::Writing;
use distill_data::RowParts;
use distill_data::marks::{id, is_learnt};
use distill_eval::{GeneratedText, GenerationReport};
use distill_models::Model;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A prompt, its answer and its references.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    row: usize,
    prompt: String,
    prediction: String,
    references: Vec<String>,
}

/// Answers these rows, of which `positions` says the places in `tokens`; in their order.
///
/// # Errors
/// [`TrainError::Interrupted`], data that can no longer be read, prompts that are as long as the model reads.
pub(crate) fn answer(
    writing: &Writing<'_>,
    model: &dyn Model,
    rows: &Rows,
    tokens: &TokenizedRows,
    positions: &[usize],
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Answer>, TrainError> {
    let model = model.eval_copy();
    let prompts: Vec<Vec<u32>> = positions
        .iter()
        .map(|&position| {
            let row = tokens.read(position)?;
            let end = row.iter().position(|token| is_learnt(*token)).unwrap_or(row.len());
            Ok(row[..end].iter().map(|token| id(*token)).collect())
        })
        .collect::<Result<_, TrainError>>()?;
    let mut done = 0;
    let mut told = |rows: usize| {
        done += rows as u64;
        progress(done);
    };
    let texts = writing.texts(model.as_ref(), &prompts, interrupt, &mut told)?;
    beside_references(rows, positions, texts)
}

fn beside_references(
    rows: &Rows,
    positions: &[usize],
    texts: Vec<String>,
) -> Result<Vec<Answer>, TrainError> {
    let mut wanted: Vec<Option<Answer>> = texts.iter().map(|_| None).collect();
    let mut place_of = vec![None; rows.len()];
    for (at, &position) in positions.iter().enumerate() {
        place_of[position] = Some(at);
    }
    let (mut texts, mut position) = (texts, 0);
    rows.for_each_row(&mut |row, parts| {
        if let (Some(at), RowParts::Pair { prompt, targets }) = (place_of[position], parts) {
            let prediction = std::mem::take(&mut texts[at]).trim().to_owned();
            let references = targets.iter().map(|target| target.trim().to_owned()).collect();
            wanted[at] = Some(Answer { row, prompt: prompt.clone(), prediction, references });
        }
        position += 1;
        Ok(())
    })?;
    Ok(wanted.into_iter().flatten().collect())
}

/// What the answers score.
///
/// # Errors
/// [`TrainError::Eval`] if there is none, or one without a reference.
pub(crate) fn score(answers: &[Answer]) -> Result<GenerationReport, TrainError> {
    let text = |answer: &Answer| GeneratedText {
        prediction: answer.prediction.clone(),
        references: answer.references.clone(),
    };
    let texts: Vec<GeneratedText> = answers.iter().map(text).collect();
    Ok(GenerationReport::from_texts(&texts)?)
}

/// Writes a JSON line for each answer.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn write_answers(path: &Path, answers: &[Answer]) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut bytes, answer).map_err(|error| TrainError::io(path)(error.into()))?;
        bytes.push(b'\n');
    }
    write_file(path, &bytes)
}
