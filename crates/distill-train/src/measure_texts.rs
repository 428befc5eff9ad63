//! A finished model that writes texts, or guesses hidden tokens, measured on files as a recipe reads them.

use crate::computing::precision_for;
use crate::error::TrainError;
use crate::evaluate::Batching;
use crate::events::{Event, Observer};
use crate::example_maker::{ExampleMaker, masking_of, pad_token_id};
use crate::finished_model::FinishedModel;
use crate::measure::{Head, Measured, Use};
use crate::prepare_checks::check_rows;
use crate::read_data::read_held_out;
use crate::recipe_checks::{components, task_of};
use crate::report::Report;
use crate::rows::{Rows, TokenizedRows, tokenize};
use crate::tasks::Task;
use distill_data::Layout;
use distill_data::tokenizer::Tokenizer;
use distill_models::Task as ModelTask;
use distill_ops::{DeviceSpec, resolve};
use distill_recipe::{Document, DtypeChoice, Recipe, stages};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct TextEvaluation<'a> {
    /// The folder of a run, of a checkpoint or of an adapter, any Hugging Face folder, or a hub id.
    pub model: &'a str,
    /// Says by its tables `task`, `data` and `rationale` what a row is made of; `test` in `[data]` are the files.
    pub recipe: &'a Recipe,
    /// Where to compute.
    pub device: &'a str,
    /// What products multiply in.
    pub dtype: DtypeChoice,
    /// Rows that are measured together.
    pub batch_size: usize,
    /// Longest sequence in tokens, in place of the recipe's.
    pub max_length: Option<usize>,
    /// Where a line for each row is written, if anywhere.
    pub predictions: Option<&'a Path>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct TextScores {
    /// The scores.
    pub report: Report,
    /// How many rows were measured.
    pub rows: u64,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// Whether there is something to say of each row, and it was written where that was asked for.
    pub has_predictions: bool,
}

/// A recipe that is read for what rows are made of alone: the last stage, its files and its training unchecked.
///
/// # Errors
/// [`TrainError::Recipe`] with every mistake in it.
pub fn rows_recipe(document: &Document) -> Result<Recipe, TrainError> {
    let Some(stage) = stages(document)?.pop() else { return Err(TrainError::Interrupted) };
    Ok(Recipe::from_document(stage.document, &components())?)
}

/// Measures a model on the test files of a recipe.
///
/// # Errors
/// A model, a recipe or files that cannot be used together.
pub fn evaluate_texts(
    asked: &TextEvaluation<'_>,
    observer: &mut dyn Observer,
) -> Result<TextScores, TrainError> {
    let recipe = asked.recipe;
    let task = task_of(recipe)?;
    let spec: DeviceSpec = asked.device.parse()?;
    let device = resolve(spec)?;
    let precision = precision_for(asked.dtype, &device)?;
    let finished = FinishedModel::find(asked.model, observer)?;
    let config = finished.config()?;
    check_task(asked.model, recipe, &task, &config.task)?;
    let layout = if config.task == ModelTask::Seq2SeqLm { Layout::EncoderDecoder } else { Layout::Decoder };
    let rows = Rows::all(Arc::new(read_held_out(recipe, &task, layout, observer)?));
    let tokenizer = Tokenizer::load(finished.tokenizer_folder())?;
    check_rows(recipe, &tokenizer, &rows)?;
    let limit = config.base.max_length();
    let max_length = asked.max_length.unwrap_or(recipe.data.max_length.min(limit));
    if max_length > limit {
        return Err(TrainError::TooLong { max_length, limit });
    }
    finished.announce(asked.model, observer);
    let loaded = finished.load(config.task.clone(), device)?;
    let vocab_size = loaded.config.base.vocab_size();
    if tokenizer.vocab_size() > vocab_size {
        return Err(TrainError::VocabularyMismatch { tokenizer: tokenizer.vocab_size(), model: vocab_size });
    }
    let total = Some(rows.len() as u64);
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let mut tokenizing =
        |done| observer.event(&Event::Progress { what: "tokenising".to_owned(), done, total });
    let dataset = tokenize(&rows.source, &tokenizer, max_length, scratch.path(), &mut tokenizing)?;
    let masking = masking_of(&task, &tokenizer, recipe.seed)?;
    let maker = ExampleMaker {
        side_by_side: false,
        task: &task,
        config: &loaded.config,
        masking: masking.as_ref(),
        max_length,
        pad_token_id: pad_token_id(&tokenizer, &loaded.config),
        documents: rows.source.are_documents(),
    };
    let examples = maker.of_held_out(TokenizedRows::new(Arc::new(dataset), &rows))?;
    let batching =
        Batching { batch_size: asked.batch_size, pad_token_id: examples.pad_token_id, max_length, precision };
    let head =
        Head::new(&task, recipe, &loaded.config, &tokenizer, &[]).with_prompts_together(asked.batch_size);
    let on = Measured { examples: &examples, rows: &rows, use_: Use::Test };
    let mut measuring = |done| observer.event(&Event::Progress { what: "measuring".to_owned(), done, total });
    let never = AtomicBool::new(false);
    let (report, written) = head.measure(&never, loaded.model.as_ref(), on, batching, &mut measuring)?;
    let has_predictions = match asked.predictions {
        Some(path) => written.write(path, &rows, &[])?,
        None => false,
    };
    Ok(TextScores { report, rows: rows.len() as u64, max_length, has_predictions })
}

/// Whether the recipe's task is one of this model.
fn check_task(name: &str, recipe: &Recipe, task: &Task, model: &ModelTask) -> Result<(), TrainError> {
    let fits = match model {
        // Labels are measured by `evaluate_files`.
        ModelTask::Classification { .. } => false,
        ModelTask::MaskedLm => matches!(task, Task::MaskedLanguageModeling(_)),
        ModelTask::CausalLm => {
            matches!(task, Task::LanguageModeling(_) | Task::Seq2Seq(_) | Task::Rationale(_))
        }
        ModelTask::Seq2SeqLm => matches!(task, Task::Seq2Seq(_) | Task::Rationale(_)),
    };
    if fits {
        return Ok(());
    }
    let message =
        format!("`{name}` is a model for {}, and the task is `{}`", model.kind().name(), recipe.task.name);
    let help = "take a recipe for models of this kind, or name the columns on the command line".to_owned();
    Err(recipe.faults(vec![recipe.fault_at("task.kind", message, Some(help))]).into())
}
