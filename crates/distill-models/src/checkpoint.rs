//! The weights of a Hugging Face folder: one file, or shards under an index.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;
use serde::Deserialize;

use crate::ModelError;
use crate::tensor_file::TensorFile;

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// All tensors of a folder, their data still on disk.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    files: Vec<TensorFile>,
    /// Name to position in `files`.
    place: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else every shard that `model.safetensors.index.json` names.
    pub(crate) fn open(folder: &Path) -> Result<Self, ModelError> {
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        let files = if single.is_file() {
            vec![TensorFile::open(&single)?]
        } else if index.is_file() {
            open_shards(folder, &index)?
        } else {
            return Err(ModelError::NoWeights { folder: folder.to_owned() });
        };
        Ok(Self::of_files(folder, files))
    }

    /// Opens the weights of an adapter alone.
    pub(crate) fn of_adapter(folder: &Path) -> Result<Self, ModelError> {
        let file = TensorFile::open(&folder.join(ADAPTER_WEIGHTS))?;
        Ok(Self::of_files(folder, vec![file]))
    }

    fn of_files(folder: &Path, files: Vec<TensorFile>) -> Self {
        let mut place = HashMap::new();
        for (position, file) in files.iter().enumerate() {
            for (name, _) in file.tensors() {
                place.insert(name, position);
            }
        }
        Self { folder: folder.to_owned(), files, place }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn files(&self) -> &[TensorFile] {
        &self.files
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&TensorFile, &TensorInfo)> {
        let file = self.files.get(*self.place.get(name)?)?;
        Some((file, file.info(name)?))
    }

    /// Every name, sorted.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.place.keys().map(String::as_str).collect()
    }
}

fn open_shards(folder: &Path, path: &Path) -> Result<Vec<TensorFile>, ModelError> {
    let text = std::fs::read(path).map_err(ModelError::io("read", path))?;
    let fault = |reason: String| ModelError::Index { path: path.to_owned(), reason };
    let index: Index = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut files = Vec::new();
    for shard in shards {
        // An index comes from a download: it must not reach outside its folder.
        if Path::new(shard).file_name().is_none_or(|name| name != shard.as_str()) {
            return Err(fault(format!("the shard `{shard}` is not a plain file name")));
        }
        if !folder.join(shard).is_file() {
            return Err(ModelError::MissingShard { index: path.to_owned(), shard: shard.clone() });
        }
        files.push(TensorFile::open(&folder.join(shard))?);
    }
    for (name, shard) in &index.weight_map {
        let held = files.iter().any(|f| f.path().ends_with(shard) && f.info(name).is_some());
        if !held {
            return Err(fault(format!("tensor `{name}` is not in the shard `{shard}` that it names")));
        }
    }
    Ok(files)
}
