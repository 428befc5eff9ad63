//! Batches of training or validation rows with what is to be predicted of them.

use crate::error::TrainError;
use crate::objectives::{StepCounts, Targets};
use crate::rows::TokenizedRows;
use burn::tensor::Device;
use distill_data::{Batch, IGNORED_LABEL, Masking};
use distill_models::ModelInput;

/// Rows, and how their labels are found.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Their tokens.
    pub rows: TokenizedRows,
    /// Hides tokens, for a language model; `None` where texts have labels of their own.
    pub masking: Option<Masking>,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Longest sequence, in tokens.
    pub max_length: usize,
}

/// A batch with a label for each row of the logits.
#[derive(Clone, Debug)]
pub struct LabelledBatch {
    /// Tokens, those that are hidden replaced.
    pub batch: Batch,
    /// `[batch]`, or `[batch · seq]` for a language model; −100 = ignored.
    pub labels: Vec<i64>,
    /// What losses are divided by.
    pub counts: StepCounts,
}

impl Examples {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows at these positions as they are seen in `pass`: an epoch, or a number that stays the same.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the token cache cannot be read.
    pub fn batch(&self, positions: &[usize], pass: u64) -> Result<LabelledBatch, TrainError> {
        let mut batch = self.rows.batch(positions, self.pad_token_id, self.max_length)?;
        let labels = match &self.masking {
            None => batch.labels.clone(),
            Some(masking) => {
                let mut labels = vec![IGNORED_LABEL; batch.input_ids.len()];
                let width = batch.sequence_length.max(1);
                let rows = batch.input_ids.chunks_mut(width).zip(labels.chunks_mut(width));
                for ((ids, labels), &position) in rows.zip(positions) {
                    let length = self.rows.lengths().get(position).map_or(0, |&length| length as usize);
                    let chosen = masking.mask(&mut ids[..length], position as u64, pass);
                    labels[..length].copy_from_slice(&chosen);
                }
                labels
            }
        };
        let counts = StepCounts::of_batch(&batch, &labels);
        Ok(LabelledBatch { batch, labels, counts })
    }
}

impl LabelledBatch {
    /// The tokens on a device.
    pub fn input(&self, device: &Device) -> ModelInput {
        let shape = [self.batch.batch_size, self.batch.sequence_length];
        let types = Some(self.batch.token_type_ids.as_slice());
        ModelInput::new(&self.batch.input_ids, &self.batch.attention_mask, types, shape, device)
    }

    /// What losses compare with.
    pub fn targets<'a>(&'a self, label_smoothing: f64, device: &'a Device) -> Targets<'a> {
        Targets {
            labels: &self.labels,
            attention_mask: &self.batch.attention_mask,
            shape: [self.batch.batch_size, self.batch.sequence_length],
            label_smoothing,
            device,
        }
    }
}
