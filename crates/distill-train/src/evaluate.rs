//! Runs a model over tokenised rows, without gradients.

use crate::error::TrainError;
use crate::examples::Examples;
use crate::objectives::{Losses, Outputs, Projection};
use crate::report::LossReport;
use crate::rows::TokenizedRows;
use crate::teacher::Teacher;
use distill_data::sequential_batches;
use distill_eval::{EvalError, LanguageModelReport, Predictions};
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
        for (position, values) in positions.iter().zip(logits_of(output.logits())) {
            logits[*position] = values;
        }
        done += positions.len() as u64;
        progress(done);
    }
    let classes = logits.first().map_or(0, Vec::len);
    Ok(Predictions::new(logits.concat(), rows.labels(), classes)?)
}

/// A language model's guesses of the tokens that are to be predicted; `model` is on a device without gradients.
///
/// # Errors
/// Those of [`predict_unless`].
pub fn guess_tokens(
    interrupt: &AtomicBool,
    model: &dyn Model,
    examples: &Examples,
    batching: Batching,
    progress: &mut dyn FnMut(u64),
) -> Result<LanguageModelReport, TrainError> {
    let (mut tokens, mut loss_sum, mut correct, mut done) = (0, 0.0, 0, 0);
    for positions in sequential_batches(examples.lengths(), batching.batch_size) {
        if interrupt.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted);
        }
        let batch = examples.batch(&positions, SAME_MASKS)?;
        let device = model.device();
        let forward = || model.forward(&batch.input(&device), ForwardOptions::default(), &mut Dropout::off());
        let losses = autocast(batching.precision, || forward().token_losses(&batch.labels));
        done += positions.len() as u64;
        for (row, loss) in losses.into_iter().enumerate() {
            let Some(loss) = loss else { continue };
            if !loss.loss.is_finite() {
                return Err(EvalError::NotFinite { row, class: 0, value: loss.loss }.into());
            }
            loss_sum += f64::from(loss.loss);
            correct += u64::from(loss.correct);
            tokens += 1;
        }
        progress(done);
    }
    Ok(LanguageModelReport::from_sums(tokens, loss_sum, correct))
}

/// The pass of which the masks of held-out rows are drawn: always the same.
const SAME_MASKS: u64 = u64::MAX;

/// The losses of a run on held-out rows, without dropout; `model` is on the device with gradients.
///
/// # Errors
/// [`TrainError::Data`] if a cache cannot be read, [`TrainError::Eval`] if a loss is not a number.
pub fn measure_losses(
    model: &dyn Model,
    examples: &Examples,
    losses: &Losses,
    teacher: Option<&Teacher>,
    projection: Option<&Projection>,
    batching: Batching,
) -> Result<LossReport, TrainError> {
    let needs = losses.needs();
    let (mut sums, mut counts) = (vec![0.0; losses.iter().count()], vec![0.0; losses.iter().count()]);
    for positions in sequential_batches(examples.lengths(), batching.batch_size) {
        let batch = examples.batch(&positions, SAME_MASKS)?;
        let teacher = teacher.map(|teacher| teacher.output(&positions, &batch)).transpose()?;
        let device = model.device();
        let targets = batch.targets(0.0, &device);
        let means = autocast(batching.precision, || {
            let output = model.forward(&batch.input(&device), needs.student, &mut Dropout::off());
            let outputs = Outputs {
                student: &output,
                teacher: teacher.as_ref(),
                needs: &needs,
                projection,
                targets: &targets,
            };
            losses.total(&outputs, &batch.counts).1
        });
        for (loss, ((mean, sum), count)) in losses.iter().zip(means.iter().zip(&mut sums).zip(&mut counts)) {
            let units = batch.counts.of(loss.objective.unit()) as f64;
            *sum += mean * units;
            *count += units;
        }
    }
    let means =
        losses.iter().zip(sums.iter().zip(&counts)).map(|(loss, (sum, count))| (loss, sum / count.max(1.0)));
    let means: Vec<_> = means.collect();
    let objective = means.iter().map(|(loss, mean)| loss.weight * mean).sum::<f64>();
    if !objective.is_finite() {
        return Err(EvalError::NotFinite { row: 0, class: 0, value: objective as f32 }.into());
    }
    Ok(LossReport {
        objective,
        losses: means.into_iter().map(|(loss, mean)| (loss.name.clone(), mean)).collect(),
    })
}

/// The rows of a `[rows, classes]` tensor.
pub(crate) fn logits_of(logits: burn::tensor::Tensor<2>) -> Vec<Vec<f32>> {
    let [_, classes] = logits.dims();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks(classes.max(1)).map(<[f32]>::to_vec).collect()
}
