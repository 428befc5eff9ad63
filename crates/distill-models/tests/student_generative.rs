//! Students of models that write texts: chosen layers, and everything else as the teacher has it.

mod golden_set;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use distill_models::{
    ForwardOptions, HeadPolicy, LayerChoice, LoadRequest, Loaded, ModelConfig, ModelInput, StudentReport,
    StudentRequest, Task, TaskKind, find, from_scratch, load, read_safetensors, save, student_config,
    student_from_teacher, write_safetensors,
};
use distill_ops::Dropout;
use golden_set::{devices, generative_folders, json};
use serde_json::{Value, json};
use tempfile::TempDir;

const VOCAB: usize = 60;
const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "gpt2", "t5"];

fn load_request(task: Task, device: &Device) -> LoadRequest {
    LoadRequest {
        task,
        head: HeadPolicy::MustMatch,
        seed: 5,
        device: device.clone(),
        dropout: None,
        adapter: None,
    }
}

fn task_of(model_type: &str) -> Task {
    if model_type == "t5" { Task::Seq2SeqLm } else { Task::CausalLm }
}

fn request(
    layers: Option<LayerChoice>,
    architecture: Option<&str>,
    sizes: Value,
    task: Task,
) -> StudentRequest {
    let sizes = sizes.as_object().cloned().unwrap_or_default();
    StudentRequest {
        layers,
        architecture: architecture.map(str::to_owned),
        sizes,
        load: load_request(task, &devices()[0]),
    }
}

/// A teacher of four layers, of T5 in each half.
fn teacher(model_type: &str, more: Value) -> TempDir {
    let mut table = json!({"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4});
    for (key, value) in more.as_object().into_iter().flatten() {
        table[key] = value.clone();
    }
    let load = load_request(task_of(model_type), &devices()[0]);
    let made = from_scratch(find(model_type).unwrap(), &table, VOCAB, 1, load).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save(made.model.as_ref(), &made.config, folder.path()).unwrap();
    folder
}

fn logits(loaded: &Loaded) -> Vec<f32> {
    let ids = [2, 7, 9, 30, 5, 3, 2, 11, 3, 1, 1, 1];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
    let input = ModelInput::new(&ids, &mask, None, [2, 6], &loaded.model.device());
    let input = input.with_decoder(&[1, 4, 9, 1, 8, 3], [2, 3]);
    let output = loaded.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
    output.logits().to_data().iter::<f32>().collect()
}

/// The teacher's folder with other layers removed by hand: files edited, nothing of the code under test.
fn edited(folder: &Path, layers: &[usize]) -> TempDir {
    let mut config = json(&folder.join("config.json"));
    for count in ["num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers"] {
        if config.get(count).is_some_and(Value::is_number) {
            config[count] = json!(layers.len());
        }
    }
    if let Some(types) = config.get("layer_types").and_then(Value::as_array).cloned() {
        config["layer_types"] = layers.iter().map(|&layer| types[layer].clone()).collect();
    }
    let mut kept = Vec::new();
    for (name, (shape, values)) in read_safetensors(&folder.join("model.safetensors")).unwrap().tensors {
        let list = [".layers.", ".h.", "coder.block."].into_iter().find(|list| name.contains(list));
        let Some((list, (before, after))) = list.and_then(|list| Some((list, name.split_once(list)?))) else {
            kept.push((name, shape, values));
            continue;
        };
        let (number, after) = after.split_once('.').unwrap();
        if after.contains("relative_attention_bias") {
            // Always that of the first layer.
            assert_eq!(number, "0");
            kept.push((name, shape, values));
        } else if let Some(place) = layers.iter().position(|layer| layer.to_string() == number) {
            kept.push((format!("{before}{list}{place}.{after}"), shape, values));
        }
    }
    let made = tempfile::tempdir().unwrap();
    std::fs::write(made.path().join("config.json"), config.to_string()).unwrap();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&made.path().join("model.safetensors"), kept, &metadata).unwrap();
    made
}

fn made(teacher: &Path, request: StudentRequest) -> (Loaded, StudentReport) {
    let config = student_config(teacher, &request).unwrap();
    let (student, report) = student_from_teacher(teacher, request).unwrap();
    assert_eq!(config.to_json(), student.config.to_json());
    (student, report)
}

fn check(folder: &Path, choice: Option<LayerChoice>, layers: &[usize]) {
    let task = ModelConfig::read(folder).unwrap().task;
    let (student, report) = made(folder, request(choice, None, json!({}), task.clone()));
    let expected = StudentReport { copied_layers: layers.to_vec(), kept_energy: None, new: Vec::new() };
    assert_eq!(report, expected);
    assert_eq!(student.report, Default::default(), "layers that were left out are not news");
    let halves = if task.kind() == TaskKind::Seq2SeqLm { 2 } else { 1 };
    assert_eq!(student.model.num_hidden_layers(), halves * layers.len());
    let by_hand = edited(folder, layers);
    let reference = load(by_hand.path(), load_request(task.clone(), &devices()[0])).unwrap();
    assert_eq!(logits(&student), logits(&reference), "{}", folder.display());
    // What is saved loads again, as it was.
    let saved = tempfile::tempdir().unwrap();
    save(student.model.as_ref(), &student.config, saved.path()).unwrap();
    let again = load(saved.path(), load_request(task, &devices()[0])).unwrap();
    assert_eq!(again.report, Default::default());
    assert_eq!(again.config.to_json(), student.config.to_json());
    assert_eq!(logits(&again), logits(&student));
}

#[test]
fn a_student_is_the_teacher_without_the_other_layers() {
    for architecture in ARCHITECTURES {
        let folder = teacher(architecture, json!({}));
        check(folder.path(), Some(LayerChoice::Explicit(vec![1, 3])), &[1, 3]);
        check(folder.path(), Some(LayerChoice::Even { num_hidden_layers: 2 }), &[0, 3]);
        check(folder.path(), None, &[0, 1, 2, 3]);
    }
}

#[test]
fn golden_writers_lend_single_layers() {
    for folder in generative_folders() {
        // By hand a single file is edited; shards are the loader's affair.
        if folder.join("model.safetensors").is_file() {
            for layer in 0..2 {
                check(&folder, Some(LayerChoice::Explicit(vec![layer])), &[layer]);
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_the_reason() {
    let refused = |folder: &TempDir, layers, architecture, sizes| {
        let task = ModelConfig::read(folder.path()).unwrap().task;
        student_config(folder.path(), &request(layers, architecture, sizes, task)).unwrap_err().to_string()
    };
    let llama = teacher("llama", json!({}));
    let message = refused(&llama, None, None, json!({"hidden_size": 16}));
    assert!(message.contains("a student of `llama`, which writes texts"), "{message}");
    let message = refused(&llama, None, Some("gpt2"), json!({}));
    assert!(message.contains("choose them by `layers`"), "{message}");
    let message = refused(&llama, None, None, json!({"num_hidden_layers": 2}));
    assert!(message.contains("add `layers`"), "{message}");
    let message = refused(&llama, Some(LayerChoice::Explicit(vec![4])), None, json!({}));
    assert!(message.contains("must be numbers from 0 to 3"), "{message}");
    let uneven = teacher("t5", json!({"num_decoder_layers": 2}));
    let message = refused(&uneven, Some(LayerChoice::Explicit(vec![1])), None, json!({}));
    assert!(message.contains("4 layers in its encoder and 2 in its decoder"), "{message}");
}
