//! Checkpoints of a run: complete, checked and in one piece, or not there at all.
//!
//! A checkpoint is a folder `step-00000100` with a whole Hugging Face model (so that `distill predict` can read it),
//! the optimiser's moments, the state of the loop and the SHA-256 of each file. It is written under another name,
//! synced and renamed, so that a kill leaves either the old folders or the new one.

use crate::beside::Beside;
use crate::error::TrainError;
use crate::optimizer::Optimizer;
use crate::report::Report;
use burn::tensor::{Tensor, TensorData};
use distill_models::{TensorFileContent, read_safetensors, write_safetensors};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const STATE_FILE: &str = "state.json";
/// What is learned beside the model and not exported.
const BESIDE_FILE: &str = "beside.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const CHECKSUM_FILE: &str = "checksums.json";
const STEP_PREFIX: &str = "step-";
const BEST_PREFIX: &str = "best-";
const PARTIAL_PREFIX: &str = ".partial-";
const PARTIAL_STEP_PREFIX: &str = ".partial-step-";
const PARTIAL_BEST_PREFIX: &str = ".partial-best-";

/// Where the loop is: all that a resumed run needs besides weights and moments.
///
/// Order of the rows, dropout masks and learning rate are pure functions of the recipe's seed and of `step`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoopState {
    /// Optimizer steps done, the skipped ones counted.
    pub step: u64,
    /// Steps left out because their loss was not finite.
    pub skipped_steps: u64,
    /// Of them, those since the last step that was taken.
    pub skipped_in_a_row: u64,
    /// The losses since the last line of `metrics.jsonl`.
    pub window: LossWindow,
    /// Loss of the whole run so far.
    pub total: LossWindow,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_without_improvement: usize,
    /// Whether `early_stopping_patience` has ended the run.
    pub stopped_early: bool,
    /// Seconds of training by this run and those before it.
    pub train_seconds: f64,
    /// Seconds of evaluation by this run and those before it.
    pub evaluate_seconds: f64,
}

/// A sum of losses and what it is a sum of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossWindow {
    /// Sum over examples, in nats.
    pub loss_sum: f64,
    /// Each loss alone, unweighted: its sum, and what it is a sum over.
    pub parts: Vec<(f64, u64)>,
    /// Examples summed.
    pub examples: u64,
    /// Tokens in them, padding not counted.
    pub tokens: u64,
}

impl LossWindow {
    /// Adds a step.
    ///
    /// `loss` is a mean over its examples; `parts` are means with the numbers of units that they are over: a step may
    /// have few labels, or none, where most texts have only a teacher's.
    pub fn add(&mut self, loss: f64, parts: &[(f64, u64)], examples: u64, tokens: u64) {
        self.loss_sum += loss * examples as f64;
        self.parts.resize(parts.len(), (0.0, 0));
        for ((sum, all), &(mean, units)) in self.parts.iter_mut().zip(parts) {
            *sum += mean * units as f64;
            *all += units;
        }
        self.examples += examples;
        self.tokens += tokens;
    }

    /// Mean loss in nats, `None` before the first example.
    pub fn mean(&self) -> Option<f64> {
        (self.examples > 0).then(|| self.loss_sum / self.examples as f64)
    }

    /// Mean of each loss, by these names; those that were over nothing are left out.
    pub fn means(&self, names: &[String]) -> IndexMap<String, f64> {
        let parts = names.iter().zip(&self.parts).filter(|(_, (_, units))| *units > 0);
        parts.map(|(name, (sum, units))| (name.clone(), sum / *units as f64)).collect()
    }
}

/// The evaluation that chose the model to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimizer steps done then.
    pub step: u64,
    /// The chosen metric's value.
    pub value: f64,
    /// All metrics.
    pub report: Report,
}

#[derive(Serialize, Deserialize)]
struct SavedState {
    #[serde(flatten)]
    state: LoopState,
    /// What the run was made from, to refuse a resume with other settings or data.
    fingerprint: serde_json::Value,
    optimizer_steps: IndexMap<String, u64>,
}

/// A checkpoint as read back and checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder, a whole model.
    pub path: PathBuf,
    /// Where the loop was.
    pub state: LoopState,
    /// What the run was made from.
    pub fingerprint: serde_json::Value,
    optimizer_steps: IndexMap<String, u64>,
    moments: TensorFileContent,
    beside: Option<TensorFileContent>,
}

impl Checkpoint {
    /// Puts the moments into `optimizer`.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if they are another model's.
    pub fn restore(self, optimizer: &mut Optimizer, device: &burn::tensor::Device) -> Result<(), TrainError> {
        optimizer.import(self.moments, &self.optimizer_steps, device)
    }

    /// Puts the numbers of what was learnt beside the model into `beside`.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if they are missing or of another shape.
    pub fn restore_beside(&mut self, beside: &mut Beside) -> Result<(), TrainError> {
        if beside.is_empty() {
            return Ok(());
        }
        let mut content = self.beside.take().ok_or_else(|| TrainError::checkpoint_without(BESIDE_FILE))?;
        for (name, shape) in beside.parameters() {
            let found = content.tensors.get(&name).map(|(shape, _)| shape.clone());
            if found.as_ref() != Some(&shape) {
                return Err(TrainError::checkpoint_without(&name));
            }
        }
        beside.update(&mut |name, old| match content.tensors.remove(name) {
            Some((_, values)) => {
                let length = values.len();
                Tensor::from_data(TensorData::new(values, [length]), &old.device())
            }
            None => old,
        });
        Ok(())
    }
}

/// The folder that holds a run's checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
}

impl CheckpointStore {
    /// The store of the run in `output_dir`; nothing is written yet.
    pub fn new(output_dir: &Path) -> Self {
        Self { folder: output_dir.join("checkpoints") }
    }

    /// Writes the checkpoint of `state` and removes all but the newest `keep`; `None` keeps all.
    ///
    /// `save_model` writes the model's files into the folder that it is given.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the disk refuses.
    pub fn save(
        &self,
        state: &LoopState,
        fingerprint: &serde_json::Value,
        optimizer: &Optimizer,
        beside: &Beside,
        keep: Option<usize>,
        save_model: &dyn Fn(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let saved = SavedState {
            state: state.clone(),
            fingerprint: fingerprint.clone(),
            optimizer_steps: optimizer.steps(),
        };
        let path = self.write(&step_name(STEP_PREFIX, state.step), &|folder| {
            save_model(folder)?;
            write_safetensors(&folder.join(OPTIMIZER_FILE), optimizer.export(), &BTreeMap::new())?;
            if !beside.is_empty() {
                write_safetensors(&folder.join(BESIDE_FILE), beside.to_host(), &BTreeMap::new())?;
            }
            write_json(&folder.join(STATE_FILE), &saved)
        })?;
        self.remove_stale(state, keep)?;
        Ok(path)
    }

    /// Writes the model of the best evaluation, `best-00000100`.
    ///
    /// Earlier ones go only with the next checkpoint that no longer names them.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the disk refuses.
    pub fn save_best(
        &self,
        step: u64,
        save_model: &dyn Fn(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        self.write(&step_name(BEST_PREFIX, step), save_model)
    }

    /// Folder of the best model of `step`, checked.
    ///
    /// # Errors
    /// [`TrainError::CorruptCheckpoint`] if a file is missing or changed.
    pub fn best(&self, step: u64) -> Result<PathBuf, TrainError> {
        let path = self.folder.join(step_name(BEST_PREFIX, step));
        verify(&path)?;
        Ok(path)
    }

    /// The newest checkpoint that is whole, and a sentence for each newer one that is not.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the folder cannot be read.
    pub fn latest(&self) -> Result<(Option<Checkpoint>, Vec<String>), TrainError> {
        let mut damaged = Vec::new();
        for (_, path) in self.list(STEP_PREFIX)?.into_iter().rev() {
            match read(&path) {
                Ok(checkpoint) => return Ok((Some(checkpoint), damaged)),
                Err(error) => {
                    damaged.push(format!("passed over the checkpoint `{}`: {error}", path.display()))
                }
            }
        }
        Ok((None, damaged))
    }

    fn write(
        &self,
        name: &str,
        fill: &dyn Fn(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let partial = self.folder.join(format!("{PARTIAL_PREFIX}{name}"));
        let path = self.folder.join(name);
        remove_folder(&partial)?;
        fs::create_dir_all(&partial).map_err(TrainError::io(&partial))?;
        fill(&partial)?;
        let checksums = checksums(&partial)?;
        write_json(&partial.join(CHECKSUM_FILE), &checksums)?;
        for file in checksums.keys().map(String::as_str).chain([CHECKSUM_FILE]) {
            sync(&partial.join(file))?;
        }
        sync(&partial)?;
        remove_folder(&path)?;
        fs::rename(&partial, &path).map_err(TrainError::io(&path))?;
        sync(&self.folder)?;
        Ok(path)
    }

    fn remove_stale(&self, state: &LoopState, keep: Option<usize>) -> Result<(), TrainError> {
        // A checkpoint ahead of this one is damaged: a resume passed over it.
        let (steps, ahead): (Vec<_>, Vec<_>) =
            self.list(STEP_PREFIX)?.into_iter().partition(|(step, _)| *step <= state.step);
        let surplus = keep.map_or(0, |keep| steps.len().saturating_sub(keep.max(1)));
        let best = state.best.as_ref().map(|best| best.step);
        let other_best = self.list(BEST_PREFIX)?.into_iter().filter(|(step, _)| Some(*step) != best);
        // Left by a process that was killed while it wrote.
        let partial = [PARTIAL_STEP_PREFIX, PARTIAL_BEST_PREFIX].map(|prefix| self.list(prefix));
        let [partial_steps, partial_best] = partial;
        let partial = partial_steps?.into_iter().chain(partial_best?);
        for (_, path) in steps.into_iter().take(surplus).chain(ahead).chain(other_best).chain(partial) {
            remove_folder(&path)?;
        }
        Ok(())
    }

    /// Folders with this prefix, by step.
    fn list(&self, prefix: &str) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(TrainError::io(&self.folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(TrainError::io(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(step) = name.strip_prefix(prefix).and_then(|step| step.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

fn step_name(prefix: &str, step: u64) -> String {
    format!("{prefix}{step:08}")
}

fn read(path: &Path) -> Result<Checkpoint, TrainError> {
    verify(path)?;
    let saved: SavedState = read_json(&path.join(STATE_FILE))?;
    let moments = read_safetensors(&path.join(OPTIMIZER_FILE))?;
    let beside = path.join(BESIDE_FILE);
    let beside = beside.exists().then(|| read_safetensors(&beside)).transpose()?;
    Ok(Checkpoint {
        path: path.to_owned(),
        state: saved.state,
        fingerprint: saved.fingerprint,
        optimizer_steps: saved.optimizer_steps,
        moments,
        beside,
    })
}

/// Compares each file with its recorded checksum.
fn verify(path: &Path) -> Result<(), TrainError> {
    let expected: IndexMap<String, String> = read_json(&path.join(CHECKSUM_FILE))?;
    for (file, expected) in expected {
        let file = path.join(file);
        if sha256(&file)? != expected {
            return Err(TrainError::CorruptCheckpoint { file });
        }
    }
    Ok(())
}

fn checksums(folder: &Path) -> Result<IndexMap<String, String>, TrainError> {
    let mut checksums = IndexMap::new();
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        checksums.insert(name, sha256(&path)?);
    }
    checksums.sort_keys();
    Ok(checksums)
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(TrainError::io(path))? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `value` as indented JSON, under a temporary name, synced and renamed.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), TrainError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| TrainError::io(path)(error.into()))?;
    bytes.push(b'\n');
    write_file(path, &bytes)
}

/// Writes a file under a temporary name, syncs and renames it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        make_readable(path)
    };
    write().map_err(TrainError::io(path))
}

/// Temporary files are private to their owner; what replaces a user's file has the usual permissions.
#[cfg(unix)]
fn make_readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let text = fs::read(path).map_err(TrainError::io(path))?;
    serde_json::from_slice(&text).map_err(|_| TrainError::CorruptCheckpoint { file: path.to_owned() })
}

fn sync(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(TrainError::io(path))
}

fn remove_folder(path: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::LossWindow;

    #[test]
    fn each_loss_is_a_mean_over_its_own_units() {
        let mut window = LossWindow::default();
        let names = ["hard_labels", "cosine", "masked_lm"].map(str::to_owned);
        // The second step has no label.
        window.add(1.0, &[(2.0, 4), (1.0, 40), (0.0, 0)], 8, 40);
        window.add(3.0, &[(0.0, 0), (4.0, 20), (0.0, 0)], 8, 20);
        window.add(2.0, &[(5.0, 2), (1.0, 20), (0.0, 0)], 8, 20);
        assert_eq!(window.mean(), Some(2.0));
        let means = window.means(&names);
        assert_eq!(means.get("hard_labels"), Some(&3.0));
        assert_eq!(means.get("cosine"), Some(&1.75));
        assert_eq!(means.get("masked_lm"), None);
    }
}
