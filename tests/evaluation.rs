//! `distill eval` of models that write texts, or guess hidden tokens.

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use support::tickets::{masked, put, teacher_folder};
use support::{read_json, run, write};

/// Colours of things, as pairs and as texts.
fn write_data(folder: &Path) {
    const THINGS: [(&str, &str); 6] = [
        ("grass", "green"),
        ("snow", "white"),
        ("coal", "black"),
        ("a lemon", "yellow"),
        ("blood", "red"),
        ("the sky", "blue"),
    ];
    let (mut pairs, mut texts) = (String::new(), String::new());
    for round in 0..12 {
        for (thing, colour) in THINGS {
            let row = serde_json::json!({"thing": format!("{round} times {thing} is"), "colour": format!(" {colour}")});
            let _ = writeln!(pairs, "{row}");
            let _ = writeln!(texts, "{round} times {thing} is {colour}.\n");
        }
    }
    write(folder.join("pairs.jsonl"), pairs);
    write(folder.join("texts.txt"), texts);
}

fn trained(task: &str, data: &str) -> tempfile::TempDir {
    let folder = support::folder();
    write_data(folder.path());
    let recipe = format!(
        "name = \"tiny\"\nseed = 5\noutput_dir = \"out\"\n[task]\n{task}\n[model]\narchitecture = \"llama\"\nhidden_size = 32\n\
         num_hidden_layers = 2\nnum_attention_heads = 4\n[tokenizer]\ntrain = {{ kind = \"gpt2\", vocab_size = 300 }}\n[data]\n\
         {data}\nmax_length = 32\nvalidation_fraction = 0.1\n[train]\nepochs = 3\nbatch_size = 4\nlearning_rate = 3e-3\n\
         dtype = \"f32\"\n"
    );
    write(folder.path().join("recipe.toml"), recipe);
    run(folder.path(), &["run", "recipe.toml", "--quiet"]).success();
    folder
}

fn eval(folder: &Path, arguments: &[&str]) -> Value {
    let outcome = run(folder, &[&["eval"], arguments, &["--json", "--dtype", "f32"]].concat()).success();
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// Every number of `one` is in `other`, but for the order of sums.
#[track_caller]
fn assert_close(one: &Value, other: &Value) {
    let one = one.as_object().expect("a report");
    assert!(!one.is_empty());
    for (key, value) in one {
        match (value.as_f64(), other[key].as_f64()) {
            (Some(one), Some(other)) => {
                assert!((one - other).abs() <= 1e-5 * one.abs().max(1e-3), "{key}: {one} {other}");
            }
            _ => assert_eq!(value, &other[key], "{key}"),
        }
    }
}

/// The model without what its run left of itself.
fn bare(folder: &Path) {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let bytes = std::fs::read(folder.join("out").join(name)).expect("a model");
        write(folder.join("bare").join(name), bytes);
    }
}

const TEXTS: &str = "train = \"texts.txt\"\ntest = \"texts.txt\"";
const PAIRS: &str =
    "train = \"pairs.jsonl\"\ntest = \"pairs.jsonl\"\nprompt = \"thing\"\ntarget = \"colour\"";

#[test]
fn documents_are_measured_as_the_run_measured_them() {
    let folder = trained("kind = \"language_modeling\"", TEXTS);
    let here = folder.path();
    let record = read_json(here.join("out/run.json"));
    let of_run = &record["metrics"]["test"];
    let measured = eval(here, &["out", "--data", "texts.txt", "--output", "scores.json"]);
    assert_close(of_run, &measured);
    assert_eq!(read_json(here.join("scores.json")), measured);
    let checkpoint = std::fs::read_dir(here.join("out/checkpoints")).expect("checkpoints").next();
    let checkpoint = checkpoint.expect("one").expect("an entry").path().display().to_string();
    assert_close(of_run, &eval(here, &[&checkpoint, "--data", "texts.txt"]));

    bare(here);
    assert_close(of_run, &eval(here, &["bare", "--data", "texts.txt", "--set", "data.text_unit=paragraph"]));
    let shorter = eval(here, &["bare", "--data", "texts.txt", "--max-length", "4"]);
    assert_eq!(shorter["tokens"], of_run["tokens"], "each token counts once in windows, too");
    assert!(shorter["loss"].as_f64() > of_run["loss"].as_f64(), "there is less to look back at");
    let column = eval(here, &["bare", "--data", "pairs.jsonl", "--text", "thing", "--text", "colour"]);
    assert!(column["perplexity"].as_f64() > Some(1.0));

    let told = run(here, &["eval", "out", "--data", "texts.txt", "--predictions", "none.jsonl"]).success();
    assert!(
        told.stdout.starts_with("texts.txt (72 rows, at most 32 tokens at once)\nloss"),
        "{}",
        told.stdout
    );
    assert!(told.stderr.contains("no predictions were written") && !here.join("none.jsonl").exists());
}

#[test]
fn prompts_are_answered_as_the_run_answered_them() {
    let folder = trained("kind = \"seq2seq\"\nmax_new_tokens = 6", PAIRS);
    let here = folder.path();
    let record = read_json(here.join("out/run.json"));
    let of_run = &record["metrics"]["test"];
    let said = std::fs::read_to_string(here.join("out/predictions.jsonl")).expect("predictions");
    assert_close(of_run, &eval(here, &["out", "--data", "pairs.jsonl", "--predictions", "said.jsonl"]));
    assert_eq!(std::fs::read_to_string(here.join("said.jsonl")).expect("predictions"), said);

    bare(here);
    let columns = ["--prompt", "thing", "--target", "colour", "--set", "task.max_new_tokens=6"];
    let named = ["bare", "--data", "pairs.jsonl", "--max-length", "32"];
    assert_close(of_run, &eval(here, &[&named[..], &columns].concat()));
    let templates = ["--prompt-template", "{thing}", "--target-template", "{colour}"];
    assert_close(of_run, &eval(here, &[&named[..], &templates, &columns[4..]].concat()));
    assert_close(of_run, &eval(here, &[&named[..], &["--recipe", "recipe.toml"]].concat()));
    let unanswered = eval(here, &["out", "--data", "pairs.jsonl", "--set", "task.generate=never"]);
    assert_eq!((&unanswered["loss"], &unanswered["rougeL"]), (&of_run["loss"], &Value::Null));
}

#[test]
fn hidden_tokens_and_labels_have_their_numbers_too() {
    let folder = teacher_folder();
    let here = folder.path();
    put(here, "masked", masked());
    let guessed = eval(here, &["masked", "--data", "corpus.txt"]);
    assert!(guessed["accuracy"].as_f64() > Some(0.0) && guessed["tokens"].as_u64() > Some(1000));
    assert_eq!(guessed, eval(here, &["masked", "--data", "corpus.txt"]), "the same tokens are hidden");

    eval(here, &["teacher", "--data", "test.csv", "--predictions", "labels.jsonl"]);
    let lines = std::fs::read_to_string(here.join("labels.jsonl")).expect("predictions");
    assert_eq!(lines.lines().count(), 120);
    let line: Value = serde_json::from_str(lines.lines().next().unwrap_or_default()).expect("JSON");
    assert!(line["prediction"].is_string() && line["score"].as_f64() > Some(0.0));
}

#[test]
fn what_does_not_fit_is_refused_with_the_way_out() {
    let folder = trained("kind = \"language_modeling\"", TEXTS);
    let here = folder.path();
    bare(here);
    put(here, "teacher", support::tickets::teacher());
    let refused = |arguments: &[&str]| run(here, &[&["eval"], arguments].concat()).refusal();
    let all = [
        refused(&["bare", "--data", "texts.txt", "--label", "colour"]),
        refused(&["bare", "--data", "pairs.jsonl", "--prompt", "thing"]),
        refused(&["bare", "--data", "pairs.jsonl", "--target-template", "{colour}"]),
        refused(&["teacher", "--data", "pairs.jsonl", "--prompt", "thing"]),
        refused(&["bare", "--data", "texts.txt", "--set", "task.kind=classification"]),
        refused(&["out", "--data", "texts.txt", "--set", "task.stride=0"]),
        refused(&["out", "--data", "texts.txt", "--max-length", "4000"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}
