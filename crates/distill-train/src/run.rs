//! A run from its recipe to its files.

use crate::checkpoint::{Checkpoint, CheckpointStore, LoopState};
use crate::datasets::{Datasets, tokenize, tokenize_by};
use crate::earlier::{Earlier, latest_checkpoint};
use crate::error::TrainError;
use crate::evaluate::{Batching, measure_losses};
use crate::events::{Event, Observer};
use crate::examples::Examples;
use crate::explain::write_report;
use crate::fingerprint::{fingerprint, recipe_fingerprint};
use crate::loop_settings::LoopSettings;
use crate::masked_text::MaskedText;
use crate::measure::{Head, Measured, Use, Written};
use crate::more_text::add_copies;
use crate::needs::memory_need;
use crate::objectives::Projection;
use crate::optimizer::Optimizer;
use crate::plan::{model_size, teacher_memory};
use crate::prepare::{Prepared, Shortage, prepare};
use crate::record::{RunRecord, RunSummary};
use crate::report::{ChosenMetric, Report};
use crate::rows::{Rows, TokenizedRows};
use crate::run_folder::{
    PREDICTIONS_FILE, RATIONALES_FILE, RECIPE_FILE, RUN_FILE, RunFolder, Start, Status, check,
};
use crate::teacher::Teachers;
use crate::trainer::{LoopEnd, Measure, Trainer};
use crate::written::{OnPolicy, TeacherTexts};
use distill_models::{Adapter, HeadPolicy, LoadRequest, Model, TaskKind, load};
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
    /// Folders of runs that were made of an earlier run of this one: they are removed when this one begins.
    pub replaced: Vec<PathBuf>,
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
    let mut prepared = prepare(recipe, Shortage::Refuse, observer)?;
    if options.interrupt.load(Ordering::Relaxed) {
        return Ok(RunOutcome::Interrupted { step: 0, checkpoint: None });
    }
    tell(&prepared, observer);
    let print = fingerprint(&prepared);
    earlier.compare(output_dir, &print)?;
    let store = CheckpointStore::new(output_dir);
    let checkpoint = match options.start {
        Start::Resume => latest_checkpoint(&store, output_dir, &print, observer)?,
        Start::Fresh | Start::Overwrite => None,
    };

    match add_copies(&mut prepared, &options.interrupt, observer) {
        Err(TrainError::Interrupted) => return Ok(RunOutcome::Interrupted { step: 0, checkpoint: None }),
        added => added?,
    }
    let folder = RunFolder::claim(output_dir, options.start)?;
    for replaced in &options.replaced {
        RunFolder::claim(replaced, Start::Overwrite)?.abandon()?;
    }
    let settings = LoopSettings::of(&prepared, prepared.training_rows());
    let mut record = RunRecord::new(&prepared, &settings, print);
    if let Some(checkpoint) = &checkpoint {
        record.progress(&checkpoint.state, &settings.loss_names());
    }
    earlier.carry_over(&mut record);
    let mut run = Run { begin, prepared, settings, store, folder, record, interrupt: &options.interrupt };
    run.write_record(Status::Running)?;
    let outcome = run.go(checkpoint, options.start, observer);
    match outcome {
        Err(TrainError::Interrupted) => {
            run.write_record(Status::Interrupted)?;
            let checkpoint = run.store.latest()?.0.map(|checkpoint| checkpoint.path);
            Ok(RunOutcome::Interrupted { step: run.record.steps.done, checkpoint })
        }
        // Nothing is left of a run that was given up before its first step.
        Err(error) if run.folder.path().join(RUN_FILE).exists() => {
            run.write_record(Status::Interrupted)?;
            Err(error)
        }
        outcome => outcome,
    }
}

/// What the user should know before the first step.
fn tell(prepared: &Prepared, observer: &mut dyn Observer) {
    observer.event(&Event::Note { message: format!("computing on {}", prepared.computing) });
    for note in &prepared.notes {
        observer.event(&Event::Note { message: note.clone() });
    }
    for warning in &prepared.warnings {
        observer.event(&Event::Warning { message: warning.clone() });
    }
    report_new_weights(prepared, observer);
}

/// What a run learns from.
struct Learnt {
    /// The training rows.
    examples: Examples,
    /// Texts of which hidden tokens are guessed besides, one for each row.
    masked_text: Option<MaskedText>,
}

/// A run that has its folder.
struct Run<'a> {
    begin: Instant,
    prepared: Prepared,
    settings: LoopSettings,
    store: CheckpointStore,
    folder: RunFolder,
    record: RunRecord,
    interrupt: &'a AtomicBool,
}

impl Run<'_> {
    fn write_record(&mut self, status: Status) -> Result<(), TrainError> {
        self.record.timings.total = self.begin.elapsed().as_secs_f64();
        self.record.stamp(status.name());
        self.folder.write_record(&self.record)
    }

    /// Everything from the tokens to the saved model.
    fn go(
        &mut self,
        checkpoint: Option<Checkpoint>,
        start: Start,
        observer: &mut dyn Observer,
    ) -> Result<RunOutcome, TrainError> {
        let recipe = &self.prepared.recipe;
        let cache = recipe.data.cache_dir.clone().unwrap_or_else(|| self.folder.cache());
        let datasets = tokenize(&self.prepared, &cache, observer)?;
        let examples = self.training_examples(&datasets, &cache, observer)?;
        let masked_text = self.masked_text(examples.len(), &cache, observer)?;
        let learnt = Learnt { examples, masked_text };
        if let Err(error) = check_memory(&self.prepared, &learnt) {
            if start != Start::Resume {
                self.folder.abandon()?;
            }
            return Err(error);
        }
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted);
        }
        if let Some(message) = datasets.leak_warning()? {
            observer.event(&Event::Warning { message });
        }
        self.folder.write_text(RECIPE_FILE, &recipe.resolved_toml())?;
        if learnt.examples.is_empty() {
            return Err(TrainError::Unusable {
                message: "nothing is left to learn from: every training row has less than two tokens"
                    .to_owned(),
                help: "give longer texts".to_owned(),
            });
        }
        // Packed sequences are counted only now.
        self.settings = LoopSettings::of(&self.prepared, learnt.examples.len());
        self.record.steps.total = self.settings.total_steps;
        self.record.timings.prepare = self.begin.elapsed().as_secs_f64();
        self.write_record(Status::Running)?;
        let mut state = LoopState::default();
        let end = self.train(&datasets, &learnt, checkpoint, &cache, &mut state, observer);
        self.record.progress(&state, &self.settings.loss_names());
        match end? {
            LoopEnd::Finished => self.finish(&datasets, &state, observer),
            LoopEnd::Interrupted => Err(TrainError::Interrupted),
        }
    }

    /// What is learnt: the data's texts, or those that the teacher writes in their place.
    fn training_examples(
        &self,
        datasets: &Datasets,
        cache: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Examples, TrainError> {
        let texts = TeacherTexts { prepared: &self.prepared, cache, interrupt: self.interrupt };
        self.prepared.training_examples(texts.in_place_of(datasets.train.clone(), observer)?)
    }

    /// What is guessed beside the labels of `expected` training rows, if anything is.
    fn masked_text(
        &self,
        expected: usize,
        cache: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Option<MaskedText>, TrainError> {
        let Some((sources, parts)) = self.prepared.masked_parts() else { return Ok(None) };
        let (parts, tokenizer) = (parts.iter().collect::<Vec<_>>(), &self.prepared.tokenizer);
        let max_length = self.prepared.recipe.data.max_length;
        let rows = tokenize_by(tokenizer, &parts, max_length, cache, "`masked_lm`'s", observer)?;
        let (masking, pad) = (sources.masking.clone(), self.prepared.pad_token_id());
        MaskedText::new(rows, expected, masking, sources.weight, pad, max_length).map(Some)
    }

    fn train(
        &mut self,
        datasets: &Datasets,
        learnt: &Learnt,
        checkpoint: Option<Checkpoint>,
        cache: &Path,
        state: &mut LoopState,
        observer: &mut dyn Observer,
    ) -> Result<LoopEnd, TrainError> {
        let (examples, train) = (&learnt.examples, &self.prepared.recipe.train);
        let adamw = AdamW { beta1: train.adam_beta1, beta2: train.adam_beta2, epsilon: train.adam_epsilon };
        // Before a checkpoint takes the place of the student's start, which may be its own teacher.
        let teachers = Teachers { prepared: &self.prepared, cache, interrupt: self.interrupt };
        let parts = self.prepared.training_parts();
        let teacher = teachers.of(&parts, &datasets.train, examples, observer)?;
        let validation = datasets.validation.clone().map(|rows| self.prepared.examples(rows)).transpose()?;
        let of_validation = match (self.settings.metric, &validation, self.prepared.validation.as_ref()) {
            (ChosenMetric::Objective, Some(held_out), Some(parts)) => {
                teachers.of(&[parts], &held_out.rows, held_out, observer)?
            }
            _ => None,
        };
        let on_policy = OnPolicy::of(&self.prepared)?;
        let mut beside = std::mem::take(&mut self.prepared.beside);
        let mut checkpoint = checkpoint;
        if let Some(checkpoint) = &mut checkpoint {
            *state = checkpoint.state.clone();
            self.prepared.loaded.model = reload(&self.prepared, &checkpoint.path, true)?;
            checkpoint.restore_beside(&mut beside)?;
        }
        let model = self.prepared.loaded.model.as_ref();
        let mut optimizer = Optimizer::new(adamw, &self.prepared.rules, model, &beside);
        if let Some(checkpoint) = checkpoint {
            checkpoint.restore(&mut optimizer, &self.prepared.device)?;
        }
        let settings = &self.settings;
        observer.event(&Event::TrainingStarted {
            total_steps: settings.total_steps,
            resumed_at: state.step,
            epochs: settings.total_steps as f64 / settings.steps_per_epoch as f64,
        });
        // What is saved is the model in training, which the loop holds; this is the rest of what it is saved with.
        let saver = self.prepared.saver();
        let save_model = |model: &dyn Model, folder: &Path| saver.save(model, folder);
        let head = Head::of(&self.prepared);
        let of_rows = self.prepared.validation.as_ref();
        let measure = validation.as_ref().zip(of_rows).map(|(examples, rows)| {
            let (metric, losses) = (settings.metric, &settings.losses);
            let (head, teacher) = (&head, of_validation.as_ref());
            move |model: &dyn Model, projection: Option<&Projection>, batching: Batching| match metric {
                ChosenMetric::Objective => {
                    let found = measure_losses(model, examples, losses, teacher, projection, batching);
                    Ok(Report::Losses(found?))
                }
                _ => {
                    let on = Measured { examples, rows, use_: Use::Validation };
                    head.measure(&AtomicBool::new(false), model, on, batching, &mut |_| {}).map(|it| it.0)
                }
            }
        });
        let fingerprint = self.record.fingerprint.clone();
        let (record, folder) = (&mut self.record, &self.folder);
        let names = settings.loss_names();
        let mut trainer = Trainer {
            settings,
            model: self.prepared.loaded.model.as_mut(),
            optimizer: &mut optimizer,
            beside: &mut beside,
            masked_text: learnt.masked_text.as_ref(),
            teacher: teacher.as_ref(),
            on_policy: on_policy.as_ref(),
            train: examples,
            validate: measure.as_ref().map(|measure| measure as &Measure<'_>),
            store: &self.store,
            fingerprint: &fingerprint,
            save_model: &save_model,
            metrics_log: &mut folder.metrics_log(state.step)?,
            on_checkpoint: &mut |state| {
                record.progress(state, &names);
                record.stamp(Status::Running.name());
                folder.write_record(record)
            },
            interrupt: self.interrupt,
            observer,
        };
        trainer.run(state)
    }

    /// Takes the best model, measures it on the test set once and writes what is left.
    fn finish(
        &mut self,
        datasets: &Datasets,
        state: &LoopState,
        observer: &mut dyn Observer,
    ) -> Result<RunOutcome, TrainError> {
        if let Some(best) = state.best.as_ref().filter(|best| best.step != state.step) {
            self.prepared.loaded.model = reload(&self.prepared, &self.store.best(best.step)?, false)?;
        }
        let model = self.prepared.loaded.model.eval_copy();
        // A head that has not learnt is not measured.
        let head_learns = self.settings.losses.needs().student_logits;
        let test = match (&datasets.test, &self.prepared.test) {
            (Some(test), Some(rows)) if head_learns => {
                let start = Instant::now();
                let report = self.measure(self.prepared.loaded.model.as_ref(), test, rows, observer)?;
                self.record.timings.test = start.elapsed().as_secs_f64();
                Some(report)
            }
            _ => None,
        };
        self.prepared.saver().save(model.as_ref(), self.folder.path())?;
        self.record.metrics.test = test.clone();
        self.write_record(Status::Finished)?;
        let record = &self.record;
        let task = self.prepared.model_task();
        Ok(RunOutcome::Finished(Box::new(RunSummary {
            writes_texts: matches!(task.kind(), TaskKind::CausalLm | TaskKind::Seq2SeqLm),
            name: record.name.clone(),
            output_dir: self.folder.path().to_owned(),
            steps: state.step,
            epochs: state.step as f64 / self.settings.steps_per_epoch as f64,
            train_loss: state.total.mean(),
            best_step: record.steps.best,
            validation: record.metrics.validation.clone(),
            test,
            labels: self.settings.labels.clone(),
            distillation: record.distillation.clone(),
            seconds: record.timings,
            peak_memory_bytes: record.peak_memory_bytes,
            examples_per_second: record.train_examples_per_second.unwrap_or_default(),
        })))
    }

    /// Measures the model on the test set and writes its predictions.
    fn measure(
        &self,
        model: &dyn Model,
        test: &TokenizedRows,
        rows: &Rows,
        observer: &mut dyn Observer,
    ) -> Result<Report, TrainError> {
        let what = "measuring on the test set";
        let total = Some(test.len() as u64);
        let mut progress = |done| observer.event(&Event::Progress { what: what.to_owned(), done, total });
        let settings = &self.settings;
        let batching = Batching {
            batch_size: settings.eval_batch_size,
            pad_token_id: settings.pad_token_id,
            max_length: settings.max_length,
            precision: settings.precision,
        };
        let examples = self.prepared.examples(test.clone())?;
        let on = Measured { examples: &examples, rows, use_: Use::Test };
        let head = Head::of(&self.prepared);
        let (report, written) = head.measure(self.interrupt, model, on, batching, &mut progress)?;
        let path = self.folder.path().join(PREDICTIONS_FILE);
        written.write(&path, rows, &settings.labels)?;
        if let Written::Explained(answers, compare) = &written {
            let path = self.folder.path().join(RATIONALES_FILE);
            write_report(&path, &self.record.name, answers, *compare)?;
        }
        Ok(report)
    }
}

/// Refuses a run whose batches do not fit into memory, now that their lengths are known.
fn check_memory(prepared: &Prepared, learnt: &Learnt) -> Result<(), TrainError> {
    let examples = &learnt.examples;
    let besides = learnt.masked_text.iter().flat_map(|text| text.examples.lengths());
    let longest = examples.lengths().iter().chain(besides).copied().max().unwrap_or(1);
    let mut memory = memory_need(
        &prepared.recipe,
        &prepared.computing,
        &model_size(prepared),
        examples.len(),
        longest as usize,
    );
    memory.needed_bytes = memory.needed_bytes.saturating_add(teacher_memory(prepared, longest as usize));
    let host = !describe(&prepared.device).starts_with("cuda");
    match memory.available_bytes {
        Some(available) if host && memory.is_short() => {
            Err(TrainError::TooLittle { what: "memory", needed: memory.needed_bytes, available })
        }
        _ => Ok(()),
    }
}

/// The weights in `folder`, in the model of this run.
fn reload(prepared: &Prepared, folder: &Path, trained_on: bool) -> Result<Box<dyn Model>, TrainError> {
    let request = LoadRequest {
        task: prepared.model_task(),
        seed: prepared.recipe.seed,
        device: prepared.device.clone().autodiff(),
        dropout: prepared.recipe.train.dropout,
        head: HeadPolicy::MustMatch,
        adapter: prepared.loaded.lora.is_some().then(|| Adapter::Saved(folder.to_owned())),
    };
    let base = prepared.model_folder.as_deref().filter(|_| prepared.loaded.lora.is_some());
    let mut model = load(base.unwrap_or(folder), request)?.model;
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
    if let Some(labels) = &prepared.labels {
        observer.event(&Event::Note { message: labels.describe() });
    }
}
