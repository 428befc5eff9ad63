//! A whole training step, part by part.

use super::model::Wanted;
use super::{BenchModel, Conditions, RandomBatches, Spread, peak_memory_mib};
use crate::beside::Beside;
use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::objectives::{Level, Losses, Pair, StepCounts, Targets, usual_losses};
use crate::optimizer::{Gradients, Optimizer, clip_factor, gradient_norm};
use crate::parameter_groups::GroupRules;
use crate::pass::{PassInput, PassSettings, pass};
use distill_data::IGNORED_LABEL;
use distill_models::{Activations, LoraConfig, Model, ModelInput, Task};
use distill_ops::{AdamW, DeviceSpec, Dropout, resolve};
use distill_recipe::DtypeChoice;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The settings of every step; what they are does not change how long it takes.
const LEARNING_RATE: f64 = 1e-4;
const WEIGHT_DECAY: f64 = 0.01;
const MAX_GRAD_NORM: f64 = 1.0;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct TrainBench {
    /// The model.
    pub model: BenchModel,
    /// Sequences a batch.
    pub batch: usize,
    /// Tokens a sequence.
    pub length: usize,
    /// What matrix products multiply in.
    pub dtype: DtypeChoice,
    /// Where to compute.
    pub device: DeviceSpec,
    /// Steps that are measured.
    pub steps: usize,
    /// Steps before them.
    pub warmup: usize,
    /// Replaces every dropout probability of the model.
    pub dropout: Option<f64>,
    /// What the backward pass finds of the layers.
    pub activations: Activations,
    /// Adapters to train in place of the weights.
    pub lora: Option<LoraConfig>,
    /// Seed of everything random.
    pub seed: u64,
}

/// Median wall times of the parts of a step, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parts {
    /// Token ids and labels, up to the tensors.
    pub data: f64,
    /// From the tensors to the loss.
    pub forward: f64,
    /// From the loss to the gradients.
    pub backward: f64,
    /// The global norm of the gradients.
    pub gradient_norm: f64,
    /// Clipping and AdamW.
    pub optimizer: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Sequences a second, by the median step.
    pub examples_per_second: f64,
    /// Tokens a second, likewise.
    pub tokens_per_second: f64,
    /// Steps, in milliseconds.
    pub step_ms: Spread,
    /// Their parts.
    pub parts_ms: Parts,
    /// Steps that were measured.
    pub steps: usize,
    /// Steps before them.
    pub warmup: usize,
    /// The dropout that replaces the model's own; `None` = the model's own.
    pub dropout: Option<f64>,
    /// Whether layers were computed anew in the backward pass.
    pub gradient_checkpointing: bool,
    /// Loss of the last step, in nats: whoever compares can see that it is a number.
    pub last_loss: f64,
    /// How it was measured.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// Wall times of one step.
struct StepTimes {
    data: Duration,
    forward: Duration,
    backward: Duration,
    gradient_norm: Duration,
    optimizer: Duration,
    whole: Duration,
}

/// Measures training steps on random tokens: forward, backward, norm, clip and update, as a run does them.
///
/// # Errors
/// A model or a device that cannot be used.
pub fn bench_train(bench: &TrainBench, observer: &mut dyn Observer) -> Result<TrainReport, TrainError> {
    let device = resolve(bench.device)?;
    let precision = precision_for(bench.dtype, &device)?;
    let wanted = Wanted {
        model: &bench.model,
        length: bench.length,
        seed: bench.seed,
        dropout: bench.dropout,
        device: device.clone().autodiff(),
        lora: bench.lora.clone(),
    };
    let (mut loaded, sizes) = wanted.load(observer)?;
    let classes = match &loaded.config.task {
        Task::Classification { id2label } => id2label.len(),
        Task::MaskedLm | Task::CausalLm | Task::Seq2SeqLm => 0,
    };
    let level = match classes {
        0 => Level::NextToken,
        _ => Level::Sequence,
    };
    if loaded.config.task == Task::Seq2SeqLm {
        return Err(TrainError::Unusable {
            message: "steps of encoder-decoders are not measured".to_owned(),
            help: "measure a decoder or an encoder".to_owned(),
        });
    }
    let model = loaded.model.as_mut();
    let rules = GroupRules {
        weight_decay: WEIGHT_DECAY,
        freeze: Vec::new(),
        lora: loaded.lora.clone(),
        layerwise_lr_decay: None,
        num_hidden_layers: model.num_hidden_layers(),
    };
    model.set_trainable(&|name| rules.trainable(name));
    let pair =
        Pair { student: loaded.config.base.as_ref(), teacher: None, teachers: 0, same_tokens: true, level };
    // The labels alone fit every model.
    let losses = Losses::build(&usual_losses(level), &pair).unwrap_or_default();
    let model = loaded.model.as_mut();
    let settings = PassSettings { losses: &losses, precision, activations: bench.activations };
    let mut stepper = Stepper {
        optimizer: Optimizer::new(AdamW::default(), &rules, model, &Beside::default()),
        batches: RandomBatches::new(bench.seed, bench.batch, bench.length, sizes.vocab_size),
        settings,
        classes,
        seed: bench.seed,
        last_loss: 0.0,
    };
    let mut times = Vec::with_capacity(bench.steps);
    let total = bench.warmup + bench.steps;
    for step in 0..total {
        let time = stepper.step(model, step as u64);
        if step >= bench.warmup {
            times.push(time);
        }
        let (done, total) = (step as u64 + 1, Some(total as u64));
        observer.event(&Event::Progress { what: "measuring steps".to_owned(), done, total });
    }
    let median = |part: fn(&StepTimes) -> Duration| Spread::of(times.iter().map(part)).p50;
    let step_ms = Spread::of(times.iter().map(|time| time.whole));
    let examples_per_second = bench.batch as f64 * 1e3 / step_ms.p50;
    Ok(TrainReport {
        examples_per_second,
        tokens_per_second: examples_per_second * bench.length as f64,
        step_ms,
        parts_ms: Parts {
            data: median(|time| time.data),
            forward: median(|time| time.forward),
            backward: median(|time| time.backward),
            gradient_norm: median(|time| time.gradient_norm),
            optimizer: median(|time| time.optimizer),
        },
        steps: bench.steps,
        warmup: bench.warmup,
        dropout: bench.dropout,
        gradient_checkpointing: bench.activations == Activations::Recompute,
        last_loss: stepper.last_loss,
        conditions: Conditions {
            computing: Computing::new(&device, precision),
            batch: bench.batch,
            length: bench.length,
            seed: bench.seed,
            model: sizes,
            peak_memory_mib: peak_memory_mib(),
        },
    })
}

/// The token after each one; none after the last of a row.
fn next_tokens(input: &ModelInput) -> Vec<i64> {
    let rows = input.host_input_ids.chunks(input.shape[1].max(1));
    rows.flat_map(|row| row[1..].iter().map(|&id| i64::from(id)).chain([IGNORED_LABEL])).collect()
}

/// One step after the other.
struct Stepper<'a> {
    optimizer: Optimizer,
    batches: RandomBatches,
    settings: PassSettings<'a>,
    classes: usize,
    seed: u64,
    last_loss: f64,
}

impl Stepper<'_> {
    fn step(&mut self, model: &mut dyn Model, step: u64) -> StepTimes {
        let start = Instant::now();
        let input = self.batches.input(model);
        let labels = match self.classes {
            0 => next_tokens(&input),
            classes => self.batches.labels(classes),
        };
        let data = start.elapsed();

        let labelled = labels.iter().filter(|&&label| label != IGNORED_LABEL).count();
        let counts = StepCounts { labels: labelled as u64, ..StepCounts::default() };
        let device = model.device();
        let targets = Targets {
            labels: &labels,
            rationale: &[],
            attention_mask: &input.host_attention_mask,
            shape: input.shape,
            label_smoothing: 0.0,
            device: &device,
        };
        let mut dropout = Dropout::new(self.seed, step, 0);
        let on = PassInput { targets: &targets, teacher: None, projection: None, counts: &counts };
        let pass = pass(&self.settings, model, &input, on, &mut dropout);
        self.last_loss = pass.loss;

        let norm_start = Instant::now();
        let mut gradients: Gradients = pass.gradients.into_iter().collect();
        gradients.sort_keys();
        let norm = gradient_norm(&gradients);
        let norm_time = norm_start.elapsed();

        let update_start = Instant::now();
        self.optimizer.step(
            model,
            &mut Beside::default(),
            gradients,
            LEARNING_RATE,
            clip_factor(norm, MAX_GRAD_NORM),
        );
        let optimizer = update_start.elapsed();
        let (forward, backward) = (pass.forward, pass.backward);
        StepTimes { data, forward, backward, gradient_norm: norm_time, optimizer, whole: start.elapsed() }
    }
}
