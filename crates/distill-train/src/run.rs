//! A run from its recipe to its files, and the plan of one.

use crate::checkpoint::{CheckpointStore, LoopState};
use crate::error::TrainError;
use crate::evaluate::{Batching, predict_rows};
use crate::events::{Event, Observer};
use crate::fingerprint::{differences, fingerprint};
use crate::optimizer::Optimizer;
use crate::plan::{LabelCount, ModelPlan, ModelSize, PlanReport, Rows as RowCounts, Steps, TokenLengths};
use crate::predictions::write_predictions;
use crate::prepare::{self, Prepared, prepare};
use crate::record::{Metrics, RunRecord, RunSummary, StepCount, Timings, TrainMetrics, now};
use crate::rows::{self, Rows, TokenizedRows};
use crate::run_folder::{PREDICTIONS_FILE, RECIPE_FILE, RunFolder, Start, Status, check};
use crate::schedule::Schedule;
use crate::trainer::{LoopEnd, LoopSettings, Trainer};
use distill_data::{TokenStats, TokenizedDataset, label_counts};
use distill_eval::ClassificationReport;
use distill_models::Model;
use distill_models::{HeadPolicy, LoadRequest, load, save};
use distill_ops::{AdamW, describe};
use distill_recipe::Recipe;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How a run is begun and stopped.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What to do about a run that is there already.
    pub start: Start,
    /// Set from outside to stop after the current step.
    pub interrupt: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// All is done and saved.
    Finished(Box<RunSummary>),
    /// It was finished before: nothing was done.
    AlreadyFinished {
        /// Where the model is.
        output_dir: PathBuf,
    },
    /// Stopped from outside after a whole step.
    Interrupted {
        /// Optimizer steps done.
        step: u64,
        /// The checkpoint from which `--resume` goes on; `None` before the first step.
        checkpoint: Option<PathBuf>,
    },
}

/// Tokenised rows of each data set.
struct Datasets {
    train: TokenizedRows,
    validation: Option<TokenizedRows>,
    test: Option<TokenizedRows>,
}

/// What a run of this recipe will do and need, without training; nothing stays on the disk.
///
/// # Errors
/// Whatever would stop the run before its first step.
pub fn plan(recipe: &Recipe, observer: &mut dyn Observer) -> Result<PlanReport, TrainError> {
    let prepared = prepare(recipe, observer)?;
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let datasets = tokenize(&prepared, scratch.path(), observer)?;
    let mut report = plan_of(&prepared, &datasets);
    report.warnings.extend(leak_warning(&datasets)?);
    Ok(report)
}

/// Runs a recipe: prepare, train, choose by validation, test once, save.
///
/// # Errors
/// What the user has to mend, before anything is written; then what happens on the way, with the last checkpoint kept.
pub fn run(
    recipe: &Recipe,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<RunOutcome, TrainError> {
    let begin = Instant::now();
    let output_dir = &recipe.output_dir;
    if check(output_dir, options.start)? == Status::Finished && options.start == Start::Resume {
        return Ok(RunOutcome::AlreadyFinished { output_dir: output_dir.clone() });
    }
    let mut prepared = prepare(recipe, observer)?;
    for warning in &prepared.warnings {
        observer.event(&Event::Warning { message: warning.clone() });
    }
    report_new_weights(&prepared, observer);
    let print = fingerprint(&prepared)?;
    let store = CheckpointStore::new(output_dir);
    let (checkpoint, damaged) = match options.start {
        Start::Resume => store.latest()?,
        Start::Fresh | Start::Overwrite => (None, Vec::new()),
    };
    for message in damaged {
        observer.event(&Event::Warning { message });
    }
    if let Some(checkpoint) = &checkpoint {
        let differences = differences(&checkpoint.fingerprint, &print);
        if !differences.is_empty() {
            return Err(TrainError::ResumeDiffers { path: output_dir.clone(), differences });
        }
    }

    let folder = RunFolder::claim(output_dir, options.start)?;
    let cache = recipe.data.cache_dir.clone().unwrap_or_else(|| folder.cache());
    let datasets = tokenize(&prepared, &cache, observer)?;
    if let Some(message) = leak_warning(&datasets)? {
        observer.event(&Event::Warning { message });
    }
    let settings = loop_settings(&prepared, datasets.train.len());
    let mut record = new_record(&prepared, &settings);
    record.resumed = u64::from(checkpoint.is_some());
    record.timings.prepare = begin.elapsed().as_secs_f64();
    folder.write_text(RECIPE_FILE, &recipe.resolved_toml())?;
    record.stamp("running");
    folder.write_record(&record)?;

    let mut state = LoopState::default();
    let adamw = AdamW {
        beta1: recipe.train.adam_beta1,
        beta2: recipe.train.adam_beta2,
        epsilon: recipe.train.adam_epsilon,
    };
    if let Some(checkpoint) = &checkpoint {
        state = checkpoint.state.clone();
        prepared.loaded.model = reload(&prepared, &checkpoint.path, true)?;
    }
    let mut optimizer = Optimizer::new(adamw, &prepared.rules, prepared.loaded.model.as_ref());
    if let Some(checkpoint) = checkpoint {
        checkpoint.restore(&mut optimizer, &prepared.device)?;
    }
    observer.event(&Event::TrainingStarted {
        total_steps: settings.total_steps,
        resumed_at: state.step,
        epochs: settings.total_steps as f64 / settings.steps_per_epoch as f64,
    });
    let end = {
        let (config, tokenizer) = (&prepared.loaded.config, &prepared.tokenizer);
        let save_model = |model: &dyn Model, folder: &Path| {
            save(model, config, folder)?;
            Ok(tokenizer.save(folder)?)
        };
        let mut trainer = Trainer {
            settings: &settings,
            model: prepared.loaded.model.as_mut(),
            optimizer: &mut optimizer,
            train: &datasets.train,
            validation: datasets.validation.as_ref(),
            store: &store,
            fingerprint: &print,
            save_model: &save_model,
            metrics_log: &mut folder.metrics_log(state.step)?,
            on_checkpoint: &mut |state| {
                record_progress(&mut record, state);
                record.stamp(Status::Running.name());
                folder.write_record(&record)
            },
            interrupt: &options.interrupt,
            observer,
        };
        trainer.run(&mut state)
    };
    drop(optimizer);
    record_progress(&mut record, &state);
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            record.timings.total = begin.elapsed().as_secs_f64();
            record.stamp("interrupted");
            folder.write_record(&record)?;
            return Err(error);
        }
    };
    if end == LoopEnd::Interrupted {
        record.timings.total = begin.elapsed().as_secs_f64();
        record.stamp("interrupted");
        folder.write_record(&record)?;
        let checkpoint = store.latest()?.0.map(|checkpoint| checkpoint.path);
        return Ok(RunOutcome::Interrupted { step: state.step, checkpoint });
    }
    finish(&mut prepared, &datasets, &settings, &state, &store, &folder, record, begin, observer)
}

/// Takes the best model, measures it on the test set once and writes what is left.
#[allow(clippy::too_many_arguments)]
fn finish(
    prepared: &mut Prepared,
    datasets: &Datasets,
    settings: &LoopSettings,
    state: &LoopState,
    store: &CheckpointStore,
    folder: &RunFolder,
    mut record: RunRecord,
    begin: Instant,
    observer: &mut dyn Observer,
) -> Result<RunOutcome, TrainError> {
    if let Some(best) = state.best.as_ref().filter(|best| best.step != state.step) {
        prepared.loaded.model = reload(prepared, &store.best(best.step)?, false)?;
    }
    let model = prepared.loaded.model.eval_copy();
    let mut test_report = None;
    if let (Some(test), Some(rows)) = (&datasets.test, &prepared.test) {
        let start = Instant::now();
        let total = Some(test.len() as u64);
        let mut progress = |done| {
            observer.event(&Event::Progress { what: "measuring on the test set".to_owned(), done, total })
        };
        let batching = Batching {
            batch_size: settings.eval_batch_size,
            pad_token_id: settings.pad_token_id,
            max_length: settings.max_length,
        };
        let predictions = predict_rows(model.as_ref(), test, batching, &mut progress)?;
        let report = ClassificationReport::from_predictions(&predictions, &settings.labels)?;
        write_predictions(&folder.path().join(PREDICTIONS_FILE), rows, &predictions, &settings.labels)?;
        record.timings.test = start.elapsed().as_secs_f64();
        test_report = Some(report);
    }
    save(model.as_ref(), &prepared.loaded.config, folder.path())?;
    prepared.tokenizer.save(folder.path())?;
    let validation = state.best.as_ref().map(|best| best.report.clone());
    record.metrics = Metrics {
        train: state.total.mean().map(|loss| TrainMetrics { loss }),
        validation: validation.clone(),
        test: test_report.clone(),
    };
    record.timings.total = begin.elapsed().as_secs_f64();
    record.stamp("finished");
    folder.write_record(&record)?;
    Ok(RunOutcome::Finished(Box::new(RunSummary {
        name: record.name,
        output_dir: folder.path().to_owned(),
        steps: state.step,
        epochs: state.step as f64 / settings.steps_per_epoch as f64,
        train_loss: state.total.mean(),
        best_step: record.steps.best,
        validation,
        test: test_report,
        labels: settings.labels.clone(),
        seconds: record.timings,
        peak_memory_bytes: record.peak_memory_bytes,
        examples_per_second: record.train_examples_per_second.unwrap_or_default(),
    })))
}

/// The weights in `folder`, in the model of this run.
fn reload(prepared: &Prepared, folder: &Path, trained_on: bool) -> Result<Box<dyn Model>, TrainError> {
    let request = LoadRequest {
        task: distill_models::Task::Classification { id2label: prepared.labels.names().to_vec() },
        seed: prepared.recipe.seed,
        device: prepared.device.clone().autodiff(),
        dropout: prepared.recipe.train.dropout,
        head: HeadPolicy::MustMatch,
    };
    let mut model = load(folder, request)?.model;
    if trained_on {
        model.set_trainable(&|name| prepared.rules.trainable(name));
    }
    Ok(model)
}

fn report_new_weights(prepared: &Prepared, observer: &mut dyn Observer) {
    let report = &prepared.loaded.report;
    if prepared.recipe.model.path().is_some() && !report.newly_initialised.is_empty() {
        let message =
            format!("starts at random, not in the checkpoint: {}", report.newly_initialised.join(", "));
        observer.event(&Event::Note { message });
    }
    if !report.unused.is_empty() {
        let message = format!("in the checkpoint and not used for this task: {}", report.unused.join(", "));
        observer.event(&Event::Note { message });
    }
    observer.event(&Event::Note { message: prepared.labels.describe() });
}

fn tokenize(prepared: &Prepared, cache: &Path, observer: &mut dyn Observer) -> Result<Datasets, TrainError> {
    let max_length = prepared.recipe.data.max_length;
    let mut done: Vec<(Arc<rows::Source>, Arc<TokenizedDataset>)> = Vec::new();
    let mut one = |rows: &Rows, what: &str| {
        // Training and validation rows are often parts of one source, which is tokenised once.
        if let Some((_, dataset)) = done.iter().find(|(source, _)| Arc::ptr_eq(source, &rows.source)) {
            return Ok(TokenizedRows::new(dataset.clone(), rows));
        }
        let total = Some(rows.source.scan.rows);
        let what = format!("tokenising {what} rows");
        let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total });
        let dataset = rows::tokenize(&rows.source, &prepared.tokenizer, max_length, cache, &mut progress)?;
        let dataset = Arc::new(dataset);
        done.push((rows.source.clone(), dataset.clone()));
        Ok::<_, TrainError>(TokenizedRows::new(dataset, rows))
    };
    Ok(Datasets {
        train: one(&prepared.train, "training")?,
        validation: prepared.validation.as_ref().map(|rows| one(rows, "validation")).transpose()?,
        test: prepared.test.as_ref().map(|rows| one(rows, "test")).transpose()?,
    })
}

/// How many test rows have the very tokens of a training row: an honest test has none.
fn leaked_rows(datasets: &Datasets) -> Result<usize, TrainError> {
    let Some(test) = &datasets.test else { return Ok(0) };
    let digest = |rows: &TokenizedRows, position| {
        let mut hasher = DefaultHasher::new();
        rows.read(position)?.hash(&mut hasher);
        Ok::<u64, TrainError>(hasher.finish())
    };
    let train = &datasets.train;
    let seen = (0..train.len()).map(|position| digest(train, position)).collect::<Result<HashSet<_>, _>>()?;
    let mut leaked = 0;
    for position in 0..test.len() {
        leaked += usize::from(seen.contains(&digest(test, position)?));
    }
    Ok(leaked)
}

fn leak_warning(datasets: &Datasets) -> Result<Option<String>, TrainError> {
    let leaked = leaked_rows(datasets)?;
    let rows = datasets.test.as_ref().map_or(0, TokenizedRows::len);
    Ok((leaked > 0).then(|| {
        format!(
            "{leaked} of {rows} test rows have the same tokens as a training row, which flatters the scores"
        )
    }))
}

fn loop_settings(prepared: &Prepared, rows: usize) -> LoopSettings {
    let (recipe, train) = (&prepared.recipe, &prepared.recipe.train);
    let steps = steps(recipe, rows);
    LoopSettings {
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
        label_smoothing: train.label_smoothing,
        on_nan: train.on_nan,
        logging_steps: train.logging_steps,
        eval_steps: train.eval_steps.unwrap_or(steps.per_epoch),
        save_steps: train.save_steps.unwrap_or(steps.per_epoch),
        save_total_limit: train.save_total_limit,
        metric: prepared.metric,
        early_stopping_patience: train.early_stopping_patience,
        pad_token_id: prepared.tokenizer.pad_token_id().unwrap_or(0),
        max_length: recipe.data.max_length,
        labels: prepared.labels.names().to_vec(),
    }
}

/// Optimizer steps of a run over `rows` rows; the last step of an epoch may be smaller.
fn steps(recipe: &Recipe, rows: usize) -> Steps {
    let train = &recipe.train;
    let per_epoch = rows.div_ceil(train.batch_size).div_ceil(train.gradient_accumulation_steps).max(1) as u64;
    let total = train.max_steps.unwrap_or_else(|| (train.epochs * per_epoch as f64).ceil() as u64).max(1);
    let ratio = train.warmup_ratio.unwrap_or(0.0);
    let warmup = train.warmup_steps.unwrap_or_else(|| (ratio * total as f64).ceil() as u64).min(total);
    Steps { per_epoch, total, warmup }
}

fn model_size(prepared: &Prepared) -> ModelSize {
    let (mut parameters, mut trainable_parameters) = (0, 0);
    for parameter in prepared.loaded.model.parameters() {
        let size = parameter.shape.iter().product::<usize>() as u64;
        parameters += size;
        trainable_parameters += if prepared.rules.trainable(&parameter.name) { size } else { 0 };
    }
    prepare::model_size(prepared.loaded.config.encoder.as_ref(), parameters, trainable_parameters)
}

fn model_plan(prepared: &Prepared) -> ModelPlan {
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

fn row_counts(prepared: &Prepared) -> RowCounts {
    let count = |rows: &Option<Rows>| rows.as_ref().map_or(0, Rows::len) as u64;
    RowCounts {
        train: prepared.train.len() as u64,
        validation: count(&prepared.validation),
        test: count(&prepared.test),
    }
}

fn plan_of(prepared: &Prepared, datasets: &Datasets) -> PlanReport {
    let (recipe, steps) = (&prepared.recipe, steps(&prepared.recipe, datasets.train.len()));
    let names = prepared.labels.names();
    let count = |rows: Option<&Rows>| {
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
    let lengths = TokenStats::new(&datasets.train.full_lengths(), recipe.data.max_length);
    let (memory, disk) = prepare::needs(recipe, &model_size(prepared));
    PlanReport {
        name: recipe.name.clone(),
        output_dir: recipe.output_dir.display().to_string(),
        device: describe(&prepared.device),
        task: recipe.task.name.clone(),
        labels: labels.collect(),
        label_mapping: prepared.labels.describe(),
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
        steps,
        epochs: steps.total as f64 / steps.per_epoch as f64,
        memory,
        disk,
        warnings: prepared.warnings.clone(),
    }
}

fn new_record(prepared: &Prepared, settings: &LoopSettings) -> RunRecord {
    let recipe = &prepared.recipe;
    RunRecord {
        name: recipe.name.clone(),
        status: Status::Running.name(),
        distill_version: env!("CARGO_PKG_VERSION"),
        burn_version: BURN_VERSION,
        device: describe(&prepared.device),
        threads: distill_ops::threads(),
        seed: recipe.seed,
        started_at: now(),
        updated_at: now(),
        resumed: 0,
        recipe: recipe.resolved(),
        data: prepared.files.clone(),
        rows: row_counts(prepared),
        labels: serde_json::to_value(&prepared.labels).unwrap_or_default(),
        model: model_plan(prepared),
        steps: StepCount { total: settings.total_steps, ..StepCount::default() },
        timings: Timings::default(),
        train_examples_per_second: None,
        peak_memory_bytes: None,
        metrics: Metrics::default(),
    }
}

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

fn record_progress(record: &mut RunRecord, state: &LoopState) {
    record.steps.done = state.step;
    record.steps.skipped = state.skipped_steps;
    record.steps.best = state.best.as_ref().map(|best| best.step);
    record.steps.stopped_early = state.stopped_early;
    record.timings.train = state.train_seconds;
    record.timings.evaluate = state.evaluate_seconds;
    let speed = state.total.examples as f64 / state.train_seconds;
    record.train_examples_per_second = speed.is_finite().then_some(speed);
    record.metrics.train = state.total.mean().map(|loss| TrainMetrics { loss });
    record.metrics.validation = state.best.as_ref().map(|best| best.report.clone());
}
