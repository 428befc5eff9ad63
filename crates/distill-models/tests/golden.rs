//! Parity with Transformers on tiny models with random weights, and on one real model.

mod golden_set;

use std::collections::HashMap;
use std::io::Write as _;

use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_models::{
    ForwardOptions, HeadPolicy, LoadRequest, Loaded, ModelConfig, ModelInput, ModelOutput, Task, load,
};
use distill_ops::{Dropout, cross_entropy, describe};
use golden_set::{Reference, devices, json, largest_difference, model_folders, pretrained, root};

const LOGITS: f32 = 1e-4;
const LOSS: f64 = 1e-5;
const GRADIENT_NORM: f64 = 1e-3;
/// Some gradients are zero in exact arithmetic (that of a key's bias, which softmax cancels): there both sides hold
/// nothing but rounding, which no relative tolerance can compare.
const GRADIENT_NOISE: f64 = 1e-7;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn load_for_training(folder: &std::path::Path, device: &Device) -> Loaded {
    let task = ModelConfig::read(folder).unwrap().task;
    let device = device.clone().autodiff();
    let request =
        LoadRequest { task, head: HeadPolicy::MustMatch, seed: 0, device, dropout: None, adapter: None };
    let loaded = load(folder, request).unwrap();
    assert_eq!(loaded.report.newly_initialised, [""; 0]);
    assert_eq!(loaded.report.unused, [""; 0]);
    loaded
}

fn forward(loaded: &Loaded, reference: &Reference) -> ModelOutput {
    let (ids, mask, shape) = reference.batch();
    let input = ModelInput::new(&ids, &mask, None, shape, &loaded.model.device());
    loaded.model.forward(
        &input,
        ForwardOptions { hidden_states: true, ..ForwardOptions::default() },
        &mut Dropout::off(),
    )
}

#[test]
fn golden_logits_loss_and_gradient_norms() {
    for device in devices() {
        for folder in model_folders() {
            let place = format!("{} on {}", folder.display(), describe(&device));
            let loaded = load_for_training(&folder, &device);
            let reference = Reference::read(&folder.join("golden.safetensors"));
            let golden = json(&folder.join("golden.json"));
            let output = forward(&loaded, &reference);

            let difference = largest_difference(&values(output.logits()), &reference.floats["logits"].1);
            assert!(difference < LOGITS, "{place}: logits differ by {difference}");
            let (ids, mask, shape) = reference.batch();
            let input = ModelInput::new(&ids, &mask, None, shape, &loaded.model.device());
            let short = loaded.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
            let difference = largest_difference(&values(short.logits()), &reference.floats["logits"].1);
            assert!(difference < LOGITS, "{place}: logits of the first token alone differ by {difference}");
            if let Some((_, expected)) = reference.floats.get("last_hidden_state") {
                let difference =
                    largest_difference(&values(output.last_hidden_state.clone().unwrap()), expected);
                assert!(difference < LOGITS, "{place}: last hidden state differs by {difference}");
            }
            let logits = output.logits();
            let states = output.hidden_states.unwrap();
            let last_hidden_state = output.last_hidden_state.unwrap();
            assert_eq!(states.len(), loaded.config.base.num_hidden_layers() + 1, "{place}");
            let last =
                largest_difference(&values(states.last().unwrap().clone()), &values(last_hidden_state));
            assert_eq!(last, 0.0, "{place}");

            let labels = reference.integers["labels"].1.clone();
            let labels =
                Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [labels.len()]), &device);
            let loss = cross_entropy(logits, labels, 0.0);
            let loss = loss.sum / loss.count as f64;
            let expected = golden["loss"].as_f64().unwrap();
            let found = loss.clone().into_scalar::<f64>();
            assert!((found - expected).abs() < LOSS, "{place}: loss {found}, expected {expected}");

            let mut grads = loss.backward();
            let found: HashMap<_, _> = loaded.model.gradients(&mut grads).into_iter().collect();
            let expected = golden["gradient_norms"].as_object().unwrap();
            assert_eq!(found.len(), expected.len(), "{place}: {:?}", found.keys());
            for (name, norm) in expected {
                let norm = norm.as_f64().unwrap();
                let grad = found.get(name).unwrap_or_else(|| panic!("{place}: no gradient `{name}`"));
                let own = values(grad.clone()).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                let allowed = GRADIENT_NORM * norm + GRADIENT_NOISE;
                assert!((own - norm).abs() < allowed, "{place}: gradient of `{name}` {own}, expected {norm}");
            }
            assert!(loaded.model.gradients(&mut grads).is_empty(), "{place}: gradients are taken once");
        }
    }
}

#[test]
fn golden_padding_changes_nothing() {
    for device in devices() {
        for folder in model_folders() {
            let loaded = load_for_training(&folder, &device);
            let reference = Reference::read(&folder.join("golden.safetensors"));
            let pad = loaded.config.base.pad_token_id().unwrap();
            let (ids, mask, [batch, seq]) = reference.batch();
            let extra = loaded.config.base.max_length().saturating_sub(seq).min(4);
            let mut padded = (Vec::new(), Vec::new());
            for row in 0..batch {
                padded.0.extend(&ids[row * seq..(row + 1) * seq]);
                padded.1.extend(&mask[row * seq..(row + 1) * seq]);
                padded.0.extend(std::iter::repeat_n(pad, extra));
                padded.1.extend(std::iter::repeat_n(0, extra));
            }
            let device = loaded.model.device();
            let run = |ids: &[u32], mask: &[u8], seq| {
                let input = ModelInput::new(ids, mask, None, [batch, seq], &device);
                let options = ForwardOptions { last_hidden_state: true, ..ForwardOptions::default() };
                loaded.model.forward(&input, options, &mut Dropout::off()).last_hidden_state.unwrap()
            };
            let short = run(&ids, &mask, seq);
            let long = run(&padded.0, &padded.1, seq + extra).narrow(1, 0, seq);
            let difference = largest_difference(&values(long), &values(short));
            assert!(difference < 1e-5, "{}: {difference}", folder.display());
        }
    }
}

#[test]
fn golden_hidden_states_of_a_real_model() {
    let Some(folder) = pretrained("all-minilm-l6-v2") else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: `all-minilm-l6-v2` is neither in $DISTILL_MODELS nor in ~/.cache/distill-models"
        );
        return;
    };
    let reference = root().join("minilm-l6/forward.safetensors");
    if !reference.is_file() {
        let place = reference.display();
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no `{place}`; set DISTILL_GOLDEN");
        return;
    }
    let reference = Reference::read(&reference);
    for device in devices() {
        let place = describe(&device);
        let task = Task::Classification { id2label: ["a", "b", "c", "d"].map(str::to_owned).to_vec() };
        let request = LoadRequest {
            task,
            head: HeadPolicy::Reinitialise,
            seed: 1,
            device,
            dropout: None,
            adapter: None,
        };
        let loaded = load(&folder, request).unwrap();
        assert_eq!(loaded.report.newly_initialised, ["classifier.weight", "classifier.bias"]);
        assert_eq!(loaded.report.unused, [""; 0]);
        let output = forward(&loaded, &reference);
        let states = output.hidden_states.unwrap();
        for (name, found) in [
            ("last_hidden_state", values(output.last_hidden_state.unwrap())),
            ("layer3_hidden_state", values(states[3].clone())),
            ("pooler_output", values(output.pooler_output.unwrap())),
        ] {
            let difference = largest_difference(&found, &reference.floats[name].1);
            assert!(difference < 1e-4, "{name} on {place} differs by {difference}");
        }
    }
}
