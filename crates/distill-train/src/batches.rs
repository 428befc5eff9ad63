//! What every step of a run reads, as JSON lines: to look at, and for other programs to repeat a run.

use crate::datasets::tokenize;
use crate::error::TrainError;
use crate::events::Observer;
use crate::examples::{Examples, LabelledBatch};
use crate::plan::steps;
use crate::prepare::{Prepared, Shortage, prepare};
use crate::schedule::Schedule;
use crate::written::{TeacherTexts, on_policy};
use distill_data::{epoch_order, sequential_batches};
use distill_recipe::Recipe;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The pass of held-out rows, whose hidden tokens are always the same.
const HELD_OUT: u64 = u64::MAX;

/// Writes a line for every step (`step`, `learning_rate`, and for each row of the batch its `input_ids`, `labels` (what is
/// to be predicted at each place; −100 = nothing), `position_ids`, `segment_ids` and `attention_mask`), then one for every
/// batch of validation rows (`validation`).
///
/// # Errors
/// Whatever would stop the run before its first step, and a file that cannot be written.
pub fn write_batches(recipe: &Recipe, path: &Path, observer: &mut dyn Observer) -> Result<u64, TrainError> {
    let prepared = prepare(recipe, Shortage::Tell, observer)?;
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let datasets = tokenize(&prepared, scratch.path(), observer)?;
    if on_policy(recipe) > 0.0 {
        return Err(TrainError::Unusable {
            message: "the student writes the texts of some steps itself: they are known only then".to_owned(),
            help: "leave `on_policy` out, or set it to 0".to_owned(),
        });
    }
    let go_on = AtomicBool::new(false);
    let texts = TeacherTexts { prepared: &prepared, cache: scratch.path(), interrupt: &go_on };
    let examples = prepared.training_examples(texts.in_place_of(datasets.train.clone(), observer)?)?;
    let mut file = BufWriter::new(File::create(path).map_err(TrainError::io(path))?);
    let mut write = |line: Value| writeln!(file, "{line}").map_err(TrainError::io(path));
    let count = each_step(&prepared, &examples, &mut write)?;
    if let Some(rows) = datasets.validation {
        let held_out = prepared.examples(rows)?;
        let size = recipe.train.eval_batch_size.unwrap_or(recipe.train.batch_size);
        for positions in sequential_batches(held_out.lengths(), size) {
            let batch = held_out.batch(&positions, HELD_OUT)?;
            write(with_rows(json!({ "validation": true }), &batch))?;
        }
    }
    file.flush().map_err(TrainError::io(path))?;
    Ok(count)
}

fn each_step(
    prepared: &Prepared,
    examples: &Examples,
    write: &mut dyn FnMut(Value) -> Result<(), TrainError>,
) -> Result<u64, TrainError> {
    let (recipe, train) = (&prepared.recipe, &prepared.recipe.train);
    let steps = steps(recipe, examples.len());
    let schedule = Schedule {
        kind: train.lr_scheduler_type,
        learning_rate: train.learning_rate,
        power: train.lr_scheduler_power,
        warmup_steps: steps.warmup,
        total_steps: steps.total,
    };
    let rows = train.batch_size.saturating_mul(train.gradient_accumulation_steps);
    let mut order = (u64::MAX, Vec::new());
    for step in 0..steps.total {
        let epoch = step / steps.per_epoch;
        if order.0 != epoch {
            order = (epoch, epoch_order(examples.lengths(), rows, recipe.seed, epoch));
        }
        let rows = order.1.get((step % steps.per_epoch) as usize).map(Vec::as_slice).unwrap_or_default();
        let batch = examples.batch(rows, epoch)?;
        let line = json!({ "step": step + 1, "learning_rate": schedule.at(step) });
        write(with_rows(line, &batch))?;
    }
    Ok(steps.total)
}

/// The rows of a batch, each as a list of its own.
fn with_rows(mut line: Value, batch: &LabelledBatch) -> Value {
    let width = batch.batch.sequence_length.max(1);
    let label_width = (batch.labels.len() / batch.batch.batch_size.max(1)).max(1);
    line["input_ids"] = json!(batch.batch.input_ids.chunks(width).collect::<Vec<_>>());
    line["attention_mask"] = json!(batch.batch.attention_mask.chunks(width).collect::<Vec<_>>());
    line["labels"] = json!(batch.labels.chunks(label_width).collect::<Vec<_>>());
    if let Some((positions, segments)) = batch.packed() {
        line["position_ids"] = json!(positions.chunks(width).collect::<Vec<_>>());
        line["segment_ids"] = json!(segments.chunks(width).collect::<Vec<_>>());
    }
    line
}
