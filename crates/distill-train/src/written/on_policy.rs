//! Steps that train on what the student itself writes; Agarwal et al. 2023, algorithm 1 (arXiv:2306.13649).

use super::prompts::Beginning;
use super::writing::{Writing, row_of};
use crate::error::TrainError;
use crate::examples::{Examples, LabelledBatch};
use crate::objectives::Losses;
use crate::prepare::Prepared;
use distill_models::Model;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::atomic::AtomicBool;

/// Tells this purpose from others that are keyed by the same seed.
const PURPOSE: u64 = 0x6f6e_706f_6c69_6379;

/// The student as the writer of what it is corrected on.
pub(crate) struct OnPolicy {
    /// The part of the steps, a fraction.
    fraction: f64,
    seed: u64,
    beginning: Beginning,
    writing: Writing,
    /// What is minimised in these steps: what compares with the teacher; labels there are none.
    pub(crate) losses: Losses,
}

impl OnPolicy {
    /// That of a run, if it has such steps.
    ///
    /// # Errors
    /// None that preparing the run did not tell.
    pub(crate) fn of(prepared: &Prepared) -> Result<Option<Self>, TrainError> {
        let fraction = super::on_policy(&prepared.recipe);
        let Some(distill) = prepared.recipe.distill.as_ref().filter(|_| fraction > 0.0) else {
            return Ok(None);
        };
        let texts = distill.table.student_texts.clone().unwrap_or_default();
        Ok(Some(Self {
            fraction,
            seed: prepared.recipe.seed,
            beginning: Beginning::of_run(prepared, texts.prompt_tokens),
            writing: Writing::new(prepared, &prepared.loaded.config, &texts, 1.0),
            losses: prepared.losses_again()?.comparing(&prepared.loss_configs),
        }))
    }

    /// Whether a step is one of them: the same for the same seed, whatever came before.
    pub(crate) fn takes(&self, step: u64) -> bool {
        let unit = (self.random(step, u64::MAX) >> 11) as f64 / (1u64 << 53) as f64;
        unit < self.fraction
    }

    /// What the student writes after the beginnings of the examples at these positions, to be learnt.
    ///
    /// # Errors
    /// Tokens that cannot be read, logits that are not numbers.
    pub(crate) fn batch(
        &self,
        model: &dyn Model,
        examples: &Examples,
        positions: &[usize],
        [step, micro_step]: [u64; 2],
    ) -> Result<LabelledBatch, TrainError> {
        let beginnings = examples.texts(positions)?.into_iter().map(|text| self.beginning.of(&text));
        let prompts: Vec<Vec<u32>> = beginnings.filter(|prompt| !prompt.is_empty()).collect();
        let seed = self.random(step, micro_step);
        let model = model.eval_copy();
        // A step that was begun is done: what interrupts a run waits for its end.
        let on = AtomicBool::new(false);
        let written = self.writing.write(model.as_ref(), &prompts, 0, seed, &on, &mut |_| {})?;
        let rows = prompts.iter().zip(&written).map(|(prompt, written)| row_of(prompt, written));
        examples.batch_of(&rows.collect::<Vec<_>>())
    }

    fn random(&self, step: u64, micro_step: u64) -> u64 {
        let mut key = [0; 32];
        for (slot, part) in key.chunks_exact_mut(8).zip([self.seed, PURPOSE, step, micro_step]) {
            slot.copy_from_slice(&part.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key).next_u64()
    }
}
