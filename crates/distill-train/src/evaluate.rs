//! Runs a model over tokenised rows, without gradients.

use crate::error::TrainError;
use crate::rows::TokenizedRows;
use distill_data::sequential_batches;
use distill_eval::Predictions;
use distill_models::{ForwardOptions, Model, ModelInput};
use distill_ops::{Dropout, Precision, autocast};
use std::sync::atomic::{AtomicBool, Ordering};

/// How batches are made for a model and run.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Rows a batch.
    pub batch_size: usize,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// What matrix products multiply in.
    pub precision: Precision,
}

/// Logits of every row, in the order of the rows.
///
/// `model` is on a device without gradients ([`Model::eval_copy`]). `progress` hears how many rows are done.
///
/// # Errors
/// [`TrainError::Data`] if the token cache cannot be read, [`TrainError::Eval`] if a logit is not a number.
pub fn predict_rows(
    model: &dyn Model,
    rows: &TokenizedRows,
    batching: Batching,
    progress: &mut dyn FnMut(u64),
) -> Result<Predictions, TrainError> {
    predict_unless(&AtomicBool::new(false), model, rows, batching, progress)
}

/// [`predict_rows`] that gives up once `interrupt` is set.
///
/// # Errors
/// [`TrainError::Interrupted`], and those of [`predict_rows`].
pub fn predict_unless(
    interrupt: &AtomicBool,
    model: &dyn Model,
    rows: &TokenizedRows,
    batching: Batching,
    progress: &mut dyn FnMut(u64),
) -> Result<Predictions, TrainError> {
    let mut logits: Vec<Vec<f32>> = vec![Vec::new(); rows.len()];
    let mut done = 0;
    for positions in sequential_batches(rows.lengths(), batching.batch_size) {
        if interrupt.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted);
        }
        let batch = rows.batch(&positions, batching.pad_token_id, batching.max_length)?;
        let shape = [batch.batch_size, batch.sequence_length];
        let types = Some(batch.token_type_ids.as_slice());
        let input = ModelInput::new(&batch.input_ids, &batch.attention_mask, types, shape, &model.device());
        let forward = || model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
        let output = autocast(batching.precision, forward);
        for (position, values) in positions.iter().zip(logits_of(output.logits)) {
            logits[*position] = values;
        }
        done += positions.len() as u64;
        progress(done);
    }
    let classes = logits.first().map_or(0, Vec::len);
    Ok(Predictions::new(logits.concat(), rows.labels(), classes)?)
}

/// The rows of a `[rows, classes]` tensor.
pub(crate) fn logits_of(logits: burn::tensor::Tensor<2>) -> Vec<Vec<f32>> {
    let [_, classes] = logits.dims();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks(classes.max(1)).map(<[f32]>::to_vec).collect()
}
