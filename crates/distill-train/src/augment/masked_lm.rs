//! Candidates by masked language model: what it thinks most probable where the word was.

use super::places::{Row, Vocabulary};
use super::ranking::best;
use super::{AugmentSettings, TrainError};
use burn::tensor::{Int, Tensor, TensorData};
use distill_data::{collate_sequences, sequential_batches};
use distill_models::{ForwardOptions, Model, ModelInput};
use distill_ops::{Dropout, Precision, autocast};
use std::sync::atomic::{AtomicBool, Ordering};

/// Most passes over a row; each masks a seventh of its words, about as many as in pretraining (15%).
const PASSES: usize = 7;

/// Most logits of one batch, in numbers: 256 MiB of f32.
const MOST_LOGITS: usize = 1 << 26;

/// A masked language model that is asked for words.
pub(super) struct MaskedLm {
    pub(super) model: Box<dyn Model>,
    pub(super) precision: Precision,
    pub(super) mask_token_id: u32,
    pub(super) pad_token_id: u32,
    pub(super) vocab_size: usize,
}

/// One pass over one row: every so-manieth of its words is masked, so that what is left around each is most.
struct Pass {
    row: usize,
    first: usize,
    step: usize,
}

impl Pass {
    /// Numbers of the places that are masked.
    fn places(&self, row: &Row) -> impl Iterator<Item = usize> + use<> {
        (self.first..row.places.len()).step_by(self.step)
    }
}

impl MaskedLm {
    /// The candidates of each place of each row; `progress` hears what fraction of the work is done.
    pub(super) fn candidates(
        &self,
        rows: &[Row],
        vocabulary: &Vocabulary,
        settings: &AugmentSettings,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Vec<Vec<u32>>>, TrainError> {
        let mut found: Vec<Vec<Vec<u32>>> =
            rows.iter().map(|row| vec![Vec::new(); row.places.len()]).collect();
        let mut passes = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let step = row.places.len().min(PASSES);
            passes.extend((0..step).map(|first| Pass { row: number, first, step }));
        }
        let lengths: Vec<u32> = passes.iter().map(|pass| rows[pass.row].ids.len() as u32).collect();
        let mut done = 0;
        for batch in sequential_batches(&lengths, settings.batch_size) {
            let longest = lengths[batch[0]].next_multiple_of(8) as usize;
            let fits = (MOST_LOGITS / (longest * self.vocab_size).max(1)).max(1);
            for part in batch.chunks(fits) {
                if interrupt.load(Ordering::Relaxed) {
                    return Err(TrainError::Interrupted);
                }
                let part: Vec<&Pass> = part.iter().map(|&position| &passes[position]).collect();
                self.ask(rows, &part, vocabulary, settings, &mut found)?;
                done += part.len();
                progress(done as f64 / passes.len() as f64);
            }
        }
        Ok(found)
    }

    /// One batch: every masked place of `passes` gets its candidates.
    fn ask(
        &self,
        rows: &[Row],
        passes: &[&Pass],
        vocabulary: &Vocabulary,
        settings: &AugmentSettings,
        found: &mut [Vec<Vec<u32>>],
    ) -> Result<(), TrainError> {
        let masked = |pass: &&Pass| {
            let row = &rows[pass.row];
            let mut ids = row.ids.clone();
            for place in pass.places(row) {
                ids[row.places[place].token] = self.mask_token_id;
            }
            ids
        };
        let sequences: Vec<Vec<u32>> = passes.iter().map(masked).collect();
        let padding = crate::rows::padding(self.pad_token_id, settings.max_length);
        let batch = collate_sequences(&sequences, 0, &padding)?;
        let shape = [batch.batch_size, batch.sequence_length];
        let device = self.model.device();
        let input = ModelInput::new(&batch.input_ids, &batch.attention_mask, None, shape, &device);
        let mut asked = Vec::new();
        for (line, pass) in passes.iter().enumerate() {
            let row = &rows[pass.row];
            for place in pass.places(row) {
                let token = line * batch.sequence_length + row.places[place].token;
                asked.push((pass.row, place, token as i64));
            }
        }
        let tokens: Vec<i64> = asked.iter().map(|(_, _, token)| *token).collect();
        let tokens = TensorData::new(tokens, [asked.len()]);
        let tokens = Tensor::<1, Int>::from_data(tokens, &device);
        let forward = || self.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
        let logits = autocast(self.precision, forward).logits().select(0, tokens);
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        for ((row, place, _), logits) in asked.into_iter().zip(logits.chunks(self.vocab_size)) {
            let own = rows[row].places[place].id;
            let others = vocabulary.ids().iter().filter(|&&id| id != own);
            let scores = others.filter_map(|&id| Some((id, *logits.get(id as usize)?)));
            found[row][place] = best(scores, settings.candidates);
        }
        Ok(())
    }
}
