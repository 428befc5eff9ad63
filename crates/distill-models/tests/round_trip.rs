//! What is saved is what is loaded: names, bytes and logits.

mod golden_set;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use burn::tensor::Device;
use distill_models::{
    Architecture, ForwardOptions, HeadPolicy, LoadRequest, Loaded, Model, ModelConfig, ModelInput, Task,
    from_scratch, inspect, load, read_safetensors, save, save_without,
};
use distill_ops::Dropout;
use golden_set::{devices, encoders, json, model_folders};
use serde_json::json;

fn labels(count: usize) -> Task {
    Task::Classification { id2label: (0..count).map(|n| format!("label {n}")).collect() }
}

fn tasks() -> [Task; 2] {
    [labels(3), Task::MaskedLm]
}

fn table() -> serde_json::Value {
    json!({"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 20})
}

fn request(task: Task, head: HeadPolicy, device: &Device) -> LoadRequest {
    LoadRequest { task, head, seed: 5, device: device.clone(), dropout: None, adapter: None }
}

fn scratch(architecture: &'static Architecture, task: Task, seed: u64, device: &Device) -> Loaded {
    let request = LoadRequest { seed, ..request(task, HeadPolicy::Reinitialise, device) };
    from_scratch(architecture, &table(), 40, 1, request).unwrap()
}

fn logits(model: &dyn Model, dropout: &mut Dropout) -> Vec<f32> {
    let ids = [2, 7, 9, 30, 5, 3, 2, 11, 3, 1, 1, 1];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
    let input = ModelInput::new(&ids, &mask, None, [2, 6], &model.device());
    model.forward(&input, ForwardOptions::default(), dropout).logits().into_data().iter::<f32>().collect()
}

fn bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a folder, from one file or from all its shards.
fn original_tensors(folder: &Path) -> Tensors {
    let mut tensors = HashMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            tensors.extend(read_safetensors(&path).unwrap().tensors);
        }
    }
    tensors
}

#[test]
fn golden_folders_are_saved_as_transformers_saved_them() {
    for device in devices() {
        for folder in model_folders() {
            let task = ModelConfig::read(&folder).unwrap().task;
            let loaded = load(&folder, request(task, HeadPolicy::MustMatch, &device)).unwrap();
            let saved = tempfile::tempdir().unwrap();
            save(loaded.model.as_ref(), &loaded.config, saved.path()).unwrap();
            let copy = read_safetensors(&saved.path().join("model.safetensors")).unwrap();
            assert_eq!(copy.metadata, BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
            let original = original_tensors(&folder);
            let names = |tensors: &Tensors| tensors.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(&copy.tensors), names(&original), "{}", folder.display());
            assert_eq!(copy.tensors, original, "{}", folder.display());
            // Labels are written out even where they are Hugging Face's unnamed default.
            let written = json(&saved.path().join("config.json"));
            for (key, value) in json(&folder.join("config.json")).as_object().unwrap() {
                assert_eq!(&written[key], value, "`{key}` of {}", folder.display());
            }
        }
    }
}

#[test]
fn saving_and_loading_keeps_bytes_and_logits() {
    for device in devices() {
        for (architecture, task) in encoders().flat_map(|a| tasks().map(|task| (a, task))) {
            let build = |seed| scratch(architecture, task.clone(), seed, &device);
            let first = build(7);
            let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            save(first.model.as_ref(), &first.config, one.path()).unwrap();
            let again = load(one.path(), request(task.clone(), HeadPolicy::MustMatch, &device)).unwrap();
            assert_eq!(again.report, Default::default());
            assert_eq!(
                logits(first.model.as_ref(), &mut Dropout::off()),
                logits(again.model.as_ref(), &mut Dropout::off())
            );
            save(again.model.as_ref(), &again.config, two.path()).unwrap();
            assert_eq!(bytes(one.path()), bytes(two.path()));
            assert_eq!(json(&one.path().join("config.json")), json(&two.path().join("config.json")));

            // The seed decides about every weight, and nothing else does.
            let other = tempfile::tempdir().unwrap();
            save(build(7).model.as_ref(), &first.config, other.path()).unwrap();
            assert_eq!(bytes(one.path()), bytes(other.path()));
            save(build(8).model.as_ref(), &first.config, other.path()).unwrap();
            assert_ne!(bytes(one.path()), bytes(other.path()));

            let inspection = inspect(one.path()).unwrap();
            assert_eq!(inspection.architecture, architecture.model_type);
            let parameters: usize =
                first.model.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum();
            assert_eq!(inspection.parameters, parameters as u64);
            assert_eq!(inspection.bytes, bytes(one.path()).len() as u64);
        }
    }
}

#[test]
fn parameters_that_are_skipped_are_not_saved_and_the_rest_is() {
    for device in devices() {
        for architecture in encoders() {
            let built = scratch(architecture, labels(3), 7, &device);
            let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            save(built.model.as_ref(), &built.config, whole.path()).unwrap();
            let skip = |name: &str| name.starts_with("classifier.");
            save_without(built.model.as_ref(), &built.config, part.path(), &skip).unwrap();
            let (mut expected, found) = (original_tensors(whole.path()), original_tensors(part.path()));
            let all = expected.len();
            expected.retain(|name, _| !skip(name));
            assert!(expected.len() < all, "{}", architecture.model_type);
            assert_eq!(found, expected, "{}", architecture.model_type);
        }
    }
}

#[test]
fn a_new_head_is_reported_and_depends_on_the_seed_alone() {
    for device in devices() {
        for architecture in encoders() {
            let folder = tempfile::tempdir().unwrap();
            let base = scratch(architecture, labels(3), 7, &device);
            save(base.model.as_ref(), &base.config, folder.path()).unwrap();
            let error =
                load(folder.path(), request(labels(4), HeadPolicy::MustMatch, &device)).err().unwrap();
            assert!(error.to_string().contains("expected [4"), "{error}");
            let renew =
                || load(folder.path(), request(labels(4), HeadPolicy::Reinitialise, &device)).unwrap();
            let loaded = renew();
            assert_eq!(loaded.report.newly_initialised.len(), 2, "{:?}", loaded.report);
            assert_eq!(loaded.report.unused, [""; 0]);
            let draw = |loaded: &Loaded| logits(loaded.model.as_ref(), &mut Dropout::off());
            assert_eq!(draw(&loaded), draw(&renew()));
            assert_eq!(draw(&loaded).len(), 2 * 4);
        }
    }
}

#[test]
fn the_masked_lm_of_a_checkpoint_lends_its_trunk_to_a_classifier() {
    for device in devices() {
        for architecture in encoders() {
            let folder = tempfile::tempdir().unwrap();
            let base = scratch(architecture, Task::MaskedLm, 7, &device);
            save(base.model.as_ref(), &base.config, folder.path()).unwrap();
            let loaded = load(folder.path(), request(labels(2), HeadPolicy::Reinitialise, &device)).unwrap();
            assert!(
                loaded
                    .report
                    .newly_initialised
                    .iter()
                    .all(|n| n.contains("classifier") || n.contains("pooler"))
            );
            assert!(!loaded.report.unused.is_empty());
            let class = loaded.config.to_json()["architectures"][0].as_str().unwrap().to_owned();
            assert_eq!(class, format!("{}ForSequenceClassification", architecture.class));
        }
    }
}

/// Products of a few rows are summed in another order where nothing is learnt.
fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(1e-6f32, |size, x| size.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-5 * size, "{found} instead of {expected}");
    }
}

#[test]
fn dropout_is_a_function_of_its_seed_and_absent_in_evaluation() {
    for device in devices() {
        for architecture in encoders() {
            let base = scratch(architecture, labels(3), 7, &device.clone().autodiff());
            let model = base.model.as_ref();
            let quiet = logits(model, &mut Dropout::off());
            close(&quiet, &logits(model.eval_copy().as_ref(), &mut Dropout::off()));
            let noisy = logits(model, &mut Dropout::new(1, 2, 0));
            assert_ne!(noisy, quiet);
            assert_eq!(noisy, logits(model, &mut Dropout::new(1, 2, 0)));
            assert_ne!(noisy, logits(model, &mut Dropout::new(1, 3, 0)));

            let folder = tempfile::tempdir().unwrap();
            save(model, &base.config, folder.path()).unwrap();
            let mut without = request(labels(3), HeadPolicy::MustMatch, &device);
            without.dropout = Some(0.0);
            let without = load(folder.path(), without).unwrap();
            close(&quiet, &logits(without.model.as_ref(), &mut Dropout::new(1, 2, 0)));
            // The override belongs to the run, not to the model.
            assert_eq!(without.config.to_json(), base.config.to_json());
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_updates_keep_it_so() {
    for device in devices() {
        let device = device.autodiff();
        for architecture in encoders() {
            let mut model = scratch(architecture, labels(3), 7, &device).model;
            let all: Vec<_> = model.parameters().into_iter().map(|p| p.name).collect();
            let trained = |model: &dyn Model| {
                let ids = [2, 7, 9, 3];
                let input = ModelInput::new(&ids, &[1; 4], None, [2, 2], &model.device());
                let output = model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
                let mut grads = (output.logits() * output.logits()).sum().backward();
                model.gradients(&mut grads).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            };
            assert_eq!(trained(model.as_ref()), all);
            model.set_trainable(&|name| !name.contains("embeddings"));
            let kept: Vec<_> = all.iter().filter(|name| !name.contains("embeddings")).cloned().collect();
            assert_eq!(trained(model.as_ref()), kept);

            let before = logits(model.as_ref(), &mut Dropout::off());
            let copy = model.eval_copy();
            model.update(&mut |info, value| {
                assert_eq!(value.dims()[0], info.shape.iter().product::<usize>());
                assert!(!value.device().is_autodiff());
                value * 1.5
            });
            assert_eq!(trained(model.as_ref()), kept);
            assert_ne!(before, logits(model.as_ref(), &mut Dropout::off()));
            close(&before, &logits(copy.as_ref(), &mut Dropout::off()));
            model.set_trainable(&|_| true);
            assert_eq!(trained(model.as_ref()), all);
        }
    }
}

#[test]
fn every_parameter_of_the_trunk_has_a_depth() {
    let Some(device) = devices().into_iter().next() else { return };
    for architecture in encoders() {
        let model = scratch(architecture, labels(3), 7, &device).model;
        assert_eq!(model.num_hidden_layers(), 2);
        for parameter in model.parameters() {
            let depth = model.layer_of(&parameter.name);
            let expected = match parameter.name.as_str() {
                name if name.contains("embedding") => Some(0),
                name if name.contains("layer.0.") => Some(1),
                // ALBERT's one group serves both layers.
                name if name.contains("layer.1.") || name.contains("layer_groups.0.") => Some(2),
                _ => None,
            };
            assert_eq!(depth, expected, "{}", parameter.name);
        }
    }
}
