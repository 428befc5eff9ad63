//! The settings of a training loop, and how a recipe comes to them.

use crate::needs::activations;
use crate::objectives::Losses;
use crate::plan::steps;
use crate::prepare::Prepared;
use crate::report::ChosenMetric;
use crate::schedule::Schedule;
use distill_models::Activations;
use distill_ops::Precision;
use distill_recipe::NanPolicy;
use std::sync::Arc;

/// The settings of the loop, all decided before it begins.
#[derive(Clone, Debug)]
pub struct LoopSettings {
    /// Seed of the order of rows and of dropout.
    pub seed: u64,
    /// Optimizer steps of the run.
    pub total_steps: u64,
    /// Optimizer steps of one pass over the training rows.
    pub steps_per_epoch: u64,
    /// Rows a micro-step.
    pub batch_size: usize,
    /// Micro-steps a step.
    pub gradient_accumulation_steps: usize,
    /// Rows a batch of an evaluation.
    pub eval_batch_size: usize,
    /// Learning rate of each step.
    pub schedule: Schedule,
    /// Longest gradient; 0 = any.
    pub max_grad_norm: f64,
    /// What is minimised.
    pub losses: Arc<Losses>,
    /// Share of the target spread over all labels.
    pub label_smoothing: f64,
    /// What matrix products multiply in, those of evaluations too.
    pub precision: Precision,
    /// What the backward pass finds of the layers.
    pub activations: Activations,
    /// What to do about a loss that is not finite.
    pub on_nan: NanPolicy,
    /// Steps between two lines of `metrics.jsonl`.
    pub logging_steps: u64,
    /// Steps between two evaluations.
    pub eval_steps: u64,
    /// Steps between two checkpoints.
    pub save_steps: u64,
    /// Checkpoints kept; `None` = all.
    pub save_total_limit: Option<usize>,
    /// Chooses the best model.
    pub metric: ChosenMetric,
    /// Evaluations without an improvement that end the run; `None` = never.
    pub early_stopping_patience: Option<usize>,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// Names of the labels; none for a language model.
    pub labels: Vec<String>,
    /// Names of the losses beside those of the task.
    pub names_beside: Vec<String>,
}

impl LoopSettings {
    /// The settings of a run over so many training rows, or packed sequences.
    pub(crate) fn of(prepared: &Prepared, rows: usize) -> Self {
        let (recipe, train) = (&prepared.recipe, &prepared.recipe.train);
        let steps = steps(recipe, rows);
        Self {
            seed: recipe.seed,
            total_steps: steps.total,
            steps_per_epoch: steps.per_epoch,
            batch_size: train.batch_size,
            gradient_accumulation_steps: train.gradient_accumulation_steps,
            eval_batch_size: train.eval_batch_size.unwrap_or(train.batch_size),
            schedule: Schedule {
                kind: train.lr_scheduler_type,
                learning_rate: train.learning_rate,
                power: train.lr_scheduler_power,
                warmup_steps: steps.warmup,
                total_steps: steps.total,
            },
            max_grad_norm: train.max_grad_norm,
            losses: prepared.losses.clone(),
            label_smoothing: train.label_smoothing,
            precision: prepared.precision,
            activations: activations(recipe),
            on_nan: train.on_nan,
            logging_steps: train.logging_steps,
            eval_steps: train.eval_steps.unwrap_or(steps.per_epoch),
            save_steps: train.save_steps.unwrap_or(steps.per_epoch),
            save_total_limit: train.save_total_limit,
            metric: prepared.metric,
            early_stopping_patience: train.early_stopping_patience,
            pad_token_id: prepared.pad_token_id(),
            max_length: recipe.data.max_length,
            labels: prepared.label_names().to_vec(),
            names_beside: prepared
                .masked_text
                .iter()
                .flat_map(|_| Losses::of_hidden_tokens(1.0).names())
                .collect(),
        }
    }

    /// Names of all losses, in the order in which a step counts them.
    pub fn loss_names(&self) -> Vec<String> {
        [self.losses.names(), self.names_beside.clone()].concat()
    }
}
