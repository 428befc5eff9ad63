//! Augmented texts on the disk: written part by part, and taken for finished only when they are.

use super::AugmentSettings;
use crate::checkpoint::{hex, write_file};
use crate::error::TrainError;
use crate::rows::Rows;
use distill_data::FileHash;
use distill_data::tokenizer::Tokenizer;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Texts of one part.
pub(super) const ROWS_A_PART: usize = 1024;

/// What is in the files; another number makes all of them anew.
const VERSION: u32 = 1;

/// The file of one key, and the folder of its parts while it is not finished.
///
/// Every part appears whole, synced and under its name, or not at all; so does the file that is joined of them.
pub(super) struct Cache {
    file: PathBuf,
    folder: PathBuf,
    parts: usize,
}

impl Cache {
    /// The cache in `folder` of these texts, model, tokenizer and settings.
    ///
    /// `batch_size`, device and precision change nothing but roundings and are not part of the key: a file is found
    /// again where the same run goes on elsewhere.
    pub(super) fn new(
        folder: &Path,
        model: &Path,
        tokenizer: &Tokenizer,
        texts: &Rows,
        settings: &AugmentSettings,
    ) -> Result<Self, TrainError> {
        let AugmentSettings {
            copies,
            probability,
            candidates,
            replacements,
            seed,
            batch_size: _,
            max_length,
        } = settings;
        let mut hasher = Sha256::new();
        hasher.update(format!("{VERSION} {ROWS_A_PART} {}\n", tokenizer.hash()));
        hasher.update(format!("{copies} {:x} {candidates} ", probability.to_bits()));
        hasher.update(format!("{replacements:?} {seed} {max_length}\n"));
        for file in model_files(model)? {
            hasher.update(FileHash::of(&file, 0)?.sha256);
        }
        hasher.update(format!("\n{}\n", texts.source.scan.content));
        for row in &texts.rows {
            hasher.update((*row as u64).to_le_bytes());
        }
        let name = format!("augmented-{}", &hex(&hasher.finalize())[..32]);
        let cache = Self {
            file: folder.join(format!("{name}.jsonl")),
            folder: folder.join(format!("{name}.parts")),
            parts: texts.len().div_ceil(ROWS_A_PART),
        };
        Ok(cache)
    }

    /// The finished file, if it is there.
    pub(super) fn finished(&self) -> Option<PathBuf> {
        self.file.is_file().then(|| self.file.clone())
    }

    /// Whether part `part` is there.
    pub(super) fn has(&self, part: usize) -> bool {
        self.part(part).is_file()
    }

    /// Whether every part is there.
    pub(super) fn has_all(&self) -> bool {
        (0..self.parts).all(|part| self.has(part))
    }

    fn part(&self, part: usize) -> PathBuf {
        self.folder.join(format!("{part:08}.jsonl"))
    }

    /// Writes part `part`.
    pub(super) fn write(&self, part: usize, lines: &[u8]) -> Result<(), TrainError> {
        fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder))?;
        write_file(&self.part(part), lines)
    }

    /// Joins the parts into the finished file and removes them; `None` if there is not one line in them.
    pub(super) fn join(&self) -> Result<Option<PathBuf>, TrainError> {
        match self.join_parts() {
            // Another process joined them first, and removed them.
            Err(_) if self.file.is_file() => Ok(Some(self.file.clone())),
            joined => joined,
        }
    }

    fn join_parts(&self) -> Result<Option<PathBuf>, TrainError> {
        // Its own name for each process: two may have found the parts complete.
        let whole = self.folder.join(format!("whole-{}", std::process::id()));
        fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder))?;
        let mut file = File::create(&whole).map_err(TrainError::io(&whole))?;
        let mut bytes = 0;
        for part in (0..self.parts).map(|part| self.part(part)) {
            let mut part_file = File::open(&part).map_err(TrainError::io(&part))?;
            bytes += io::copy(&mut part_file, &mut file).map_err(TrainError::io(&whole))?;
        }
        file.sync_all().map_err(TrainError::io(&whole))?;
        drop(file);
        if bytes > 0 {
            fs::rename(&whole, &self.file).map_err(TrainError::io(&self.file))?;
            // The name is on disk once the folder is; not every file system can, and then the parts are made again.
            let _ = self.file.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        }
        // What is left of them is never read: the finished file is looked for first.
        let _ = fs::remove_dir_all(&self.folder);
        Ok((bytes > 0).then(|| self.file.clone()))
    }
}

/// The configuration and all weights in a model's folder, by name.
fn model_files(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let weights = path.extension().is_some_and(|extension| extension == "safetensors");
        if weights || path.file_name().is_some_and(|name| name == "config.json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
