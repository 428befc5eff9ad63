//! Prompts continued by a model in training, in batches.

use crate::error::TrainError;
use crate::generator::{continue_prompts, rows_of, with_ends};
use crate::next_tokens::NextTokens;
use distill_data::sequential_batches;
use distill_data::tokenizer::Tokenizer;
use distill_generate::GenerationConfig;
use distill_models::{Model, ModelConfig};
use distill_ops::Precision;
use distill_recipe::TrainTable;
use std::sync::atomic::{AtomicBool, Ordering};

/// Prompts that are continued together where a recipe does not say by `eval_batch_size`: each token reads all weights, for
/// however many texts it is.
const USUAL_BATCH: usize = 16;

/// How many prompts are continued together.
pub(crate) fn prompts_together(train: &TrainTable) -> usize {
    train.eval_batch_size.unwrap_or(train.batch_size.max(USUAL_BATCH))
}

/// Hands the places of prompts to `work`, `batch_size` at a time, those of a length together: the less padding.
///
/// # Errors
/// [`TrainError::Interrupted`], and those of `work`.
pub(crate) fn in_batches(
    prompts: &[Vec<u32>],
    batch_size: usize,
    interrupt: &AtomicBool,
    work: &mut dyn FnMut(&[usize]) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let lengths: Vec<u32> = prompts.iter().map(|prompt| prompt.len() as u32).collect();
    for batch in sequential_batches(&lengths, batch_size) {
        if interrupt.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted);
        }
        work(&batch)?;
    }
    Ok(())
}

/// How prompts are continued: by the likeliest token each time, or by a search with beams.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a> {
    /// The model's configuration.
    pub(crate) config: &'a ModelConfig,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) precision: Precision,
    pub(crate) batch_size: usize,
    pub(crate) max_new_tokens: usize,
    pub(crate) num_beams: usize,
}

impl Writing<'_> {
    /// What the model writes after each prompt; `told` hears how many more are done.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`], prompts that are as long as the model reads.
    pub(crate) fn texts(
        &self,
        model: &dyn Model,
        prompts: &[Vec<u32>],
        interrupt: &AtomicBool,
        told: &mut dyn FnMut(usize),
    ) -> Result<Vec<String>, TrainError> {
        let settings = GenerationConfig {
            max_new_tokens: Some(self.max_new_tokens),
            num_beams: self.num_beams,
            ..GenerationConfig::default()
        };
        let settings = with_ends(settings, self.config, self.tokenizer);
        let mut texts = vec![String::new(); prompts.len()];
        in_batches(prompts, self.batch_size, interrupt, &mut |batch| {
            let chosen: Vec<Vec<u32>> = batch.iter().map(|&at| prompts[at].clone()).collect();
            let mut rows = self.rows(model);
            let made = continue_prompts(&mut rows, self.tokenizer, &chosen, 0, &settings, &mut |_, _| {})?;
            for (&at, generated) in batch.iter().zip(made) {
                texts[at] = generated.text;
            }
            told(batch.len());
            Ok(())
        })?;
        Ok(texts)
    }

    /// The model as generation sees it.
    pub(crate) fn rows<'m>(&self, model: &'m dyn Model) -> NextTokens<'m> {
        rows_of(model, self.config, self.precision, self.tokenizer)
    }
}
