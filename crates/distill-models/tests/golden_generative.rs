//! Parity with Transformers of models that write texts: tiny ones with random weights, and one real model.

mod golden_set;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_models::{
    Activations, ForwardOptions, HeadPolicy, KeyValueCache, LoadRequest, Loaded, ModelConfig, ModelInput,
    ModelOutput, Task, inspect, load, save,
};
use distill_ops::{Dropout, IGNORED_LABEL, cross_entropy, describe};
use golden_set::{Reference, devices, generative_folders, json, largest_difference, pretrained, root};

const LOGITS: f32 = 1e-4;
const LOSS: f64 = 1e-5;
const GRADIENT_NORM: f64 = 1e-3;
/// Gradients that are zero in exact arithmetic (that of a key's bias) are rounding on both sides.
const GRADIENT_NOISE: f64 = 1e-7;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn loaded(folder: &Path, device: Device) -> Loaded {
    let task = ModelConfig::read(folder).unwrap().task;
    let request =
        LoadRequest { task, head: HeadPolicy::MustMatch, seed: 0, device, dropout: None, adapter: None };
    let loaded = load(folder, request).unwrap();
    assert_eq!(loaded.report.newly_initialised, [""; 0]);
    assert_eq!(loaded.report.unused, [""; 0]);
    loaded
}

/// The labels moved so that each stands where it is predicted: one to the left for a decoder; an encoder-decoder reads
/// them moved one to the right instead.
struct Example {
    input: ModelInput,
    labels: Vec<i64>,
}

impl Example {
    fn new(loaded: &Loaded, reference: &Reference) -> Self {
        let (ids, mask, shape) = reference.batch();
        let input = ModelInput::new(&ids, &mask, None, shape, &loaded.model.device());
        let (label_shape, labels) = &reference.integers["labels"];
        let width = label_shape[1];
        match loaded.config.task {
            Task::Seq2SeqLm => {
                let start = loaded.config.base.decoder_start_token_id().unwrap();
                let pad = loaded.config.base.pad_token_id().unwrap();
                let row = |labels: &[i64]| {
                    let before = labels[..width - 1].iter().map(|&id| u32::try_from(id).unwrap_or(pad));
                    std::iter::once(start).chain(before).collect::<Vec<_>>()
                };
                let target: Vec<u32> = labels.chunks(width).flat_map(row).collect();
                let input = input.with_decoder(&target, [label_shape[0], width]);
                Self { input, labels: labels.clone() }
            }
            _ => {
                let row = |labels: &[i64]| [&labels[1..], &[IGNORED_LABEL]].concat();
                Self { input, labels: labels.chunks(width).flat_map(row).collect() }
            }
        }
    }

    fn forward(&self, loaded: &Loaded) -> ModelOutput {
        let options = ForwardOptions { hidden_states: true, ..ForwardOptions::default() };
        loaded.model.forward(&self.input, options, &mut Dropout::off())
    }

    fn loss(&self, logits: Tensor<2>, device: &Device) -> Tensor<1> {
        let labels = TensorData::new(self.labels.clone(), [self.labels.len()]);
        let loss = cross_entropy(logits, Tensor::<1, Int>::from_data(labels, device), 0.0);
        loss.sum / loss.count as f64
    }
}

#[test]
fn golden_logits_loss_and_gradient_norms_of_generative_models() {
    for device in devices() {
        for folder in generative_folders() {
            let place = format!("{} on {}", folder.display(), describe(&device));
            let loaded = loaded(&folder, device.clone().autodiff());
            let reference = Reference::read(&folder.join("golden.safetensors"));
            let golden = json(&folder.join("golden.json"));
            let example = Example::new(&loaded, &reference);
            let output = example.forward(&loaded);

            let difference = largest_difference(&values(output.logits()), &reference.floats["logits"].1);
            assert!(difference < LOGITS, "{place}: logits differ by {difference}");
            let last = values(output.last_hidden_state.clone().unwrap());
            let difference = largest_difference(&last, &reference.floats["last_hidden_state"].1);
            assert!(difference < LOGITS, "{place}: last hidden state differs by {difference}");
            let logits = output.logits();
            let states = output.hidden_states.unwrap();
            assert_eq!(largest_difference(&values(states.last().unwrap().clone()), &last), 0.0, "{place}");

            let loss = example.loss(logits, &device);
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
        }
    }
}

#[test]
fn golden_gradients_are_the_same_when_layers_are_computed_again() {
    for device in devices() {
        for folder in generative_folders() {
            let place = format!("{} on {}", folder.display(), describe(&device));
            let loaded = loaded(&folder, device.clone().autodiff());
            let example = Example::new(&loaded, &Reference::read(&folder.join("golden.safetensors")));
            let gradients = |activations| {
                let mut loss = |output: ModelOutput| example.loss(output.logits(), &device);
                let mut dropout = Dropout::new(1, 2, 3);
                let options = ForwardOptions::default();
                loaded.model.gradients_of(&example.input, options, activations, &mut dropout, &mut loss)
            };
            let (kept, again) = (gradients(Activations::Keep), gradients(Activations::Recompute));
            assert_eq!(kept.len(), again.len(), "{place}");
            for ((name, kept), (other, again)) in kept.into_iter().zip(again) {
                assert_eq!(name, other, "{place}");
                let (kept, again) = (values(kept), values(again));
                let size = kept.iter().fold(1e-3f32, |size, x| size.max(x.abs()));
                let difference = largest_difference(&again, &kept);
                assert!(difference <= 1e-5 * size, "{place}: `{name}` differs by {difference}");
            }
        }
    }
}

/// The logits of the last position of every row, and of each token that is read after it, one at a time.
fn step_by_step(loaded: &Loaded, rows: &[Vec<u32>], prompt: usize) -> Vec<Vec<f32>> {
    let device = loaded.model.device();
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let mut cache = KeyValueCache::new(rows.len(), longest);
    let seq2seq = loaded.config.task == Task::Seq2SeqLm;
    let mut all = Vec::new();
    let read = |ids: Vec<u32>, mask: Vec<u8>, cache: &mut KeyValueCache| {
        let shape = [rows.len(), ids.len() / rows.len()];
        let input = ModelInput::new(&ids, &mask, None, shape, &device);
        let input = match (seq2seq, cache.is_empty()) {
            (true, true) => {
                let start = loaded.config.base.decoder_start_token_id().unwrap();
                input.with_decoder(&vec![start; rows.len()], [rows.len(), 1])
            }
            _ => input,
        };
        values(loaded.model.next_logits(&input, cache).unwrap())
    };
    // Prompts of different lengths: padded on the left.
    let lengths: Vec<usize> = (0..rows.len()).map(|row| prompt - row.min(prompt - 1)).collect();
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for (row, &length) in rows.iter().zip(&lengths) {
        ids.extend(std::iter::repeat_n(0, prompt - length).chain(row[..length].iter().copied()));
        mask.extend(std::iter::repeat_n(0, prompt - length).chain(std::iter::repeat_n(1, length)));
    }
    all.push(read(ids, mask, &mut cache));
    for step in 0..3 {
        let ids = rows.iter().zip(&lengths).map(|(row, length)| row[length + step]).collect();
        all.push(read(ids, vec![1; rows.len()], &mut cache));
    }
    all
}

#[test]
fn golden_cached_logits_are_those_of_a_whole_pass() {
    for device in devices() {
        for folder in generative_folders() {
            let place = format!("{} on {}", folder.display(), describe(&device));
            let loaded = loaded(&folder, device.clone());
            let rows: Vec<Vec<u32>> =
                (0..3).map(|row| (0..10).map(|i| 5 + (row * 31 + i * 7) % 100).collect()).collect();
            let prompt = 6;
            let cached = step_by_step(&loaded, &rows, prompt);
            let vocab = loaded.config.base.vocab_size();
            for (index, row) in rows.iter().enumerate() {
                let length = prompt - index;
                for (step, cached) in cached.iter().enumerate() {
                    let input = |ids: &[u32]| {
                        ModelInput::new(
                            ids,
                            &vec![1; ids.len()],
                            None,
                            [1, ids.len()],
                            &loaded.model.device(),
                        )
                    };
                    let input = match loaded.config.task {
                        Task::Seq2SeqLm => {
                            let start = loaded.config.base.decoder_start_token_id().unwrap();
                            let target = [&[start], &row[length..length + step]].concat();
                            input(&row[..length]).with_decoder(&target, [1, target.len()])
                        }
                        _ => input(&row[..length + step]),
                    };
                    let whole = loaded.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
                    let whole = values(whole.logits());
                    let difference = largest_difference(
                        &cached[index * vocab..(index + 1) * vocab],
                        &whole[whole.len() - vocab..],
                    );
                    assert!(difference < 2e-5, "{place}, row {index}, step {step}: {difference}");
                }
            }
        }
    }
}

#[test]
fn golden_models_are_saved_as_they_were_stored() {
    for device in devices() {
        for folder in generative_folders() {
            let place = format!("{} on {}", folder.display(), describe(&device));
            let before = loaded(&folder, device.clone());
            let saved = tempfile::tempdir().unwrap();
            save(before.model.as_ref(), &before.config, saved.path()).unwrap();
            let tensors = |folder: &Path| -> Vec<(String, Vec<usize>)> {
                inspect(folder)
                    .unwrap()
                    .tensors
                    .into_iter()
                    .map(|tensor| (tensor.name, tensor.shape))
                    .collect()
            };
            // Tied weights are stored once, as Transformers does.
            assert_eq!(tensors(saved.path()), tensors(&folder), "{place}");
            let after = loaded(saved.path(), device.clone());
            let reference = Reference::read(&folder.join("golden.safetensors"));
            let logits = |loaded: &Loaded| values(Example::new(loaded, &reference).forward(loaded).logits());
            assert_eq!(logits(&before), logits(&after), "{place}");
        }
    }
}

#[test]
fn golden_greedy_tokens_of_a_real_model() {
    let Some(folder) = pretrained("smollm2-135m-instruct") else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: `smollm2-135m-instruct` is neither in $DISTILL_MODELS nor in ~/.cache/distill-models"
        );
        return;
    };
    let path = root().join("smollm2.json");
    if !path.is_file() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no `{}`; set DISTILL_GOLDEN", path.display());
        return;
    }
    let golden = json(&path);
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    for device in devices() {
        let place = describe(&device);
        let loaded = loaded(&folder, device.clone());
        let input = |ids: &[u32]| {
            ModelInput::new(ids, &vec![1; ids.len()], None, [1, ids.len()], &loaded.model.device())
        };
        for case in golden["generation"].as_array().unwrap() {
            let (prompt, greedy) = (ids(&case["input_ids"]), ids(&case["greedy_24"]));
            let mut cache = KeyValueCache::new(1, prompt.len() + greedy.len());
            let mut logits = values(loaded.model.next_logits(&input(&prompt), &mut cache).unwrap());
            let expected: Vec<f32> = case["last_logits_first_16"]
                .as_array()
                .unwrap()
                .iter()
                .map(|logit| logit.as_f64().unwrap() as f32)
                .collect();
            let difference = largest_difference(&logits[..16], &expected);
            assert!(difference < 2e-3, "{place}: logits differ by {difference}");
            let norm = logits.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let expected = case["last_logits_norm"].as_f64().unwrap();
            assert!((norm - expected).abs() < 1e-4 * expected, "{place}: norm {norm}, expected {expected}");
            let mut found = Vec::new();
            for _ in 0..greedy.len() {
                let best =
                    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
                found.push(best as u32);
                logits = values(loaded.model.next_logits(&input(&[best as u32]), &mut cache).unwrap());
            }
            assert_eq!(found, greedy, "{place}: {}", case["prompt"]);
        }
        let case = &golden["language_model_loss"];
        let ids = ids(&case["input_ids"]);
        let logits =
            loaded.model.forward(&input(&ids), ForwardOptions::default(), &mut Dropout::off()).logits();
        let labels: Vec<i64> = ids[1..].iter().map(|&id| i64::from(id)).chain([IGNORED_LABEL]).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [ids.len()]), &device);
        let loss = cross_entropy(logits, labels, 0.0);
        let loss = (loss.sum / loss.count as f64).into_scalar::<f64>();
        let expected = case["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-4, "{place}: loss {loss}, expected {expected}");
    }
}
