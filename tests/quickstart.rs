//! The quick start as a user does it: an empty folder, the recipe copied into it, one run, then the model used.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use support::{Outcome, distill, folder, read_json, run, run_with_input, write};

/// The folder and what the run said, made once.
fn quickstart() -> &'static (tempfile::TempDir, Outcome) {
    static RUN: OnceLock<(tempfile::TempDir, Outcome)> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = folder();
        run(folder.path(), &["recipes", "copy", "quickstart"]).success();
        let outcome = run(folder.path(), &["run", "quickstart.toml"]).success();
        (folder, outcome)
    })
}

const MODEL: &str = "checkpoints/quickstart";

fn here() -> &'static Path {
    quickstart().0.path()
}

fn rows(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

#[test]
fn the_run_is_accurate_and_leaves_a_whole_checkpoint() {
    let out = here().join(MODEL);
    let record = read_json(out.join("run.json"));
    let accuracy = record["metrics"]["test"]["accuracy"].as_f64().expect("an accuracy");
    assert!(accuracy >= 0.95, "accuracy {accuracy}");
    assert_eq!(record["status"], "finished");
    assert_eq!(record["seed"], 42);
    assert!(record["timings"]["total"].as_f64().expect("seconds") > 0.0);
    assert!(
        record["data"]
            .as_array()
            .expect("files")
            .iter()
            .all(|file| file["sha256"].as_str().is_some_and(|hash| hash.len() == 64))
    );
    for name in ["config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "predictions.jsonl"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let predictions = std::fs::read_to_string(out.join("predictions.jsonl")).expect("reads");
    assert_eq!(predictions.lines().count() as u64, record["rows"]["test"].as_u64().expect("rows"));
}

#[test]
fn the_summary_tells_scores_and_places() {
    let outcome = &quickstart().1;
    for part in [
        "accuracy 9",
        "macro F1",
        "precision",
        "predicted class",
        "shipping",
        "saved in",
        MODEL,
        "distill predict",
    ] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in:\n{}", outcome.stdout);
    }
    for part in ["training: ", "loss ", "examples/s", "validation: accuracy"] {
        assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
    }
    assert!(!outcome.stdout.contains('\u{1b}') && !outcome.stderr.contains('\u{1b}'), "no colours in a pipe");
    assert!(!outcome.stderr.contains('\r'), "no moving bars in a pipe");
}

#[test]
fn the_checkpoint_has_the_layout_of_transformers() {
    let out = here().join(MODEL);
    let config = read_json(out.join("config.json"));
    assert_eq!(config["model_type"], "bert");
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    assert_eq!(config["id2label"]["0"], "billing");
    assert_eq!(config["label2id"]["shipping"], 5);
    let bytes = std::fs::read(out.join("model.safetensors")).expect("reads");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let format = header.metadata().as_ref().and_then(|metadata| metadata.get("format"));
    assert_eq!(format.map(String::as_str), Some("pt"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
    for name in [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.1.output.LayerNorm.bias",
        "classifier.weight",
    ] {
        assert!(tensors.names().contains(&name), "{name}");
    }
}

#[test]
fn predict_answers_in_order_from_arguments_files_and_pipes() {
    let texts = ["where is my parcel?", "I forgot my password", "please refund my money"];
    let arguments: Vec<&str> = ["predict", MODEL, "--logits"]
        .into_iter()
        .chain(texts.iter().flat_map(|text| ["--text", text]))
        .collect();
    let given = rows(&run(here(), &arguments).success().stdout);
    let labels: Vec<&str> = given.iter().map(|row| row["label"].as_str().expect("a label")).collect();
    assert_eq!(labels, ["shipping", "login", "refund"]);
    for row in &given {
        let logits: Vec<f64> = row["logits"]
            .as_array()
            .expect("logits")
            .iter()
            .map(|logit| logit.as_f64().expect("a number"))
            .collect();
        assert_eq!(logits.len(), 6);
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        assert!((row["score"].as_f64().expect("a score") - 1.0 / sum).abs() < 1e-5, "{row}");
    }

    let input: String =
        texts.iter().map(|text| serde_json::json!({"id": 1, "text": text}).to_string() + "\n").collect();
    let piped = rows(&run_with_input(here(), &["predict", MODEL], input.as_bytes()).success().stdout);
    let labels: Vec<&Value> = piped.iter().map(|row| &row["label"]).collect();
    assert_eq!(labels, ["shipping", "login", "refund"]);
    assert!(
        piped.iter().all(|row| row.as_object().expect("an object").len() == 2),
        "no logits unless asked for"
    );

    write(here().join("in.jsonl"), &input);
    let arguments =
        ["predict", MODEL, "--input", "in.jsonl", "--output", "answers/out.jsonl", "--batch-size", "2"];
    let outcome = run(here(), &arguments).success();
    assert_eq!(outcome.stdout, "");
    let written = rows(&std::fs::read_to_string(here().join("answers/out.jsonl")).expect("reads"));
    assert_eq!(written.len(), 3);
}

#[test]
fn predict_answers_a_pipe_that_waits_for_each_answer() {
    let mut child =
        distill(here(), &["predict", MODEL, "--input", "-"]).stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for (text, label) in [("where is my parcel?", "shipping"), ("I forgot my password", "login")] {
        writeln!(stdin, "{}", serde_json::json!({ "text": text })).expect("writes");
        let answer: Value =
            serde_json::from_str(&answers.next().expect("an answer").expect("reads")).expect("JSON");
        assert_eq!(answer["label"], label);
    }
    drop(stdin);
    assert!(answers.next().is_none());
    assert!(child.wait().expect("ends").success());
}

#[test]
fn predict_ends_quietly_when_nobody_reads_on() {
    let mut child = distill(here(), &["predict", MODEL, "--batch-size", "1"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    writeln!(stdin, "{{\"text\": \"where is my parcel?\"}}").expect("writes");
    reader.read_line(&mut first).expect("reads");
    drop(reader);
    let mut closed = false;
    for _ in 0..10_000 {
        closed = closed || writeln!(stdin, "{{\"text\": \"and this one?\"}}").is_err();
    }
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("reads");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.contains("error")).count(), 0, "{stderr}");
    assert!(closed, "the pipe was not closed before the end of its input");
}

#[test]
fn predict_answers_the_lines_before_a_bad_one() {
    let input = b"{\"text\": \"where is my parcel?\"}\n{\"text\": \"I forgot my password\"}\n[]\n";
    let outcome = run_with_input(here(), &["predict", MODEL], input);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(rows(&outcome.stdout).len(), 2);
    assert!(outcome.stderr.contains("`stdin:3`: expected a JSON object, found a list"), "{}", outcome.stderr);
}

#[test]
fn eval_gives_the_scores_of_the_run() {
    let data = "datasets/support_tickets/test.csv";
    let outcome =
        run(here(), &["eval", MODEL, "--data", data, "--json", "--output", "scores.json"]).success();
    let scores: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let record = read_json(here().join(MODEL).join("run.json"));
    let test = &record["metrics"]["test"];
    assert_eq!(scores["confusion_matrix"], test["confusion_matrix"]);
    for key in ["accuracy", "macro_f1", "mcc"] {
        assert_eq!(scores[key], test[key], "{key}");
    }
    assert_eq!(read_json(here().join("scores.json"))["accuracy"], scores["accuracy"]);
    let outcome = run(here(), &["eval", MODEL, "--data", data]).success();
    assert!(outcome.stdout.contains("macro F1") && outcome.stdout.contains("shipping"), "{}", outcome.stdout);
}

#[test]
fn inspect_tells_what_the_folder_holds() {
    let outcome = run(here(), &["inspect", MODEL, "--tensors"]).success();
    for part in [
        "BertForSequenceClassification (bert)",
        "parameters",
        "F32",
        "billing",
        "finished",
        "classifier.weight",
        "[6, 128]",
    ] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in:\n{}", outcome.stdout);
    }
    let outcome = run(here(), &["inspect", MODEL, "--format", "json"]).success();
    let model: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(model["architecture"], "bert");
    assert_eq!(model["run"]["status"], "finished");
    let counted: u64 = model["tensors"]
        .as_array()
        .expect("tensors")
        .iter()
        .map(|tensor| {
            tensor["shape"]
                .as_array()
                .expect("a shape")
                .iter()
                .map(|size| size.as_u64().expect("a size"))
                .product::<u64>()
        })
        .sum();
    assert_eq!(model["parameters"], counted);
    let checkpoint = model["run"]["checkpoints"][0].as_str().expect("a checkpoint").to_owned();
    run(here(), &["inspect", &checkpoint]).success();
    run(here(), &["predict", &checkpoint, "--text", "where is my parcel?"]).success();
}

#[test]
fn plan_and_dry_run_write_nothing() {
    let folder = folder();
    run(folder.path(), &["recipes", "copy", "quickstart"]).success();
    let before = support::tree(folder.path());
    let outcome = run(folder.path(), &["plan", "quickstart.toml", "--format", "json"]).success();
    let plan: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let rows = |set: &str| plan["rows"][set].as_u64().expect("rows");
    let labels = plan["labels"].as_array().expect("labels");
    assert_eq!(labels.len(), 6);
    for set in ["train", "validation", "test"] {
        let counted: u64 = labels.iter().map(|label| label[set].as_u64().expect("a count")).sum();
        assert_eq!(counted, rows(set), "{set}");
    }
    assert!(rows("train") > 2000 && rows("validation") > 0 && rows("test") >= 500, "{}", plan["rows"]);
    assert_eq!(plan["steps"]["per_epoch"], rows("train").div_ceil(32));
    assert_eq!(plan["device"], "flex");
    assert!(["f32", "bf16"].contains(&plan["dtype"].as_str().expect("a dtype")), "{plan}");
    let needed = |checkpointing: &str| {
        let checkpointing = format!("train.gradient_checkpointing={checkpointing}");
        let sets = ["--set", "model.num_hidden_layers=8", "--set", &checkpointing];
        let arguments = [["plan", "quickstart.toml", "--format", "json"].as_slice(), &sets].concat();
        let plan: Value =
            serde_json::from_str(&run(folder.path(), &arguments).success().stdout).expect("JSON");
        plan["memory"]["needed_bytes"].as_u64().expect("bytes")
    };
    assert!(needed("true") < needed("false"));
    let outcome = run(folder.path(), &["run", "quickstart.toml", "--dry-run"]).success();
    for part in ["parameters", "tokens", "steps", "memory", "disk", "billing"] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in:\n{}", outcome.stdout);
    }
    assert!(support::tree(folder.path()) == before);
}

#[test]
fn the_model_is_distilled_into_one_of_a_quarter_of_its_size() {
    run(here(), &["recipes", "copy", "quickstart_distil"]).success();
    let outcome = run(here(), &["run", "quickstart_distil.toml"]).success();
    assert!(outcome.stdout.contains("distill predict checkpoints/quickstart-distil"), "{}", outcome.stdout);
    let student = "checkpoints/quickstart-distil";
    let [teacher, record] = [MODEL, student].map(|model| read_json(here().join(model).join("run.json")));
    let number = |value: &Value| value.as_f64().expect("a number");
    let accuracies = [&teacher, &record].map(|record| number(&record["metrics"]["test"]["accuracy"]));
    assert!(accuracies[1] >= 0.99 * accuracies[0], "teacher and student: {accuracies:?}");
    let parameters = [&teacher, &record].map(|record| number(&record["model"]["parameters"]));
    assert!(4.0 * parameters[1] <= parameters[0], "teacher and student: {parameters:?}");
    // The rows that are kept for measuring are not learnt from their teacher either.
    assert_eq!(record["distillation"]["transfer_rows"], 3000 + 6000 - 200);
    let answers = run(here(), &["predict", student, "--text", "where is my parcel?"]).success();
    assert_eq!(rows(&answers.stdout)[0]["label"], "shipping");
}
