//! A run that is interrupted anywhere and resumed ends with the same bytes as one that is not.
#![cfg(unix)]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::OnceLock;
use support::{distill, logged_steps, read_json, run, tiny_folder, tree, wait_until, write};

/// Optimizer steps of the tiny recipe: 288 of 320 rows train, 8 a step, 3 epochs.
const STEPS: u64 = 108;

/// What an uninterrupted run leaves, made once.
struct Unbroken {
    weights: Vec<u8>,
    predictions: Vec<u8>,
    losses: Vec<(u64, Value)>,
    test: Value,
}

fn unbroken() -> &'static Unbroken {
    static RUN: OnceLock<Unbroken> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = tiny_folder();
        run(folder.path(), &["run", "tiny.toml", "--threads", "1"]).success();
        result(folder.path())
    })
}

fn result(folder: &Path) -> Unbroken {
    let out = folder.join("out");
    let record = read_json(out.join("run.json"));
    assert_eq!(record["status"], "finished");
    assert_eq!(record["steps"]["done"], STEPS);
    Unbroken {
        weights: std::fs::read(out.join("model.safetensors")).expect("weights"),
        predictions: std::fs::read(out.join("predictions.jsonl")).expect("predictions"),
        losses: losses(&out.join("metrics.jsonl")),
        test: record["metrics"]["test"].clone(),
    }
}

fn losses(metrics: &Path) -> Vec<(u64, Value)> {
    let text = std::fs::read_to_string(metrics).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    lines.map(|line| (line["step"].as_u64().expect("a step"), line["loss"].clone())).collect()
}

#[track_caller]
fn assert_same_as_unbroken(folder: &Path) {
    let (found, expected) = (result(folder), unbroken());
    assert!(found.weights == expected.weights, "`model.safetensors` differs");
    assert_eq!(found.losses, expected.losses, "`metrics.jsonl` differs");
    assert_eq!(found.test, expected.test, "the scores differ");
    assert!(found.predictions == expected.predictions, "`predictions.jsonl` differs");
}

fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("out/checkpoints"));
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .collect();
    paths.sort();
    paths
}

fn newest_step(folder: &Path) -> u64 {
    let newest = checkpoints(folder).pop();
    let name = newest.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned());
    name.and_then(|name| name["step-".len()..].parse().ok()).unwrap_or(0)
}

fn start(folder: &Path, more: &[&str]) -> Child {
    let arguments: Vec<&str> = ["run", "tiny.toml"].iter().chain(more).copied().collect();
    distill(folder, &arguments).spawn().expect("the binary starts")
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("`kill` starts").success());
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = tiny_folder();
    run(folder.path(), &["run", "tiny.toml", "--threads", "2"]).success();
    assert_same_as_unbroken(folder.path());
}

#[test]
fn a_run_killed_again_and_again_ends_with_the_same_bytes() {
    let folder = tiny_folder();
    let metrics = folder.path().join("out/metrics.jsonl");
    // Before the first checkpoint, between two, and right when one appears.
    let mut more: &[&str] = &[];
    let mut kills = 0;
    for (logged, saved) in [(5, 0), (25, 0), (0, 50), (75, 0), (0, 90)] {
        let mut child = start(folder.path(), more);
        let reached = wait_until(&mut child, || {
            logged_steps(&metrics).last().copied().unwrap_or(0) >= logged
                && newest_step(folder.path()) >= saved
        });
        assert!(reached, "the run ended before step {}", logged.max(saved));
        child.kill().expect("kills");
        let status = child.wait().expect("ends");
        kills += u32::from(status.code().is_none());
        more = &["--resume"];
    }
    assert!(kills >= 4, "only {kills} of 5 kills came before the end");
    run(folder.path(), &["run", "tiny.toml", "--resume"]).success();
    assert_same_as_unbroken(folder.path());
}

#[test]
fn a_run_killed_while_it_prepares_can_be_resumed_or_begun_again() {
    let folder = tiny_folder();
    let mut child = start(folder.path(), &[]);
    wait_until(&mut child, || folder.path().join("out").is_dir());
    child.kill().expect("kills");
    child.wait().expect("ends");
    let way = if folder.path().join("out/run.json").exists() { "--resume" } else { "--overwrite" };
    run(folder.path(), &["run", "tiny.toml", way]).success();
    assert_same_as_unbroken(folder.path());
}

#[test]
fn ctrl_c_finishes_the_step_and_saves() {
    let folder = tiny_folder();
    let metrics = folder.path().join("out/metrics.jsonl");
    for (round, name) in ["-INT", "-TERM"].into_iter().enumerate() {
        let mut child = start(folder.path(), if round == 0 { &[] } else { &["--resume"] });
        let wanted = 15 + 30 * round as u64;
        assert!(wait_until(&mut child, || logged_steps(&metrics).last().copied().unwrap_or(0) >= wanted));
        signal(&child, name);
        let output = child.wait_with_output().expect("ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("note: finishing this step, then saving"), "{stderr}");
        assert!(stderr.contains("interrupted: stopped after step "), "{stderr}");
        assert!(stderr.contains("help: `distill run tiny.toml"), "{stderr}");
        let record = read_json(folder.path().join("out/run.json"));
        assert_eq!(record["status"], "interrupted");
        assert_eq!(record["steps"]["done"], newest_step(folder.path()), "the last step done is saved");
        assert!(!folder.path().join("out/model.safetensors").exists());
    }
    run(folder.path(), &["run", "tiny.toml", "--resume"]).success();
    assert_same_as_unbroken(folder.path());
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_it_used() {
    let folder = tiny_folder();
    let mut child = start(folder.path(), &[]);
    assert!(wait_until(&mut child, || newest_step(folder.path()) >= 30));
    child.kill().expect("kills");
    child.wait().expect("ends");
    let paths = checkpoints(folder.path());
    let newest = paths.last().expect("a checkpoint").join("model.safetensors");
    let bytes = std::fs::read(&newest).expect("reads");
    write(&newest, &bytes[..bytes.len() - 100]);
    let outcome = run(folder.path(), &["run", "tiny.toml", "--resume"]).success();
    assert!(outcome.stderr.contains("warning: "), "{}", outcome.stderr);
    let name = paths.last().and_then(|path| path.file_name()).expect("a name").to_string_lossy().into_owned();
    assert!(outcome.stderr.contains(&name), "{}", outcome.stderr);
    assert_same_as_unbroken(folder.path());
}

#[test]
fn a_changed_recipe_is_refused_with_its_differences() {
    let folder = tiny_folder();
    let mut child = start(folder.path(), &[]);
    assert!(wait_until(&mut child, || newest_step(folder.path()) >= 20));
    child.kill().expect("kills");
    child.wait().expect("ends");
    let before = tree(folder.path());
    let changes = ["--set", "train.learning_rate=2e-3", "--set", "model.hidden_size=48"];
    let arguments: Vec<&str> = ["run", "tiny.toml", "--resume"].iter().chain(&changes).copied().collect();
    let stderr = run(folder.path(), &arguments).refusal();
    assert!(stderr.contains("`train.learning_rate` was `0.001`, is `0.002`"), "{stderr}");
    assert!(stderr.contains("`model.hidden_size` was `32`, is `48`"), "{stderr}");
    assert!(stderr.contains("help: "), "{stderr}");
    write(folder.path().join("train.csv"), support::two_label_csv(318));
    let stderr = run(folder.path(), &["run", "tiny.toml", "--resume"]).refusal();
    assert!(stderr.contains("the data files have changed"), "{stderr}");
    write(folder.path().join("train.csv"), support::two_label_csv(320));
    assert!(tree(folder.path()) == before, "a refused resume changes nothing");
    run(folder.path(), &["run", "tiny.toml", "--resume"]).success();
    assert_same_as_unbroken(folder.path());
}

#[test]
fn a_folder_with_another_run_is_left_alone() {
    let folder = tiny_folder();
    let short = ["run", "tiny.toml", "--set", "train.max_steps=10"];
    run(folder.path(), &short).success();
    let before = tree(folder.path());
    let stderr = run(folder.path(), &short).refusal();
    assert!(stderr.contains("`out` already holds a run (finished)"), "{stderr}");
    assert!(stderr.contains("`--resume`") && stderr.contains("`--overwrite`"), "{stderr}");
    assert!(tree(folder.path()) == before);

    let done: Vec<&str> = short.iter().copied().chain(["--resume"]).collect();
    let outcome = run(folder.path(), &done).success();
    assert!(outcome.stderr.contains("already finished"), "{}", outcome.stderr);
    assert!(tree(folder.path()) == before, "a finished run is not done again");

    let again: Vec<&str> = short.iter().copied().chain(["--overwrite"]).collect();
    write(folder.path().join("out/notes.txt"), "mine");
    run(folder.path(), &again).success();
    assert_eq!(std::fs::read(folder.path().join("out/notes.txt")).expect("my file is still there"), b"mine");
}

#[test]
fn a_folder_of_something_else_is_never_written_to() {
    let folder = tiny_folder();
    write(folder.path().join("out/thesis.tex"), "important");
    for more in [&[][..], &["--overwrite"], &["--resume"]] {
        let arguments: Vec<&str> = ["run", "tiny.toml"].iter().chain(more).copied().collect();
        let stderr = run(folder.path(), &arguments).refusal();
        assert!(stderr.contains("`out`"), "{stderr}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path().join("out")).expect("reads").collect();
    assert_eq!(names.len(), 1);
}
