//! What the settings of `[train]` do, seen from outside.

mod support;

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use support::{Outcome, read_json, run, tiny_folder};

/// Runs the tiny recipe with some settings, into the folder `out`.
fn train(folder: &Path, out: &str, sets: &[&str]) -> Outcome {
    let out = format!("output_dir={out}");
    let sets: Vec<&str> = sets.iter().copied().chain([out.as_str()]).collect();
    let arguments: Vec<&str> =
        ["run", "tiny.toml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    run(folder, &arguments)
}

/// The lines of `metrics.jsonl` of one kind.
fn lines(out: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    lines.filter(|line| line["kind"] == kind).collect()
}

fn tensors(out: &Path) -> HashMap<String, Vec<u8>> {
    let bytes = std::fs::read(out.join("model.safetensors")).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

/// Makes a finished run look like one that was killed.
fn mark_as_running(out: &Path) {
    let mut record = read_json(out.join("run.json"));
    record["status"] = "running".into();
    std::fs::write(out.join("run.json"), record.to_string()).expect("writes");
}

/// The whole training set in one step, as one batch and as micro-batches of which the last is smaller: a mean of means
/// would weigh the rows of the small one more.
#[test]
fn accumulated_micro_batches_give_the_gradient_of_the_whole_batch() {
    let folder = tiny_folder();
    let common = [
        "data.validation_fraction=0",
        "data.max_rows=36",
        "train.dropout=0",
        "train.max_steps=1",
        "train.dtype=f32",
    ];
    let mut found = Vec::new();
    for (out, batch, accumulation) in [("whole", 36, 1), ("parts", 8, 5)] {
        let own = [
            format!("train.batch_size={batch}"),
            format!("train.gradient_accumulation_steps={accumulation}"),
        ];
        let sets: Vec<&str> = common.iter().copied().chain(own.iter().map(String::as_str)).collect();
        train(folder.path(), out, &sets).success();
        let line = lines(&folder.path().join(out), "train").remove(0);
        found.push([line["loss"].as_f64().expect("a loss"), line["grad_norm"].as_f64().expect("a norm")]);
    }
    for (whole, parts) in found[0].iter().zip(found[1]) {
        assert!((whole - parts).abs() < 1e-5 * whole.abs(), "{found:?}");
    }
}

#[test]
fn frozen_parameters_stay_and_the_others_move() {
    let folder = tiny_folder();
    let freeze = r#"train.freeze=["embeddings", "layer\\.0\\."]"#;
    train(folder.path(), "short", &["train.max_steps=1", freeze]).success();
    train(folder.path(), "long", &["train.max_steps=9", freeze]).success();
    let (short, long) = (tensors(&folder.path().join("short")), tensors(&folder.path().join("long")));
    for (name, values) in &short {
        let frozen = name.contains("embeddings") || name.contains("layer.0.");
        assert_eq!(values == &long[name], frozen, "{name}");
    }
    let record = read_json(folder.path().join("long/run.json"));
    assert!(record["model"]["trainable_parameters"].as_u64() < record["model"]["parameters"].as_u64());
}

#[test]
fn a_frozen_run_resumes() {
    let folder = tiny_folder();
    let sets = [
        "train.freeze=[\"embeddings\"]",
        "train.max_steps=20",
        "train.save_steps=5",
        "train.save_total_limit=9",
    ];
    train(folder.path(), "whole", &sets).success();
    train(folder.path(), "cut", &sets).success();
    // What a kill after the second checkpoint would have left.
    let out = folder.path().join("cut");
    for step in [15, 20] {
        let _ = std::fs::remove_dir_all(out.join(format!("checkpoints/step-{step:08}")));
    }
    mark_as_running(&out);
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let arguments: Vec<&str> =
        ["run", "tiny.toml", "--resume", "--set", "output_dir=cut"].into_iter().chain(sets).collect();
    run(folder.path(), &arguments).success();
    assert!(tensors(&out) == tensors(&folder.path().join("whole")));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_says_where() {
    let folder = tiny_folder();
    // The first step of a warm-up has a learning rate of 0, the second one throws the weights out of all bounds.
    let sets = ["train.learning_rate=1e38", "train.max_grad_norm=0", "train.save_steps=1"];
    let outcome = train(folder.path(), "out", &sets);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    for part in
        ["of step 2", "learning rate 9", "last good checkpoint: `out/checkpoints/step-00000001`", "on_nan"]
    {
        assert!(outcome.stderr.contains(part), "`{part}` is not in:\n{}", outcome.stderr);
    }
    assert_eq!(read_json(folder.path().join("out/run.json"))["status"], "interrupted");
}

#[test]
fn early_stopping_ends_the_run_and_keeps_the_best() {
    let folder = tiny_folder();
    let sets = [
        "train.early_stopping_patience=2",
        "train.eval_steps=5",
        "train.epochs=40",
        "train.learning_rate=3e-3",
    ];
    train(folder.path(), "out", &sets).success();
    let out = folder.path().join("out");
    let record = read_json(out.join("run.json"));
    assert_eq!(record["steps"]["stopped_early"], true);
    assert!(record["steps"]["done"].as_u64() < record["steps"]["total"].as_u64());
    let validations = lines(&out, "validation");
    let best = validations.iter().rfind(|line| line["best"] == true).expect("a best one");
    assert_eq!(record["steps"]["best"], best["step"]);
    assert_eq!(record["metrics"]["validation"]["accuracy"], best["accuracy"]);
    let after = validations.iter().filter(|line| line["step"].as_u64() > best["step"].as_u64()).count();
    assert_eq!(after, 2);
}

#[test]
fn the_schedule_and_the_seed_are_what_the_recipe_says() {
    let folder = tiny_folder();
    let sets =
        ["train.max_steps=10", "train.logging_steps=1", "train.warmup_ratio=0.2", "train.learning_rate=1e-3"];
    train(folder.path(), "a", &sets).success();
    train(folder.path(), "b", &sets).success();
    train(folder.path(), "c", &sets.iter().copied().chain(["seed=8"]).collect::<Vec<_>>()).success();
    let rates: Vec<f64> = lines(&folder.path().join("a"), "train")
        .iter()
        .map(|line| line["learning_rate"].as_f64().expect("a rate"))
        .collect();
    let expected = [0.0, 5e-4, 1e-3, 8.75e-4, 7.5e-4, 6.25e-4, 5e-4, 3.75e-4, 2.5e-4, 1.25e-4];
    assert!(
        rates.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12),
        "{rates:?}"
    );
    let [a, b, c] = ["a", "b", "c"].map(|out| tensors(&folder.path().join(out)));
    assert!(a == b, "one seed, other bytes");
    assert!(a != c, "another seed, the same bytes");
}

#[test]
fn steps_that_are_never_finite_end_a_run_that_skips() {
    let folder = tiny_folder();
    let sets =
        ["train.learning_rate=1e38", "train.max_grad_norm=0", "train.warmup_ratio=0", "train.on_nan=skip"];
    let outcome = train(folder.path(), "out", &sets);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_ne!(read_json(folder.path().join("out/run.json"))["status"], "finished");
}

/// Micro-steps cut a step; they do not choose other rows for it.
#[test]
fn a_step_has_the_same_rows_however_it_is_cut() {
    let folder = tiny_folder();
    let mut found = Vec::new();
    for (out, batch, accumulation) in [("whole", 16, 1), ("parts", 4, 4)] {
        let own = [
            format!("train.batch_size={batch}"),
            format!("train.gradient_accumulation_steps={accumulation}"),
            "train.dropout=0".to_owned(),
            "train.max_steps=1".to_owned(),
            "train.dtype=f32".to_owned(),
        ];
        train(folder.path(), out, &own.iter().map(String::as_str).collect::<Vec<_>>()).success();
        found.push(lines(&folder.path().join(out), "train")[0]["grad_norm"].as_f64().expect("a norm"));
    }
    assert!((found[0] - found[1]).abs() < 1e-5 * found[0], "{found:?}");
}

#[test]
fn predict_cuts_texts_where_training_did() {
    let folder = tiny_folder();
    // Batches differ in their padding, which rounding to bf16 would show.
    train(folder.path(), "out", &["train.max_steps=6", "data.max_length=6", "train.dtype=f32"]).success();
    let predictions =
        std::fs::read_to_string(folder.path().join("out/predictions.jsonl")).expect("predictions");
    let rows: Vec<Value> =
        predictions.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let input: String =
        rows.iter().map(|row| serde_json::json!({ "text": row["text"] }).to_string() + "\n").collect();
    let arguments = ["predict", "out", "--logits", "--dtype", "f32"];
    let outcome = support::run_with_input(folder.path(), &arguments, input.as_bytes()).success();
    for (line, row) in outcome.stdout.lines().zip(&rows) {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let [answer, row] = [&answer, row].map(|value| value["logits"][0].as_f64().expect("a logit"));
        assert!((answer - row).abs() < 1e-5, "{answer} {row}");
    }
}

#[test]
fn a_resume_with_another_recipe_is_refused_before_and_after_the_run() {
    let folder = tiny_folder();
    train(folder.path(), "out", &["train.max_steps=2"]).success();
    let resume = ["run", "tiny.toml", "--resume", "--set", "output_dir=out", "--set", "train.max_steps=3"];
    let outcome = run(folder.path(), &resume);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`train.max_steps` was `2`, is `3`"), "{}", outcome.stderr);
    // As a kill before the first checkpoint leaves it.
    let out = folder.path().join("out");
    std::fs::remove_dir_all(out.join("checkpoints")).expect("removes");
    mark_as_running(&out);
    assert_eq!(run(folder.path(), &resume).code, Some(2));
}

#[test]
fn gradient_checkpointing_changes_no_byte() {
    let folder = tiny_folder();
    for dtype in ["f32", "bf16"] {
        let dtype = format!("train.dtype={dtype}");
        let common = ["train.max_steps=12", dtype.as_str()];
        train(folder.path(), "kept", &common).success();
        let more = [common.as_slice(), &["train.gradient_checkpointing=true"]].concat();
        train(folder.path(), "recomputed", &more).success();
        let [kept, recomputed] = ["kept", "recomputed"].map(|out| tensors(&folder.path().join(out)));
        assert!(kept == recomputed, "{dtype}");
        for out in ["kept", "recomputed"] {
            std::fs::remove_dir_all(folder.path().join(out)).expect("removes");
        }
    }
}

#[test]
fn the_number_format_is_told_recorded_and_part_of_the_run() {
    let folder = tiny_folder();
    for dtype in ["f32", "bf16"] {
        let outcome =
            train(folder.path(), dtype, &["train.max_steps=2", &format!("train.dtype={dtype}")]).success();
        assert!(outcome.stderr.contains(&format!("computing on flex, {dtype} (")), "{}", outcome.stderr);
        let record = read_json(folder.path().join(dtype).join("run.json"));
        assert_eq!(record["dtype"], dtype);
        assert_eq!(record["device"], "flex");
        assert!(record["instruction_set"].is_string() && record["threads"].is_u64(), "{record}");
    }
    let [f32, bf16] = ["f32", "bf16"].map(|out| tensors(&folder.path().join(out)));
    assert!(f32 != bf16, "bf16 rounds");
    mark_as_running(&folder.path().join("bf16"));
    let resume = [
        "run",
        "tiny.toml",
        "--resume",
        "--set",
        "output_dir=bf16",
        "--set",
        "train.max_steps=2",
        "--set",
        "train.dtype=f32",
    ];
    let stderr = run(folder.path(), &resume).refusal();
    assert!(stderr.contains("`train.dtype` was `\"bf16\"`, is `\"f32\"`"), "{stderr}");
    assert!(!stderr.contains("recipe.train"), "{stderr}");
}
