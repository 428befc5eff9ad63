//! Checks of a recipe against its model, its teachers, its data and this machine, before anything is made.

use crate::computing::Computing;
use crate::error::TrainError;
use crate::needs::{base_model_size, disk_need, memory_need};
use crate::objectives::{Level, Needs};
use crate::prepare::Shortage;
use crate::report::ChosenMetric;
use crate::rows::Rows;
use crate::tasks::{Generate, Task};
use crate::teacher::PreparedTeacher;
use distill_data::tokenizer::Tokenizer;
use distill_data::{RowEncoder, RowKind};
use distill_models::{BaseModelConfig, TaskKind, is_adapter};
use distill_recipe::{ModelTable, Recipe, STAGE_FOLDER, TeacherTable};
use std::path::{Path, PathBuf};

/// Adapters belong to a trained model, and are named as such.
pub(crate) fn check_adapters(recipe: &Recipe, folder: Option<&Path>) -> Result<(), TrainError> {
    let fault = |key: &str, message: String, help: String| {
        Err(recipe.faults(vec![recipe.fault_at(key, message, Some(help))]).into())
    };
    match (&recipe.model, folder) {
        (ModelTable::Pretrained { path }, Some(folder)) if is_adapter(folder) => fault(
            "model.path",
            format!("`{path}` is an adapter, not a model"),
            "name the model that it belongs to here, and the adapter by `adapter` in `[lora]`; or merge both by \
             `distill merge`"
                .to_owned(),
        ),
        (ModelTable::Pretrained { .. }, _) => Ok(()),
        _ if recipe.lora.is_some() => fault(
            "lora",
            "adapters need a trained model: weights that are new would stay as they are".to_owned(),
            "name one by `path` in `[model]`, or remove `[lora]`".to_owned(),
        ),
        _ => Ok(()),
    }
}

/// More texts for a teacher to label are for models that do not write: others learn from any text.
pub(crate) fn check_texts_of_its_own(recipe: &Recipe) -> Result<(), TrainError> {
    let transfer = recipe.distill.as_ref().is_some_and(|distill| distill.table.transfer_data.is_some());
    let given = [("distill.transfer_data", transfer), ("augment", recipe.augment.is_some())];
    let Some((key, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let message = "texts that a teacher alone labels are not for a model that writes texts".to_owned();
    let help = "it learns from any text: name more files by `train` in `[data]`".to_owned();
    Err(recipe.faults(vec![recipe.fault_at(key, message, Some(help))]).into())
}

/// Refuses teachers that read other columns where losses compare token by token, or where copies have a text alone.
pub(crate) fn check_teachers_text(recipe: &Recipe, level: Level, needs: Needs) -> Result<(), TrainError> {
    if recipe.teacher.as_ref().is_none_or(|teacher| teacher.text.is_none()) {
        return Ok(());
    }
    let (message, help) = if level != Level::Sequence {
        (
            "a teacher that reads other columns is for models that put a label on a whole text",
            "remove `text` in `[teacher]`, or train a `classification`",
        )
    } else if needs.inside_of_teacher() {
        (
            "losses that look inside of both models compare token by token, and the teacher reads other columns",
            "keep losses on labels: `hard_labels` and `soft_labels`",
        )
    } else if recipe.augment.is_some() {
        (
            "changed copies of `[augment]` have the student's text alone, and the teacher reads other columns",
            "remove `[augment]`, or `text` in `[teacher]`",
        )
    } else {
        return Ok(());
    };
    Err(recipe.faults(vec![recipe.fault_at("teacher.text", message, Some(help.to_owned()))]).into())
}

/// Refuses a masked language model beside a classifier where it cannot be had.
///
/// `tasks` are those of the architecture.
pub(crate) fn check_masked_text(recipe: &Recipe, tasks: &[TaskKind]) -> Result<(), TrainError> {
    let (message, help) = if !tasks.contains(&TaskKind::MaskedLm) {
        ("this architecture has no head that guesses hidden tokens", "remove `masked_lm`, or take an encoder")
    } else if recipe.lora.is_some() {
        (
            "adapters leave the encoder as it is, and `masked_lm` is for one that learns",
            "remove `[lora]`, or `masked_lm`",
        )
    } else if recipe.augment.is_some() {
        (
            "changed copies of `[augment]` have the task's text alone, and `masked_lm` reads other columns",
            "remove `[augment]`, or `masked_lm`",
        )
    } else {
        return Ok(());
    };
    Err(recipe.faults(vec![recipe.fault_at("task.masked_lm", message, Some(help.to_owned()))]).into())
}

/// Whether every teacher can read what the student reads.
pub(crate) fn check_teachers(
    recipe: &Recipe,
    teachers: &[PreparedTeacher],
    same_tokens: bool,
) -> Result<(), TrainError> {
    for teacher in teachers {
        let limit = teacher.config.base.max_length();
        if (same_tokens || teacher.own_tokenizer.is_none()) && recipe.data.max_length > limit {
            let help = Some(format!("lower it to {limit} or less"));
            let message = format!(
                "`max_length` is {}, the teacher `{}` reads at most {limit} tokens",
                recipe.data.max_length, teacher.name
            );
            return Err(recipe.faults(vec![recipe.fault_at("data.max_length", message, help)]).into());
        }
    }
    Ok(())
}

/// Refuses a metric of written texts where no validation prompt is answered.
pub(crate) fn check_answered(recipe: &Recipe, task: &Task, metric: ChosenMetric) -> Result<(), TrainError> {
    let answered = match (task, metric) {
        (Task::Seq2Seq(task), ChosenMetric::Generation(_)) => task.generate == Generate::Always,
        (Task::Rationale(task), ChosenMetric::Rationale(_)) => task.answers_validation(recipe),
        _ => true,
    };
    if answered {
        return Ok(());
    }
    let message = format!("`{}` measures answers, and no validation prompt is answered", metric.name());
    let help = "write `generate = \"always\"` in `[task]`, or choose by `loss`".to_owned();
    Err(recipe.faults(vec![recipe.fault_at("train.metric_for_best_model", message, Some(help))]).into())
}

/// Refuses a run that cannot fit, before its model is made: what its batches need is known only later.
pub(crate) fn check_needs(
    recipe: &Recipe,
    base: &dyn BaseModelConfig,
    computing: &Computing,
    shortage: Shortage,
) -> Result<Vec<String>, TrainError> {
    let parameters = base.approximate_parameters();
    // Frozen parameters have no state; which they are is known only from the model.
    let all = recipe.train.freeze.is_empty() && recipe.lora.is_none();
    let trained = if all { parameters } else { 0 };
    let size = base_model_size(base, parameters, trained);
    let memory = memory_need(recipe, computing, &size, 1, 1);
    let mut told = Vec::new();
    if memory.is_short() && !computing.device.starts_with("cuda") {
        let available = memory.available_bytes.unwrap_or_default();
        return Err(TrainError::TooLittle { what: "memory", needed: memory.needed_bytes, available });
    }
    let disk = disk_need(recipe, &size);
    if disk.is_short() {
        let available = disk.available_bytes.unwrap_or_default();
        let error = TrainError::TooLittle { what: "disk space", needed: disk.needed_bytes, available };
        match shortage {
            Shortage::Refuse => return Err(error),
            Shortage::Tell => told.push(error.to_string()),
        }
    }
    Ok(told)
}

/// Refuses to remove the weights that a run is to start from, or to learn from.
pub(crate) fn check_not_its_own_output(recipe: &Recipe, model: Option<&Path>) -> Result<(), TrainError> {
    let canonical = |path: &Path| path.canonicalize().ok();
    let Some(output) = canonical(&recipe.output_dir) else { return Ok(()) };
    // An earlier stage's model lies below, and stays.
    let stages = output.join(STAGE_FOLDER);
    let teachers = recipe.teacher.as_ref().map(TeacherTable::members).unwrap_or_default();
    let teachers = teachers.iter().map(|teacher| (PathBuf::from(&teacher.path), "learns from"));
    let models = model.map(|model| (model.to_owned(), "starts from")).into_iter().chain(teachers);
    for (model, what) in models {
        let Some(model) = canonical(&model).filter(|model| model.starts_with(&output)) else { continue };
        if !model.starts_with(&stages) {
            let help = "choose another `output_dir`".to_owned();
            let message = format!("`output_dir` holds the model that the run {what}");
            return Err(recipe.faults(vec![recipe.fault_at("output_dir", message, Some(help))]).into());
        }
    }
    Ok(())
}

/// Whether rows of this kind can be made tokens.
pub(crate) fn check_rows(recipe: &Recipe, tokenizer: &Tokenizer, rows: &Rows) -> Result<(), TrainError> {
    let Some(language) = &rows.source.language else { return Ok(()) };
    let fault = |key: &str, message: String, help: &str| {
        Err(recipe.faults(vec![recipe.fault_at(key, message, Some(help.to_owned()))]).into())
    };
    // Its own faults: a template that cannot be read, a `max_length` without room.
    RowEncoder::new(tokenizer, language.layout, recipe.data.max_length)?;
    if matches!(language.spec.kind, RowKind::Chat { .. }) {
        return match tokenizer.chat_template() {
            Ok(Some(_)) => Ok(()),
            _ => fault(
                "data.messages",
                "the model has no chat template, and conversations are written by one".to_owned(),
                "put `chat_template.jinja` into its folder, or take a model that is made for conversations",
            ),
        };
    }
    match tokenizer.eos_token_id() {
        Some(_) => Ok(()),
        None => {
            let message =
                "the tokenizer has no end-of-text token, and every text is to end with one".to_owned();
            match recipe.tokenizer.as_ref().and_then(|table| table.train.as_ref()) {
                Some(_) => fault("tokenizer.train", message, "train it with `kind = \"gpt2\"`"),
                None => fault("model", message, "name it by `eos_token` in `tokenizer_config.json`"),
            }
        }
    }
}

/// Whether tokens and lengths fit the model.
pub(crate) fn check_fit(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    base: &dyn BaseModelConfig,
) -> Result<(), TrainError> {
    let model = base.vocab_size();
    // A model may have more rows than its tokenizer has tokens: rounded up, or reserved.
    if tokenizer.vocab_size() > model {
        return Err(TrainError::VocabularyMismatch { tokenizer: tokenizer.vocab_size(), model });
    }
    let limit = base.max_length();
    if recipe.data.max_length > limit {
        let help = Some(format!("lower it to {limit} or less"));
        let message =
            format!("`max_length` is {}, the model reads at most {limit} tokens", recipe.data.max_length);
        return Err(recipe.faults(vec![recipe.fault_at("data.max_length", message, help)]).into());
    }
    Ok(())
}
