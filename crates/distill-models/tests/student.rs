//! Students from teachers: what is copied is the teacher's, what is projected is the best that fits, what is new is as
//! from scratch.

mod golden_set;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::{Device, Tensor};
use distill_models::{
    Architecture, ForwardOptions, HeadPolicy, LayerChoice, LoadRequest, Loaded, Model, ModelConfig,
    ModelInput, ModelOutput, StudentReport, StudentRequest, Task, find, from_scratch, load,
    parameters_to_host, read_safetensors, save, student_config, student_from_teacher, write_safetensors,
};
use distill_ops::Dropout;
use golden_set::{devices, encoders, json, model_folders};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

const VOCAB: usize = 60;

fn labels(count: usize) -> Task {
    Task::Classification { id2label: (0..count).map(|n| format!("label {n}")).collect() }
}

fn load_request(task: Task, head: HeadPolicy, device: &Device) -> LoadRequest {
    LoadRequest { task, head, seed: 5, device: device.clone(), dropout: None, adapter: None }
}

fn sizes(table: Value) -> Map<String, Value> {
    table.as_object().unwrap().clone()
}

/// A student with three labels, its head new if need be.
fn request(layers: Option<LayerChoice>, architecture: Option<&str>, table: Value) -> StudentRequest {
    let load = load_request(labels(3), HeadPolicy::Reinitialise, &devices()[0]);
    StudentRequest { layers, architecture: architecture.map(str::to_owned), sizes: sizes(table), load }
}

/// A teacher of six layers, 32 wide, whose embeddings are 32 wide too.
fn teacher(architecture: &'static Architecture) -> TempDir {
    let mut table = json!({"hidden_size": 32, "num_hidden_layers": 6, "max_position_embeddings": 24});
    if architecture.model_type == "albert" {
        table["embedding_size"] = json!(32);
    }
    let load = load_request(labels(3), HeadPolicy::Reinitialise, &devices()[0]);
    let made = from_scratch(architecture, &table, VOCAB, 1, load).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save(made.model.as_ref(), &made.config, folder.path()).unwrap();
    folder
}

fn as_saved(folder: &Path) -> Loaded {
    let task = ModelConfig::read(folder).unwrap().task;
    load(folder, load_request(task, HeadPolicy::MustMatch, &devices()[0])).unwrap()
}

fn forward(model: &dyn Model) -> ModelOutput {
    let ids = [2, 7, 9, 30, 5, 3, 2, 11, 3, 1, 1, 1];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0];
    let input = ModelInput::new(&ids, &mask, None, [2, 6], &model.device());
    let options = ForwardOptions { hidden_states: true, ..ForwardOptions::default() };
    model.forward(&input, options, &mut Dropout::off())
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().iter::<f32>().collect()
}

fn logits(loaded: &Loaded) -> Vec<f32> {
    values(&forward(loaded.model.as_ref()).logits())
}

fn tensors(loaded: &Loaded) -> Tensors {
    parameters_to_host(loaded.model.as_ref())
        .into_iter()
        .map(|(name, shape, values)| (name, (shape, values)))
        .collect()
}

fn tensor<'a>(tensors: &'a Tensors, suffix: &str) -> &'a (Vec<usize>, Vec<f32>) {
    tensors.iter().find(|(name, _)| name.ends_with(suffix)).map(|(_, tensor)| tensor).unwrap()
}

/// The teacher's folder with other layers removed by hand: files edited, nothing of the code under test.
fn edited(folder: &Path, layers: &[usize]) -> TempDir {
    let mut config = json(&folder.join("config.json"));
    let count = if config.get("n_layers").is_some() { "n_layers" } else { "num_hidden_layers" };
    config[count] = json!(layers.len());
    let mut kept = Vec::new();
    for (name, (shape, values)) in read_safetensors(&folder.join("model.safetensors")).unwrap().tensors {
        match name.split_once(".layer.") {
            None => kept.push((name, shape, values)),
            Some((before, after)) => {
                let (number, after) = after.split_once('.').unwrap();
                if let Some(place) = layers.iter().position(|layer| layer.to_string() == number) {
                    kept.push((format!("{before}.layer.{place}.{after}"), shape, values));
                }
            }
        }
    }
    write_folder(config, kept)
}

fn write_folder(config: Value, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> TempDir {
    let made = tempfile::tempdir().unwrap();
    std::fs::write(made.path().join("config.json"), config.to_string()).unwrap();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&made.path().join("model.safetensors"), tensors, &metadata).unwrap();
    made
}

/// What is saved loads again, as it was.
fn assert_survives_a_folder(student: &Loaded) {
    let folder = tempfile::tempdir().unwrap();
    save(student.model.as_ref(), &student.config, folder.path()).unwrap();
    let again = as_saved(folder.path());
    assert_eq!(again.report, Default::default());
    assert_eq!(again.config.to_json(), student.config.to_json());
    assert_eq!(logits(&again), logits(student));
}

fn made(teacher: &Path, request: StudentRequest) -> (Loaded, StudentReport) {
    let config = student_config(teacher, &request).unwrap();
    let (student, report) = student_from_teacher(teacher, request).unwrap();
    assert_eq!(config.to_json(), student.config.to_json());
    (student, report)
}

#[test]
fn golden_teachers_with_all_layers_are_copied_whole() {
    for device in devices() {
        for folder in model_folders() {
            let task = ModelConfig::read(&folder).unwrap().task;
            let load = load_request(task.clone(), HeadPolicy::MustMatch, &device);
            let same = ModelConfig::read(&folder).unwrap().to_json();
            let teacher = distill_models::load(&folder, load.clone()).unwrap();
            let even = LayerChoice::Even { num_hidden_layers: 2 };
            for layers in [None, Some(even), Some(LayerChoice::Explicit(vec![0, 1]))] {
                let request =
                    StudentRequest { layers, architecture: None, sizes: Map::new(), load: load.clone() };
                let (student, report) = made(&folder, request);
                assert_eq!(logits(&student), logits(&teacher), "{}", folder.display());
                assert_eq!(student.config.to_json(), same);
                assert_eq!(student.report, Default::default());
                let expected =
                    StudentReport { copied_layers: vec![0, 1], kept_energy: None, new: Vec::new() };
                assert_eq!(report, expected);
            }
        }
    }
}

#[test]
fn golden_teachers_lend_single_layers() {
    for device in devices() {
        for folder in model_folders() {
            let task = ModelConfig::read(&folder).unwrap().task;
            for layer in 0..2 {
                let load = load_request(task.clone(), HeadPolicy::MustMatch, &device);
                let layers = Some(LayerChoice::Explicit(vec![layer]));
                let (student, report) = made(
                    &folder,
                    StudentRequest { layers, architecture: None, sizes: Map::new(), load: load.clone() },
                );
                assert_eq!(report.copied_layers, [layer]);
                assert_eq!(student.report, Default::default(), "{}", folder.display());
                let by_hand = edited(&folder, &[layer]);
                let reference = distill_models::load(by_hand.path(), load).unwrap();
                assert_eq!(logits(&student), logits(&reference), "{}", folder.display());
            }
        }
    }
}

#[test]
fn a_subset_is_the_teacher_without_the_other_layers() {
    if devices().is_empty() {
        return;
    }
    for architecture in encoders() {
        let folder = teacher(architecture);
        for (choice, layers) in [
            (LayerChoice::Explicit(vec![0, 2, 5]), vec![0, 2, 5]),
            (LayerChoice::Even { num_hidden_layers: 3 }, vec![0, 3, 5]),
            (LayerChoice::Explicit(vec![0, 1]), vec![0, 1]),
        ] {
            let (student, report) = made(folder.path(), request(Some(choice), None, json!({})));
            assert_eq!(report.copied_layers, layers);
            assert_eq!((report.kept_energy, report.new.len()), (None, 0));
            assert_eq!(student.report, Default::default(), "layers that were left out are not news");
            assert_eq!(student.model.num_hidden_layers(), layers.len());
            let by_hand = edited(folder.path(), &layers);
            assert_eq!(logits(&student), logits(&as_saved(by_hand.path())), "{architecture:?}");
            let mut expected = json(&by_hand.path().join("config.json"));
            for (key, value) in student.config.to_json().as_object().unwrap() {
                assert_eq!(value, &expected[key].take(), "`{key}`");
            }
            assert_survives_a_folder(&student);
            // The first layers of both see the same.
            let of = |loaded: &Loaded| forward(loaded.model.as_ref()).hidden_states.unwrap();
            let (student, teacher) = (of(&student), of(&as_saved(folder.path())));
            assert_eq!(values(&student[1]), values(&teacher[1]));
            assert_eq!(
                values(&student[2]) == values(&teacher[2]),
                layers == [0, 1] || is_shared(architecture)
            );
        }
    }
}

fn is_shared(architecture: &Architecture) -> bool {
    architecture.model_type == "albert"
}

#[test]
fn groups_of_shared_layers_follow_their_layers() {
    if devices().is_empty() {
        return;
    }
    // Four layers in two groups, the second group's numbers half of the first's.
    let folder = teacher(find("albert").unwrap());
    let mut config = json(&folder.path().join("config.json"));
    (config["num_hidden_layers"], config["num_hidden_groups"]) = (json!(4), json!(2));
    let mut tensors: Vec<_> = read_safetensors(&folder.path().join("model.safetensors"))
        .unwrap()
        .tensors
        .into_iter()
        .map(|(name, (shape, values))| (name, shape, values))
        .collect();
    let second: Vec<_> = tensors
        .iter()
        .filter(|(name, ..)| name.contains("layer_groups.0."))
        .map(|(name, shape, values)| {
            let halves = values.iter().map(|v| v / 2.0).collect();
            (name.replace("layer_groups.0.", "layer_groups.1."), shape.clone(), halves)
        })
        .collect();
    tensors.extend(second);
    let folder = write_folder(config, tensors);
    let teacher = self::tensors(&as_saved(folder.path()));
    let group = |tensors: &Tensors, n: usize| {
        tensor(tensors, &format!("layer_groups.{n}.albert_layers.0.ffn.weight")).1.clone()
    };
    for (layers, groups) in [
        (vec![0, 1, 2], vec![0, 1]),
        (vec![0, 3], vec![0, 1]),
        (vec![2, 3], vec![1]),
        (vec![0, 2, 3], vec![0, 1, 1]),
    ] {
        let choice = LayerChoice::Explicit(layers);
        let (student, report) = made(folder.path(), request(Some(choice), None, json!({})));
        assert_eq!(student.config.to_json()["num_hidden_groups"], json!(groups.len()));
        let own = self::tensors(&student);
        for (place, from) in groups.iter().enumerate() {
            assert_eq!(group(&own, place), group(&teacher, *from));
        }
        assert_eq!((report.new.len(), &student.report), (0, &Default::default()));
        assert_survives_a_folder(&student);
    }
}

#[test]
fn the_head_is_kept_where_it_fits_and_new_where_it_does_not() {
    if devices().is_empty() {
        return;
    }
    for architecture in encoders() {
        let folder = teacher(architecture);
        let mut asked = request(Some(LayerChoice::Explicit(vec![1])), None, json!({}));
        asked.load.task = labels(4);
        let (student, report) = made(folder.path(), asked.clone());
        assert_eq!(report.new.len(), 2, "{report:?}");
        assert!(report.new.iter().all(|name| name.contains("classifier")), "{report:?}");
        assert_eq!(student.config.to_json()["id2label"]["3"], json!("label 3"));
        asked.load.head = HeadPolicy::MustMatch;
        let error = student_from_teacher(folder.path(), asked).err().unwrap().to_string();
        assert!(error.contains("expected [4"), "{error}");
    }
}

/// The principal directions hold as much as can be held: Eckart and Young for this student.
fn assert_best_projection(teacher: &Tensors, student: &Tensors, kept_energy: f64) {
    let (wide, narrow) =
        (tensor(teacher, "word_embeddings.weight"), tensor(student, "word_embeddings.weight"));
    let (full, products) = (products(wide), products(narrow));
    let trace = |m: &[Vec<f64>]| (0..m.len()).map(|n| m[n][n]).sum::<f64>();
    // The columns of W V are orthogonal, and their squares the eigenvalues, the largest first.
    let eigenvalues: Vec<f64> = (0..products.len()).map(|n| products[n][n]).collect();
    let scale = eigenvalues[0];
    for (i, row) in products.iter().enumerate() {
        assert!(row.iter().enumerate().all(|(j, v)| i == j || v.abs() < 1e-6 * scale));
    }
    assert!(eigenvalues.is_sorted_by(|a, b| a >= b), "{eigenvalues:?}");
    assert!((trace(&products) / trace(&full) - kept_energy).abs() < 1e-6);
    // What W Wᵀ loses, by its trace, is the sum of the dropped eigenvalues, which an independent method finds.
    let all = jacobi_eigenvalues(full.clone());
    for (found, expected) in eigenvalues.iter().zip(&all) {
        assert!((found - expected).abs() < 1e-5 * scale, "{found} for {expected}");
    }
    let dropped: f64 = all[eigenvalues.len()..].iter().sum();
    assert!((trace(&full) - trace(&products) - dropped).abs() < 1e-5 * trace(&full));
    // And the squared error of all inner products is the sum of their squares.
    let number = |table: &(Vec<usize>, Vec<f32>), a: usize, b: usize| -> f64 {
        let width = table.0[1];
        let row = |n: usize| table.1[n * width..(n + 1) * width].iter().map(|v| f64::from(*v));
        row(a).zip(row(b)).map(|(a, b)| a * b).sum()
    };
    let rows = wide.0[0];
    let error: f64 = (0..rows * rows)
        .map(|n| (number(wide, n / rows, n % rows) - number(narrow, n / rows, n % rows)).powi(2))
        .sum();
    let dropped: f64 = all[eigenvalues.len()..].iter().map(|v| v * v).sum();
    assert!((error - dropped).abs() < 1e-4 * dropped, "{error} for {dropped}");
}

/// WᵀW.
fn products((shape, values): &(Vec<usize>, Vec<f32>)) -> Vec<Vec<f64>> {
    let width = shape[1];
    let entry = |i: usize, j: usize| {
        values.chunks(width).map(|row| f64::from(row[i]) * f64::from(row[j])).sum::<f64>()
    };
    (0..width).map(|i| (0..width).map(|j| entry(i, j)).collect()).collect()
}

/// Eigenvalues of a symmetric matrix by Jacobi's rotations, the largest first.
fn jacobi_eigenvalues(mut m: Vec<Vec<f64>>) -> Vec<f64> {
    let n = m.len();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                if m[p][q] == 0.0 {
                    continue;
                }
                let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut m {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (mut first, mut second) = (m[p].clone(), m[q].clone());
                for (a, b) in first.iter_mut().zip(&mut second) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
                (m[p], m[q]) = (first, second);
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| m[i][i]).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

#[test]
fn golden_embeddings_are_projected_as_well_as_can_be() {
    if devices().is_empty() {
        return;
    }
    for folder in model_folders() {
        let task = ModelConfig::read(&folder).unwrap().task;
        let teacher = as_saved(&folder);
        let table = json!({"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 1});
        let factorised = json!({"hidden_size": 40, "num_hidden_layers": 1, "embedding_size": 12});
        for (architecture, table) in [("bert", table.clone()), ("distilbert", table), ("albert", factorised)]
        {
            let mut request = request(None, Some(architecture), table);
            request.load.task = task.clone();
            let (student, report) = made(&folder, request);
            let kept_energy = report.kept_energy.unwrap();
            assert!(kept_energy > 0.3 && kept_energy < 1.0, "{kept_energy}");
            assert_best_projection(&tensors(&teacher), &tensors(&student), kept_energy);
            assert_eq!(student.config.base.vocab_size(), teacher.config.base.vocab_size());
            assert_eq!(student.config.base.pad_token_id(), teacher.config.base.pad_token_id());
            assert_survives_a_folder(&student);
        }
    }
}

#[test]
fn what_is_not_taken_over_is_new_as_from_scratch() {
    if devices().is_empty() {
        return;
    }
    let folder = teacher(find("bert").unwrap());
    for architecture in encoders() {
        let mut table = json!({"hidden_size": 16, "num_hidden_layers": 2});
        if is_shared(architecture) {
            table["embedding_size"] = json!(8);
        }
        let request = request(None, Some(architecture.model_type), table.clone());
        let load = request.load.clone();
        let (student, report) = made(folder.path(), request);
        assert_eq!((report.copied_layers.len(), &student.report), (0, &Default::default()));
        let rows = if architecture.model_type.contains("roberta") { 24 + 2 } else { 24 };
        table["max_position_embeddings"] = json!(rows);
        let scratch = from_scratch(architecture, &table, VOCAB, 1, load).unwrap();
        assert_eq!(student.config.to_json(), scratch.config.to_json());
        let (own, scratch) = (tensors(&student), tensors(&scratch));
        let taken: Vec<_> = scratch.keys().filter(|name| !report.new.contains(name)).collect();
        let expected =
            ["word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"];
        assert!(!taken.is_empty() && taken.iter().all(|name| expected.iter().any(|e| name.ends_with(e))));
        for (name, values) in &scratch {
            let is_new = report.new.contains(name) && !name.ends_with("position_embeddings.weight");
            assert_eq!(own[name] == *values, is_new, "`{name}`");
        }
    }
}

/// Rows of the positions that a text's tokens have, the first token first.
fn position_rows(tensors: &Tensors, reserved: usize) -> Vec<Vec<f32>> {
    let (shape, values) = tensor(tensors, "position_embeddings.weight");
    values.chunks(shape[1]).skip(reserved).map(<[f32]>::to_vec).collect()
}

#[test]
fn embeddings_of_the_same_width_are_copied_between_architectures_position_by_position() {
    if devices().is_empty() {
        return;
    }
    // The padding is 1: RoBERTa's first token has row 2.
    let reserved = |model_type: &str| if model_type.contains("roberta") { 2 } else { 0 };
    for from in encoders() {
        let folder = teacher(from);
        let source = tensors(&as_saved(folder.path()));
        let length = ModelConfig::read(folder.path()).unwrap().base.max_length();
        for to in encoders() {
            // Not all of the teacher's sizes, or all layers would be copied.
            let mut table = json!({"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48});
            if is_shared(to) {
                table["embedding_size"] = json!(32);
            }
            let place = format!("{} to {}", from.model_type, to.model_type);
            let (student, report) = made(folder.path(), request(None, Some(to.model_type), table.clone()));
            assert_eq!((report.kept_energy, report.copied_layers.len()), (None, 0));
            assert_eq!(student.config.base.max_length(), length, "{place}");
            let own = tensors(&student);
            for name in ["word_embeddings.weight", "embeddings.LayerNorm.weight"] {
                assert_eq!(tensor(&own, name), tensor(&source, name), "{place}");
            }
            let (theirs, ours) = (reserved(from.model_type), reserved(to.model_type));
            assert_eq!(position_rows(&own, ours), position_rows(&source, theirs), "{place}");
            let is_partly_new = report.new.iter().any(|name| name.ends_with("position_embeddings.weight"));
            assert_eq!(is_partly_new, ours > theirs, "{place}");

            // A shorter table takes the first positions, of a longer one the rest is new.
            for rows in [10, 40] {
                table["max_position_embeddings"] = json!(rows);
                let (student, report) =
                    made(folder.path(), request(None, Some(to.model_type), table.clone()));
                let own = position_rows(&tensors(&student), ours);
                assert_eq!(own.len(), rows - ours);
                let shared = own.len().min(length);
                assert_eq!(own[..shared], position_rows(&source, theirs)[..shared], "{place}");
                assert!(own[shared..].iter().flatten().all(|v| *v != 0.0));
                let is_partly_new =
                    report.new.iter().any(|name| name.ends_with("position_embeddings.weight"));
                assert_eq!(is_partly_new, rows == 40 || ours > theirs, "{place}");
            }
        }
    }
}

#[test]
fn positions_and_types_are_projected_like_words() {
    if devices().is_empty() {
        return;
    }
    let folder = teacher(find("bert").unwrap());
    let table = json!({"hidden_size": 16, "num_hidden_layers": 1});
    let (student, _) = made(folder.path(), request(None, None, table));
    let (teacher, student) = (tensors(&as_saved(folder.path())), tensors(&student));
    // With the directions V, (p V)·(w V) = Σ_k (p·v_k)(w·v_k); v_k = Wᵀ s_k / |s_k|², s_k a column of W V.
    let (shape, words) = tensor(&teacher, "word_embeddings.weight");
    let short = &tensor(&student, "word_embeddings.weight").1;
    let (width, kept) = (shape[1], 16);
    let direction = |k: usize| -> Vec<f64> {
        let column: Vec<f64> = short.chunks(kept).map(|row| f64::from(row[k])).collect();
        let norm: f64 = column.iter().map(|v| v * v).sum();
        let along = |d: usize| {
            words.chunks(width).zip(&column).map(|(row, s)| f64::from(row[d]) * s).sum::<f64>() / norm
        };
        (0..width).map(along).collect()
    };
    for name in ["position_embeddings.weight", "token_type_embeddings.weight"] {
        let (wide, narrow) = (&tensor(&teacher, name).1, &tensor(&student, name).1);
        for k in 0..kept {
            let direction = direction(k);
            for (wide, narrow) in wide.chunks(width).zip(narrow.chunks(kept)) {
                let expected: f64 = wide.iter().zip(&direction).map(|(w, d)| f64::from(*w) * d).sum();
                assert!(
                    (f64::from(narrow[k]) - expected).abs() < 1e-5,
                    "{name}: {} for {expected}",
                    narrow[k]
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_the_reason() {
    if devices().is_empty() {
        return;
    }
    let (bert, distilbert) = (teacher(find("bert").unwrap()), teacher(find("distilbert").unwrap()));
    let first = || Some(LayerChoice::Explicit(vec![0]));
    let cases = [
        (
            request(first(), None, json!({"intermediate_size": 64})),
            "`layers` copies layers of the teacher, whose `intermediate_size` is `128`, found `64`: leave out \
             `intermediate_size`, or leave out `layers` for new layers and the teacher's embeddings",
        ),
        (
            request(first(), Some("albert"), json!({})),
            "`layers` copies layers of the teacher, which is `NAME`, into a student of architecture `albert`: leave out \
             `layers`, and the student takes the teacher's embeddings alone, or leave out `architecture`",
        ),
        (
            request(first(), None, json!({"num_hidden_layers": 2})),
            "`num_hidden_layers` is `2`, but `layers` chooses 1: leave one of them out",
        ),
        (
            request(None, None, json!({"num_hidden_layers": 2})),
            "`num_hidden_layers` is `2`, the teacher has 6 layers: add `layers` to say which of them the student starts \
             from, a list of numbers from 0 or \"even\"",
        ),
        (
            request(Some(LayerChoice::Explicit(vec![6])), None, json!({})),
            "`layers` must be numbers from 0 to 5, found `6`: the teacher has 6 layers, counted from 0",
        ),
        (
            request(None, None, json!({"hidden_size": 48})),
            "`hidden_size` must be at most 32, the width of the teacher's embeddings, found `48`",
        ),
        (
            request(None, Some("albert"), json!({"hidden_size": 16})),
            "`embedding_size` must be at most 32, the width of the teacher's embeddings, found `128`",
        ),
        (
            request(None, None, json!({"hidden_size": 30, "hidden_act": "gleu"})),
            "`hidden_size` must be a multiple of `num_attention_heads` (4), found `30`; `hidden_act` must be one of",
        ),
    ];
    for folder in [&bert, &distilbert] {
        for (request, expected) in &cases {
            let error = student_config(folder.path(), request).unwrap_err().to_string();
            let name = ModelConfig::read(folder.path()).unwrap().architecture.model_type;
            assert!(error.starts_with(&expected.replace("NAME", name)), "{error}");
            let again = student_from_teacher(folder.path(), request.clone()).err().unwrap().to_string();
            assert_eq!(again, error);
        }
        for layers in [None, first()] {
            let request = request(layers, None, json!({"hiden_size": 16}));
            let error = student_config(folder.path(), &request).unwrap_err().to_string();
            assert!(error.contains("(did you mean `hidden_size`?)"), "{error}");
        }
        let request = request(None, Some("brt"), json!({}));
        let error = student_config(folder.path(), &request).unwrap_err().to_string();
        assert!(error.contains("unsupported architecture `brt`"), "{error}");
    }
    // Sizes that are the teacher's are no contradiction.
    let own = json!({"hidden_size": 32, "num_hidden_layers": 1, "hidden_dropout_prob": 0.1});
    for folder in [&bert, &distilbert] {
        let (_, report) = made(folder.path(), request(first(), None, own.clone()));
        assert_eq!(report.copied_layers, [0]);
    }
}

#[test]
fn a_teacher_that_is_damaged_is_refused() {
    if devices().is_empty() {
        return;
    }
    let folder = teacher(find("bert").unwrap());
    let narrow = || request(None, None, json!({"hidden_size": 16, "num_hidden_layers": 1}));
    let config = json(&folder.path().join("config.json"));
    let content = read_safetensors(&folder.path().join("model.safetensors")).unwrap().tensors;
    let list = |edit: &dyn Fn(&str, &mut Vec<f32>) -> bool| {
        let tensors = content.clone().into_iter().filter_map(|(name, (shape, mut values))| {
            edit(&name, &mut values).then_some((name, shape, values))
        });
        write_folder(config.clone(), tensors.collect())
    };
    let infinite = list(&|name, values| {
        if name.ends_with("word_embeddings.weight") {
            values[40] = f32::INFINITY;
        }
        true
    });
    let error = student_from_teacher(infinite.path(), narrow()).err().unwrap().to_string();
    assert!(error.ends_with("cannot be projected: they hold numbers that are not finite"), "{error}");
    let without = list(&|name, _| !name.ends_with("position_embeddings.weight"));
    let error = student_from_teacher(without.path(), narrow()).err().unwrap().to_string();
    assert!(error.contains("`bert.embeddings.position_embeddings.weight` is missing"), "{error}");
    let error = student_from_teacher(&folder.path().join("none"), narrow()).err().unwrap().to_string();
    assert!(error.contains("cannot read"), "{error}");
}
