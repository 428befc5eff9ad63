//! Where the reference values lie, and how their files are read.

#![allow(dead_code)] // each test binary uses its part

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use distill_models::{ARCHITECTURES, Architecture, TaskKind};
use distill_ops::{DeviceSpec, resolve};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// `$DISTILL_GOLDEN`, or `../shared/golden` beside the workspace.
pub fn root() -> PathBuf {
    match std::env::var_os("DISTILL_GOLDEN") {
        Some(path) => path.into(),
        None => PathBuf::from("../../../shared/golden"),
    }
}

/// `$DISTILL_MODELS/name`, or `~/.cache/distill-models/name`; `None` if it is not there.
pub fn pretrained(name: &str) -> Option<PathBuf> {
    let models = match std::env::var_os("DISTILL_MODELS") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/distill-models"),
    };
    let folder = models.join(name);
    folder.join("config.json").is_file().then_some(folder)
}

/// Every architecture that labels texts.
pub fn encoders() -> impl Iterator<Item = &'static Architecture> {
    ARCHITECTURES.iter().filter(|architecture| architecture.supports(TaskKind::Classification))
}

/// Every encoder's folder of `models/`; none, with a word on stderr, without reference values.
pub fn model_folders() -> Vec<PathBuf> {
    folders("encoder", |tasks| tasks.contains(&TaskKind::Classification))
}

/// Every folder of a model that writes texts.
pub fn generative_folders() -> Vec<PathBuf> {
    folders("decoder", |tasks| tasks.contains(&TaskKind::CausalLm) || tasks.contains(&TaskKind::Seq2SeqLm))
}

fn folders(kind: &str, wanted: impl Fn(&[TaskKind]) -> bool) -> Vec<PathBuf> {
    let models = root().join("models");
    let Ok(entries) = std::fs::read_dir(&models) else {
        let place = models.display();
        let _ = writeln!(std::io::stderr(), "SKIPPED: no reference values in `{place}`; set DISTILL_GOLDEN");
        return Vec::new();
    };
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|folder| {
            let config = json(&folder.join("config.json"));
            let model_type = config["model_type"].as_str().unwrap_or_default();
            let ours = ARCHITECTURES.iter().any(|a| a.model_type == model_type && wanted(a.tasks));
            ours && folder.join("golden.json").is_file()
        })
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no {kind} in `{}`", models.display());
    folders
}

pub fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// A file of inputs and outputs.
pub struct Reference {
    pub integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
    pub floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Reference {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut reference = Self { integers: HashMap::new(), floats: HashMap::new() };
        for (name, view) in file.tensors() {
            let shape = view.shape().to_vec();
            match view.dtype() {
                Dtype::I64 => {
                    let values = view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
                    reference.integers.insert(name, (shape, values));
                }
                Dtype::F32 => {
                    let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    reference.floats.insert(name, (shape, values));
                }
                other => panic!("`{name}` in `{}` is {other:?}", path.display()),
            }
        }
        reference
    }

    /// Ids and padding mask with their shape.
    pub fn batch(&self) -> (Vec<u32>, Vec<u8>, [usize; 2]) {
        let (shape, ids) = &self.integers["input_ids"];
        let (_, mask) = &self.integers["attention_mask"];
        let ids = ids.iter().map(|&id| u32::try_from(id).unwrap()).collect();
        (ids, mask.iter().map(|&kept| kept as u8).collect(), [shape[0], shape[1]])
    }
}

/// The devices that this build has.
pub fn devices() -> Vec<Device> {
    let specs = [DeviceSpec::Flex, DeviceSpec::NdArray, DeviceSpec::Cuda(0)];
    let devices: Vec<_> = specs.into_iter().filter_map(|spec| resolve(spec).ok()).collect();
    if devices.is_empty() {
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: built without a backend; add `--features flex,ndarray`");
    }
    devices
}

/// The largest difference of two lists of the same length.
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}
