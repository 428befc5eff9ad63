//! A model at work on rows to train on.

use crate::error::TrainError;
use crate::generator::{continue_prompts, rows_of, with_ends};
use crate::prepare::Prepared;
use crate::writing::{in_batches, prompts_together};
use distill_data::marks::learnt;
use distill_data::tokenizer::Tokenizer;
use distill_generate::GenerationConfig;
use distill_models::{Model, ModelConfig, Task};
use distill_ops::Precision;
use distill_recipe::WrittenTexts;
use std::sync::atomic::AtomicBool;

/// Longest text, in tokens, where nothing is said.
const USUAL_MAX_NEW_TOKENS: usize = 128;

/// How rows are written.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    pub(super) config: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    pub(super) precision: Precision,
    /// Prompts at a time.
    pub(super) batch_size: usize,
    /// Longest row, in tokens; of an encoder-decoder longest target.
    pub(super) max_length: usize,
    pub(super) settings: GenerationConfig,
}

impl Writing {
    /// That of a model of this configuration; `temperature` is the one where none is said.
    pub(super) fn new(
        prepared: &Prepared,
        config: &ModelConfig,
        texts: &WrittenTexts,
        temperature: f64,
    ) -> Self {
        let train = &prepared.recipe.train;
        let temperature = texts.temperature.unwrap_or(temperature);
        let drawn = temperature > 0.0;
        let settings = GenerationConfig {
            max_new_tokens: Some(texts.max_new_tokens.unwrap_or(USUAL_MAX_NEW_TOKENS)),
            do_sample: drawn,
            temperature: if drawn { temperature } else { 1.0 },
            // Of all tokens: what is drawn is the model's distribution.
            top_k: 0,
            num_beams: texts.num_beams.unwrap_or(1),
            seed: prepared.recipe.seed,
            ..GenerationConfig::default()
        };
        Self {
            config: config.clone(),
            tokenizer: prepared.tokenizer.clone(),
            precision: prepared.precision,
            batch_size: prompts_together(train),
            max_length: prepared.recipe.data.max_length,
            settings: with_ends(settings, config, &prepared.tokenizer),
        }
    }

    /// What `model`, without gradients, appends to each prompt; empty where `max_length` leaves no room.
    ///
    /// Prompts are numbered from `first_prompt` in the order in which they are taken; `told` hears how many more are done.
    pub(super) fn write(
        &self,
        model: &dyn Model,
        prompts: &[Vec<u32>],
        first_prompt: usize,
        seed: u64,
        interrupt: &AtomicBool,
        told: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<u32>>, TrainError> {
        let mut written = vec![Vec::new(); prompts.len()];
        let with_room: Vec<usize> = (0..prompts.len()).filter(|&at| self.room(&prompts[at]) > 0).collect();
        let open: Vec<Vec<u32>> = with_room.iter().map(|&at| prompts[at].clone()).collect();
        let settings = GenerationConfig { seed, ..self.settings.clone() };
        let mut done = first_prompt;
        in_batches(&open, self.batch_size, interrupt, &mut |batch| {
            let chosen: Vec<Vec<u32>> = batch.iter().map(|&at| open[at].clone()).collect();
            let mut rows = rows_of(model, &self.config, self.precision, &self.tokenizer);
            let made =
                continue_prompts(&mut rows, &self.tokenizer, &chosen, done, &settings, &mut |_, _| {})?;
            for (&at, generated) in batch.iter().zip(made) {
                let row = &mut written[with_room[at]];
                *row = generated.token_ids;
                row.truncate(self.room(&open[at]));
            }
            done += chosen.len();
            told(chosen.len());
            Ok(())
        })?;
        Ok(written)
    }

    /// How many tokens there is room for after a prompt.
    fn room(&self, prompt: &[u32]) -> usize {
        match self.config.task {
            Task::Seq2SeqLm => self.max_length,
            _ => self.max_length.saturating_sub(prompt.len()),
        }
    }
}

/// A prompt and what was written after it as a row of tokens, that which was written to be learnt.
pub(super) fn row_of(prompt: &[u32], written: &[u32]) -> Vec<u32> {
    prompt.iter().copied().chain(written.iter().map(|&id| learnt(id))).collect()
}
