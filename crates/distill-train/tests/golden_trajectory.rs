//! Twelve AdamW steps on a real encoder against PyTorch and Transformers: losses, gradient norms, learning rates and
//! the parameters after. The settings are those that the reference was made with; texts and labels are in its file.

use burn::tensor::{Device, Tensor, TensorData};
use distill_data::tokenizer::Tokenizer;
use distill_models::{
    Activations, ForwardOptions, HeadPolicy, LoadRequest, ModelInput, Task, load, read_safetensors,
};
use distill_ops::{AdamW, DeviceSpec, Dropout, Precision, resolve};
use distill_recipe::LrSchedulerType;
use distill_train::beside::Beside;
use distill_train::objectives::{Level, Losses, Pair, StepCounts, Targets, usual_losses};
use distill_train::optimizer::{Gradients, Optimizer, clip_factor, gradient_norm};
use distill_train::parameter_groups::GroupRules;
use distill_train::pass::{PassInput, PassSettings, pass};
use distill_train::schedule::Schedule;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Trajectory {
    steps: Vec<Step>,
    logits_after: Vec<Vec<f32>>,
    text: Vec<String>,
    label: Vec<i64>,
    parameter_norm_after: HashMap<String, f64>,
}

#[derive(Deserialize)]
struct Step {
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
}

const ROWS_A_STEP: usize = 8;
const MAX_LENGTH: usize = 64;

fn golden_folder() -> PathBuf {
    let default = || PathBuf::from("../../../shared/golden");
    std::env::var_os("DISTILL_GOLDEN").map_or_else(default, PathBuf::from).join("minilm-l6")
}

fn model_folder() -> PathBuf {
    let default =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/distill-models");
    std::env::var_os("DISTILL_MODELS").map_or_else(default, PathBuf::from).join("all-minilm-l6-v2")
}

/// Tokens of the texts, padded to the longest as the reference does.
fn input(tokenizer: &Tokenizer, texts: &[String], device: &Device) -> ModelInput {
    let encoded = tokenizer.encode_batch(texts, MAX_LENGTH).expect("texts are tokenised");
    let longest = encoded.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for text in &encoded {
        ids.extend(&text.ids);
        ids.resize(ids.len() + longest - text.ids.len(), tokenizer.pad_token_id().unwrap_or(0));
        mask.extend(std::iter::repeat_n(1, text.ids.len()));
        mask.resize(ids.len(), 0);
    }
    ModelInput::new(&ids, &mask, None, [texts.len(), longest], device)
}

fn trajectory_on(spec: DeviceSpec) {
    let (golden, folder) = (golden_folder(), model_folder());
    if !golden.join("trajectory.json").exists() || !folder.join("model.safetensors").exists() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: needs `{}` and the weights in `{}`",
            golden.display(),
            folder.display()
        );
        return;
    }
    let text = std::fs::read_to_string(golden.join("trajectory.json")).expect("reads the trajectory");
    let reference: Trajectory = serde_json::from_str(&text).expect("the trajectory parses");
    let head = read_safetensors(&golden.join("head.safetensors")).expect("reads the head").tensors;

    let device = resolve(spec).expect("the device is compiled in").autodiff();
    let labels = (0..head["classifier.bias"].1.len()).map(|label| label.to_string()).collect();
    let request = LoadRequest {
        task: Task::Classification { id2label: labels },
        seed: 1,
        device: device.clone(),
        dropout: Some(0.0),
        head: HeadPolicy::Reinitialise,
        adapter: None,
    };
    let mut loaded = load(&folder, request).expect("the model loads");
    let plain = device.clone().inner();
    loaded.model.update(&mut |parameter, value| match head.get(&parameter.name) {
        Some((_, values)) => Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &plain),
        None => value,
    });
    let model = loaded.model.as_mut();
    let tokenizer = Tokenizer::load(&folder).expect("the tokenizer loads");

    let total_steps = reference.steps.len() as u64;
    let rules = GroupRules {
        weight_decay: 0.01,
        freeze: Vec::new(),
        lora: None,
        layerwise_lr_decay: None,
        num_hidden_layers: 6,
    };
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut optimizer = Optimizer::new(adamw, &rules, model, &Beside::default());
    let pair = Pair {
        student: loaded.config.base.as_ref(),
        teacher: None,
        teachers: 0,
        same_tokens: true,
        level: Level::Sequence,
    };
    let losses = Losses::build(&usual_losses(Level::Sequence), &pair).expect("labels fit every model");
    let settings =
        PassSettings { losses: &losses, precision: Precision::F32, activations: Activations::Keep };
    let schedule = Schedule {
        kind: LrSchedulerType::Linear,
        learning_rate: 5e-5,
        power: 1.0,
        warmup_steps: 2,
        total_steps,
    };
    for (step, expected) in reference.steps.iter().enumerate() {
        let rows = step * ROWS_A_STEP..(step + 1) * ROWS_A_STEP;
        let input = input(&tokenizer, &reference.text[rows.clone()], &device);
        // With dropout 0 a training pass must equal the reference's evaluation mode.
        let targets = Targets {
            labels: &reference.label[rows],
            rationale: &[],
            attention_mask: &input.host_attention_mask,
            shape: input.shape,
            label_smoothing: 0.0,
            device: &device,
        };
        let counts = StepCounts { labels: ROWS_A_STEP as u64, ..StepCounts::default() };
        let on = PassInput { targets: &targets, teacher: None, projection: None, counts: &counts };
        let pass = pass(&settings, model, &input, on, &mut Dropout::new(1, step as u64, 0));
        let value = pass.loss;
        let gradients: Gradients = pass.gradients.into_iter().collect();
        let norm = gradient_norm(&gradients);
        let rate = schedule.at(step as u64);
        assert!(
            (value - expected.loss).abs() < 2e-4,
            "step {}: loss {value}, expected {}",
            step + 1,
            expected.loss
        );
        let relative = (norm - expected.grad_norm).abs() / expected.grad_norm;
        assert!(relative < 1e-2, "step {}: gradient norm {norm}, expected {}", step + 1, expected.grad_norm);
        assert!((rate - expected.learning_rate).abs() < 1e-12, "step {}: rate {rate}", step + 1);
        optimizer.step(model, &mut Beside::default(), gradients, rate, clip_factor(norm, 1.0));
    }

    let after = model.eval_copy();
    let input = input(&tokenizer, &reference.text[..ROWS_A_STEP], &after.device());
    let logits = after.forward(&input, ForwardOptions::default(), &mut Dropout::off()).logits();
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    for (found, expected) in logits.iter().zip(reference.logits_after.concat()) {
        assert!((found - expected).abs() < 5e-3, "logit {found}, expected {expected}");
    }
    let mut compared = 0;
    after.visit(&mut |parameter, value| {
        let norm = f64::from((value.clone() * value).sum().into_scalar::<f32>()).sqrt();
        let expected = reference.parameter_norm_after[&parameter.name];
        let error = (norm - expected).abs() / expected.max(1e-3);
        assert!(error < 1e-3, "`{}`: norm {norm}, expected {expected}", parameter.name);
        compared += 1;
    });
    assert_eq!(compared, reference.parameter_norm_after.len());
}

#[test]
#[cfg(feature = "flex")]
fn golden_trajectory_on_flex() {
    trajectory_on(DeviceSpec::Flex);
}

#[test]
#[cfg(feature = "ndarray")]
fn golden_trajectory_on_ndarray() {
    trajectory_on(DeviceSpec::NdArray);
}
