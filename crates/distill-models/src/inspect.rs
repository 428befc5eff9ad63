//! What is in a model's folder, from headers alone.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::adapter_file::is_adapter;
use crate::checkpoint::Checkpoint;
use crate::{ModelConfig, ModelError, Task};

/// A tensor as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// `F32`, `F16`, `BF16`, ...
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A weights file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A model's folder.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// `model_type`.
    pub architecture: String,
    /// Hugging Face's class: `BertForSequenceClassification`.
    pub class: String,
    /// The labels, of a classifier.
    pub labels: Option<Vec<String>>,
    /// Sizes and probabilities by Hugging Face's keys.
    pub config: Map<String, Value>,
    /// Every tensor, sorted by name.
    pub tensors: Vec<TensorSummary>,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Size of all weights files.
    pub bytes: u64,
    /// The weights files.
    pub files: Vec<FileSummary>,
}

/// Reads `config.json` and the headers of the weights.
///
/// # Errors
/// As for [`load`](crate::pretrained::load), except that tensors are not compared with the architecture.
pub fn inspect(folder: &Path) -> Result<Inspection, ModelError> {
    let config = ModelConfig::read(folder)?;
    let checkpoint = match is_adapter(folder) {
        true => Checkpoint::of_adapter(folder)?,
        false => Checkpoint::open(folder)?,
    };
    let mut tensors: Vec<_> = checkpoint
        .files()
        .iter()
        .flat_map(|file| file.tensors())
        .map(|(name, info)| TensorSummary { name, dtype: format!("{:?}", info.dtype), shape: info.shape })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut files = Vec::new();
    for file in checkpoint.files() {
        let path = file.path().to_owned();
        let bytes = std::fs::metadata(&path).map_err(ModelError::io("read", &path))?.len();
        files.push(FileSummary { path, bytes });
    }
    Ok(Inspection {
        architecture: config.architecture.model_type.to_owned(),
        class: config.architecture.class_name(&config.task),
        labels: match &config.task {
            Task::Classification { id2label } => Some(id2label.clone()),
            Task::MaskedLm | Task::CausalLm | Task::Seq2SeqLm => None,
        },
        config: config.base.to_json(),
        parameters: tensors.iter().map(|t| t.shape.iter().map(|&n| n as u64).product::<u64>()).sum(),
        tensors,
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
    })
}
