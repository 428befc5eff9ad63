//! What is there of a run that was begun before: its record, and the checkpoint that it goes on from.

use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::fingerprint::differences;
use crate::record::RunRecord;
use crate::run_folder::RUN_FILE;
use std::path::Path;

/// What `run.json` says of the parts of this run before this one.
#[derive(Default)]
pub(crate) struct Earlier(serde_json::Value);

impl Earlier {
    /// That of a folder; nothing where there is none.
    pub(crate) fn read(output_dir: &Path) -> Self {
        let text = std::fs::read(output_dir.join(RUN_FILE)).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Refuses to go on with other settings, data or weights.
    pub(crate) fn compare(&self, output_dir: &Path, now: &serde_json::Value) -> Result<(), TrainError> {
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

    /// Counts the parts of the run, and when the first one began.
    pub(crate) fn carry_over(&self, record: &mut RunRecord) {
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

/// The checkpoint from which a run goes on, if it is this run's.
///
/// # Errors
/// [`TrainError::ResumeDiffers`] if it is another one's.
pub(crate) fn latest_checkpoint(
    store: &CheckpointStore,
    output_dir: &Path,
    fingerprint: &serde_json::Value,
    observer: &mut dyn Observer,
) -> Result<Option<Checkpoint>, TrainError> {
    let (checkpoint, damaged) = store.latest()?;
    for message in damaged {
        observer.event(&Event::Warning { message });
    }
    if let Some(checkpoint) = &checkpoint {
        compare(output_dir, &checkpoint.fingerprint, fingerprint)?;
    }
    Ok(checkpoint)
}
