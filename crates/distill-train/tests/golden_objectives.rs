//! Every loss against PyTorch: values within 1e-5, gradients within 1e-4 relative, on each device of the build.

#[path = "../../distill-models/tests/golden_set/mod.rs"]
mod golden_set;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use distill_models::{BaseModelConfig, Logits, ModelOutput, find};
use distill_recipe::{Component, Document};
use distill_train::objectives::{
    Level, LossConfig, Losses, OBJECTIVES, Outputs, Pair, Projection, StepCounts, Targets, TeacherOutput,
};
use golden_set::{Reference, devices, json, root};
use serde_json::Value;

/// Values may differ by this much, against the larger of 1 and the value.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Gradients may differ by this part of their longest element.
const GRADIENT_TOLERANCE: f32 = 1e-4;

struct Golden {
    tensors: Reference,
    cases: Value,
}

/// The reference values; `None`, with a word on stderr, where there are none.
fn golden() -> Option<Golden> {
    let folder = root().join("objectives");
    if !folder.join("objectives.json").is_file() {
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no reference values in `{}`; set DISTILL_GOLDEN",
            folder.display()
        );
        return None;
    }
    let tensors = Reference::read(&folder.join("objectives.safetensors"));
    Some(Golden { tensors, cases: json(&folder.join("objectives.json")) })
}

impl Golden {
    fn number(&self, case: &str, key: &str) -> f64 {
        self.cases[case][key].as_f64().unwrap_or_else(|| panic!("`{case}` has no `{key}`"))
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors.floats[name].0.clone()
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = &self.tensors.floats[name];
        let shape: [usize; D] = shape.as_slice().try_into().expect("the rank of the case");
        Tensor::from_data(TensorData::new(values.clone(), shape), device)
    }

    /// Rows by numbers, whatever the leading dimensions.
    fn rows(&self, name: &str, device: &Device) -> Tensor<2> {
        let (shape, values) = &self.tensors.floats[name];
        let width = *shape.last().expect("a width");
        Tensor::from_data(TensorData::new(values.clone(), [values.len() / width, width]), device)
    }

    fn integers(&self, name: &str) -> (Vec<usize>, Vec<i64>) {
        self.tensors.integers[name].clone()
    }

    fn mask(&self, case: &str) -> (Vec<u8>, [usize; 2]) {
        let (shape, mask) = self.integers(&format!("{case}.attention_mask"));
        (mask.iter().map(|&kept| kept as u8).collect(), [shape[0], shape[1]])
    }

    fn check_gradient<const D: usize>(&self, case: &str, name: &str, of: &Tensor<D>, grads: &mut Gradients) {
        let (_, expected) = &self.tensors.floats[&format!("{case}.grad.{name}")];
        let found = of.grad_remove(grads).unwrap_or_else(|| panic!("{case}: no gradient of `{name}`"));
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        let longest = expected.iter().fold(0.0f32, |longest, value| longest.max(value.abs()));
        let difference = golden_set::largest_difference(&found, expected);
        assert!(
            difference <= GRADIENT_TOLERANCE * longest,
            "{case}: gradient of {name} is off by {difference}"
        );
    }
}

/// Losses as a recipe writes them.
fn configs(losses: &str) -> Vec<LossConfig> {
    let document = Document::parse("r.toml", format!("losses = [{losses}]"), &[]).expect("valid TOML");
    let items = document.root.get("losses").expect("is there");
    let mut index = 0;
    let mut configs = Vec::new();
    while let Some(node) = items.get(&index.to_string()) {
        let name = node.get("kind").and_then(|kind| kind.as_str()).expect("a kind").to_owned();
        let kind = OBJECTIVES.iter().find(|kind| kind.name == name).expect("a known kind");
        let component =
            Component { path: "distill.losses".to_owned(), tag: "kind".to_owned(), name, node: node.clone() };
        let mut faults = Vec::new();
        configs.extend((kind.parse)(&component, &mut faults));
        assert!(faults.is_empty(), "{faults:?}");
        index += 1;
    }
    configs
}

fn encoder(hidden_size: usize, layers: usize, heads: usize, vocab_size: usize) -> Box<dyn BaseModelConfig> {
    let table = serde_json::json!({
        "hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads,
    });
    find("bert").expect("is there").from_scratch(&table, vocab_size, 0).expect("good sizes")
}

/// What a case is about; the sizes that a loss does not look at may be anything.
struct Case<'a> {
    losses: String,
    level: Level,
    student: &'a dyn BaseModelConfig,
    teacher: &'a dyn BaseModelConfig,
    labels: Vec<i64>,
    mask: Vec<u8>,
    shape: [usize; 2],
    device: &'a Device,
}

impl Case<'_> {
    /// The weighted sum, differentiable.
    fn loss(
        &self,
        student: &ModelOutput,
        teacher: TeacherOutput,
        projection: Option<&Projection>,
    ) -> Tensor<1> {
        let pair = Pair {
            student: self.student,
            teacher: Some(self.teacher),
            teachers: 1,
            same_tokens: true,
            level: self.level,
        };
        let losses = Losses::build(&configs(&self.losses), &pair).expect("they fit");
        let needs = losses.needs();
        let targets = Targets {
            labels: &self.labels,
            rationale: &[],
            attention_mask: &self.mask,
            shape: self.shape,
            label_smoothing: 0.0,
            device: self.device,
        };
        let [rows, length] = self.shape.map(|size| size as u64);
        let counts = StepCounts {
            rationale_labels: 0,
            labels: self.labels.iter().filter(|&&label| label != -100).count() as u64,
            examples: rows,
            tokens: self.mask.iter().map(|&kept| u64::from(kept)).sum(),
            cells: rows * length,
            cell_pairs: rows * length * length,
        };
        let outputs =
            Outputs { student, teacher: Some(&teacher), needs: &needs, projection, targets: &targets };
        losses.total(&outputs, &counts).0
    }
}

fn check_loss(golden: &Golden, case: &str, loss: &Tensor<1>) {
    let (found, expected) = (f64::from(loss.clone().into_scalar::<f32>()), golden.number(case, "loss"));
    let difference = (found - expected).abs();
    assert!(difference <= LOSS_TOLERANCE * expected.abs().max(1.0), "{case}: {found}, expected {expected}");
}

fn output(logits: Tensor<2>) -> ModelOutput {
    ModelOutput {
        logits: Logits::computed(logits),
        last_hidden_state: None,
        pooler_output: None,
        hidden_states: None,
        attention_scores: Vec::new(),
        queries_keys_values: Vec::new(),
    }
}

fn of_logits(logits: Tensor<2>) -> TeacherOutput {
    TeacherOutput { logits: vec![(1.0, Logits::computed(logits))], ..TeacherOutput::default() }
}

#[test]
fn golden_soft_labels_and_their_blend() {
    let Some(golden) = golden() else { return };
    let names: Vec<String> = golden.cases.as_object().expect("cases").keys().cloned().collect();
    let names = names.iter().filter(|name| name.starts_with("soft_cross_entropy") || *name == "blend");
    let mut checked = 0;
    for name in names {
        for device in devices().into_iter().map(Device::autodiff) {
            let temperature = golden.number(name, "temperature");
            let losses = match name.as_str() {
                "blend" => format!(
                    "{{ kind = \"hard_labels\", weight = {:?} }}, {{ kind = \"soft_labels\", weight = {:?}, temperature = {temperature:?} }}",
                    golden.number(name, "hard_weight"),
                    golden.number(name, "soft_weight"),
                ),
                _ => format!("{{ kind = \"soft_labels\", temperature = {temperature:?} }}"),
            };
            let student = golden.rows(&format!("{name}.student_logits"), &device).require_grad();
            let [rows, _] = student.dims();
            let any = encoder(8, 1, 1, 8);
            let labels = match name.as_str() {
                "blend" => golden.integers("blend.labels").1,
                _ => vec![-100; rows],
            };
            let case = Case {
                losses,
                level: Level::Sequence,
                student: any.as_ref(),
                teacher: any.as_ref(),
                labels,
                mask: vec![1; rows],
                shape: [rows, 1],
                device: &device,
            };
            let teacher = of_logits(golden.rows(&format!("{name}.teacher_logits"), &device));
            let loss = case.loss(&output(student.clone()), teacher, None);
            check_loss(&golden, name, &loss);
            golden.check_gradient(name, "student_logits", &student, &mut loss.backward());
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} cases");
}

#[test]
fn golden_soft_labels_of_tokens() {
    let Some(golden) = golden() else { return };
    for device in devices().into_iter().map(Device::autodiff) {
        let name = "forward_kl";
        let student = golden.rows("forward_kl.student_logits", &device).require_grad();
        let [rows, vocab] = student.dims();
        let any = encoder(8, 1, 1, vocab);
        let (mask, shape) = golden.mask(name);
        let case = Case {
            losses: "{ kind = \"soft_labels\", temperature = 1.0 }".to_owned(),
            level: Level::Token,
            student: any.as_ref(),
            teacher: any.as_ref(),
            labels: vec![-100; rows],
            mask,
            shape,
            device: &device,
        };
        let teacher = of_logits(golden.rows("forward_kl.teacher_logits", &device));
        let loss = case.loss(&output(student.clone()), teacher, None);
        check_loss(&golden, name, &loss);
        golden.check_gradient(name, "student_logits", &student, &mut loss.backward());
    }
}

/// Checks a divergence of next tokens, the case's only loss.
fn check_divergence(golden: &Golden, name: &str, losses: &str) {
    for device in devices().into_iter().map(Device::autodiff) {
        let student = golden.rows(&format!("{name}.student_logits"), &device).require_grad();
        let [rows, vocab] = student.dims();
        let any = encoder(8, 1, 1, vocab);
        let (mask, shape) = golden.mask(name);
        // What is learnt is what is not padding; which token it is does not matter.
        let labels = mask.iter().map(|&kept| if kept == 0 { -100 } else { 1 }).collect();
        let case = Case {
            losses: losses.to_owned(),
            level: Level::NextToken,
            student: any.as_ref(),
            teacher: any.as_ref(),
            labels,
            mask: vec![1; rows],
            shape,
            device: &device,
        };
        let teacher = of_logits(golden.rows(&format!("{name}.teacher_logits"), &device));
        let loss = case.loss(&output(student.clone()), teacher, None);
        check_loss(golden, name, &loss);
        golden.check_gradient(name, "student_logits", &student, &mut loss.backward());
    }
}

#[test]
fn golden_forward_and_reverse_kl() {
    let Some(golden) = golden() else { return };
    for name in ["forward_kl", "reverse_kl"] {
        check_divergence(&golden, name, &format!("{{ kind = \"{name}\" }}"));
    }
    // At T = 1 soft labels are the forward divergence.
    check_divergence(&golden, "forward_kl", "{ kind = \"soft_labels\", temperature = 1.0 }");
}

#[test]
fn golden_jsd() {
    let Some(golden) = golden() else { return };
    let names = golden.cases.as_object().expect("cases").keys().filter(|name| name.starts_with("jsd"));
    let mut checked = 0;
    for name in names {
        let beta = golden.number(name, "beta");
        check_divergence(&golden, name, &format!("{{ kind = \"jsd\", beta = {beta:?} }}"));
        checked += 1;
    }
    assert!(checked >= 2, "{checked} cases");
}

#[test]
fn golden_distilbert() {
    let Some(golden) = golden() else { return };
    for device in devices().into_iter().map(Device::autodiff) {
        let name = "distilbert";
        let number = |key| golden.number(name, key);
        let student = golden.rows("distilbert.student_logits", &device).require_grad();
        let hidden = golden.tensor::<3>("distilbert.student_hidden", &device).require_grad();
        let any = encoder(hidden.dims()[2], 1, 1, student.dims()[1]);
        let (mask, shape) = golden.mask(name);
        let case = Case {
            losses: format!(
                "{{ kind = \"soft_labels\", weight = {:?}, temperature = {:?} }}, {{ kind = \"masked_lm\", weight = {:?} }}, {{ kind = \"cosine\", weight = {:?} }}",
                number("alpha_ce"),
                number("temperature"),
                number("alpha_mlm"),
                number("alpha_cos"),
            ),
            level: Level::Token,
            student: any.as_ref(),
            teacher: any.as_ref(),
            labels: golden.integers("distilbert.labels").1,
            mask,
            shape,
            device: &device,
        };
        let teacher_logits = golden.rows("distilbert.teacher_logits", &device);
        let teacher = TeacherOutput {
            output: Some(ModelOutput {
                last_hidden_state: Some(golden.tensor("distilbert.teacher_hidden", &device)),
                ..output(teacher_logits.clone())
            }),
            ..of_logits(teacher_logits)
        };
        let of_student = ModelOutput { last_hidden_state: Some(hidden.clone()), ..output(student.clone()) };
        let loss = case.loss(&of_student, teacher, None);
        check_loss(&golden, name, &loss);
        let mut grads = loss.backward();
        golden.check_gradient(name, "student_logits", &student, &mut grads);
        golden.check_gradient(name, "student_hidden", &hidden, &mut grads);
    }
}

#[test]
fn golden_tinybert() {
    let Some(golden) = golden() else { return };
    for device in devices().into_iter().map(Device::autodiff) {
        let name = "tinybert";
        let layers = |key| golden.number(name, key) as usize;
        let (of_student, of_teacher) = (layers("student_layers"), layers("teacher_layers"));
        let [teacher_width, student_width] = golden.shape("tinybert.projection")[..] else {
            panic!("a matrix")
        };
        let heads = golden.shape("tinybert.student_attention_scores.0")[1];
        let student = encoder(student_width, of_student, heads, 8);
        let teacher = encoder(teacher_width, of_teacher, heads, 8);
        let (mask, shape) = golden.mask(name);
        let scores = |whose: &str, layer| {
            golden.tensor::<4>(&format!("{name}.{whose}_attention_scores.{layer}"), &device)
        };
        let hidden =
            |whose: &str, state| golden.tensor::<3>(&format!("{name}.{whose}_hidden.{state}"), &device);
        let student_scores: Vec<_> =
            (0..of_student).map(|layer| scores("student", layer).require_grad()).collect();
        let student_hidden: Vec<_> =
            (0..=of_student).map(|state| hidden("student", state).require_grad()).collect();
        // The teacher hands out the layers that are asked for: those that `uniform` maps.
        let mapped = (1..=of_student).map(|layer| layer * of_teacher / of_student - 1);
        let nothing = || output(Tensor::zeros([1, 1], &device));
        let teacher_output = ModelOutput {
            hidden_states: Some((0..=of_teacher).map(|state| hidden("teacher", state)).collect()),
            attention_scores: mapped.map(|layer| scores("teacher", layer)).collect(),
            ..nothing()
        };
        let student_output = ModelOutput {
            hidden_states: Some(student_hidden.clone()),
            attention_scores: student_scores.clone(),
            ..nothing()
        };
        let weight = golden.tensor::<2>("tinybert.projection", &device).require_grad();
        let bias = golden.tensor::<1>("tinybert.bias", &device).require_grad();
        let projection = Projection::of(weight.clone(), bias.clone());
        let case = Case {
            losses: "{ kind = \"attention\" }, { kind = \"hidden_states\" }, { kind = \"embeddings\" }"
                .to_owned(),
            level: Level::Sequence,
            student: student.as_ref(),
            teacher: teacher.as_ref(),
            labels: vec![-100; shape[0]],
            mask,
            shape,
            device: &device,
        };
        let teacher = TeacherOutput { output: Some(teacher_output), ..TeacherOutput::default() };
        let loss = case.loss(&student_output, teacher, Some(&projection));
        check_loss(&golden, name, &loss);
        let mut grads = loss.backward();
        for (layer, scores) in student_scores.iter().enumerate() {
            golden.check_gradient(name, &format!("student_attention_scores.{layer}"), scores, &mut grads);
        }
        for (state, hidden) in student_hidden.iter().enumerate() {
            golden.check_gradient(name, &format!("student_hidden.{state}"), hidden, &mut grads);
        }
        golden.check_gradient(name, "projection", &weight, &mut grads);
        golden.check_gradient(name, "bias", &bias, &mut grads);
    }
}

#[test]
fn golden_minilm_v2() {
    let Some(golden) = golden() else { return };
    for device in devices().into_iter().map(Device::autodiff) {
        let name = "minilm_v2";
        let width = |whose: &str| golden.shape(&format!("{name}.{whose}_q"))[2];
        let relation_heads = golden.number(name, "relation_heads") as usize;
        let (student, teacher) = (encoder(width("student"), 1, 1, 8), encoder(width("teacher"), 1, 1, 8));
        let (mask, shape) = golden.mask(name);
        let of = |whose: &str| {
            ["q", "k", "v"].map(|which| golden.tensor::<3>(&format!("{name}.{whose}_{which}"), &device))
        };
        let leaves = of("student").map(Tensor::require_grad);
        let with = |of: [Tensor<3>; 3]| ModelOutput {
            queries_keys_values: vec![of],
            ..output(Tensor::zeros([1, 1], &device))
        };
        let case = Case {
            losses: format!("{{ kind = \"relations\", relation_heads = {relation_heads} }}"),
            level: Level::Sequence,
            student: student.as_ref(),
            teacher: teacher.as_ref(),
            labels: vec![-100; shape[0]],
            mask,
            shape,
            device: &device,
        };
        let teacher = TeacherOutput { output: Some(with(of("teacher"))), ..TeacherOutput::default() };
        let loss = case.loss(&with(leaves.clone()), teacher, None);
        check_loss(&golden, name, &loss);
        let mut grads = loss.backward();
        for (leaf, which) in leaves.iter().zip(["q", "k", "v"]) {
            golden.check_gradient(name, &format!("student_{which}"), leaf, &mut grads);
        }
    }
}
