//! Which files of a repository make up a model.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::HubError;
use super::error::name_list;
use super::repository::Repository;
use crate::tokenizer::FILES;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Taken where the repository has it, beside the tokenizer's files.
const GENERATION: &str = "generation_config.json";

/// Endings of weights in formats that are not read here.
const OTHER_WEIGHTS: &[&str] =
    &[".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ckpt", ".safetensors"];

/// The files to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Small files first, so that a fault in one of them costs no large download.
    pub(super) files: Vec<String>,
    /// The list of shards, if the weights are in several files.
    pub(super) index: Option<String>,
}

/// Chooses the files of a model.
pub(super) fn select(repository: &Repository<'_>) -> Result<Wanted, HubError> {
    let listing = &repository.listing;
    let has = |file: &str| listing.file(file).is_some();
    if !has(CONFIG) {
        return Err(HubError::NoConfig { repo: repository.name(), found: name_list(listing.paths()) });
    }
    let mut files: Vec<String> = std::iter::once(CONFIG)
        .chain(FILES.iter().copied().chain([GENERATION]).filter(|file| has(file)))
        .map(str::to_owned)
        .collect();
    if has(WEIGHTS) {
        files.push(WEIGHTS.to_owned());
        return Ok(Wanted { files, index: None });
    }
    if has(INDEX) {
        let index = Some(INDEX.to_owned());
        return Ok(Wanted { files, index });
    }
    let is_weights = |path: &&str| OTHER_WEIGHTS.iter().any(|ending| path.ends_with(ending));
    let mut others: Vec<&str> = listing.paths().filter(is_weights).collect();
    if others.is_empty() {
        others = listing.paths().collect();
    }
    Err(HubError::NoSafetensors { repo: repository.name(), found: name_list(others) })
}

/// The shards that an index names.
pub(super) fn shards(
    repository: &Repository<'_>,
    index: &str,
    path: Option<&Path>,
) -> Result<Vec<String>, HubError> {
    let corrupt = |message: String| HubError::Corrupt {
        repo: repository.name(),
        file: index.to_owned(),
        message,
        help: "choose another revision, or ask its author".to_owned(),
    };
    let json = path.map(std::fs::read).transpose();
    let json =
        json.map_err(|source| HubError::Disk { path: path.unwrap_or(Path::new(index)).to_owned(), source })?;
    let json: Value =
        serde_json::from_slice(&json.unwrap_or_default()).map_err(|error| corrupt(error.to_string()))?;
    let shards: BTreeSet<String> = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| corrupt("it has no `weight_map`".to_owned()))?
        .values()
        .filter_map(|shard| Some(shard.as_str()?.to_owned()))
        .collect();
    if let Some(missing) =
        shards.iter().find(|shard| repository.listing.complete && repository.listing.file(shard).is_none())
    {
        return Err(corrupt(format!("it names `{missing}`, which is not there")));
    }
    Ok(shards.into_iter().collect())
}
