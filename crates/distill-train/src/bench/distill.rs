//! What a distillation step costs beside a step of the student alone and a forward pass of the teacher.

use super::model::Wanted;
use super::{BenchModel, Conditions, RandomBatches, Spread, peak_memory_mib};
use crate::beside::Beside;
use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::objectives::{
    Level, LossConfig, Losses, Pair, Projection, StepCounts, Targets, TeacherOutput, Unfit, method_losses,
    usual_losses,
};
use crate::optimizer::{Gradients, Optimizer, clip_factor, gradient_norm};
use crate::parameter_groups::GroupRules;
use crate::pass::{PassInput, PassSettings, pass};
use burn::tensor::{Device, Tensor, TensorData};
use distill_models::{Activations, ForwardOptions, Loaded, Logits, Model, ModelInput, Task};
use distill_ops::{AdamW, DeviceSpec, Dropout, Precision, autocast, resolve};
use distill_recipe::{DtypeChoice, Method};
use serde::Serialize;
use std::time::{Duration, Instant};

const LEARNING_RATE: f64 = 1e-4;
const WEIGHT_DECAY: f64 = 0.01;
const MAX_GRAD_NORM: f64 = 1.0;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct DistillBench {
    /// The student.
    pub student: BenchModel,
    /// The teacher.
    pub teacher: BenchModel,
    /// Sequences a batch.
    pub batch: usize,
    /// Tokens a sequence.
    pub length: usize,
    /// What matrix products multiply in.
    pub dtype: DtypeChoice,
    /// Where to compute.
    pub device: DeviceSpec,
    /// Steps of each kind that are measured.
    pub steps: usize,
    /// Steps before them.
    pub warmup: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// What was measured. All kinds of step were taken in turns, so that noise of the machine meets all alike.
#[derive(Clone, Debug, Serialize)]
pub struct DistillReport {
    /// A step of the student with labels alone, in milliseconds.
    pub student_step_ms: Spread,
    /// A forward pass of the teacher to its logits, in milliseconds.
    pub teacher_forward_ms: Spread,
    /// Each way to distil.
    pub methods: Vec<MethodReport>,
    /// Parameters of the teacher.
    pub teacher_parameters: u64,
    /// Steps of each kind that were measured.
    pub steps: usize,
    /// How it was measured; the model is the student.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// One way to distil.
#[derive(Clone, Debug, Serialize)]
pub struct MethodReport {
    /// The method.
    pub method: &'static str,
    /// `cached`: the teacher's logits are there; `live`: it runs along.
    pub teacher: &'static str,
    /// A step, in milliseconds.
    pub step_ms: Spread,
    /// The median step against the student's with labels alone, plus the teacher's forward pass to its logits where it
    /// runs along: both compute what their heads read, and no more.
    pub ratio: f64,
    /// A step with labels alone in which student, and teacher where it runs along, compute the outputs that the method
    /// compares (all tokens of last layers, attention scores, queries, keys, values), in milliseconds.
    pub same_outputs_ms: Spread,
    /// The median step against that one: what the losses cost by themselves.
    pub same_outputs_ratio: f64,
    /// Why there is no such step between these two models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
}

/// Where the teacher's answers come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    None,
    Cached,
    Live,
}

/// A kind of step.
struct Kind {
    method: &'static str,
    answers: Answers,
    losses: Result<Both, Unfit>,
    optimizer: Optimizer,
    beside: Beside,
    times: Vec<Duration>,
    same_outputs_times: Vec<Duration>,
}

/// What two steps of a kind minimise that compute the same outputs.
struct Both {
    /// The losses of the method.
    method: Losses,
    /// Labels alone.
    labels: Losses,
}

/// Which of them.
#[derive(Clone, Copy)]
enum Minimised {
    Method,
    Labels,
}

/// Measures distillation steps on random tokens.
///
/// # Errors
/// A model or a device that cannot be used.
pub fn bench_distill(bench: &DistillBench, observer: &mut dyn Observer) -> Result<DistillReport, TrainError> {
    let plain = resolve(bench.device)?;
    let precision = precision_for(bench.dtype, &plain)?;
    let device = plain.clone().autodiff();
    let wanted = |model, device: &Device, dropout| Wanted {
        model,
        length: bench.length,
        seed: bench.seed,
        dropout,
        device: device.clone(),
        lora: None,
    };
    let (mut student, sizes) = wanted(&bench.student, &device, None).load(observer)?;
    let (teacher, teacher_sizes) = wanted(&bench.teacher, &plain, Some(0.0)).load(observer)?;
    student.model.set_trainable(&|_| true);
    let rules = GroupRules {
        weight_decay: WEIGHT_DECAY,
        freeze: Vec::new(),
        lora: None,
        layerwise_lr_decay: None,
        num_hidden_layers: student.model.num_hidden_layers(),
    };
    let wanted_kinds = [
        (Method::SoftLabels, Answers::Cached),
        (Method::SoftLabels, Answers::Live),
        (Method::Distilbert, Answers::Live),
        (Method::Tinybert, Answers::Live),
        (Method::Minilm, Answers::Live),
    ];
    let alone = usual_losses(Level::Sequence);
    let mut kinds =
        vec![kind("alone", Answers::None, &alone, &student, &teacher, &rules, &device, bench.seed)];
    for (method, answers) in wanted_kinds {
        let losses = method_losses(method, Level::Sequence, None);
        kinds.push(kind(method.name(), answers, &losses, &student, &teacher, &rules, &device, bench.seed));
    }
    let classes = [&student, &teacher].map(classes_of);
    let mut steps = Steps {
        batches: RandomBatches::new(
            bench.seed,
            bench.batch,
            bench.length,
            sizes.vocab_size.min(teacher_sizes.vocab_size),
        ),
        classes: classes[0],
        teacher: teacher.model.eval_copy(),
        precision,
        seed: bench.seed,
    };
    let same_classes = classes[0] == classes[1];
    let mut teacher_times = Vec::with_capacity(bench.steps);
    let total = bench.warmup + bench.steps;
    for step in 0..total {
        let measured = step >= bench.warmup;
        let forward = steps.teacher_forward();
        if measured {
            teacher_times.push(forward);
        }
        for kind in kinds.iter_mut().filter(|kind| kind.answers == Answers::None || same_classes) {
            let wanted = kind.answers;
            let mut time = |minimised| {
                let time = steps.step(kind, minimised, student.model.as_mut(), step as u64);
                time.filter(|_| measured)
            };
            let of_method = time(Minimised::Method);
            let of_labels = (wanted != Answers::None).then(|| time(Minimised::Labels)).flatten();
            kind.times.extend(of_method);
            kind.same_outputs_times.extend(of_labels);
        }
        let (done, total) = (step as u64 + 1, Some(total as u64));
        observer.event(&Event::Progress { what: "measuring steps".to_owned(), done, total });
    }
    let teacher_forward_ms = Spread::of(teacher_times.into_iter());
    let student_step_ms = Spread::of(kinds.remove(0).times.into_iter());
    let methods = kinds.into_iter().map(|kind| {
        let step_ms = Spread::of(kind.times.iter().copied());
        let same_outputs_ms = Spread::of(kind.same_outputs_times.iter().copied());
        let live = kind.answers == Answers::Live;
        let beside = student_step_ms.p50 + if live { teacher_forward_ms.p50 } else { 0.0 };
        let classes = (!same_classes).then(|| "student and teacher have another number of labels".to_owned());
        MethodReport {
            method: kind.method,
            teacher: if live { "live" } else { "cached" },
            step_ms,
            ratio: step_ms.p50 / beside,
            same_outputs_ms,
            same_outputs_ratio: if step_ms.p50 > 0.0 { step_ms.p50 / same_outputs_ms.p50 } else { 0.0 },
            unfit: classes.or(kind.losses.err().map(|unfit| unfit.message)),
        }
    });
    Ok(DistillReport {
        student_step_ms,
        teacher_forward_ms,
        methods: methods.collect(),
        teacher_parameters: teacher_sizes.parameters,
        steps: bench.steps,
        conditions: Conditions {
            computing: Computing::new(&plain, precision),
            batch: bench.batch,
            length: bench.length,
            seed: bench.seed,
            model: sizes,
            peak_memory_mib: peak_memory_mib(),
        },
    })
}

fn classes_of(loaded: &Loaded) -> usize {
    match &loaded.config.task {
        Task::Classification { id2label } => id2label.len(),
        Task::MaskedLm | Task::CausalLm | Task::Seq2SeqLm => 0,
    }
}

#[allow(clippy::too_many_arguments)] // one caller, which has them all at hand
fn kind(
    method: &'static str,
    answers: Answers,
    configs: &[LossConfig],
    student: &Loaded,
    teacher: &Loaded,
    rules: &GroupRules,
    device: &Device,
    seed: u64,
) -> Kind {
    let pair = Pair {
        student: student.config.base.as_ref(),
        teacher: Some(teacher.config.base.as_ref()),
        teachers: 1,
        same_tokens: true,
        level: Level::Sequence,
    };
    let build = |configs: &[LossConfig]| Losses::build(configs, &pair).map_err(|mut unfit| unfit.remove(0).1);
    let losses = build(configs).and_then(|method| {
        let labels = build(&usual_losses(Level::Sequence))?.beside(method.needs());
        Ok(Both { method, labels })
    });
    let needed = losses.as_ref().is_ok_and(|losses| losses.method.needs().projection);
    let widths = [pair.student, teacher.config.base.as_ref()].map(|encoder| encoder.hidden_size());
    let projection = needed.then(|| Projection::new(widths[0], widths[1], seed, device));
    let beside = Beside { projection, ..Beside::default() };
    let optimizer = Optimizer::new(AdamW::default(), rules, student.model.as_ref(), &beside);
    Kind { method, answers, losses, optimizer, beside, times: Vec::new(), same_outputs_times: Vec::new() }
}

/// One step after the other.
struct Steps {
    batches: RandomBatches,
    classes: usize,
    teacher: Box<dyn Model>,
    precision: Precision,
    seed: u64,
}

impl Steps {
    fn teacher_forward(&mut self) -> Duration {
        let start = Instant::now();
        let input = self.batches.input(self.teacher.as_ref());
        let output = autocast(self.precision, || {
            self.teacher.forward(&input, ForwardOptions::default(), &mut Dropout::off())
        });
        let _ = output.logits().into_data();
        start.elapsed()
    }

    /// Wall time of a step; `None` where the losses do not fit the models.
    fn step(
        &mut self,
        kind: &mut Kind,
        minimised: Minimised,
        model: &mut dyn Model,
        step: u64,
    ) -> Option<Duration> {
        let both = kind.losses.as_ref().ok()?;
        let needs = both.method.needs();
        let losses = match minimised {
            Minimised::Method => &both.method,
            Minimised::Labels => &both.labels,
        };
        let start = Instant::now();
        let input = self.batches.input(model);
        let labels = self.batches.labels(self.classes);
        let device = model.device();
        let targets = Targets {
            labels: &labels,
            rationale: &[],
            attention_mask: &input.host_attention_mask,
            shape: input.shape,
            label_smoothing: 0.0,
            device: &device,
        };
        let [rows, length] = input.shape.map(|size| size as u64);
        let counts = StepCounts {
            rationale_labels: 0,
            labels: rows,
            examples: rows,
            tokens: rows * length,
            cells: rows * length,
            cell_pairs: rows * length * length,
        };
        let teacher = match kind.answers {
            Answers::None => None,
            Answers::Cached => {
                let values = vec![0.5f32; labels.len() * self.classes];
                let logits =
                    Tensor::from_data(TensorData::new(values, [labels.len(), self.classes]), &device);
                Some(TeacherOutput {
                    logits: vec![(1.0, Logits::computed(logits))],
                    ..TeacherOutput::default()
                })
            }
            Answers::Live => {
                let plain = self.teacher.device();
                let input = ModelInput::new(
                    &input.host_input_ids,
                    &input.host_attention_mask,
                    None,
                    input.shape,
                    &plain,
                );
                let forward = || self.teacher.forward(&input, needs.teacher, &mut Dropout::off());
                let output = autocast(self.precision, forward).lifted();
                let logits = vec![(1.0, output.logits.clone())];
                Some(TeacherOutput { logits, output: Some(output), likeliest: None })
            }
        };
        let settings = PassSettings { losses, precision: self.precision, activations: Activations::Keep };
        let on = PassInput {
            targets: &targets,
            teacher: teacher.as_ref(),
            projection: kind.beside.projection.as_ref(),
            counts: &counts,
        };
        let pass = pass(&settings, model, &input, on, &mut Dropout::new(self.seed, step, 0));
        let mut gradients: Gradients = pass.gradients.into_iter().collect();
        gradients.sort_keys();
        let scale = clip_factor(gradient_norm(&gradients), MAX_GRAD_NORM);
        kind.optimizer.step(model, &mut kind.beside, gradients, LEARNING_RATE, scale);
        Some(start.elapsed())
    }
}
