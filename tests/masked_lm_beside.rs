//! Classifiers that guess hidden tokens of other columns beside their labels, in the same step.
#![cfg(unix)]

mod support;

use std::path::Path;
use support::tickets::{masked, put, teacher_folder};
use support::{distill, read_json, run, wait_until, write};

/// A classifier made of the masked language model `masked`, 12 steps an epoch.
fn recipe(task: &str, more: &str) -> String {
    format!(
        r#"name = "student"
seed = 7
output_dir = "student"

[task]
kind = "classification"
{task}

[model]
path = "masked"

[data]
train = "why.csv"
test = "test.csv"
max_rows = 200
validation_fraction = 0.1
max_length = 48

[train]
epochs = 3
batch_size = 16
learning_rate = 2e-3
logging_steps = 4
save_steps = 4
dropout = 0.0
dtype = "f32"
threads = 1
{more}"#
    )
}

const BESIDE: &str = "masked_lm = { text = [\"text\", \"why\"] }";

/// The same with a teacher.
fn taught(task: &str, more: &str) -> String {
    let tables = "\n[teacher]\npath = \"teacher\"\n\n[distill]\nmethod = \"soft_labels\"\n";
    recipe(task, &format!("{tables}{more}")).replace("[model]", "[student]")
}

/// A folder with `masked` and `why.csv`: texts, labels and a reason that gives the label away.
fn prepared() -> tempfile::TempDir {
    let folder = teacher_folder();
    put(folder.path(), "masked", masked());
    let text = std::fs::read_to_string(folder.path().join("train.csv")).expect("reads");
    let rows = text.lines().skip(1).filter_map(|line| line.rsplit_once(','));
    let rows = rows.map(|(text, label)| format!("{text},{label},it is about {label}\n"));
    write(folder.path().join("why.csv"), format!("text,label,why\n{}", rows.collect::<String>()));
    folder
}

#[track_caller]
fn trained(folder: &Path, task: &str, arguments: &[&str]) -> Vec<f32> {
    write(folder.join("student.toml"), recipe(task, ""));
    run(folder, &[&["run", "student.toml", "--quiet", "--overwrite"], arguments].concat()).success();
    numbers(folder)
}

/// The weights of the student in the order of their names.
#[track_caller]
fn numbers(folder: &Path) -> Vec<f32> {
    let bytes = std::fs::read(folder.join("student/model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, _) in &tensors {
        assert!(!name.starts_with("cls."), "`{name}`: the second head is dropped on export");
    }
    let bytes: Vec<u8> = tensors.iter().flat_map(|(_, view)| view.data().to_vec()).collect();
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// Values of a loss over a run, where it is logged.
#[track_caller]
fn logged(folder: &Path, loss: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("student/metrics.jsonl")).expect("metrics");
    let lines =
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"));
    lines.filter_map(|line| line["losses"][loss].as_f64()).collect()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    let furthest = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest < tolerance, "{furthest}");
}

#[test]
fn hidden_tokens_are_guessed_beside_labels() {
    let folder = prepared();
    let alone = trained(folder.path(), "", &[]);
    assert!(logged(folder.path(), "masked_lm").is_empty());
    let beside = trained(folder.path(), BESIDE, &[]);
    assert!(alone != beside);
    let values = logged(folder.path(), "masked_lm");
    let ends = [&values[..3], &values[6..]].map(|values| values.iter().sum::<f64>());
    assert!(ends[1] < 0.97 * ends[0], "{values:?}");
    let record = read_json(folder.path().join("student/run.json"));
    for loss in ["hard_labels", "masked_lm"] {
        assert!(record["metrics"]["train"]["losses"][loss].is_f64());
    }
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    let told = "hidden tokens of `text`, `why` are guessed beside the labels";
    assert!(plan.contains(told), "{plan}");
    let others = trained(folder.path(), "masked_lm = { text = \"text\" }", &[]);
    assert!(others != beside, "other columns");
    run(folder.path(), &["eval", "student", "--data", "test.csv"]).success();

    // Beside the losses of a teacher as well.
    write(folder.path().join("student.toml"), taught(BESIDE, ""));
    run(folder.path(), &["run", "student.toml", "--quiet", "--overwrite"]).success();
    for loss in ["hard_labels", "soft_labels", "masked_lm"] {
        assert!(!logged(folder.path(), loss).is_empty(), "{loss}");
    }
}

#[test]
fn the_loss_is_weighed_and_a_mean_over_the_whole_step() {
    let folder = prepared();
    let alone = trained(folder.path(), "", &[]);
    let nothing = "masked_lm = { text = [\"text\", \"why\"], weight = 1e-30 }";
    assert_close(&alone, &trained(folder.path(), nothing, &[]), 1e-5);
    let whole = trained(folder.path(), BESIDE, &["--set", "train.epochs=1"]);
    let cut = ["train.epochs=1", "train.batch_size=4", "train.gradient_accumulation_steps=4"];
    let cut: Vec<&str> = cut.iter().flat_map(|set| ["--set", set]).collect();
    assert_close(&whole, &trained(folder.path(), BESIDE, &cut), 2e-4);
}

#[test]
fn a_killed_run_goes_on_with_both_heads() {
    let folder = prepared();
    let unbroken = trained(folder.path(), BESIDE, &[]);
    let checkpoints = folder.path().join("student/checkpoints");
    let mut child =
        distill(folder.path(), &["run", "student.toml", "--quiet", "--overwrite"]).spawn().expect("starts");
    let there = |step: u32| checkpoints.join(format!("step-{step:08}")).join("beside.safetensors").exists();
    // The folder of the run before goes first.
    let begun = || !there(36) && (there(4) || there(8) || there(12));
    if wait_until(&mut child, begun) {
        child.kill().expect("kills");
    }
    child.wait().expect("ends");
    run(folder.path(), &["run", "student.toml", "--quiet", "--resume"]).success();
    assert!(numbers(folder.path()) == unbroken);
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = prepared();
    let told = |recipe: String| {
        write(folder.path().join("student.toml"), recipe);
        let stderr = run(folder.path(), &["run", "student.toml", "--quiet"]).refusal();
        assert!(!folder.path().join("student").exists());
        stderr
    };
    insta::assert_snapshot!("beside_adapters", told(recipe(BESIDE, "\n[lora]\nr = 2\n")));
    insta::assert_snapshot!("beside_copies", told(taught(BESIDE, "\n[augment]\ncopies = 2\n")));
    insta::assert_snapshot!("no_weight", told(recipe("masked_lm = { text = \"why\", weight = 0 }", "")));
    insta::assert_snapshot!("no_text", told(recipe("masked_lm = { weight = 0.5 }", "")));
    write(folder.path().join("student.toml"), recipe("masked_lm = { text = \"wyh\" }", ""));
    let outcome = run(folder.path(), &["run", "student.toml", "--quiet"]);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("`wyh`") && outcome.stderr.contains("why.csv"), "{}", outcome.stderr);
}
