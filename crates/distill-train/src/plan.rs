//! What a run will do, decided without training: what `distill plan` shows and what is checked before a run.

use crate::computing::Computing;
use crate::datasets::{Datasets, tokenize};
use crate::error::TrainError;
use crate::events::Observer;
use crate::needs::{FLOAT, ModelSize, Need, base_model_size, disk_need, memory_need};
use crate::objectives::{Level, LossConfig};
use crate::prepare::{Prepared, Shortage, prepare};
use crate::rows;
use crate::tasks::{MaskedLmBeside, Task};
use crate::teacher::PreparedTeacher;
use crate::written::{cache_top_k, on_policy, teacher_texts};
use distill_data::{LabelMap, TokenStats, label_counts};
use distill_recipe::{Recipe, WrittenTexts};
use serde::Serialize;

/// What a run will do, and what it needs.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// Name of the run.
    pub name: String,
    /// Where it writes.
    pub output_dir: String,
    /// `device`, `dtype`, `instruction_set` and `threads`, as they were resolved.
    #[serde(flatten)]
    pub computing: Computing,
    /// Kind of task.
    pub task: String,
    /// What is learnt beside it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_beside: Option<String>,
    /// Rows of each label.
    pub labels: Vec<LabelCount>,
    /// How the values of the label column became ids.
    pub label_mapping: String,
    /// Rows of each data set.
    pub rows: Rows,
    /// Lengths of the training texts in tokens, special tokens counted, before truncation.
    pub token_lengths: TokenLengths,
    /// Share of the training texts that are cut at `max_length`.
    pub truncated_share: f64,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// The model.
    pub model: ModelPlan,
    /// Teachers and losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationPlan>,
    /// Optimizer steps.
    pub steps: Steps,
    /// Passes over the training rows.
    pub epochs: f64,
    /// Memory in bytes.
    pub memory: Need,
    /// Whether layers are computed anew in the backward pass.
    pub gradient_checkpointing: bool,
    /// Disk space in bytes.
    pub disk: Need,
    /// What is probably not what the user wants.
    pub warnings: Vec<String>,
}

/// What a student learns, and from whom.
#[derive(Clone, Debug, Serialize)]
pub struct DistillationPlan {
    /// The method that stands for the losses, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// The losses, with every key.
    pub losses: Vec<serde_json::Value>,
    /// The teachers.
    pub teachers: Vec<TeacherPlan>,
    /// Whether the teachers' logits are kept on disk; else they run along in each step.
    pub cached: bool,
    /// How many of the teacher's likeliest tokens are kept on disk, where those of a vocabulary are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_top_k: Option<usize>,
    /// How the teacher writes the texts that are trained on, where it does; steps are counted by the data's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_texts: Option<WrittenTexts>,
    /// The part of the steps that train on the student's own texts, a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<f64>,
    /// Rows that only the teachers label, copies not counted.
    pub transfer_rows: u64,
    /// Changed copies of each training text, at most; they are made by the run, and add to its steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<usize>,
    /// The teacher's layer in each of the student's, where layers were copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copied_layers: Vec<usize>,
    /// Part of the teacher's word embeddings that the student's projection keeps: a fraction of their squared length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_energy: Option<f64>,
}

/// One teacher.
#[derive(Clone, Debug, Serialize)]
pub struct TeacherPlan {
    /// Folder, hub id, or the student's start.
    pub name: String,
    /// `model_type`.
    pub architecture: String,
    /// About how many parameters it has, its head left out.
    pub parameters: u64,
    /// Its part in the average.
    pub weight: f64,
    /// Whether it splits texts otherwise than the student.
    pub own_tokenizer: bool,
    /// The columns that it reads, where they are not the student's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<String>>,
    /// Whether its labels stand in another order.
    pub other_label_order: bool,
}

/// Rows of one label.
#[derive(Clone, Debug, Serialize)]
pub struct LabelCount {
    /// The label.
    pub name: String,
    /// Training rows.
    pub train: u64,
    /// Validation rows.
    pub validation: u64,
    /// Test rows.
    pub test: u64,
}

/// Rows of each data set.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rows {
    /// Training rows.
    pub train: u64,
    /// Validation rows.
    pub validation: u64,
    /// Test rows.
    pub test: u64,
}

/// Lengths in tokens.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TokenLengths {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: usize,
    /// 90% are at most this long.
    pub p90: usize,
    /// 95% are at most this long.
    pub p95: usize,
    /// 99% are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

/// The model of a run.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPlan {
    /// Folder, hub id or `from scratch`.
    pub source: String,
    /// `model_type`.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Those that are trained.
    pub trainable_parameters: u64,
    /// Tensors that the checkpoint does not have and that start at random.
    pub newly_initialised: Vec<String>,
    /// Tensors of the checkpoint that this task does not use.
    pub unused: Vec<String>,
}

/// Optimizer steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Steps {
    /// A pass over the training rows.
    pub per_epoch: u64,
    /// The run.
    pub total: u64,
    /// The warm-up.
    pub warmup: u64,
}

/// What a run of this recipe will do and need, without training; nothing stays on the disk.
///
/// # Errors
/// Whatever would stop the run before its first step.
pub fn plan(recipe: &Recipe, observer: &mut dyn Observer) -> Result<PlanReport, TrainError> {
    let prepared = prepare(recipe, Shortage::Tell, observer)?;
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let datasets = tokenize(&prepared, scratch.path(), observer)?;
    let mut report = plan_of(&prepared, &datasets)?;
    report.warnings.extend(datasets.leak_warning()?);
    Ok(report)
}

/// Optimizer steps of a run over `rows` rows; the last step of an epoch may be smaller.
pub(crate) fn steps(recipe: &Recipe, rows: usize) -> Steps {
    let train = &recipe.train;
    let per_epoch = rows.div_ceil(train.batch_size).div_ceil(train.gradient_accumulation_steps).max(1) as u64;
    let by_epochs = || ((train.epochs * per_epoch as f64).ceil() as u64).max(1);
    let total = train.max_steps.unwrap_or_else(by_epochs);
    let ratio = train.warmup_ratio.unwrap_or(0.0);
    let warmup = train.warmup_steps.unwrap_or_else(|| (ratio * total as f64).ceil() as u64).min(total);
    Steps { per_epoch, total, warmup }
}

pub(crate) fn model_size(prepared: &Prepared) -> ModelSize {
    let (mut parameters, mut trainable_parameters) = (0, 0);
    for parameter in prepared.loaded.model.parameters() {
        let size = parameter.shape.iter().product::<usize>() as u64;
        parameters += size;
        trainable_parameters += if prepared.rules.trainable(&parameter.name) { size } else { 0 };
    }
    base_model_size(prepared.loaded.config.base.as_ref(), parameters, trainable_parameters)
}

pub(crate) fn model_plan(prepared: &Prepared) -> ModelPlan {
    let size = model_size(prepared);
    ModelPlan {
        source: prepared.model_source.clone(),
        architecture: prepared.loaded.config.architecture.model_type.to_owned(),
        parameters: size.parameters,
        trainable_parameters: size.trainable_parameters,
        newly_initialised: prepared.loaded.report.newly_initialised.clone(),
        unused: prepared.loaded.report.unused.clone(),
    }
}

/// Whether the teachers answer from a cache: where losses look at nothing but the logits of whole texts.
pub(crate) fn teacher_is_cached(prepared: &Prepared) -> bool {
    let asked = prepared.recipe.distill.as_ref().is_some_and(|distill| distill.table.cache_teacher);
    asked && prepared.task.level() == Level::Sequence && !prepared.losses.needs().inside_of_teacher()
}

pub(crate) fn distillation_plan(prepared: &Prepared) -> Option<DistillationPlan> {
    let distill = prepared.recipe.distill.as_ref()?;
    let loss = |config: &LossConfig| {
        let mut keys = serde_json::json!({ "kind": config.kind });
        if let (Some(keys), Some(own)) = (keys.as_object_mut(), config.keys.as_object()) {
            keys.extend(own.clone());
        }
        keys
    };
    let columns = prepared.recipe.teacher.as_ref().and_then(|teacher| teacher.text.as_ref());
    let columns = columns.map(|columns| columns.iter().map(ToString::to_string).collect::<Vec<_>>());
    let teacher = |teacher: &PreparedTeacher| TeacherPlan {
        name: teacher.name.clone(),
        architecture: teacher.config.architecture.model_type.to_owned(),
        parameters: teacher.config.base.approximate_parameters(),
        weight: teacher.weight,
        own_tokenizer: teacher.own_tokenizer.is_some(),
        text: columns.clone(),
        other_label_order: teacher.label_order.is_some(),
    };
    Some(DistillationPlan {
        method: distill.table.method.map(distill_recipe::Method::name),
        losses: prepared.loss_configs.iter().map(loss).collect(),
        teachers: prepared.teachers.iter().map(teacher).collect(),
        cached: teacher_is_cached(prepared) || cache_top_k(&prepared.recipe).is_some(),
        cache_top_k: cache_top_k(&prepared.recipe),
        teacher_texts: teacher_texts(&prepared.recipe),
        on_policy: Some(on_policy(&prepared.recipe)).filter(|fraction| *fraction > 0.0),
        copies: prepared.recipe.augment.as_ref().map(|augment| augment.copies),
        transfer_rows: prepared.transfer.iter().map(|rows| rows.len() as u64).sum(),
        copied_layers: prepared
            .student
            .as_ref()
            .map(|student| student.copied_layers.clone())
            .unwrap_or_default(),
        kept_energy: prepared.student.as_ref().and_then(|student| student.kept_energy),
    })
}

/// Memory of the teachers that run along, in bytes: their weights, and a batch on its way through a layer.
pub(crate) fn teacher_memory(prepared: &Prepared, longest: usize) -> u64 {
    if !prepared.losses.needs().asks_teacher() && teacher_texts(&prepared.recipe).is_none() {
        return 0;
    }
    let batch = prepared.recipe.train.batch_size as u64;
    let of = |teacher: &PreparedTeacher| {
        let base = teacher.config.base.as_ref();
        let hidden = base.hidden_size() as u64;
        let layer = 6 * hidden + 2 * base.intermediate_size() as u64;
        let states =
            if prepared.losses.needs().teacher.hidden_states { base.num_hidden_layers() as u64 } else { 1 };
        (base.approximate_parameters() + batch * longest as u64 * (layer + states * hidden))
            .saturating_mul(FLOAT)
    };
    let all = prepared.teachers.iter().map(of);
    // From a cache that is not whole yet they answer one after the other.
    if teacher_is_cached(prepared) { all.max().unwrap_or(0) } else { all.sum() }
}

pub(crate) fn row_counts(prepared: &Prepared) -> Rows {
    let count = |rows: &Option<rows::Rows>| rows.as_ref().map_or(0, rows::Rows::len) as u64;
    Rows {
        train: prepared.training_rows() as u64,
        validation: count(&prepared.validation),
        test: count(&prepared.test),
    }
}

fn plan_of(prepared: &Prepared, datasets: &Datasets) -> Result<PlanReport, TrainError> {
    let recipe = &prepared.recipe;
    let copies = recipe.augment.as_ref().map_or(0, |augment| augment.copies);
    // Packed, rows are fewer and longer.
    let examples = prepared.training_examples(datasets.train.clone())?;
    let steps = steps(recipe, examples.len().saturating_mul(copies.saturating_add(1)));
    let names = prepared.label_names();
    let count = |rows: Option<&rows::Rows>| {
        let labels: Vec<u32> = rows.map(|rows| rows.labels().collect()).unwrap_or_default();
        label_counts(&labels, names.len())
    };
    let (train, validation) = (count(Some(&prepared.train)), count(prepared.validation.as_ref()));
    let test = count(prepared.test.as_ref());
    let labels = names.iter().enumerate().map(|(id, name)| LabelCount {
        name: name.clone(),
        train: train[id],
        validation: validation[id],
        test: test[id],
    });
    let mut lengths = TokenStats::new(&datasets.train.full_lengths(), recipe.data.max_length);
    if matches!(prepared.task, Task::Rationale(_)) {
        // Label and rationale are two sequences of a row, each cut by itself.
        let full = datasets.train.full_lengths();
        let cut = full.iter().zip(datasets.train.lengths());
        let cut = cut.filter(|(full, length)| full > length).count() as u64;
        lengths.truncated_share = cut as f64 / lengths.rows.max(1) as f64;
    }
    let size = model_size(prepared);
    let longest = examples.lengths().iter().copied().max().unwrap_or(1);
    let mut memory = memory_need(recipe, &prepared.computing, &size, examples.len(), longest as usize);
    memory.needed_bytes = memory.needed_bytes.saturating_add(teacher_memory(prepared, longest as usize));
    let disk = disk_need(recipe, &size);
    Ok(PlanReport {
        name: recipe.name.clone(),
        output_dir: recipe.output_dir.display().to_string(),
        computing: prepared.computing.clone(),
        task: recipe.task.name.clone(),
        task_beside: match &prepared.task {
            Task::Classification(task) => task.masked_lm.as_ref().map(MaskedLmBeside::describe),
            _ => None,
        },
        labels: labels.collect(),
        label_mapping: prepared.labels.as_ref().map(LabelMap::describe).unwrap_or_default(),
        rows: row_counts(prepared),
        token_lengths: TokenLengths {
            mean: lengths.mean,
            p50: lengths.p50 as usize,
            p90: lengths.p90 as usize,
            p95: lengths.p95 as usize,
            p99: lengths.p99 as usize,
            max: lengths.max as usize,
        },
        truncated_share: lengths.truncated_share,
        max_length: recipe.data.max_length,
        model: model_plan(prepared),
        distillation: distillation_plan(prepared),
        steps,
        epochs: steps.total as f64 / steps.per_epoch as f64,
        memory,
        gradient_checkpointing: recipe.train.gradient_checkpointing,
        disk,
        warnings: prepared.warnings.clone(),
    })
}
