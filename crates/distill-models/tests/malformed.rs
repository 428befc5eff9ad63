//! Folders that cannot be loaded say why, and nothing panics.

mod golden_set;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use distill_models::{
    HeadPolicy, LoadRequest, ModelError, Task, TensorFault, find, from_scratch, inspect, load,
    read_safetensors, save, write_safetensors,
};
use golden_set::devices;
use serde_json::json;
use tempfile::TempDir;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const QUERY: &str = "bert.encoder.layer.0.attention.self.query.weight";

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn task() -> Task {
    Task::Classification { id2label: vec!["no".to_owned(), "yes".to_owned()] }
}

fn request(device: Device) -> LoadRequest {
    LoadRequest {
        task: task(),
        head: HeadPolicy::Reinitialise,
        seed: 1,
        device,
        dropout: None,
        adapter: None,
    }
}

/// A small model's folder; `None` in a build without a backend.
fn folder() -> Option<TempDir> {
    let device = devices().into_iter().next()?;
    let table = json!({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2});
    let made = from_scratch(find("bert").unwrap(), &table, 30, 0, request(device)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save(made.model.as_ref(), &made.config, folder.path()).unwrap();
    Some(folder)
}

fn try_load(folder: &Path) -> Result<distill_models::Loaded, ModelError> {
    let device = devices().remove(0);
    load(folder, request(device))
}

fn failure(folder: &Path) -> ModelError {
    try_load(folder).err().expect("a malformed folder must not load")
}

fn tensors(folder: &Path) -> Tensors {
    let content = read_safetensors(&folder.join(WEIGHTS)).unwrap();
    content.tensors.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect()
}

fn write(folder: &Path, name: &str, tensors: Tensors) {
    write_safetensors(&folder.join(name), tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn files_that_are_cut_short_or_damaged() {
    let Some(folder) = folder() else { return };
    let path = folder.path().join(WEIGHTS);
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], &whole[..100], &whole[..3], &[][..]] {
        std::fs::write(&path, bytes).unwrap();
        let error = failure(folder.path());
        assert!(matches!(error, ModelError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(WEIGHTS), "{error}");
        assert!(inspect(folder.path()).is_err());
    }
    std::fs::write(&path, [&(1u64 << 40).to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    assert!(failure(folder.path()).to_string().contains("allowed are 100000000"));
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_are_all_named() {
    let Some(folder) = folder() else { return };
    let mut changed = tensors(folder.path());
    changed.retain(|(name, ..)| name != "bert.embeddings.LayerNorm.bias");
    for (name, shape, values) in &mut changed {
        if name == QUERY {
            *shape = vec![4, 8];
            values.truncate(32);
        }
    }
    write(folder.path(), WEIGHTS, changed);
    let error = failure(folder.path());
    let ModelError::Tensors { faults, .. } = &error else { panic!("{error}") };
    assert_eq!(
        faults,
        &[
            TensorFault::Missing { name: "bert.embeddings.LayerNorm.bias".to_owned(), expected: vec![8] },
            TensorFault::Shape {
                name: QUERY.to_owned(),
                file: folder.path().join(WEIGHTS),
                expected: vec![8, 8],
                found: vec![4, 8],
            },
        ]
    );
    assert!(error.to_string().contains("has shape [4, 8], expected [8, 8]"), "{error}");
}

#[test]
fn integer_weights_are_refused() {
    let Some(folder) = folder() else { return };
    let kept = tensors(folder.path());
    let bytes: Vec<_> = kept
        .iter()
        .map(|(name, shape, values)| {
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let dtype = if name == QUERY { safetensors::Dtype::I32 } else { safetensors::Dtype::F32 };
            (name, dtype, shape.clone(), data)
        })
        .collect();
    let views = bytes.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.path().join(WEIGHTS)).unwrap();
    let message = failure(folder.path()).to_string();
    assert!(message.contains("has data type I32, expected F32, F16, BF16 or F64"), "{message}");
}

#[test]
fn shards_are_read_and_their_faults_are_named() {
    let Some(folder) = folder() else { return };
    let all = tensors(folder.path());
    let middle = all.len() / 2;
    let halves = [("a.safetensors", &all[..middle]), ("b.safetensors", &all[middle..])];
    let mut weight_map = serde_json::Map::new();
    for (file, tensors) in halves {
        write(folder.path(), file, tensors.to_vec());
        weight_map.extend(tensors.iter().map(|(name, ..)| (name.clone(), json!(file))));
    }
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    let index = folder.path().join(INDEX);
    std::fs::write(&index, json!({"metadata": {}, "weight_map": weight_map}).to_string()).unwrap();
    let loaded = try_load(folder.path()).unwrap();
    assert_eq!(loaded.report, Default::default());
    assert_eq!(inspect(folder.path()).unwrap().files.len(), 2);

    std::fs::rename(folder.path().join("b.safetensors"), folder.path().join("c.safetensors")).unwrap();
    let error = failure(folder.path());
    assert!(matches!(&error, ModelError::MissingShard { shard, .. } if shard == "b.safetensors"), "{error}");

    std::fs::write(&index, json!({"weight_map": {QUERY: "../a.safetensors"}}).to_string()).unwrap();
    assert!(failure(folder.path()).to_string().contains("is not a plain file name"));
    std::fs::write(&index, json!({"weight_map": {"nobody": "a.safetensors"}}).to_string()).unwrap();
    assert!(failure(folder.path()).to_string().contains("tensor `nobody` is not in the shard"));
    std::fs::write(&index, "{").unwrap();
    assert!(matches!(failure(folder.path()), ModelError::Index { .. }));
}

#[test]
fn old_headless_and_duplicated_names_are_understood() {
    let Some(folder) = folder() else { return };
    let mut renamed: Tensors = tensors(folder.path())
        .into_iter()
        .filter(|(name, ..)| name.starts_with("bert."))
        .map(|(name, shape, values)| {
            let name = name.trim_start_matches("bert.").replace("LayerNorm.weight", "LayerNorm.gamma");
            (name.replace("LayerNorm.bias", "LayerNorm.beta"), shape, values)
        })
        .collect();
    renamed.push(("embeddings.position_ids".to_owned(), vec![1], vec![0.0]));
    renamed.push(("something.else".to_owned(), vec![1], vec![0.0]));
    write(folder.path(), WEIGHTS, renamed);
    let loaded = try_load(folder.path()).unwrap();
    assert_eq!(loaded.report.newly_initialised, ["classifier.weight", "classifier.bias"]);
    assert_eq!(loaded.report.unused, ["something.else"]);
}

#[test]
fn folders_without_their_files() {
    let Some(folder) = folder() else { return };
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    let message = failure(folder.path()).to_string();
    assert!(
        message.contains("no weights in") && message.contains("`pytorch_model.bin` is not read"),
        "{message}"
    );
    std::fs::write(folder.path().join("config.json"), "{\"model_type\": ").unwrap();
    assert!(matches!(failure(folder.path()), ModelError::Json { .. }));
    std::fs::write(folder.path().join("config.json"), "{\"model_type\": \"mamba\"}").unwrap();
    let message = failure(folder.path()).to_string();
    assert!(message.contains("unsupported architecture `mamba`: supported are `bert`"), "{message}");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(matches!(failure(folder.path()), ModelError::Io { action: "read", .. }));
}
