//! The output folder of a run: who may write to it, and what a run leaves there.

use crate::checkpoint::{write_file, write_json};
use crate::error::TrainError;
use distill_data::tokenizer;
use distill_recipe::STAGE_FOLDER;
use serde::Serialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What marks a folder as a run.
pub const RUN_FILE: &str = "run.json";
/// A line for each logged step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// A line for each row of the test set.
pub const PREDICTIONS_FILE: &str = "predictions.jsonl";
/// Answers and their rationales, for people.
pub const RATIONALES_FILE: &str = "rationales.md";
/// The recipe with every override and default.
pub const RECIPE_FILE: &str = "recipe.toml";
const CHECKPOINT_FOLDER: &str = "checkpoints";
const CACHE_FOLDER: &str = "cache";
const LOCK_FILE: &str = ".lock";
/// Begin the names of files that a killed process had not finished.
const UNFINISHED: &[&str] = &[".partial-", ".writing-"];

/// What a run writes at the top of its folder besides `run.json` and the tokenizer's files; `--overwrite` removes all.
const WRITTEN: &[&str] = &[
    METRICS_FILE,
    PREDICTIONS_FILE,
    RATIONALES_FILE,
    RECIPE_FILE,
    CHECKPOINT_FOLDER,
    CACHE_FOLDER,
    "config.json",
    "model.safetensors",
];

/// How a run treats what is in its output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The folder must be empty or not there.
    Fresh,
    /// A run in it is removed first.
    Overwrite,
    /// The run in it goes on.
    Resume,
}

/// How far a run got, as `run.json` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No `run.json`.
    Absent,
    /// Begun, and neither finished nor stopped in an orderly way: running, or killed.
    Running,
    /// Stopped by Ctrl-C or by an error.
    Interrupted,
    /// Done.
    Finished,
}

impl Status {
    /// The word in `run.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Finished => "finished",
        }
    }
}

/// An output folder, held by this process alone.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held open: the lock goes with it, also when the process is killed.
    _lock: File,
}

/// Checks that `start` fits what is in `path`, without writing anything, and says how far the run there got.
///
/// # Errors
/// [`TrainError::OutputExists`], [`TrainError::OutputNotARun`] or [`TrainError::NothingToResume`].
pub fn check(path: &Path, start: Start) -> Result<Status, TrainError> {
    let status = status(path)?;
    match (start, status) {
        (Start::Fresh, Status::Absent) | (Start::Overwrite, Status::Absent) if !is_empty(path)? => {
            Err(TrainError::OutputNotARun { path: path.to_owned() })
        }
        (Start::Fresh, Status::Running | Status::Interrupted | Status::Finished) => {
            Err(TrainError::OutputExists { path: path.to_owned(), status: status.name().to_owned() })
        }
        (Start::Resume, Status::Absent) => Err(TrainError::NothingToResume { path: path.to_owned() }),
        _ => Ok(status),
    }
}

impl RunFolder {
    /// Takes `path` for this process, made if need be; an earlier run is removed if `start` says so.
    ///
    /// # Errors
    /// Those of [`check`], [`TrainError::OutputLocked`] if another process has it, [`TrainError::Io`].
    pub fn claim(path: &Path, start: Start) -> Result<Self, TrainError> {
        check(path, start)?;
        fs::create_dir_all(path).map_err(TrainError::io(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(TrainError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrainError::OutputLocked { path: path.to_owned() }),
            // Some network file systems have no locks; the folder is then used without.
            Err(TryLockError::Error(_)) => {}
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.remove_unfinished()?;
        if start == Start::Overwrite {
            folder.remove_run()?;
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where tokenised data is kept unless the recipe names another folder.
    pub fn cache(&self) -> PathBuf {
        self.path.join(CACHE_FOLDER)
    }

    /// Replaces `run.json`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write_record<T: Serialize>(&self, record: &T) -> Result<(), TrainError> {
        write_json(&self.path.join(RUN_FILE), record)
    }

    /// Replaces a text file at the top of the folder.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), TrainError> {
        write_file(&self.path.join(name), text.as_bytes())
    }

    /// Opens `metrics.jsonl` to append to it, without the lines of steps after `step`, which a resumed run does again.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn metrics_log(&self, step: u64) -> Result<MetricsLog, TrainError> {
        let path = self.path.join(METRICS_FILE);
        let old = match fs::read(&path) {
            // A kill may have cut the last line inside a character.
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(TrainError::io(&path)(error)),
        };
        let line_step = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            value.get("step")?.as_u64()
        };
        let kept = old.lines().filter(|line| line_step(line).is_some_and(|found| found <= step));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        write_file(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(TrainError::io(&path))?;
        Ok(MetricsLog { path, file })
    }

    /// Removes what a process that was killed had begun to write.
    fn remove_unfinished(&self) -> Result<(), TrainError> {
        for entry in fs::read_dir(&self.path).map_err(TrainError::io(&self.path))? {
            let path = entry.map_err(TrainError::io(&self.path))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && UNFINISHED.iter().any(|prefix| name.starts_with(prefix)) {
                fs::remove_file(&path).map_err(TrainError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Gives up a run that turned out not to fit before its first step: nothing of it stays.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn abandon(&self) -> Result<(), TrainError> {
        self.remove_run()?;
        let lock = self.path.join(LOCK_FILE);
        fs::remove_file(&lock).map_err(TrainError::io(&lock))?;
        // Fails where the folder holds something of the user's, which stays.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    fn remove_run(&self) -> Result<(), TrainError> {
        // Last `run.json`: what is left by a kill on the way is still known as a run.
        for name in WRITTEN.iter().chain(tokenizer::FILES).chain([&RUN_FILE]) {
            let path = self.path.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TrainError::io(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// `metrics.jsonl`, open at its end.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Appends a line.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn append<T: Serialize>(&mut self, kind: &str, record: &T) -> Result<(), TrainError> {
        let write = |log: &mut Self| {
            let mut value = serde_json::to_value(record)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("kind".to_owned(), kind.into());
            }
            let mut line = serde_json::to_vec(&value)?;
            line.push(b'\n');
            log.file.write_all(&line)
        };
        write(self).map_err(TrainError::io(&self.path))
    }
}

fn status(path: &Path) -> Result<Status, TrainError> {
    let file = path.join(RUN_FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Status::Absent);
        }
        Err(error) => return Err(TrainError::io(&file)(error)),
    };
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    Ok(match record.get("status").and_then(|status| status.as_str()) {
        Some("finished") => Status::Finished,
        Some("interrupted") => Status::Interrupted,
        _ => Status::Running,
    })
}

/// Whether the folder is missing or holds nothing but a lock, a cache of an earlier try, and earlier stages.
fn is_empty(path: &Path) -> Result<bool, TrainError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(TrainError::io(path)(error)),
    };
    for entry in entries {
        let name = entry.map_err(TrainError::io(path))?.file_name();
        let partial = UNFINISHED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if name != LOCK_FILE && name != CACHE_FOLDER && name != STAGE_FOLDER && !partial {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(status: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(RUN_FILE), format!(r#"{{"status": "{status}"}}"#)).expect("writes");
        folder
    }

    #[test]
    fn a_run_is_not_replaced_by_accident() {
        let folder = run_in("finished");
        assert!(matches!(check(folder.path(), Start::Fresh), Err(TrainError::OutputExists { .. })));
        assert_eq!(check(folder.path(), Start::Resume).ok(), Some(Status::Finished));
        assert_eq!(check(folder.path(), Start::Overwrite).ok(), Some(Status::Finished));
    }

    #[test]
    fn files_of_others_are_never_touched() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("thesis.tex"), "text").expect("writes");
        for start in [Start::Fresh, Start::Overwrite] {
            assert!(matches!(check(folder.path(), start), Err(TrainError::OutputNotARun { .. })));
        }
        let folder = run_in("running");
        fs::write(folder.path().join("notes.txt"), "text").expect("writes");
        RunFolder::claim(folder.path(), Start::Overwrite).expect("claims");
        assert!(folder.path().join("notes.txt").exists());
        assert!(!folder.path().join(RUN_FILE).exists());
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let held = RunFolder::claim(folder.path(), Start::Fresh).expect("claims");
        assert!(matches!(
            RunFolder::claim(folder.path(), Start::Fresh),
            Err(TrainError::OutputLocked { .. })
        ));
        drop(held);
        RunFolder::claim(folder.path(), Start::Fresh).expect("claims again");
    }

    #[test]
    fn metrics_after_the_checkpoint_are_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = RunFolder::claim(folder.path(), Start::Fresh).expect("claims");
        let mut log = run.metrics_log(0).expect("opens");
        for step in [10, 20, 30] {
            log.append("train", &serde_json::json!({ "step": step })).expect("appends");
        }
        fs::write(folder.path().join(METRICS_FILE), {
            let mut text = fs::read_to_string(folder.path().join(METRICS_FILE)).expect("reads");
            text.push_str("{\"step\": 4");
            text
        })
        .expect("writes half a line");
        run.metrics_log(20).expect("opens again");
        let text = fs::read_to_string(folder.path().join(METRICS_FILE)).expect("reads");
        assert_eq!(text, "{\"step\":10,\"kind\":\"train\"}\n{\"step\":20,\"kind\":\"train\"}\n");
    }
}
