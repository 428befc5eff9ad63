//! The shipped recipes of distillation as they are, but for what is large: models, data and steps are overridden.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use support::{folder, read_json, run, write};

/// The labels, as an override.
const LABELS: &str = r#"task.labels=["billing","bug_report","cancellation","login","refund","shipping"]"#;

/// A language model of the tickets: what a hub model is to the recipes.
const LANGUAGE_MODEL: &str = r#"
name = "language-model"
output_dir = "language-model"

[task]
kind = "masked_language_modeling"

[model]
architecture = "bert"
hidden_size = 48
num_hidden_layers = 3
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 64

[tokenizer]
train = { vocab_size = 1000 }

[data]
train = "corpus.txt"
validation = "held_out.txt"
max_length = 48

[train]
epochs = 2
learning_rate = 2e-3
warmup_ratio = 0.1
"#;

/// The same fine-tuned: what `checkpoints/ag-news` is to the recipes.
const TEACHER: &str = r#"
name = "teacher"
output_dir = "teacher"

[task]
kind = "classification"
labels = ["billing", "bug_report", "cancellation", "login", "refund", "shipping"]

[model]
path = "language-model"

[data]
train = "datasets/support_tickets/train.csv"
test = "datasets/support_tickets/test.csv"
max_length = 48

[train]
epochs = 3
batch_size = 16
learning_rate = 3e-3
warmup_ratio = 0.1
"#;

/// A folder with the recipes, their data and the two models that they learn from, made once.
fn here() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = folder();
        run(folder.path(), &["datasets", "write", "support_tickets"]).success();
        for recipe in ["distil_soft_labels", "distilbert", "tinybert", "minilm"] {
            run(folder.path(), &["recipes", "copy", recipe]).success();
        }
        let text = std::fs::read_to_string(folder.path().join("datasets/support_tickets/unlabelled.txt"));
        let lines: Vec<String> = text.expect("reads").lines().map(|line| format!("{line}\n")).collect();
        // As in a corpus from the hub, paragraphs are separated by rows without a word.
        write(folder.path().join("corpus.txt"), lines[200..].join("\n"));
        write(folder.path().join("held_out.txt"), lines[..200].concat());
        for (name, recipe) in [("language-model.toml", LANGUAGE_MODEL), ("teacher.toml", TEACHER)] {
            write(folder.path().join(name), recipe);
            run(folder.path(), &["run", name]).success();
        }
        folder
    });
    folder.path()
}

/// Runs a recipe with some settings and gives the record of its last stage.
fn distil(recipe: &str, out: &str, sets: &[&str]) -> Value {
    let out_set = format!("output_dir={out}");
    let sets = [&out_set, "data.max_length=48"].into_iter().chain(sets.iter().copied());
    let recipe = format!("{recipe}.toml");
    let arguments: Vec<&str> =
        ["run", &recipe].into_iter().chain(sets.flat_map(|set| ["--set", set])).collect();
    run(here(), &arguments).success();
    let record = read_json(here().join(out).join("run.json"));
    assert_eq!(record["status"], "finished");
    record
}

fn accuracy(record: &Value) -> f64 {
    record["metrics"]["test"]["accuracy"].as_f64().expect("an accuracy")
}

/// What a stage logged of its losses by name, from its first step to its last; of a single loss the sum of losses.
fn logged(out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(here().join(out).join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    let lines = lines.filter(|line| line["kind"] == "train");
    lines.map(|line| line.get("losses").unwrap_or(&json!({ "loss": line["loss"] })).clone()).collect()
}

/// Whether a stage minimised just these losses, and each is lower in its second half than in its first.
#[track_caller]
fn assert_learnt(out: &str, names: &[&str]) {
    let logged = logged(out);
    let (first, second) = logged.split_at(logged.len() / 2);
    let found: Vec<&str> = second[0].as_object().expect("losses").keys().map(String::as_str).collect();
    assert_eq!(found, names, "{out}");
    for name in names {
        let mean = |half: &[Value]| {
            half.iter().map(|losses| losses[name].as_f64().expect("a loss")).sum::<f64>() / half.len() as f64
        };
        let (first, second) = (mean(first), mean(second));
        assert!(second < first, "`{name}` in `{out}`: {first} at first, then {second}");
    }
}

/// How many files of changed copies lie in the cache beside the runs.
fn augmented_files() -> usize {
    let files = std::fs::read_dir(here().join(".teacher-cache")).expect("a cache");
    files
        .filter(|file| file.as_ref().expect("a file").path().extension().is_some_and(|end| end == "jsonl"))
        .count()
}

fn config(out: &str) -> Value {
    read_json(here().join(out).join("config.json"))
}

const TRAIN: &str = "data.train=datasets/support_tickets/train.csv";
const TEST: &str = "data.test=datasets/support_tickets/test.csv";

#[test]
fn soft_labels_teach_a_student_with_few_labels() {
    let sets = [
        LABELS,
        TRAIN,
        TEST,
        "teacher.path=teacher",
        "distill.transfer_data=datasets/support_tickets/unlabelled.txt",
        "data.max_rows=1000",
        "student.hidden_size=24",
        "student.intermediate_size=48",
        "train.learning_rate=5e-3",
    ];
    let record = distil("distil_soft_labels", "soft-labels", &sets);
    assert_eq!(record["rows"]["train"], 950 + 3000);
    assert_eq!(record["distillation"]["transfer_rows"], 3000);
    assert_eq!(record["distillation"]["cached"], true);
    assert_eq!(config("soft-labels")["hidden_size"], 24);
    assert_learnt("soft-labels", &["hard_labels", "soft_labels"]);
    let (teacher, student) = (accuracy(&read_json(here().join("teacher/run.json"))), accuracy(&record));
    assert!(teacher > 0.8 && student > 0.7, "teacher {teacher}, student {student}");
}

#[test]
fn distilbert_learns_language_first_and_the_task_after() {
    let sets = [
        "student.layers=[0,2]",
        "stage.general.teacher.path=language-model",
        "stage.general.data.train=corpus.txt",
        "stage.general.data.validation=held_out.txt",
        "stage.general.train.gradient_accumulation_steps=1",
        "stage.general.train.learning_rate=2e-3",
        "stage.general.train.epochs=2",
        LABELS_OF_TASK,
        TRAIN_OF_TASK,
        TEST_OF_TASK,
        "stage.task.teacher.path=teacher",
        "stage.task.train.learning_rate=3e-3",
        "stage.task.train.epochs=2",
    ];
    let record = distil("distilbert", "distilbert", &sets);
    let general = "distilbert/stages/1-general";
    let of_general = read_json(here().join(general).join("run.json"));
    assert_eq!(of_general["distillation"]["copied_layers"], json!([0, 2]));
    assert_eq!(config(general)["architectures"][0], "BertForMaskedLM");
    assert_eq!(config(general)["num_hidden_layers"], 2);
    assert_learnt(general, &["soft_labels", "masked_lm", "cosine"]);
    assert_eq!(record["model"]["source"], general);
    assert_eq!(config("distilbert")["architectures"][0], "BertForSequenceClassification");
    assert_learnt("distilbert", &["hard_labels", "soft_labels"]);
    assert!(accuracy(&record) > 0.6, "accuracy {}", accuracy(&record));
}

const LABELS_OF_TASK: &str =
    r#"stage.task.task.labels=["billing","bug_report","cancellation","login","refund","shipping"]"#;
const TRAIN_OF_TASK: &str = "stage.task.data.train=datasets/support_tickets/train.csv";
const TEST_OF_TASK: &str = "stage.task.data.test=datasets/support_tickets/test.csv";

#[test]
fn tinybert_goes_through_its_three_stages() {
    let sets = [
        LABELS,
        TRAIN,
        "data.max_rows=600",
        "teacher.path=teacher",
        "student.hidden_size=24",
        "student.num_hidden_layers=2",
        "student.num_attention_heads=4",
        "student.intermediate_size=48",
        "stage.general.teacher.path=language-model",
        "stage.general.data.train=corpus.txt",
        "stage.general.data.validation=held_out.txt",
        "stage.general.data.max_rows=2000",
        "stage.general.train.gradient_accumulation_steps=1",
        "stage.general.train.learning_rate=1e-3",
        "stage.intermediate.augment.path=language-model",
        "stage.intermediate.augment.copies=4",
        "stage.intermediate.train.epochs=2",
        "stage.intermediate.train.learning_rate=1e-3",
        "stage.prediction.augment.path=language-model",
        "stage.prediction.augment.copies=4",
        "stage.prediction.data.test=datasets/support_tickets/test.csv",
        "stage.prediction.train.learning_rate=3e-3",
        "stage.prediction.train.epochs=6",
    ];
    let record = distil("tinybert", "tinybert", &sets);
    let inner = ["attention", "hidden_states", "embeddings"];
    assert_learnt("tinybert/stages/1-general", &inner);
    assert_learnt("tinybert/stages/2-intermediate", &inner);
    assert_learnt("tinybert", &["loss"]);
    let sources = ["tinybert/stages/2-intermediate", "tinybert"]
        .map(|out| read_json(here().join(out).join("run.json"))["model"]["source"].clone());
    assert_eq!(sources, ["tinybert/stages/1-general", "tinybert/stages/2-intermediate"]);
    // The learned projection is no part of what is saved.
    let bytes =
        std::fs::read(here().join("tinybert/stages/2-intermediate/model.safetensors")).expect("reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert!(tensors.names().iter().all(|name| name.starts_with("bert.") || name.starts_with("classifier.")));
    let copied = |record: &Value| -> u64 {
        let files = record["data"].as_array().expect("files").iter();
        files
            .filter(|file| file["used_as"] == "augmented")
            .map(|file| file["rows"].as_u64().expect("rows"))
            .sum()
    };
    // The third stage finds what the second one made.
    assert_eq!(augmented_files(), 1);
    // Four copies of each of the 570 rows, but for those that came out the same.
    assert!((2000..=4 * 570).contains(&copied(&record)), "{} copies", copied(&record));
    assert!(accuracy(&record) > 0.5, "accuracy {}", accuracy(&record));
}

#[test]
fn minilm_learns_relations_first_and_the_task_after() {
    let sets = [
        "student.hidden_size=24",
        "student.num_hidden_layers=2",
        "student.intermediate_size=48",
        "stage.relations.teacher.path=language-model",
        "stage.relations.data.train=corpus.txt",
        "stage.relations.data.validation=held_out.txt",
        "stage.relations.train.gradient_accumulation_steps=1",
        "stage.relations.train.learning_rate=2e-3",
        LABELS_OF_TASK,
        TRAIN_OF_TASK,
        TEST_OF_TASK,
        "stage.task.teacher.path=teacher",
        "stage.task.train.learning_rate=5e-3",
        "stage.task.train.epochs=3",
    ];
    let record = distil("minilm", "minilm", &sets);
    let relations = "minilm/stages/1-relations";
    assert_learnt(relations, &["loss"]);
    let of_relations = read_json(here().join(relations).join("run.json"));
    assert!(of_relations["distillation"]["kept_energy"].as_f64().is_some_and(|kept| kept < 1.0));
    assert_eq!(record["model"]["source"], relations);
    assert_learnt("minilm", &["hard_labels", "soft_labels"]);
    assert!(accuracy(&record) > 0.6, "accuracy {}", accuracy(&record));
}

#[test]
fn a_finished_recipe_of_stages_is_left_alone() {
    let small = [
        "stage.relations.teacher.path=language-model",
        "stage.relations.data.train=held_out.txt",
        "stage.relations.data.validation=held_out.txt",
        "stage.relations.train.max_steps=2",
        "student.hidden_size=24",
        LABELS_OF_TASK,
        TRAIN_OF_TASK,
        TEST_OF_TASK,
        "stage.task.teacher.path=teacher",
        "stage.task.data.max_rows=100",
        "stage.task.train.max_steps=2",
    ];
    distil("minilm", "twice", &small);
    let before = support::tree(&here().join("twice"));
    let sets = ["output_dir=twice", "data.max_length=48"].into_iter().chain(small);
    let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
    let refused = run(here(), &[["run", "minilm.toml"].as_slice(), &sets].concat());
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    run(here(), &[["run", "minilm.toml", "--resume"].as_slice(), &sets].concat()).success();
    assert!(support::tree(&here().join("twice")) == before);
}
