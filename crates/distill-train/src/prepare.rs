//! From a recipe to everything that a run works with, read and checked; nothing is written.

use crate::beside::Beside;
use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::events::{Observer, Silent};
use crate::example_maker::{ExampleMaker, masking_of, masking_with, pad_token_id};
use crate::examples::Examples;
use crate::label_order::{label_order, reorder_head};
use crate::masked_text::{MaskedLmTwin, MaskedSources};
use crate::more_text::check_namer;
use crate::objectives::{Level, LossConfig, Losses, Pair, Projection, Unfit, reads_teacher_logits};
use crate::parameter_groups::GroupRules;
use crate::prepare_checks::{
    check_adapters, check_answered, check_fit, check_masked_text, check_needs, check_not_its_own_output,
    check_rows, check_teachers, check_teachers_text, check_texts_of_its_own,
};
use crate::read_data::read_data;
use crate::read_instead::ReadInstead;
use crate::read_model::{model_folder, read_config, read_model};
use crate::read_tokenizer::read_tokenizer;
use crate::recipe_checks::{losses_of, metric_of, task_of, validate};
use crate::record::DataFile;
use crate::report::ChosenMetric;
use crate::rows::{Rows, TokenizedRows};
use crate::tasks::{ClassificationTask, Task};
use crate::teacher::{PreparedTeacher, prepare_teachers};
use crate::written::check as check_written;
use burn::tensor::Device;
use distill_data::tokenizer::Tokenizer;
use distill_data::{LabelMap, Layout, Masking};
use distill_models::{Loaded, ModelConfig, StudentReport, Task as ModelTask, TaskKind, find};
use distill_ops::{DeviceSpec, Precision, describe, resolve};
use distill_recipe::{Faults, FromTeacher, ModelTable, Recipe, TeacherTable};
use regex::Regex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do about too little memory or disk space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Refuse: a run.
    Refuse,
    /// Tell: a plan, unless not even the weights fit.
    Tell,
}

/// Everything that a run works with.
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// The device, without gradients.
    pub device: Device,
    /// What matrix products multiply in.
    pub precision: Precision,
    /// The same for people, with instructions and threads.
    pub computing: Computing,
    /// Training rows.
    pub train: Rows,
    /// Validation rows, if any.
    pub validation: Option<Rows>,
    /// Test rows, if any.
    pub test: Option<Rows>,
    /// The files that were read.
    pub files: Vec<DataFile>,
    /// More training texts, which only the teacher labels.
    pub transfer: Vec<Rows>,
    /// The labels; `None` for a language model.
    pub labels: Option<LabelMap>,
    /// The task.
    pub task: Task,
    /// The tokeniser.
    pub tokenizer: Tokenizer,
    /// The model with its configuration, on the device with gradients.
    pub loaded: Loaded,
    /// Folder, hub id or `from scratch`.
    pub model_source: String,
    /// Where its files are, or those of the teacher that it is made of.
    pub model_folder: Option<PathBuf>,
    /// How parameters are updated.
    pub rules: GroupRules,
    /// What is minimised, as the recipe asks for it.
    pub loss_configs: Vec<LossConfig>,
    /// The same between this student and this teacher.
    pub losses: Arc<Losses>,
    /// Sources with what the teachers read in their place, where they read other columns.
    pub read_by_teacher: ReadInstead,
    /// The teachers; none for a model that learns alone.
    pub teachers: Vec<PreparedTeacher>,
    /// What is learnt beside the model: a projection, a second head.
    pub beside: Beside,
    /// The texts of which hidden tokens are guessed beside the labels, if any are.
    pub masked_text: Option<MaskedSources>,
    /// What the student took from its teacher, where it is made of it.
    pub student: Option<StudentReport>,
    /// Hides tokens, for a language model.
    pub masking: Option<Masking>,
    /// Chooses the best model.
    pub metric: ChosenMetric,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What is probably not what the user wants.
    pub warnings: Vec<String>,
}

/// Reads and checks everything that the recipe names: data, labels, tokeniser, model, device.
///
/// # Errors
/// Whatever the user has to mend, before anything is written.
pub fn prepare(
    recipe: &Recipe,
    shortage: Shortage,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    validate(recipe)?;
    let task = task_of(recipe)?;
    let level = task.level();
    let loss_configs = losses_of(recipe, level)?;
    let spec: DeviceSpec = recipe.device.parse()?;
    let device = resolve(spec)?;
    let precision = precision_for(recipe.train.dtype, &device).map_err(|error| {
        recipe.faults(vec![recipe.fault_at("train.dtype", error.message(), Some(error.help()))])
    })?;
    let computing = Computing::new(&device, precision);
    // The models first: a misspelt one should cost no download of data.
    let folder = match &recipe.model {
        ModelTable::Pretrained { path } => Some(model_folder(path, observer)?),
        ModelTable::Scratch(_) => None,
        ModelTable::FromTeacher(student) => Some(teacher_folder(recipe, student, observer)?),
    };
    check_not_its_own_output(recipe, folder.as_deref())?;
    check_adapters(recipe, folder.as_deref())?;
    let written = match level {
        Level::NextToken => {
            check_texts_of_its_own(recipe)?;
            Some(written_by(recipe, folder.as_deref())?)
        }
        Level::Sequence | Level::Token => None,
    };
    let layout = if written == Some(ModelTask::Seq2SeqLm) { Layout::EncoderDecoder } else { Layout::Decoder };
    let data = read_data(recipe, &task, layout, observer)?;
    let tokenizer = read_tokenizer(recipe, folder.as_deref(), &data.train, observer)?;
    let names = data.labels.as_ref().map(|labels| labels.names().to_vec()).unwrap_or_default();
    let model_task = match level {
        Level::Sequence => ModelTask::Classification { id2label: names.clone() },
        Level::Token => ModelTask::MaskedLm,
        Level::NextToken => written.unwrap_or(ModelTask::CausalLm),
    };
    let base = read_config(recipe, folder.as_deref(), &tokenizer, &model_task, &device)?;
    check_fit(recipe, &tokenizer, base.as_ref())?;
    check_rows(recipe, &tokenizer, &data.train)?;
    let short = check_needs(recipe, base.as_ref(), &computing, shortage)?;
    let (mut loaded, student) =
        read_model(recipe, folder.as_deref(), &tokenizer, model_task, &device, observer)?;
    let same_tokens_needed = level != Level::Sequence;
    let needs_logits = loss_configs.iter().any(|config| reads_teacher_logits(config.kind));
    let teachers =
        prepare_teachers(recipe, level, &names, &tokenizer, needs_logits, &loaded.config, observer)?;
    if let Some(order) = head_order(recipe, student.as_ref(), teachers.first(), &names) {
        reorder_head(loaded.model.as_mut(), &order);
    }
    let losses = build_losses(recipe, &loss_configs, level, &loaded.config, &teachers)?;
    check_written(recipe, level, &loss_configs, teachers.len())?;
    let needs = losses.needs();
    check_teachers_text(recipe, level, needs)?;
    check_teachers(recipe, &teachers, needs.inside_of_teacher() || same_tokens_needed)?;
    let projection = teachers.first().filter(|_| needs.projection).map(|teacher| {
        let widths = [&loaded.config, &teacher.config].map(|config| config.base.hidden_size());
        Projection::new(widths[0], widths[1], recipe.seed, &device.clone().autodiff())
    });
    let masking = masking_of(&task, &tokenizer, recipe.seed)?;
    let rules = GroupRules {
        weight_decay: recipe.train.weight_decay,
        freeze: freeze_patterns(recipe)?,
        lora: loaded.lora.clone(),
        layerwise_lr_decay: recipe.train.layerwise_lr_decay,
        num_hidden_layers: loaded.model.num_hidden_layers(),
    };
    let metric = metric_of(recipe, &task, needs.student_logits)?;
    check_answered(recipe, &task, metric)?;
    let mut taught: Vec<&Rows> = std::iter::once(&data.train).chain(&data.transfer).collect();
    taught.extend(data.validation.iter().filter(|_| matches!(metric, ChosenMetric::Objective)));
    let columns = recipe.teacher.as_ref().and_then(|teacher| teacher.text.as_ref());
    let read_by_teacher =
        ReadInstead::by_columns(columns, &taught, "reading what the teacher reads", observer)?;
    let beside_labels = match &task {
        Task::Classification(ClassificationTask { masked_lm: Some(wanted), .. }) => {
            check_masked_text(recipe, loaded.config.architecture.tasks)?;
            let parts: Vec<&Rows> = std::iter::once(&data.train).chain(&data.transfer).collect();
            let masking = masking_with(&tokenizer, wanted.mlm_probability, recipe.seed)?;
            let sources = MaskedSources::read(wanted, &parts, masking, observer)?;
            let (model, folder) = (ModelTask::MaskedLm, folder.as_deref());
            let (twin, _) = read_model(recipe, folder, &tokenizer, model, &device, &mut Silent)?;
            Some((sources, MaskedLmTwin::of(twin, &mut loaded, &rules)))
        }
        _ => None,
    };
    let (masked_text, masked_lm) = beside_labels.unzip();
    let (mut warnings, mut notes) = (data.warnings, data.notes);
    warnings.extend(short);
    warnings.extend(computing.warning());
    if let Some(new) = student.as_ref().map(|student| &student.new).filter(|new| !new.is_empty()) {
        let (shown, more) = (new.len().min(3), new.len().saturating_sub(3));
        let list = new[..shown].iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("new in the student, not the teacher's: {list}{more}"));
    }
    if let Task::Classification(ClassificationTask { masked_lm: Some(wanted), .. }) = &task {
        notes.push(wanted.describe());
    }
    for pattern in rules.unmatched_patterns(loaded.model.as_ref()) {
        warnings.push(format!("`freeze` pattern `{pattern}` matches no parameter of the model"));
    }
    if !data.transfer.is_empty() && !teachers.is_empty() && !uses_transfer(&loss_configs) {
        warnings.push("`transfer_data` is read for nothing: every loss needs a label of the data".to_owned());
    }
    let model_source = match &recipe.model {
        ModelTable::Pretrained { path } => path.clone(),
        ModelTable::Scratch(_) => "from scratch".to_owned(),
        ModelTable::FromTeacher(_) => "from the teacher".to_owned(),
    };
    let mut prepared = Prepared {
        recipe: recipe.clone(),
        device,
        precision,
        computing,
        train: data.train,
        validation: data.validation,
        test: data.test,
        transfer: data.transfer,
        files: data.files,
        labels: data.labels,
        metric,
        task,
        tokenizer,
        loaded,
        model_source,
        model_folder: folder,
        rules,
        losses: Arc::new(losses),
        loss_configs,
        read_by_teacher,
        teachers,
        beside: Beside { projection, masked_lm },
        masked_text,
        student,
        masking,
        notes,
        warnings,
    };
    let rules = prepared.rules.clone();
    prepared.loaded.model.set_trainable(&|name| rules.trainable(name));
    if !prepared.loaded.model.parameters().iter().any(|parameter| rules.trainable(&parameter.name)) {
        let help = "leave at least the classifier's parameters free".to_owned();
        let fault = recipe.fault_at(
            "train.freeze",
            "`freeze` matches every parameter: nothing is left to train",
            Some(help),
        );
        return Err(recipe.faults(vec![fault]).into());
    }
    check_namer(&prepared, observer)?;
    Ok(prepared)
}

/// What a model that writes texts is: an encoder-decoder, or a decoder.
fn written_by(recipe: &Recipe, folder: Option<&Path>) -> Result<ModelTask, TrainError> {
    let architecture = match (&recipe.model, folder) {
        (ModelTable::Scratch(component), _) => find(&component.name).ok(),
        (_, Some(folder)) => Some(ModelConfig::read(folder)?.architecture),
        (_, None) => None,
    };
    let tasks = architecture.map_or(&[][..], |architecture| architecture.tasks);
    let answers = matches!(recipe.task.name.as_str(), "seq2seq" | "rationale");
    Ok(if answers && tasks.contains(&TaskKind::Seq2SeqLm) {
        ModelTask::Seq2SeqLm
    } else {
        ModelTask::CausalLm
    })
}

/// Whether any of the losses learns from texts without a label.
fn uses_transfer(configs: &[LossConfig]) -> bool {
    configs.iter().any(|config| config.kind != "hard_labels")
}

/// The folder of the teacher that a student is made of.
fn teacher_folder(
    recipe: &Recipe,
    student: &FromTeacher,
    observer: &mut dyn Observer,
) -> Result<PathBuf, TrainError> {
    let members = recipe.teacher.as_ref().map(TeacherTable::members).unwrap_or_default();
    match student.teacher.as_ref().or(members.first().map(|teacher| &teacher.path)) {
        Some(teacher) => model_folder(teacher, observer),
        None => {
            let message = "a student `from_teacher` needs a teacher with a `path`";
            let help = "write `path` in `[teacher]`, or start the student from a model of its own".to_owned();
            Err(recipe.faults(vec![recipe.fault_at("student.init", message, Some(help))]).into())
        }
    }
}

/// The order into which a head that was copied from the teacher must be put, if it is another than the teacher's.
fn head_order(
    recipe: &Recipe,
    student: Option<&StudentReport>,
    teacher: Option<&PreparedTeacher>,
    labels: &[String],
) -> Option<Vec<usize>> {
    student.filter(|student| !student.copied_layers.is_empty())?;
    let ModelTask::Classification { id2label } = &teacher?.config.task else { return None };
    let names = recipe.teacher.as_ref().and_then(|teacher| teacher.labels.as_ref()).unwrap_or(id2label);
    label_order(names, labels).filter(|order| !order.is_sorted())
}

/// The losses between this student and its teachers; whatever does not fit is told at the loss.
fn build_losses(
    recipe: &Recipe,
    configs: &[LossConfig],
    level: Level,
    student: &ModelConfig,
    teachers: &[PreparedTeacher],
) -> Result<Losses, TrainError> {
    let pair = Pair {
        student: student.base.as_ref(),
        teacher: teachers.first().map(|teacher| teacher.config.base.as_ref()),
        teachers: teachers.len(),
        same_tokens: teachers.iter().all(|teacher| teacher.own_tokenizer.is_none()),
        level,
    };
    Losses::build(configs, &pair).map_err(|unfit| {
        let written = |index: usize| recipe.distill.as_ref().and_then(|distill| distill.losses.get(index));
        let fault = |(index, unfit): (usize, Unfit)| match written(index) {
            Some(component) => component.fault_at(unfit.key, unfit.message, Some(unfit.help)),
            None => recipe.fault_at("distill.method", unfit.message, Some(unfit.help)),
        };
        recipe.faults(unfit.into_iter().map(fault).collect()).into()
    })
}

fn freeze_patterns(recipe: &Recipe) -> Result<Vec<Regex>, Faults> {
    let mut faults = Vec::new();
    let mut patterns = Vec::new();
    for pattern in &recipe.train.freeze {
        match Regex::new(pattern) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => faults.push(recipe.fault_at("train.freeze", error.to_string(), None)),
        }
    }
    if faults.is_empty() { Ok(patterns) } else { Err(recipe.faults(faults)) }
}

impl Prepared {
    /// The losses once more, as they were built.
    ///
    /// # Errors
    /// None that was not told when they were built first.
    pub(crate) fn losses_again(&self) -> Result<Losses, TrainError> {
        let level = self.task.level();
        build_losses(&self.recipe, &self.loss_configs, level, &self.loaded.config, &self.teachers)
    }

    /// Names of the labels; none for a language model.
    pub fn label_names(&self) -> &[String] {
        self.labels.as_ref().map(LabelMap::names).unwrap_or_default()
    }

    /// What the model's head predicts.
    pub fn model_task(&self) -> ModelTask {
        self.loaded.config.task.clone()
    }

    /// All rows to learn from: labelled ones, then those that only the teacher labels.
    pub fn training_parts(&self) -> Vec<&Rows> {
        std::iter::once(&self.train).chain(&self.transfer).collect()
    }

    /// These rows as the teachers read them, where they read other columns.
    pub(crate) fn for_teacher(&self, rows: &Rows) -> Option<Rows> {
        self.read_by_teacher.rows(rows)
    }

    /// The training rows as `masked_lm` reads them; nothing without it.
    pub(crate) fn masked_parts(&self) -> Option<(&MaskedSources, Vec<Rows>)> {
        let masked = self.masked_text.as_ref()?;
        let parts = self.training_parts();
        Some((masked, parts.into_iter().filter_map(|rows| masked.read.rows(rows)).collect()))
    }

    /// How many rows there are to learn from.
    pub fn training_rows(&self) -> usize {
        self.training_parts().into_iter().map(Rows::len).sum()
    }

    /// These rows with what is to be learnt of them.
    ///
    /// # Errors
    /// [`TrainError::Data`] if rows do not fit into sequences of `max_length`.
    pub fn training_examples(&self, rows: TokenizedRows) -> Result<Examples, TrainError> {
        self.example_maker().of_training(rows)
    }

    /// These rows with what is to be predicted of them when they are measured.
    ///
    /// # Errors
    /// As [`Self::training_examples`].
    pub fn examples(&self, rows: TokenizedRows) -> Result<Examples, TrainError> {
        self.example_maker().of_held_out(rows)
    }

    fn example_maker(&self) -> ExampleMaker<'_> {
        ExampleMaker {
            task: &self.task,
            config: &self.loaded.config,
            masking: self.masking.as_ref(),
            max_length: self.recipe.data.max_length,
            pad_token_id: self.pad_token_id(),
            // Elsewhere attention would compute all pairs of the row; teachers read row by row.
            side_by_side: self.teachers.is_empty() && describe(&self.device) == "flex",
            documents: self.reads_documents(),
        }
    }

    pub(crate) fn reads_documents(&self) -> bool {
        self.train.source.are_documents()
    }

    /// Id of the padding token: the tokeniser's, else the model's.
    pub fn pad_token_id(&self) -> u32 {
        pad_token_id(&self.tokenizer, &self.loaded.config)
    }
}
