//! What a run left besides its model: how far it got, and its checkpoints.

use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run's traces in its folder.
#[derive(Debug, Serialize)]
pub struct RunHistory {
    /// Name of the run.
    name: Option<String>,
    /// `running`, `interrupted` or `finished`.
    status: Option<String>,
    /// Optimizer steps done.
    steps_done: Option<u64>,
    /// Optimizer steps of the whole run.
    steps_total: Option<u64>,
    /// Accuracy on the test set, or on the validation set where there is no test set.
    accuracy: Option<f64>,
    /// Folders of the checkpoints, oldest first.
    checkpoints: Vec<PathBuf>,
}

impl RunHistory {
    /// Reads what a run folder says of itself; `None` for any other folder.
    pub fn read(folder: &Path) -> Option<Self> {
        let record: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).ok()?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64);
        let score = |pointer: &str| record.pointer(pointer).and_then(Value::as_f64);
        let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(folder.join("checkpoints"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| step_of(path).is_some() && path.join("config.json").is_file())
            .collect();
        checkpoints.sort_by_key(|path| (step_of(path), path.clone()));
        Some(Self {
            name: text("/name"),
            status: text("/status"),
            steps_done: number("/steps/done"),
            steps_total: number("/steps/total"),
            accuracy: score("/metrics/test/accuracy").or_else(|| score("/metrics/validation/accuracy")),
            checkpoints,
        })
    }

    /// The newest checkpoint of a run that has no final model yet.
    pub fn newest_model(&self, folder: &Path) -> Option<PathBuf> {
        if folder.join("config.json").is_file() { None } else { self.checkpoints.last().cloned() }
    }

    /// One line for people: `finished, 750 of 750 steps, accuracy 97.31%`.
    pub fn state(&self) -> String {
        let mut parts = vec![self.status.clone().unwrap_or_else(|| "of unknown state".to_owned())];
        if let (Some(done), Some(total)) = (self.steps_done, self.steps_total) {
            parts.push(format!("{done} of {total} steps"));
        }
        if let Some(accuracy) = self.accuracy {
            parts.push(format!("accuracy {}", crate::terminal::units::percent(accuracy)));
        }
        parts.join(", ")
    }

    /// Folders of the checkpoints, oldest first.
    pub fn checkpoints(&self) -> &[PathBuf] {
        &self.checkpoints
    }
}

/// The step in the name of a checkpoint, `step-00000100` or `best-00000100`; `None` for one that is half-written.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("step-").or_else(|| name.strip_prefix("best-"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let record = serde_json::json!({
            "name": "tickets", "status": "interrupted", "steps": {"done": 20, "total": 90},
            "metrics": {"validation": {"accuracy": 0.5}},
        });
        std::fs::write(folder.path().join("run.json"), record.to_string()).unwrap();
        for name in ["step-00000020", "step-00000003", ".partial-step-00000021"] {
            let checkpoint = folder.path().join("checkpoints").join(name);
            std::fs::create_dir_all(&checkpoint).unwrap();
            std::fs::write(checkpoint.join("config.json"), "{}").unwrap();
        }
        folder
    }

    #[test]
    fn a_run_without_a_model_has_its_newest_checkpoint() {
        let folder = run();
        let history = RunHistory::read(folder.path()).unwrap();
        assert_eq!(history.state(), "interrupted, 20 of 90 steps, accuracy 50.00%");
        assert_eq!(history.checkpoints().len(), 2);
        assert!(history.newest_model(folder.path()).unwrap().ends_with("step-00000020"));
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert_eq!(history.newest_model(folder.path()), None);
    }

    #[test]
    fn other_folders_have_no_history() {
        assert!(RunHistory::read(tempfile::tempdir().unwrap().path()).is_none());
    }
}
