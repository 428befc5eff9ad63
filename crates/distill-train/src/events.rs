//! What a run tells whoever watches it. The library never prints: the binary draws these as a progress bar, plain
//! lines or JSON.

use crate::report::Report;
use indexmap::IndexMap;
use serde::Serialize;
use std::path::PathBuf;

/// One thing that happened in a run, in the order in which things happen.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something takes a while and has not begun to count: reading a file, loading weights.
    Stage {
        /// What is being done, such as ``reading `train.csv` ``.
        message: String,
    },
    /// A counted piece of preparation (rows read, rows tokenised, bytes downloaded).
    Progress {
        /// What is being counted, such as `tokenising train`.
        what: String,
        /// How many are done.
        done: u64,
        /// How many there are, where that is known.
        total: Option<u64>,
    },
    /// Something that the user should know and that does not stop the run.
    Note {
        /// One sentence without a full stop.
        message: String,
    },
    /// Something that is probably not what the user wants.
    Warning {
        /// One sentence without a full stop.
        message: String,
    },
    /// Training begins, or goes on.
    TrainingStarted {
        /// Optimizer steps of the whole run.
        total_steps: u64,
        /// Steps already done by an earlier, interrupted run.
        resumed_at: u64,
        /// Epochs of the whole run; not always whole.
        epochs: f64,
    },
    /// One optimizer step is done.
    Step(StepRecord),
    /// The running mean since the last one was written to `metrics.jsonl`.
    Logged(LoggedRecord),
    /// The model was measured on the validation set.
    Validated {
        /// Optimizer steps done.
        step: u64,
        /// Epochs done.
        epoch: f64,
        /// All metrics.
        report: Box<Report>,
        /// Name of the metric that chooses the best model.
        metric: String,
        /// Its value.
        value: f64,
        /// Whether this is the best so far.
        best: bool,
        /// Wall time of the evaluation in seconds.
        seconds: f64,
    },
    /// A checkpoint is on the disk, synced.
    CheckpointSaved {
        /// Optimizer steps done.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// Training stopped before its last step because the validation metric no longer improved.
    EarlyStopped {
        /// Optimizer steps done.
        step: u64,
        /// Evaluations without an improvement.
        patience: usize,
    },
    /// A step was left out because its loss or gradient was not finite (`on_nan = "skip"`).
    StepSkipped {
        /// The step, from 1.
        step: u64,
        /// The loss found.
        loss: f64,
    },
}

/// One optimizer step.
#[derive(Clone, Debug, Serialize)]
pub struct StepRecord {
    /// Optimizer steps done, from 1.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Loss of this step: mean over its examples, in nats.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Examples in this step.
    pub examples: u64,
    /// Tokens in this step, padding not counted.
    pub tokens: u64,
    /// Wall time of this step in seconds.
    pub seconds: f64,
}

/// A line of `metrics.jsonl`: the steps since the last line.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedRecord {
    /// Optimizer steps done, from 1.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Mean loss over the examples since the last line, in nats.
    pub loss: f64,
    /// Each loss alone, unweighted, where there are several.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub losses: IndexMap<String, f64>,
    /// Gradient norm of the last step, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Examples a second since the last line.
    pub examples_per_second: f64,
    /// Tokens a second since the last line, padding not counted.
    pub tokens_per_second: f64,
}

/// Whoever watches a run.
pub trait Observer {
    /// Called for every event, on the thread that trains: return quickly.
    fn event(&mut self, event: &Event);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}
