//! `run.json`: what a run was, where it got and what came out.

use crate::checkpoint::LoopState;
use crate::computing::Computing;
use crate::loop_settings::LoopSettings;
use crate::memory::peak_memory;
use crate::plan::{DistillationPlan, ModelPlan, Rows, distillation_plan, model_plan, row_counts};
use crate::prepare::Prepared;
use crate::report::Report;
use crate::run_folder::Status;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The whole of `run.json`.
#[derive(Clone, Debug, Serialize)]
pub struct RunRecord {
    /// Name of the run.
    pub name: String,
    /// `running`, `interrupted` or `finished`.
    pub status: &'static str,
    /// Version of this program.
    pub distill_version: &'static str,
    /// Version of the tensor library.
    pub burn_version: &'static str,
    /// `device`, `dtype`, `instruction_set` and `threads`, as they were resolved.
    #[serde(flatten)]
    pub computing: Computing,
    /// Seed of everything random.
    pub seed: u64,
    /// When the run began, in seconds since 1970 (UTC).
    pub started_at: u64,
    /// When this was written, likewise.
    pub updated_at: u64,
    /// How often the run was taken up again.
    pub resumed: u64,
    /// The recipe with every override and default.
    pub recipe: serde_json::Value,
    /// What a resume must agree with.
    pub fingerprint: serde_json::Value,
    /// The files that were read.
    pub data: Vec<DataFile>,
    /// Rows of each data set.
    pub rows: Rows,
    /// How the values of the label column became ids.
    pub labels: serde_json::Value,
    /// The model.
    pub model: ModelPlan,
    /// Teachers and losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationPlan>,
    /// Optimizer steps done, and of how many.
    pub steps: StepCount,
    /// Seconds.
    pub timings: Timings,
    /// Examples a second in training, evaluations and checkpoints not counted.
    pub train_examples_per_second: Option<f64>,
    /// Highest resident memory of the process in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Results.
    pub metrics: Metrics,
}

/// A file that was read.
#[derive(Clone, Debug, Serialize)]
pub struct DataFile {
    /// `train`, `validation` or `test`.
    pub used_as: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Rows read from it.
    pub rows: u64,
}

/// Optimizer steps.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StepCount {
    /// Done.
    pub done: u64,
    /// Of the whole run.
    pub total: u64,
    /// Left out because their loss was not finite.
    pub skipped: u64,
    /// The step whose model was kept.
    pub best: Option<u64>,
    /// Whether early stopping ended the run.
    pub stopped_early: bool,
}

/// Wall times in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Timings {
    /// All of this process, from reading the recipe.
    pub total: f64,
    /// Reading, tokenising, loading.
    pub prepare: f64,
    /// Optimizer steps, those of earlier processes of the run included.
    pub train: f64,
    /// Evaluations on the validation set, likewise.
    pub evaluate: f64,
    /// The test set.
    pub test: f64,
}

/// Results of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metrics {
    /// Of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainMetrics>,
    /// Of the kept model on the validation set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Report>,
    /// Of the kept model on the test set, measured once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Report>,
}

/// Results of training.
#[derive(Clone, Debug, Serialize)]
pub struct TrainMetrics {
    /// Mean loss over the whole run, in nats.
    pub loss: f64,
    /// Each loss alone, unweighted, where there are several.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub losses: IndexMap<String, f64>,
}

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

impl RunRecord {
    /// That of a run that begins.
    pub(crate) fn new(prepared: &Prepared, settings: &LoopSettings, fingerprint: serde_json::Value) -> Self {
        let recipe = &prepared.recipe;
        Self {
            name: recipe.name.clone(),
            status: Status::Running.name(),
            distill_version: env!("CARGO_PKG_VERSION"),
            burn_version: BURN_VERSION,
            computing: prepared.computing.clone(),
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
            distillation: distillation_plan(prepared),
            steps: StepCount { total: settings.total_steps, ..StepCount::default() },
            timings: Timings::default(),
            train_examples_per_second: None,
            peak_memory_bytes: None,
            metrics: Metrics::default(),
        }
    }

    /// Takes over how far the loop has come; `names` are those of the losses.
    pub(crate) fn progress(&mut self, state: &LoopState, names: &[String]) {
        self.steps.done = state.step;
        self.steps.skipped = state.skipped_steps;
        self.steps.best = state.best.as_ref().map(|best| best.step);
        self.steps.stopped_early = state.stopped_early;
        self.timings.train = state.train_seconds;
        self.timings.evaluate = state.evaluate_seconds;
        let speed = state.total.examples as f64 / state.train_seconds;
        self.train_examples_per_second = speed.is_finite().then_some(speed);
        self.metrics.train = state.total.mean().map(|loss| {
            let losses = if names.len() > 1 { state.total.means(names) } else { IndexMap::new() };
            TrainMetrics { loss, losses }
        });
        self.metrics.validation = state.best.as_ref().map(|best| best.report.clone());
    }

    /// Sets the status and what only the moment knows.
    pub fn stamp(&mut self, status: &'static str) {
        self.status = status;
        self.updated_at = now();
        self.peak_memory_bytes = peak_memory();
    }
}

/// Seconds since 1970 (UTC).
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// What came out of a finished run.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Whether the model writes texts.
    pub writes_texts: bool,
    /// Name of the run.
    pub name: String,
    /// Where the model is.
    pub output_dir: PathBuf,
    /// Optimizer steps done.
    pub steps: u64,
    /// Epochs done.
    pub epochs: f64,
    /// Mean loss over the whole run, in nats.
    pub train_loss: Option<f64>,
    /// The step whose model was kept, where a validation set chose it.
    pub best_step: Option<u64>,
    /// The kept model on the validation set.
    pub validation: Option<Report>,
    /// The kept model on the test set.
    pub test: Option<Report>,
    /// Names of the labels.
    pub labels: Vec<String>,
    /// Teachers and losses.
    pub distillation: Option<DistillationPlan>,
    /// Wall times.
    pub seconds: Timings,
    /// Highest resident memory of the process in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Examples a second in training.
    pub examples_per_second: f64,
}
