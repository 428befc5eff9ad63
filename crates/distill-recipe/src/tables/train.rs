//! `[train]`: how the model is trained.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::Table;
use crate::fault::Fault;
use crate::node::{Node, shortened};
use crate::type_schema::aliases;

/// Names that users know from other tools, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("num_train_epochs", "epochs"),
    ("num_epochs", "epochs"),
    ("n_epochs", "epochs"),
    ("per_device_train_batch_size", "batch_size"),
    ("micro_batch_size", "batch_size"),
    ("train_batch_size", "batch_size"),
    ("bs", "batch_size"),
    ("per_device_eval_batch_size", "eval_batch_size"),
    ("grad_accum", "gradient_accumulation_steps"),
    ("gradient_accumulation", "gradient_accumulation_steps"),
    ("accumulation_steps", "gradient_accumulation_steps"),
    ("lr", "learning_rate"),
    ("lr_scheduler", "lr_scheduler_type"),
    ("scheduler", "lr_scheduler_type"),
    ("lr_schedule", "lr_scheduler_type"),
    ("warmup", "warmup_ratio"),
    ("warmup_proportion", "warmup_ratio"),
    ("warmup_fraction", "warmup_ratio"),
    ("num_warmup_steps", "warmup_steps"),
    ("beta1", "adam_beta1"),
    ("beta2", "adam_beta2"),
    ("eps", "adam_epsilon"),
    ("adam_eps", "adam_epsilon"),
    ("epsilon", "adam_epsilon"),
    ("clip", "max_grad_norm"),
    ("grad_clip", "max_grad_norm"),
    ("gradient_clipping", "max_grad_norm"),
    ("clip_grad_norm", "max_grad_norm"),
    ("label_smoothing_factor", "label_smoothing"),
    ("freeze_layers", "freeze"),
    ("frozen", "freeze"),
    ("unfrozen_parameters", "freeze"),
    ("llrd", "layerwise_lr_decay"),
    ("layerwise_learning_rate_decay", "layerwise_lr_decay"),
    ("layer_decay", "layerwise_lr_decay"),
    ("eval_strategy", "eval_steps"),
    ("evaluation_strategy", "eval_steps"),
    ("eval_every", "eval_steps"),
    ("save_strategy", "save_steps"),
    ("save_every", "save_steps"),
    ("patience", "early_stopping_patience"),
    ("log_every", "logging_steps"),
    ("bf16", "dtype"),
    ("fp16", "dtype"),
    ("precision", "dtype"),
    ("mixed_precision", "dtype"),
    ("torch_dtype", "dtype"),
    ("autocast", "dtype"),
    ("amp", "dtype"),
    ("activation_checkpointing", "gradient_checkpointing"),
    ("checkpoint_activations", "gradient_checkpointing"),
    ("recompute", "gradient_checkpointing"),
    ("num_threads", "threads"),
    ("num_workers", "threads"),
    ("steps", "max_steps"),
    ("num_train_steps", "max_steps"),
];

/// What `[train]` says; a *step* is one update of the weights, a *micro-step* one forward and
/// backward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-aliases" = aliases(ALIASES)))]
pub struct TrainTable {
    /// Passes over the training data; number above 0, default 3.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epochs: f64,
    /// Stop after this many steps, whatever `epochs` says; 0 measures the model as it is; steps, default none.
    pub max_steps: Option<u64>,
    /// Examples in a micro-step; examples, at least 1, default 32.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Examples in a batch of an evaluation; examples, at least 1, default `batch_size`.
    #[schemars(range(min = 1))]
    pub eval_batch_size: Option<usize>,
    /// Micro-steps whose gradients make one step; count, at least 1, default 1.
    #[schemars(range(min = 1))]
    pub gradient_accumulation_steps: usize,
    /// Highest learning rate; number above 0, default 5e-5.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// How the learning rate falls after the warm-up: `linear`, `cosine`, `constant`, `polynomial` or `inverse_sqrt`; default `linear`.
    pub lr_scheduler_type: LrSchedulerType,
    /// Power of the `polynomial` schedule; number above 0, default 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr_scheduler_power: f64,
    /// Part of all steps in which the learning rate rises from 0; fraction from 0 to 1, default 0; not together with `warmup_steps`.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[schemars(extend("x-help" = "for a number of steps write `warmup_steps = {value}`"))]
    pub warmup_ratio: Option<f64>,
    /// Steps in which the learning rate rises from 0; steps from 0, default 0; not together with `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Decay of the weights other than biases and norms, per step and unit of learning rate; number from 0, default 0.01.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay rate of AdamW's mean of gradients; from 0 to below 1, default 0.9.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub adam_beta1: f64,
    /// Decay rate of AdamW's mean of squared gradients; from 0 to below 1, default 0.999.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub adam_beta2: f64,
    /// Added to AdamW's denominator; number above 0, default 1e-8.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub adam_epsilon: f64,
    /// Longest gradient over all weights (L2 norm), longer ones are scaled down; number from 0, 0 = no limit, default 1.
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Probability taken from the true label and spread over all; fraction from 0 to below 1, default 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Dropout of hidden states, attention and classifier; probability from 0 to below 1, default that of the model's config.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub dropout: Option<f64>,
    /// Regular expressions; weights whose name one of them matches anywhere are not trained; default none.
    pub freeze: Vec<String>,
    /// Factor on the learning rate from each layer to the one below it; above 0 and at most 1, default 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub layerwise_lr_decay: Option<f64>,
    /// Validate every so many steps; steps, at least 1, default at the end of each epoch.
    #[schemars(range(min = 1))]
    pub eval_steps: Option<u64>,
    /// Save a checkpoint every so many steps; steps, at least 1, default at the end of each epoch.
    #[schemars(range(min = 1))]
    pub save_steps: Option<u64>,
    /// Checkpoints to keep besides the best one, older ones are removed; count, at least 1, default 2.
    #[schemars(range(min = 1))]
    pub save_total_limit: Option<usize>,
    /// Validation metric that tells the best checkpoint; a metric's name, default that of the task.
    #[schemars(length(min = 1))]
    pub metric_for_best_model: Option<String>,
    /// Stop after this many validations in a row without a better one; count, at least 1, default never.
    #[schemars(range(min = 1))]
    pub early_stopping_patience: Option<usize>,
    /// Log every so many steps; steps, at least 1, default 10.
    #[schemars(range(min = 1))]
    pub logging_steps: u64,
    /// Number format of matrix products: `f32`, `bf16` (on the CPU; weights and sums stay f32), or `auto`, which is `bf16` where the processor has instructions for it; default `auto`.
    pub dtype: DtypeChoice,
    /// Compute each layer anew in the backward pass instead of keeping what it computed: less memory, a third more work; `true` or `false`, default `false`.
    pub gradient_checkpointing: bool,
    /// What to do when a loss is not finite: `stop` the run or `skip` the step; default `stop`.
    pub on_nan: NanPolicy,
    /// Threads for computing on the CPU; count, at least 1, default all cores.
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
}

impl Default for TrainTable {
    fn default() -> Self {
        Self {
            epochs: 3.0,
            max_steps: None,
            batch_size: 32,
            eval_batch_size: None,
            gradient_accumulation_steps: 1,
            learning_rate: 5e-5,
            lr_scheduler_type: LrSchedulerType::Linear,
            lr_scheduler_power: 1.0,
            warmup_ratio: None,
            warmup_steps: None,
            weight_decay: 0.01,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            label_smoothing: 0.0,
            dropout: None,
            freeze: Vec::new(),
            layerwise_lr_decay: None,
            eval_steps: None,
            save_steps: None,
            save_total_limit: Some(2),
            metric_for_best_model: None,
            early_stopping_patience: None,
            logging_steps: 10,
            dtype: DtypeChoice::Auto,
            gradient_checkpointing: false,
            on_nan: NanPolicy::Stop,
            threads: None,
        }
    }
}

/// Shapes of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = {
    "constant_with_warmup": "constant", "cosine_with_restarts": "cosine",
    "cosine_annealing": "cosine", "poly": "polynomial", "rsqrt": "inverse_sqrt",
    "noam": "inverse_sqrt"
}))]
pub enum LrSchedulerType {
    /// Straight down to 0.
    Linear,
    /// Half a cosine wave down to 0.
    Cosine,
    /// No change.
    Constant,
    /// Down to 0 with the power `lr_scheduler_power`.
    Polynomial,
    /// With one over the square root of the step.
    InverseSqrt,
}

/// Number format of matrix products; everything else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = {
    "float32": "f32", "fp32": "f32", "float": "f32", "32": "f32",
    "bfloat16": "bf16", "float16": "bf16", "fp16": "bf16", "f16": "bf16", "half": "bf16", "16": "bf16"
}))]
pub enum DtypeChoice {
    /// `bf16` where the processor has instructions for it and computes, else `f32`.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Operands rounded to bfloat16, sums in 32-bit floats.
    Bf16,
}

/// What to do when a loss is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NanPolicy {
    /// Stop the run.
    Stop,
    /// Leave the step out.
    Skip,
}

impl Table for TrainTable {
    const KEY: &'static str = "train";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        if let (Some(ratio), Some(steps)) = (written.get("warmup_ratio"), written.get("warmup_steps")) {
            faults.push(
                Fault::new(
                    "`[train]` must have `warmup_ratio` or `warmup_steps`, not both",
                    ratio.key_label(),
                )
                .with_label(steps.key_label())
                .with_help("remove one of them"),
            );
        }
        for (index, pattern) in self.freeze.iter().enumerate() {
            if let Err(error) = Regex::new(pattern) {
                // The last line of the message names the reason; those before it draw the place.
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ").to_lowercase();
                let message = format!(
                    "item {} of `freeze` is not a regular expression: {reason}, found `{}`",
                    index + 1,
                    shortened(pattern)
                );
                faults.push(written.fault_at(&format!("freeze.{index}"), message).with_help(
                    "patterns match anywhere in a weight's name, as `embeddings` or `layer\\.[0-3]\\.` do",
                ));
            }
        }
    }
}
