//! Weights written in one file or in shards under an index, as Transformers lays them out.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::ModelError;
use crate::atomic::write_atomically;
use crate::checkpoint::{INDEX, WEIGHTS};
use crate::tensor_file::{StoredDtype, write_tensors};

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightsFormat {
    /// What numbers are rounded to.
    pub dtype: StoredDtype,
    /// Bytes of numbers in one file at most; a tensor that alone is larger has a file of its own.
    pub max_shard_size: u64,
}

impl Default for WeightsFormat {
    /// f32, in files of at most 50 GB as Transformers 5 has it.
    fn default() -> Self {
        Self { dtype: StoredDtype::F32, max_shard_size: 50_000_000_000 }
    }
}

/// Writes tensors (name, shape, numbers) into `model.safetensors`, or into shards with their index.
///
/// Each file appears whole or not at all, and the index last.
pub(crate) fn write_weights(
    folder: &Path,
    mut tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    format: WeightsFormat,
) -> Result<(), ModelError> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes_of = |values: &[f32]| (values.len() * format.dtype.bytes()) as u64;
    let total: u64 = tensors.iter().map(|(_, _, values)| bytes_of(values)).sum();
    if total <= format.max_shard_size {
        return write_tensors(&folder.join(WEIGHTS), tensors, &metadata, format.dtype);
    }
    let parameters: usize = tensors.iter().map(|(_, _, values)| values.len()).sum();
    let mut shards: Vec<Vec<_>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let bytes = bytes_of(&tensor.2);
        if filled > 0 && filled + bytes > format.max_shard_size {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let count = shards.len();
    let mut weight_map = Map::new();
    for (number, shard) in (1..).zip(shards) {
        let file = format!("model-{number:05}-of-{count:05}.safetensors");
        for (name, _, _) in &shard {
            weight_map.insert(name.clone(), Value::from(file.clone()));
        }
        write_tensors(&folder.join(&file), shard, &metadata, format.dtype)?;
    }
    let index = json!({
        "metadata": {"total_parameters": parameters, "total_size": total},
        "weight_map": weight_map,
    });
    let text = format!("{index:#}\n");
    write_atomically(&folder.join(INDEX), |file| file.write_all(text.as_bytes()))
}
