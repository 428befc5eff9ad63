//! Layers that are computed anew in the backward pass give the gradients of an ordinary one.

mod golden_set;

use burn::tensor::{Device, Tensor};
use distill_models::{
    Activations, Architecture, ForwardOptions, HeadPolicy, Layers, LoadRequest, Model, ModelInput,
    ModelOutput, Task, from_scratch,
};
use distill_ops::{DeviceSpec, Dropout, Precision, autocast, precision, resolve};
use golden_set::encoders;
use serde_json::json;

const LAYERS: usize = 3;

fn tasks() -> [Task; 2] {
    [Task::Classification { id2label: (0..3).map(|n| format!("label {n}")).collect() }, Task::MaskedLm]
}

fn devices() -> Vec<Device> {
    let specs = [DeviceSpec::Flex, DeviceSpec::NdArray];
    let devices: Vec<Device> = specs.into_iter().filter_map(|spec| resolve(spec).ok()).collect();
    assert!(!devices.is_empty(), "a CPU device is compiled in");
    devices.into_iter().map(Device::autodiff).collect()
}

fn model(architecture: &'static Architecture, task: Task, device: &Device) -> Box<dyn Model> {
    let table = json!({
        "hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "max_position_embeddings": 20,
        "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3,
    });
    let (head, device) = (HeadPolicy::Reinitialise, device.clone());
    let request = LoadRequest { task, head, seed: 5, device, dropout: None, adapter: None };
    let mut model = from_scratch(architecture, &table, 40, 1, request).expect("a table without faults").model;
    model.set_trainable(&|_| true);
    model
}

fn input(device: &Device) -> ModelInput {
    let ids = [2, 7, 9, 30, 5, 3, 2, 11, 3, 1, 1, 1];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
    let types = [0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0];
    ModelInput::new(&ids, &mask, Some(&types), [2, 6], device)
}

/// Depends on everything that was asked for, and on each number in another way.
fn loss(output: ModelOutput) -> Tensor<1> {
    let logits = output.logits();
    let mut loss = Tensor::zeros([1], &logits.device());
    if logits.dims() != [0, 0] {
        loss = loss + (logits.clone() * logits).sum();
    }
    for (n, hidden) in output.hidden_states.unwrap_or_default().into_iter().enumerate() {
        loss = loss + (hidden * (n as f32 + 0.5)).sin().sum();
    }
    for (n, scores) in output.attention_scores.into_iter().enumerate() {
        loss = loss + (scores * (n as f32 + 0.7)).sin().sum();
    }
    for (n, x) in output.queries_keys_values.into_iter().flatten().enumerate() {
        loss = loss + (x * (n as f32 + 0.3)).cos().sum();
    }
    match output.last_hidden_state {
        Some(last) => loss + last.cos().sum(),
        None => loss,
    }
}

/// Name and bits of every gradient, and the bits of the loss.
fn gradients(
    model: &dyn Model,
    options: ForwardOptions,
    activations: Activations,
) -> (Vec<(String, Vec<u32>)>, u32) {
    let bits = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<u32>>();
    let (mut value, mut dropout) = (0, Dropout::new(3, 1, 4));
    let gradients =
        model.gradients_of(&input(&model.device()), options, activations, &mut dropout, &mut |output| {
            let loss = loss(output);
            value = loss.clone().into_scalar::<f32>().to_bits();
            loss
        });
    (gradients.into_iter().map(|(name, gradient)| (name, bits(gradient))).collect(), value)
}

/// Whether a gradient may be summed in another order: a layer of ALBERT is used again and again, and what scores and
/// projections add to a layer's gradients comes before or after the rest, as the loss has it.
fn is_reordered(name: &str, options: ForwardOptions) -> bool {
    let asks = !options.attention_scores.is_empty() || !options.queries_keys_values.is_empty();
    asks || name.contains("albert_layer_groups")
}

fn largest<'a>(bits: impl IntoIterator<Item = &'a u32>) -> f32 {
    bits.into_iter().fold(0f32, |largest, bits| largest.max(f32::from_bits(*bits).abs()))
}

/// Within rounding; where sums are rounded to bf16 on their way, a last bit of f32 can become one of bf16.
///
/// A hundredth of the largest gradient `of_all` counts where a gradient is nothing but rounding, as that of keys' biases.
fn near(a: &[u32], b: &[u32], of_all: f32) -> bool {
    let tolerance = match precision() {
        Precision::F32 => 3e-6,
        Precision::Bf16 => 1e-2,
    };
    let allowed = tolerance * largest(a).max(of_all / 100.0);
    a.iter().zip(b).all(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).abs() <= allowed)
}

#[track_caller]
fn assert_equal(model: &dyn Model, what: &str) -> Vec<String> {
    let mut names = Vec::new();
    let nothing = ForwardOptions::default();
    let ask_for_scores = |layers| ForwardOptions { attention_scores: layers, ..nothing };
    let ask_for_projections = |layers| ForwardOptions { queries_keys_values: layers, ..nothing };
    for options in [
        nothing,
        ForwardOptions { last_hidden_state: true, ..nothing },
        ForwardOptions { hidden_states: true, ..nothing },
        ask_for_scores(Layers::of([0, 1])),
        ask_for_scores(Layers::ALL),
        ask_for_projections(Layers::of([LAYERS - 1])),
        ask_for_projections(Layers::ALL),
        ask_for_scores(Layers::ALL).union(ask_for_projections(Layers::ALL)),
        ForwardOptions { hidden_states: true, ..ask_for_scores(Layers::of([1])) },
    ] {
        let (kept, kept_loss) = gradients(model, options, Activations::Keep);
        let (recomputed, recomputed_loss) = gradients(model, options, Activations::Recompute);
        assert_eq!(kept_loss, recomputed_loss, "{what}: loss");
        names = kept.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, recomputed.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), "{what}");
        let of_all = largest(kept.iter().flat_map(|(_, bits)| bits));
        for ((name, kept), (_, recomputed)) in kept.iter().zip(&recomputed) {
            let nonzero = kept.iter().any(|bits| f32::from_bits(*bits) != 0.0);
            // Keys shift all scores of a row alike, so that their bias has no gradient but rounding.
            assert!(
                nonzero || name.contains("key") || name.contains("k_lin"),
                "{what}: `{name}` is all zero"
            );
            let same =
                if is_reordered(name, options) { near(kept, recomputed, of_all) } else { kept == recomputed };
            assert!(same, "{what}: `{name}` differs, {options:?}");
        }
    }
    names
}

#[test]
fn gradients_are_the_same_bits_for_every_architecture_and_task() {
    for device in devices() {
        for (architecture, task) in encoders().flat_map(|a| tasks().map(|task| (a, task))) {
            let what = format!("{}, {task:?}", architecture.model_type);
            let model = model(architecture, task, &device);
            let names = assert_equal(model.as_ref(), &what);
            // A classifier of BERT reads one position only, but every parameter has a part in it.
            assert_eq!(names.len(), model.parameters().len(), "{what}");
        }
    }
}

#[test]
fn gradients_are_the_same_bits_each_time() {
    for device in devices() {
        for architecture in encoders() {
            let [task, _] = tasks();
            let model = model(architecture, task, &device);
            let once = || gradients(model.as_ref(), ForwardOptions::default(), Activations::Keep);
            let first = once();
            assert!((0..20).all(|_| once() == first), "{} {device:?}", architecture.model_type);
        }
    }
}

#[test]
fn gradients_are_the_same_bits_in_bf16() {
    for architecture in encoders() {
        let Ok(device) = resolve(DeviceSpec::Flex) else { continue };
        let [task, _] = tasks();
        let model = model(architecture, task, &device.autodiff());
        autocast(Precision::Bf16, || assert_equal(model.as_ref(), architecture.model_type));
    }
}

#[test]
fn without_logits_gradients_are_the_same() {
    for device in devices() {
        for (architecture, task) in encoders().flat_map(|a| tasks().map(|task| (a, task))) {
            let model = model(architecture, task, &device);
            let options = ForwardOptions { without_logits: true, ..ForwardOptions::default() };
            for options in [
                ForwardOptions { queries_keys_values: Layers::of([LAYERS - 1]), ..options },
                ForwardOptions { attention_scores: Layers::of([0]), ..options },
                ForwardOptions { hidden_states: true, ..options },
            ] {
                let (kept, kept_loss) = gradients(model.as_ref(), options, Activations::Keep);
                let (recomputed, loss) = gradients(model.as_ref(), options, Activations::Recompute);
                let what = format!("{}, {options:?}", architecture.model_type);
                assert_eq!(kept_loss, loss, "{what}");
                assert!(!kept.is_empty() && kept.len() == recomputed.len(), "{what}");
                let of_all = largest(kept.iter().flat_map(|(_, bits)| bits));
                for ((name, kept), (other, recomputed)) in kept.iter().zip(&recomputed) {
                    assert_eq!(name, other, "{what}");
                    assert!(near(kept, recomputed, of_all), "{what}: `{name}` differs");
                }
            }
        }
    }
}

#[test]
fn frozen_parameters_have_no_gradient_and_end_the_way_down() {
    for device in devices() {
        for architecture in encoders() {
            for frozen_up_to in 0..=LAYERS {
                let [task, _] = tasks();
                let mut model = model(architecture, task, &device);
                let depths: Vec<_> = model
                    .parameters()
                    .iter()
                    .map(|parameter| (parameter.name.clone(), model.layer_of(&parameter.name)))
                    .collect();
                let frozen = |name: &str| {
                    let (_, depth) = depths.iter().find(|(known, _)| known == name).expect("a known name");
                    depth.is_some_and(|depth| depth <= frozen_up_to)
                };
                model.set_trainable(&|name| !frozen(name));
                let what = format!("{} frozen up to {frozen_up_to}", architecture.model_type);
                let names = assert_equal(model.as_ref(), &what);
                assert!(!names.is_empty() && names.iter().all(|name| !frozen(name)), "{what}: {names:?}");
            }
        }
    }
}
