//! What models hand out for distillation: hidden states, attention scores, queries, keys and values, and their
//! gradients.

mod golden_set;

use std::collections::HashMap;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use distill_models::{
    Activations, Architecture, ForwardOptions, HeadPolicy, Layers, LoadRequest, Loss, Model, ModelInput,
    ModelOutput, Task, from_scratch,
};
use distill_ops::{DeviceSpec, Dropout, resolve};
use golden_set::encoders;
use serde_json::json;

const LAYERS: usize = 3;
const HEADS: usize = 2;
const HIDDEN: usize = 16;
const SHAPE: [usize; 2] = [2, 6];

const NOTHING: ForwardOptions = ForwardOptions {
    hidden_states: false,
    last_hidden_state: false,
    attention_scores: Layers::NONE,
    queries_keys_values: Layers::NONE,
    without_logits: false,
};
const EVERYTHING: ForwardOptions = ForwardOptions {
    hidden_states: true,
    last_hidden_state: true,
    attention_scores: Layers::ALL,
    queries_keys_values: Layers::ALL,
    without_logits: false,
};

fn tasks() -> [Task; 2] {
    [Task::Classification { id2label: (0..3).map(|n| format!("label {n}")).collect() }, Task::MaskedLm]
}

fn devices() -> Vec<Device> {
    let specs = [DeviceSpec::Flex, DeviceSpec::NdArray];
    let devices: Vec<Device> = specs.into_iter().filter_map(|spec| resolve(spec).ok()).collect();
    assert!(!devices.is_empty(), "a CPU device is compiled in");
    devices
}

fn model(architecture: &'static Architecture, task: Task, device: &Device) -> Box<dyn Model> {
    let table = json!({
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": 20, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    });
    let (head, device) = (HeadPolicy::Reinitialise, device.clone().autodiff());
    let request = LoadRequest { task, head, seed: 5, device, dropout: None, adapter: None };
    let mut model = from_scratch(architecture, &table, 40, 1, request).expect("a table without faults").model;
    model.set_trainable(&|_| true);
    // New weights are so small that attention is nearly uniform and that scores are nearly zero.
    model.update(&mut |info, value| if info.shape.len() == 2 { value * 12.0 } else { value });
    model
}

fn input(device: &Device) -> ModelInput {
    let ids = [2, 7, 9, 30, 5, 3, 2, 11, 3, 1, 1, 1];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
    ModelInput::new(&ids, &mask, None, SHAPE, device)
}

fn forward(model: &dyn Model, options: ForwardOptions) -> ModelOutput {
    model.forward(&input(&model.device()), options, &mut Dropout::off())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}

/// `q · kᵀ / √head_size` by its definition, `[batch, heads, seq, seq]`.
fn scores_of([q, k, _]: [Tensor<3>; 3]) -> Vec<f32> {
    let ([batch, seq], head_size) = (SHAPE, HIDDEN / HEADS);
    let (q, k) = (values(q), values(k));
    let mut scores = Vec::new();
    for (row, head) in (0..batch).flat_map(|row| (0..HEADS).map(move |head| (row, head))) {
        for (query, key) in (0..seq).flat_map(|query| (0..seq).map(move |key| (query, key))) {
            let start = |token: usize| (row * seq + token) * HIDDEN + head * head_size;
            let (q, k) = (&q[start(query)..][..head_size], &k[start(key)..][..head_size]);
            let product: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
            scores.push((product / (head_size as f64).sqrt()) as f32);
        }
    }
    scores
}

/// Every architecture and task on every device, with gradients and without.
fn for_each_model(mut f: impl FnMut(&dyn Model, &str)) {
    for device in devices() {
        for (architecture, task) in encoders().flat_map(|a| tasks().map(|task| (a, task))) {
            let what = format!("{}, {task:?} on {device:?}", architecture.model_type);
            let model = model(architecture, task, &device);
            f(model.as_ref(), &what);
            f(model.eval_copy().as_ref(), &format!("{what}, evaluation"));
        }
    }
}

#[test]
fn what_is_asked_for_comes_in_order_and_shape() {
    for_each_model(|model, what| {
        let [batch, seq] = SHAPE;
        let nothing = forward(model, NOTHING);
        assert!(nothing.hidden_states.is_none() && nothing.last_hidden_state.is_none(), "{what}");
        assert!(nothing.attention_scores.is_empty() && nothing.queries_keys_values.is_empty(), "{what}");
        let everything = forward(model, EVERYTHING);
        let states = everything.hidden_states.unwrap();
        assert_eq!(states.len(), LAYERS + 1, "{what}");
        assert!(states.iter().all(|state| state.dims() == [batch, seq, HIDDEN]), "{what}");
        assert_eq!(everything.attention_scores.len(), LAYERS, "{what}");
        assert_eq!(everything.queries_keys_values.len(), LAYERS, "{what}");
        let some = ForwardOptions {
            attention_scores: Layers::of([2, 0]),
            queries_keys_values: Layers::of([1]),
            ..NOTHING
        };
        let some = forward(model, some);
        let [first, last] = some.attention_scores.try_into().unwrap();
        for (n, scores) in [(0, first), (2, last)] {
            assert_eq!(scores.dims(), [batch, HEADS, seq, seq], "{what}");
            assert_eq!(values(scores), values(everything.attention_scores[n].clone()), "{what}, layer {n}");
        }
        let [projected] = some.queries_keys_values.try_into().unwrap();
        for (some, all) in projected.into_iter().zip(&everything.queries_keys_values[1]) {
            assert_eq!(some.dims(), [batch, seq, HIDDEN], "{what}");
            assert_eq!(values(some), values(all.clone()), "{what}");
        }
    });
}

/// The last layer computes the rest of itself for the first token alone, or for none.
#[test]
fn the_last_layer_hands_out_queries_of_all_tokens() {
    for_each_model(|model, what| {
        let everything = forward(model, EVERYTHING).queries_keys_values.swap_remove(LAYERS - 1).map(values);
        let layers = Layers::of([LAYERS - 1]);
        for without_logits in [false, true] {
            let options = ForwardOptions { queries_keys_values: layers, without_logits, ..NOTHING };
            let [found] = forward(model, options).queries_keys_values.try_into().unwrap();
            assert_eq!(found.map(values), everything, "{what}, without_logits = {without_logits}");
        }
    });
}

#[test]
fn without_logits_layers_above_what_is_asked_for_are_left_out() {
    for_each_model(|model, what| {
        let everything = forward(model, EVERYTHING);
        let layers = Layers::of([1]);
        let asked = [
            ForwardOptions { attention_scores: layers, ..NOTHING },
            ForwardOptions { queries_keys_values: layers, ..NOTHING },
            ForwardOptions { hidden_states: true, ..NOTHING },
        ];
        for options in asked {
            let output = forward(model, ForwardOptions { without_logits: true, ..options });
            assert_eq!(output.logits().dims(), [0, 0], "{what}");
            assert!(output.pooler_output.is_none(), "{what}");
            for scores in output.attention_scores {
                assert_eq!(values(scores), values(everything.attention_scores[1].clone()), "{what}");
            }
            for (found, x) in
                output.queries_keys_values.into_iter().flatten().zip(&everything.queries_keys_values[1])
            {
                assert_eq!(values(found), values(x.clone()), "{what}");
            }
            let states = output.hidden_states.unwrap_or_default();
            for (found, x) in states.into_iter().zip(everything.hidden_states.iter().flatten()) {
                assert_eq!(values(found), values(x.clone()), "{what}");
            }
        }
    });
}

#[test]
fn without_logits_gradients_are_the_same() {
    for device in devices() {
        for architecture in encoders() {
            let [task, _] = tasks();
            let model = model(architecture, task, &device);
            for part in [Part::Scores, Part::QueriesKeysValues, Part::HiddenStates] {
                for activations in [Activations::Keep, Activations::Recompute] {
                    let run = |without_logits| {
                        let options = ForwardOptions { without_logits, ..part.options() };
                        let (input, mut dropout) = (input(&model.device()), Dropout::off());
                        let mut loss = |output: ModelOutput| part.loss(output);
                        let found = model.gradients_of(&input, options, activations, &mut dropout, &mut loss);
                        found.into_iter().map(|(name, gradient)| (name, values(gradient))).collect::<Vec<_>>()
                    };
                    let what = format!("{} on {device:?}, {part:?}", architecture.model_type);
                    let (with, without) = (run(false), run(true));
                    assert!(!with.is_empty(), "{what}");
                    assert_eq!(with, without, "{what}");
                }
            }
        }
    }
}

#[test]
fn scores_are_those_of_queries_and_keys() {
    for_each_model(|model, what| {
        let output = forward(model, EVERYTHING);
        let mut before: Option<Vec<f32>> = None;
        for (n, (scores, qkv)) in
            output.attention_scores.into_iter().zip(output.queries_keys_values).enumerate()
        {
            let (found, expected) = (values(scores), scores_of(qkv));
            let size = expected.iter().fold(0f32, |size, x| size.max(x.abs()));
            assert!(size > 0.1, "{what}, layer {n}: scores of at most {size} show nothing");
            let difference = largest_difference(&found, &expected);
            assert!(difference < 2e-6 * size.max(1.0), "{what}, layer {n}: scores differ by {difference}");
            assert!(before.as_ref() != Some(&found), "{what}: layer {n} has the scores of the one before");
            before = Some(found);
        }
    });
}

#[test]
fn asking_for_more_changes_no_logits() {
    let options = [
        ForwardOptions { attention_scores: Layers::ALL, ..NOTHING },
        ForwardOptions { attention_scores: Layers::of([0]), ..NOTHING },
        ForwardOptions { queries_keys_values: Layers::of([LAYERS - 1]), ..NOTHING },
        ForwardOptions { hidden_states: true, ..NOTHING },
        EVERYTHING,
    ];
    for_each_model(|model, what| {
        let expected = values(forward(model, NOTHING).logits());
        for options in options {
            let difference = largest_difference(&values(forward(model, options).logits()), &expected);
            assert!(difference < 1e-5, "{what}: logits differ by {difference} with {options:?}");
        }
    });
}

/// `Σ w · x` with numbers `w` that depend on the place alone.
fn weighted<const D: usize>(x: Tensor<D>, seed: usize) -> Tensor<1> {
    let shape = x.dims();
    let weights: Vec<f32> =
        (0..shape.iter().product()).map(|i| ((i * 37 + seed * 11) as f32 * 0.61).sin()).collect();
    let device = x.device().without_autodiff();
    let weights = Tensor::<D>::from_data(TensorData::new(weights, shape), &device);
    (x * weights.autodiff()).sum()
}

/// The parts that a loss may be made of.
#[derive(Debug, Clone, Copy)]
enum Part {
    Scores,
    QueriesKeysValues,
    /// Of the last layer, which computes the rest of its first token alone; and the logits.
    LastQueriesKeysValues,
    HiddenStates,
    All,
}

impl Part {
    fn options(self) -> ForwardOptions {
        let layers = Layers::of([0, 1]);
        match self {
            Self::Scores => ForwardOptions { attention_scores: layers, ..NOTHING },
            Self::QueriesKeysValues => ForwardOptions { queries_keys_values: layers, ..NOTHING },
            Self::LastQueriesKeysValues => {
                ForwardOptions { queries_keys_values: Layers::of([LAYERS - 1]), ..NOTHING }
            }
            Self::HiddenStates => ForwardOptions { hidden_states: true, ..NOTHING },
            Self::All => EVERYTHING,
        }
    }

    /// Of the first two layers unless it is of all.
    fn loss(self, output: ModelOutput) -> Tensor<1> {
        let mut terms = Vec::new();
        let logits = matches!(self, Self::All | Self::LastQueriesKeysValues).then(|| output.logits());
        for (n, scores) in output.attention_scores.into_iter().enumerate() {
            terms.push(weighted(scores, n));
        }
        for (n, x) in output.queries_keys_values.into_iter().flatten().enumerate() {
            terms.push(weighted(x, n + 3));
        }
        let states = output.hidden_states.unwrap_or_default();
        let count = if matches!(self, Self::All) { LAYERS + 1 } else { 2 };
        for (n, state) in states.into_iter().take(count).enumerate() {
            terms.push(weighted(state, n + 5));
        }
        terms.extend(logits.map(|logits| weighted(logits, 1)));
        Tensor::cat(terms, 0).sum()
    }
}

/// The loss with one parameter moved by `step` along `direction`.
fn loss_beside(model: &mut dyn Model, part: Part, name: &str, direction: &[f32], step: f32) -> f64 {
    let mut before = None;
    model.update(&mut |info, value| {
        if info.name != name {
            return value;
        }
        before = Some(value.clone());
        let direction =
            Tensor::<1>::from_data(TensorData::new(direction.to_vec(), [direction.len()]), &value.device());
        value + direction * step
    });
    let loss = part.loss(forward(model, part.options())).into_scalar::<f64>();
    model.update(&mut |info, value| match before.take_if(|_| info.name == name) {
        Some(before) => before,
        None => value,
    });
    loss
}

fn gradients(model: &dyn Model, part: Part, activations: Activations) -> HashMap<String, Vec<f32>> {
    let (input, mut dropout) = (input(&model.device()), Dropout::off());
    let mut loss = |output: ModelOutput| part.loss(output);
    let found = model.gradients_of(&input, part.options(), activations, &mut dropout, &mut loss);
    found.into_iter().map(|(name, gradient)| (name, values(gradient))).collect()
}

/// A unit vector that has something of `gradient` and something of every other direction.
fn direction_of(gradient: &[f32], seed: usize) -> Vec<f32> {
    let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    let noise: Vec<f32> = (0..gradient.len()).map(|i| ((i * 29 + seed * 17) as f32 * 0.47).cos()).collect();
    let (of_gradient, of_noise) = (norm(gradient), norm(&noise));
    let sum: Vec<f32> = gradient.iter().zip(&noise).map(|(g, n)| g / of_gradient + n / of_noise).collect();
    let length = norm(&sum);
    sum.into_iter().map(|x| x / length).collect()
}

#[test]
fn gradients_are_those_of_central_differences() {
    const STEP: f32 = 4e-3;
    for device in devices() {
        for architecture in encoders() {
            let [classification, masked_lm] = tasks();
            let mut cases = vec![(Part::All, masked_lm)];
            let parts = [
                Part::Scores,
                Part::QueriesKeysValues,
                Part::LastQueriesKeysValues,
                Part::HiddenStates,
                Part::All,
            ];
            cases.extend(parts.map(|part| (part, classification.clone())));
            for (part, task) in cases {
                let what = format!("{} on {device:?}, {task:?}, {part:?}", architecture.model_type);
                let mut model = model(architecture, task, &device);
                let found = gradients(model.as_ref(), part, Activations::Keep);
                let largest = found.values().flatten().fold(0f32, |largest, g| largest.max(g.abs()));
                assert!(largest > 0.1, "{what}: no gradient above {largest}");
                for (seed, parameter) in model.parameters().into_iter().enumerate() {
                    let name = &parameter.name;
                    let none = vec![0.0; parameter.shape.iter().product()];
                    let gradient = found.get(name).unwrap_or(&none);
                    let direction = direction_of(gradient, seed);
                    let slope: f64 =
                        gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                    let mut at = |step| loss_beside(model.as_mut(), part, name, &direction, step);
                    let expected = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
                    let allowed = 1e-2 * expected.abs() + 2e-3 * f64::from(largest);
                    assert!(
                        (slope - expected).abs() < allowed,
                        "{what}: `{name}` has slope {slope}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn parameters_without_a_part_in_the_loss_are_left_out() {
    for device in devices() {
        for architecture in encoders() {
            let [task, _] = tasks();
            let model = model(architecture, task, &device);
            for part in [Part::Scores, Part::QueriesKeysValues, Part::HiddenStates] {
                let what = format!("{} on {device:?}, {part:?}", architecture.model_type);
                let kept = gradients(model.as_ref(), part, Activations::Keep);
                let mut names: Vec<_> =
                    gradients(model.as_ref(), part, Activations::Recompute).into_keys().collect();
                let mut expected: Vec<_> = kept.into_keys().collect();
                names.sort();
                expected.sort();
                assert_eq!(names, expected, "{what}");
                assert!(names.iter().any(|name| name.contains("word_embeddings")), "{what}: {names:?}");
                let in_head = |name: &String| model.layer_of(name).is_none();
                assert!(!names.iter().any(in_head), "{what}: {names:?}");
                // Layers that share their parameters all have a part in it.
                let above = |name: &String| model.layer_of(name).is_some_and(|depth| depth > 2);
                assert!(architecture.model_type == "albert" || !names.iter().any(above), "{what}: {names:?}");
            }
        }
    }
}

/// Hidden states through a learned projection that is no part of the model.
struct Projected {
    projection: Tensor<2>,
    gradient: Option<Vec<f32>>,
}

impl Loss for Projected {
    fn loss(&mut self, output: ModelOutput) -> Tensor<1> {
        let [batch, seq] = SHAPE;
        let state = output.hidden_states.expect("asked for")[1].clone().reshape([batch * seq, HIDDEN]);
        weighted(state.matmul(self.projection.clone()).sin(), 2)
    }

    fn take_gradients(&mut self, grads: &mut Gradients) {
        self.gradient = self.projection.grad_remove(grads).map(values);
    }
}

#[test]
fn a_loss_takes_the_gradients_of_its_own_tensors() {
    const OTHER: usize = 3;
    for device in devices() {
        for architecture in encoders() {
            let [task, _] = tasks();
            let model = model(architecture, task, &device);
            let projection: Vec<f32> = (0..HIDDEN * OTHER).map(|i| (i as f32 * 0.7).sin()).collect();
            let run = |activations| {
                let data = TensorData::new(projection.clone(), [HIDDEN, OTHER]);
                let projection = Tensor::from_data(data, &model.device()).require_grad();
                let mut loss = Projected { projection, gradient: None };
                let options = ForwardOptions { hidden_states: true, ..NOTHING };
                let (input, mut dropout) = (input(&model.device()), Dropout::off());
                let own = model.gradients_of(&input, options, activations, &mut dropout, &mut loss);
                assert!(!own.is_empty());
                loss.gradient.expect("the projection has a gradient")
            };
            let found = run(Activations::Keep);
            assert_eq!(found, run(Activations::Recompute), "{}", architecture.model_type);
            // `d Σ w · sin(x · P) / dP = xᵀ · (w ∘ cos(x · P))`, with the state as it is handed out.
            let state = forward(model.as_ref(), EVERYTHING).hidden_states.unwrap().swap_remove(1);
            let state = values(state);
            let mut expected = vec![0f64; HIDDEN * OTHER];
            for (row, x) in state.chunks(HIDDEN).enumerate() {
                for column in 0..OTHER {
                    let y: f32 = x.iter().enumerate().map(|(i, x)| x * projection[i * OTHER + column]).sum();
                    let weight = (((row * OTHER + column) * 37 + 22) as f32 * 0.61).sin();
                    for (i, x) in x.iter().enumerate() {
                        expected[i * OTHER + column] += f64::from(x * weight * y.cos());
                    }
                }
            }
            let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
            let difference = largest_difference(&found, &expected);
            assert!(difference < 1e-4, "{} on {device:?}: differs by {difference}", architecture.model_type);
        }
    }
}
