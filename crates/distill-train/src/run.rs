//! A run from its recipe to its files.

use crate::checkpoint::{CheckpointStore, LoopState};
use crate::datasets::{Datasets, tokenize};
use crate::error::TrainError;
use crate::evaluate::{Batching, predict_unless};
use crate::events::{Event, Observer};
use crate::fingerprint::{differences, fingerprint, recipe_fingerprint};
use crate::optimizer::Optimizer;
use crate::plan::{memory_need, model_plan, model_size, row_counts, steps};
use crate::predictions::write_predictions;
use crate::prepare::{Prepared, Shortage, prepare};
use crate::record::{Metrics, RunRecord, RunSummary, StepCount, Timings, TrainMetrics, now};
use crate::run_folder::{PREDICTIONS_FILE, RECIPE_FILE, RUN_FILE, RunFolder, Start, Status, check};
use crate::schedule::Schedule;
use crate::trainer::{LoopEnd, LoopSettings, Trainer};
use distill_eval::ClassificationReport;
use distill_models::{HeadPolicy, LoadRequest, Model, Task, load, save};
use distill_ops::{AdamW, describe};
use distill_recipe::Recipe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let status = check(output_dir, options.start)?;
    let earlier = match options.start {
        Start::Resume => Earlier::read(output_dir),
        Start::Fresh | Start::Overwrite => Earlier::default(),
    };
    if status == Status::Finished && options.start == Start::Resume {
        earlier.compare(output_dir, &recipe_fingerprint(recipe))?;
        return Ok(RunOutcome::AlreadyFinished { output_dir: output_dir.clone() });
    }
    let interrupted = || options.interrupt.load(Ordering::Relaxed);
    let mut prepared = prepare(recipe, Shortage::Refuse, observer)?;
    if interrupted() {
        return Ok(RunOutcome::Interrupted { step: 0, checkpoint: None });
    }
    for warning in &prepared.warnings {
        observer.event(&Event::Warning { message: warning.clone() });
    }
    report_new_weights(&prepared, observer);
    let print = fingerprint(&prepared);
    earlier.compare(output_dir, &print)?;
    let store = CheckpointStore::new(output_dir);
    let (checkpoint, damaged) = match options.start {
        Start::Resume => store.latest()?,
        Start::Fresh | Start::Overwrite => (None, Vec::new()),
    };
    for message in damaged {
        observer.event(&Event::Warning { message });
    }
    if let Some(checkpoint) = &checkpoint {
        compare(output_dir, &checkpoint.fingerprint, &print)?;
    }

    let folder = RunFolder::claim(output_dir, options.start)?;
    let settings = loop_settings(&prepared, prepared.train.len());
    let mut record = new_record(&prepared, &settings, print.clone());
    if let Some(checkpoint) = &checkpoint {
        record_progress(&mut record, &checkpoint.state);
    }
    earlier.carry_over(&mut record);
    record.stamp(Status::Running.name());
    folder.write_record(&record)?;
    let cache = recipe.data.cache_dir.clone().unwrap_or_else(|| folder.cache());
    let datasets = tokenize(&prepared, &cache, observer)?;
    if let Err(error) = check_memory(&prepared, &datasets) {
        if options.start != Start::Resume {
            folder.abandon()?;
        }
        return Err(error);
    }
    if interrupted() {
        record.stamp(Status::Interrupted.name());
        folder.write_record(&record)?;
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.path);
        return Ok(RunOutcome::Interrupted { step: record.steps.done, checkpoint });
    }
    if let Some(message) = datasets.leak_warning()? {
        observer.event(&Event::Warning { message });
    }
    record.timings.prepare = begin.elapsed().as_secs_f64();
    folder.write_text(RECIPE_FILE, &recipe.resolved_toml())?;
    record.stamp(Status::Running.name());
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
    let stopped = record.clone();
    let outcome = match end {
        Ok(LoopEnd::Finished) => {
            let finished = Finished {
                datasets: &datasets,
                settings: &settings,
                state: &state,
                store: &store,
                folder: &folder,
                interrupt: &options.interrupt,
            };
            finished.save(&mut prepared, record, begin, observer)
        }
        Ok(LoopEnd::Interrupted) => Err(TrainError::Interrupted),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        let mut record = stopped;
        record.timings.total = begin.elapsed().as_secs_f64();
        record.stamp(Status::Interrupted.name());
        folder.write_record(&record)?;
    }
    match outcome {
        Err(TrainError::Interrupted) => {
            let checkpoint = store.latest()?.0.map(|checkpoint| checkpoint.path);
            Ok(RunOutcome::Interrupted { step: state.step, checkpoint })
        }
        outcome => outcome,
    }
}

/// What `run.json` says of the parts of this run before this one.
#[derive(Default)]
struct Earlier(serde_json::Value);

impl Earlier {
    fn read(output_dir: &Path) -> Self {
        let text = std::fs::read(output_dir.join(RUN_FILE)).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Refuses to go on with other settings, data or weights.
    fn compare(&self, output_dir: &Path, now: &serde_json::Value) -> Result<(), TrainError> {
        match (self.0.get("fingerprint"), now) {
            (Some(serde_json::Value::Object(then)), serde_json::Value::Object(now)) => {
                // Of a finished run only the recipe is compared: its data is not read again.
                let then = then.iter().filter(|(key, _)| now.contains_key(*key));
                let then = then.map(|(key, value)| (key.clone(), value.clone())).collect();
                compare(output_dir, &serde_json::Value::Object(then), &now.clone().into())
            }
            _ => Ok(()),
        }
    }

    fn carry_over(&self, record: &mut RunRecord) {
        let number = |key: &str| self.0.get(key).and_then(serde_json::Value::as_u64);
        if let Some(started_at) = number("started_at") {
            record.started_at = started_at;
            record.resumed = number("resumed").unwrap_or(0) + 1;
        }
    }
}

fn compare(output_dir: &Path, then: &serde_json::Value, now: &serde_json::Value) -> Result<(), TrainError> {
    match differences(then, now) {
        differences if differences.is_empty() => Ok(()),
        differences => Err(TrainError::ResumeDiffers { path: output_dir.to_owned(), differences }),
    }
}

/// Refuses a run whose batches do not fit into memory, now that their lengths are known.
fn check_memory(prepared: &Prepared, datasets: &Datasets) -> Result<(), TrainError> {
    let longest = datasets.train.lengths().iter().copied().max().unwrap_or(1);
    let memory = memory_need(&prepared.recipe, &model_size(prepared), prepared.train.len(), longest as usize);
    let host = !describe(&prepared.device).starts_with("cuda");
    match memory.available_bytes {
        Some(available) if host && memory.is_short() => {
            Err(TrainError::TooLittle { what: "memory", needed: memory.needed_bytes, available })
        }
        _ => Ok(()),
    }
}

/// A run whose loop has ended.
struct Finished<'a> {
    datasets: &'a Datasets,
    settings: &'a LoopSettings,
    state: &'a LoopState,
    store: &'a CheckpointStore,
    folder: &'a RunFolder,
    interrupt: &'a AtomicBool,
}

impl Finished<'_> {
    /// Takes the best model, measures it on the test set once and writes what is left.
    fn save(
        &self,
        prepared: &mut Prepared,
        mut record: RunRecord,
        begin: Instant,
        observer: &mut dyn Observer,
    ) -> Result<RunOutcome, TrainError> {
        if let Some(best) = self.state.best.as_ref().filter(|best| best.step != self.state.step) {
            prepared.loaded.model = reload(prepared, &self.store.best(best.step)?, false)?;
        }
        let model = prepared.loaded.model.eval_copy();
        let mut test_report = None;
        if let (Some(test), Some(rows)) = (&self.datasets.test, &prepared.test) {
            let start = Instant::now();
            let total = Some(test.len() as u64);
            let mut progress = |done| {
                observer.event(&Event::Progress { what: "measuring on the test set".to_owned(), done, total })
            };
            let batching = Batching {
                batch_size: self.settings.eval_batch_size,
                pad_token_id: self.settings.pad_token_id,
                max_length: self.settings.max_length,
            };
            let predictions = predict_unless(self.interrupt, model.as_ref(), test, batching, &mut progress)?;
            let report = ClassificationReport::from_predictions(&predictions, &self.settings.labels)?;
            write_predictions(
                &self.folder.path().join(PREDICTIONS_FILE),
                rows,
                &predictions,
                &self.settings.labels,
            )?;
            record.timings.test = start.elapsed().as_secs_f64();
            test_report = Some(report);
        }
        save(model.as_ref(), &prepared.loaded.config, self.folder.path())?;
        prepared.tokenizer.save(self.folder.path())?;
        let validation = self.state.best.as_ref().map(|best| best.report.clone());
        record.metrics = Metrics {
            train: self.state.total.mean().map(|loss| TrainMetrics { loss }),
            validation: validation.clone(),
            test: test_report.clone(),
        };
        record.timings.total = begin.elapsed().as_secs_f64();
        record.stamp(Status::Finished.name());
        self.folder.write_record(&record)?;
        Ok(RunOutcome::Finished(Box::new(RunSummary {
            name: record.name,
            output_dir: self.folder.path().to_owned(),
            steps: self.state.step,
            epochs: self.state.step as f64 / self.settings.steps_per_epoch as f64,
            train_loss: self.state.total.mean(),
            best_step: record.steps.best,
            validation,
            test: test_report,
            labels: self.settings.labels.clone(),
            seconds: record.timings,
            peak_memory_bytes: record.peak_memory_bytes,
            examples_per_second: record.train_examples_per_second.unwrap_or_default(),
        })))
    }
}

/// The weights in `folder`, in the model of this run.
fn reload(prepared: &Prepared, folder: &Path, trained_on: bool) -> Result<Box<dyn Model>, TrainError> {
    let request = LoadRequest {
        task: Task::Classification { id2label: prepared.labels.names().to_vec() },
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
        objective: prepared.objective,
        label_smoothing: train.label_smoothing,
        on_nan: train.on_nan,
        logging_steps: train.logging_steps,
        eval_steps: train.eval_steps.unwrap_or(steps.per_epoch),
        save_steps: train.save_steps.unwrap_or(steps.per_epoch),
        save_total_limit: train.save_total_limit,
        metric: prepared.metric,
        early_stopping_patience: train.early_stopping_patience,
        pad_token_id: prepared.pad_token_id(),
        max_length: recipe.data.max_length,
        labels: prepared.labels.names().to_vec(),
    }
}

fn new_record(prepared: &Prepared, settings: &LoopSettings, fingerprint: serde_json::Value) -> RunRecord {
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
        fingerprint,
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
