//! Distillation that is interrupted, and recipes of several stages: what is resumed, what is left alone.
#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::tickets::{
    NARROW, Recipe, change_config, logged, masked, put, student, teacher_folder, weights,
};
use support::{distill, read_json, run, tree, wait_until, write};

/// The number of the newest checkpoint of a run.
fn newest_step(run: &Path) -> u64 {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max().unwrap_or(0)
}

/// Begins `student.toml` with `arguments` and kills it once `run` has saved a step from `step` on.
#[track_caller]
fn kill_at(folder: &Path, arguments: &[&str], run: &str, step: u64) {
    let output = stop_at(folder, arguments, run, step, "-KILL");
    assert_eq!(output.status.code(), None, "the run ended before it was killed");
}

/// The same with another signal; how the run ended.
#[track_caller]
fn stop_at(folder: &Path, arguments: &[&str], run: &str, step: u64, signal: &str) -> Output {
    // Those of an earlier run would be taken for this one's.
    if arguments.contains(&"--overwrite") && folder.join(run).join("checkpoints").exists() {
        std::fs::remove_dir_all(folder.join(run).join("checkpoints")).expect("removes");
    }
    let arguments: Vec<&str> = ["run", "student.toml", "--quiet"].iter().chain(arguments).copied().collect();
    let mut child = distill(folder, &arguments).spawn().expect("the binary starts");
    let reached = wait_until(&mut child, || newest_step(&folder.join(run)) >= step);
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("`kill` starts").success());
    let output = child.wait_with_output().expect("ends");
    assert!(reached, "step {step} was not reached: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What `metrics.jsonl` says of the losses: all but the times.
fn losses(folder: &Path) -> Vec<(u64, f64, serde_json::Value)> {
    let line = |line: serde_json::Value| {
        let number = |key: &str| line[key].as_f64().unwrap_or_default();
        (number("step") as u64, number("loss"), line["losses"].clone())
    };
    let validation = logged(folder, "validation").into_iter();
    let validation = validation.map(|mut line| {
        line.as_object_mut().map(|line| line.remove("seconds"));
        (line["step"].as_u64().unwrap_or_default(), 0.0, line)
    });
    logged(folder, "train").into_iter().map(line).chain(validation).collect()
}

/// A run that is killed and resumed, with other threads, ends as one that is not.
#[track_caller]
fn assert_resumes(recipe: &Recipe<'_>, folder: &Path, sets: &[&'static str]) {
    recipe.write(folder);
    let more = ["--set", "train.save_steps=3", "--set", "train.epochs=3", "--set", "train.eval_steps=8"];
    let with =
        |arguments: &[&'static str]| arguments.iter().chain(&more).chain(sets).copied().collect::<Vec<_>>();
    student(folder, &with(&["--overwrite", "--threads", "1"]));
    let (unbroken, unbroken_losses) = (weights(folder), losses(folder));
    kill_at(folder, &with(&["--overwrite", "--threads", "2"]), "student", 6);
    kill_at(folder, &with(&["--resume", "--threads", "1"]), "student", 15);
    let events = student(folder, &with(&["--resume", "--threads", "2"]));
    assert!(events.starts()[0] >= 15, "{:?}", events.starts());
    assert!(weights(folder) == unbroken, "`model.safetensors` differs");
    assert_eq!(losses(folder), unbroken_losses, "`metrics.jsonl` differs");
    assert_eq!(read_json(folder.join("student/run.json"))["resumed"], 2);
}

#[test]
fn a_killed_run_with_cached_logits_ends_with_the_same_bytes() {
    let folder = teacher_folder();
    assert_resumes(&Recipe::default(), folder.path(), &[]);
}

#[test]
fn a_killed_run_with_a_live_teacher_and_a_projection_ends_with_the_same_bytes() {
    let folder = teacher_folder();
    let distill = "losses = [{ kind = \"hidden_states\" }, { kind = \"embeddings\" }, { kind = \"attention\" }, \
                   { kind = \"relations\" }, { kind = \"cosine\" }, { kind = \"soft_labels\" }]";
    let recipe = Recipe { student: NARROW, distill, ..Recipe::default() };
    assert_resumes(&recipe, folder.path(), &["--set", "train.dtype=auto"]);
    // The projection is learned and saved, and not exported.
    let checkpoint = folder.path().join("student/checkpoints/step-00000036");
    assert!(checkpoint.join("beside.safetensors").is_file());
    assert!(!folder.path().join("student/beside.safetensors").exists());
}

#[test]
fn a_killed_run_whose_best_model_is_told_by_its_losses_ends_with_the_same_bytes() {
    let folder = teacher_folder();
    let recipe =
        Recipe { student: NARROW, distill: "losses = [{ kind = \"hidden_states\" }]", ..Recipe::default() };
    assert_resumes(&recipe, folder.path(), &[]);
    let validation = logged(folder.path(), "validation");
    assert!(
        validation.iter().all(|line| line["objective"].as_f64().is_some_and(f64::is_finite)),
        "{validation:?}"
    );
    let record = read_json(folder.path().join("student/run.json"));
    assert!(record["metrics"]["test"].is_null(), "a head that has not learnt is not measured");
}

#[test]
fn a_killed_run_that_teaches_itself_ends_with_the_same_bytes() {
    let folder = teacher_folder();
    let distill = "losses = [{ kind = \"hidden_states\" }, { kind = \"soft_labels\" }]";
    let recipe = Recipe {
        teacher: "self_distillation = true",
        student: "path = \"teacher\"",
        distill,
        ..Recipe::default()
    };
    assert_resumes(&recipe, folder.path(), &[]);
}

#[test]
fn a_language_model_is_distilled_and_resumed() {
    let folder = teacher_folder();
    put(folder.path(), "masked", masked());
    let recipe = Recipe {
        task: "kind = \"masked_language_modeling\"",
        teacher: "path = \"masked\"",
        student: "init = \"from_teacher\"\nlayers = \"even\"\nnum_hidden_layers = 2",
        distill: "method = \"distilbert\"",
        data: "train = \"corpus.txt\"\nmax_rows = 200",
        ..Recipe::default()
    };
    assert_resumes(&recipe, folder.path(), &[]);
    let last = logged(folder.path(), "train").pop().expect("logged lines");
    for loss in ["soft_labels", "masked_lm", "cosine"] {
        assert!(last["losses"][loss].as_f64().is_some_and(f64::is_finite), "{last}");
    }
    let first = logged(folder.path(), "train").remove(0);
    assert!(last["loss"].as_f64() < first["loss"].as_f64(), "{first} {last}");
    let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
    assert!(plan.contains("the teacher's 0, 2") && plan.contains("in each step"), "{plan}");

    // It is a model to start from.
    write(folder.path().join("fine.toml"), FINE_TUNING);
    run(folder.path(), &["run", "fine.toml", "--quiet"]).success();
    run(folder.path(), &["eval", "fine", "--data", "test.csv"]).success();

    // Losses on hidden tokens need the very tokens, and a head that guesses them.
    std::fs::remove_dir_all(folder.path().join("student")).expect("removes");
    insta::assert_snapshot!(Recipe { teacher: "path = \"teacher\"", ..recipe }.refusal(folder.path()));
    put(folder.path(), "stranger", support::tickets::stranger());
    let recipe = Recipe { student: "path = \"stranger\"", distill: "method = \"minilm\"", ..recipe };
    insta::assert_snapshot!(recipe.refusal(folder.path()));
}

const FINE_TUNING: &str = r#"name = "fine"
output_dir = "fine"
[task]
kind = "classification"
[model]
path = "student"
[data]
train = "train.csv"
max_rows = 100
max_length = 48
[train]
max_steps = 3
"#;

/// TinyBERT's way: general distillation of a language model, then of a classifier inside, then of what it predicts.
const THREE_STAGES: &str = r#"name = "student"
seed = 7
output_dir = "student"

[task]
kind = "classification"
labels = ["billing", "bug_report", "cancellation", "login", "refund", "shipping"]

[teacher]
path = "teacher"

[student]
init = "from_teacher"
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 32

[distill]
losses = [{ kind = "attention" }, { kind = "hidden_states" }, { kind = "embeddings" }]

[data]
train = "train.csv"
test = "test.csv"
max_rows = 200
validation_fraction = 0.1
max_length = 48

[augment]
copies = 1

[train]
epochs = 2
batch_size = 16
learning_rate = 2e-3
logging_steps = 4
save_steps = 3
dtype = "f32"
threads = 1

[[stage]]
name = "general"

[stage.task]
kind = "masked_language_modeling"

[stage.teacher]
path = "masked"

[stage.data]
train = "corpus.txt"
max_rows = 320

[[stage]]
name = "intermediate"

[[stage]]
name = "prediction"

[stage.distill]
losses = [{ kind = "soft_labels", temperature = 1.0 }]

[stage.train]
epochs = 1
"#;

const GENERAL: &str = "student/stages/1-general";
const INTERMEDIATE: &str = "student/stages/2-intermediate";

fn three_stages() -> tempfile::TempDir {
    let folder = teacher_folder();
    put(folder.path(), "masked", masked());
    write(folder.path().join("student.toml"), THREE_STAGES);
    folder
}

#[test]
fn stages_are_planned_run_and_resumed() {
    let folder = three_stages();
    let folder = folder.path();
    let plan = run(folder, &["plan", "student.toml"]).success().stdout;
    for part in ["stage 1 of 3: general", "stage 2 of 3: intermediate", "stage 3 of 3: prediction"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    for part in ["masked (bert", "teacher (bert", "{ kind = \"soft_labels\", ", GENERAL, INTERMEDIATE] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(
        !folder.join("student").exists() && !folder.join(".teacher-cache").exists(),
        "a plan writes nothing"
    );
    let plans = run(folder, &["plan", "student.toml", "--format", "json"]).success().stdout;
    let plans: serde_json::Value = serde_json::from_str(&plans).expect("JSON");
    assert_eq!(plans["stages"].as_array().map(Vec::len), Some(3));
    run(folder, &["run", "student.toml", "--resume"]).refusal();

    let events = student(folder, &[]);
    assert_eq!(events.starts(), [0, 0, 0]);
    let augmented = events.progress("augmenting");
    assert_eq!(
        augmented.iter().filter(|&&done| done == augmented[augmented.len() - 1]).count(),
        1,
        "{augmented:?}"
    );
    let unbroken = weights(folder);
    let general = read_json(folder.join(GENERAL).join("run.json"));
    assert_eq!((&general["status"], &general["name"]), (&"finished".into(), &"student-general".into()));
    assert_eq!(general["recipe"]["task"]["kind"], "masked_language_modeling");
    let config = read_json(folder.join(GENERAL).join("config.json"));
    assert_eq!(config["architectures"][0], "BertForMaskedLM");
    let record = read_json(folder.join("student/run.json"));
    assert!(record["metrics"]["test"]["accuracy"].as_f64().is_some(), "{record}");
    run(folder, &["eval", "student", "--data", "test.csv"]).success();

    // What is done is left alone, by a run and by a resume.
    let before = tree(&folder.join("student"));
    let stderr = run(folder, &["run", "student.toml"]).refusal();
    assert!(stderr.contains("`student` already holds a run"), "{stderr}");
    assert!(student(folder, &["--resume"]).starts().is_empty());
    assert!(tree(&folder.join("student")) == before);

    // Killed in the second stage.
    kill_at(folder, &["--overwrite"], INTERMEDIATE, 6);
    assert!(!folder.join("student/run.json").exists(), "the run of before does not pass for this one's");
    let first = tree(&folder.join(GENERAL));
    let events = student(folder, &["--resume", "--threads", "2"]);
    assert_eq!(events.starts().len(), 2, "{:?}", events.starts());
    assert!(events.starts()[0] >= 6 && events.starts()[1] == 0, "{:?}", events.starts());
    assert!(tree(&folder.join(GENERAL)) == first, "a finished stage is left alone");
    assert!(weights(folder) == unbroken, "the same model as without the kill");

    // Interrupted in the second stage.
    let output = stop_at(folder, &["--overwrite"], INTERMEDIATE, 3, "-INT");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains(&format!("saved `{INTERMEDIATE}/checkpoints/step-")), "{stderr}");
    assert_eq!(read_json(folder.join(INTERMEDIATE).join("run.json"))["status"], "interrupted");
    assert_eq!(student(folder, &["--resume"]).starts().len(), 2);
    assert!(weights(folder) == unbroken);

    // Killed in the last.
    kill_at(folder, &["--overwrite"], "student", 3);
    let first = tree(&folder.join("student/stages"));
    assert_eq!(student(folder, &["--resume"]).starts().len(), 1);
    assert!(tree(&folder.join("student/stages")) == first);
    assert!(weights(folder) == unbroken);

    // A stage that is gone is done again, and those that were made of it.
    std::fs::remove_dir_all(folder.join(INTERMEDIATE)).expect("removes");
    assert_eq!(student(folder, &["--resume"]).starts(), [0, 0]);
    assert!(weights(folder) == unbroken);
}

#[test]
fn a_stage_that_does_not_fit_is_told_at_its_place() {
    let folder = three_stages();
    let of = |text: String| {
        write(folder.path().join("student.toml"), text);
        run(folder.path(), &["run", "student.toml", "--quiet"]).refusal()
    };
    let unknown =
        THREE_STAGES.replace("kind = \"soft_labels\", temperature", "kind = \"soft_label\", temperature");
    insta::assert_snapshot!("a_mistake_in_a_stage", of(unknown));
    let student = THREE_STAGES.replace("[stage.task]", "[stage.student]\npath = \"x\"\n\n[stage.task]");
    insta::assert_snapshot!("a_student_in_a_stage", of(student));
    let unnamed = THREE_STAGES.replace("name = \"intermediate\"", "");
    insta::assert_snapshot!("a_stage_without_a_name", of(unnamed));
    let layers = THREE_STAGES
        .replace("{ kind = \"hidden_states\" }", "{ kind = \"hidden_states\", layer_map = [[2, 0]] }");
    insta::assert_snapshot!("a_layer_that_no_stage_has", of(layers));
    // Told before the first stage is trained, with the student that it will make.
    let heads = THREE_STAGES.replace(
        "losses = [{ kind = \"soft_labels\"",
        "losses = [{ kind = \"attention\", layer_map = [[0, 3]] }, { kind = \"soft_labels\"",
    );
    insta::assert_snapshot!("a_layer_that_the_last_stage_lacks", of(heads));
    let itself = THREE_STAGES
        .replace("[stage.train]\n", "[stage.teacher]\nself_distillation = true\n\n[stage.train]\n");
    insta::assert_snapshot!("copies_without_a_model_that_names_them", of(itself.clone()));
    assert!(!folder.path().join("student").exists(), "nothing is written");

    let named = itself.replace("copies = 1", "copies = 1\npath = \"teacher\"");
    write(folder.path().join("student.toml"), named);
    run(folder.path(), &["plan", "student.toml"]).success();
    support::tickets::student(folder.path(), &["--set", "train.max_steps=2"]);
}

#[test]
fn a_changed_teacher_or_loss_is_no_resume() {
    let folder = teacher_folder();
    let recipe = Recipe { distill: "losses = [{ kind = \"soft_labels\" }]", ..Recipe::default() };
    recipe.write(folder.path());
    kill_at(folder.path(), &["--set", "train.save_steps=3"], "student", 3);
    let set = [
        "run",
        "student.toml",
        "--resume",
        "--set",
        "distill.losses=[{kind=\"soft_labels\",temperature=3.0}]",
    ];
    let stderr = run(folder.path(), &set).refusal();
    assert!(stderr.contains("distill.losses"), "{stderr}");
    change_config(&folder.path().join("teacher"), |config| config["layer_norm_eps"] = 1e-6.into());
    let stderr = run(folder.path(), &["run", "student.toml", "--resume"]).refusal();
    assert!(stderr.contains("the teachers have changed"), "{stderr}");
}
