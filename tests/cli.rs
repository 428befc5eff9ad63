//! The command line itself: help, schema, shipped recipes, and every mistake of a recipe with its place.

mod support;

use serde_json::Value;
use support::{folder, run, tiny_folder, tree, write};

const COMMANDS: [&str; 9] =
    ["run", "validate", "plan", "schema", "recipes", "datasets", "eval", "predict", "inspect"];

#[test]
fn help_and_version_are_there() {
    let folder = folder();
    let help = run(folder.path(), &["--help"]).success().stdout;
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let help = run(folder.path(), &[command, "--help"]).success().stdout;
        assert!(help.contains("\nExamples:\n  distill "), "{command}: {help}");
    }
    let version = run(folder.path(), &["--version"]).success().stdout;
    assert_eq!(version, format!("distill {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn unknown_commands_and_options_are_refused() {
    let folder = folder();
    let stderr = run(folder.path(), &["rum"]).refusal();
    assert!(stderr.contains("'rum'") && stderr.contains("'run'"), "{stderr}");
    let stderr = run(folder.path(), &["run", "a.toml", "--overwite"]).refusal();
    assert!(stderr.contains("'--overwrite'"), "{stderr}");
    run(folder.path(), &["run", "a.toml", "--resume", "--overwrite"]).refusal();
    run(folder.path(), &["run", "a.toml", "--threads", "0"]).refusal();
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let folder = folder();
    let schema: Value =
        serde_json::from_str(&run(folder.path(), &["schema"]).success().stdout).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|uri| uri.contains("json-schema.org")), "{schema}");
    for table in ["task", "model", "tokenizer", "data", "train"] {
        assert!(schema["properties"].get(table).is_some(), "{table}");
    }
    let text = schema.to_string();
    for key in
        ["learning_rate", "gradient_accumulation_steps", "validation_fraction", "hidden_size", "labels"]
    {
        assert!(text.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn recipes_are_listed_and_copied_with_their_data() {
    let folder = folder();
    let list = run(folder.path(), &["recipes"]).success().stdout;
    for name in ["quickstart", "ag_news", "ag_news_csv"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{list}");
    }
    run(folder.path(), &["recipes", "copy", "quickstart", "--to", "project"]).success();
    let project = folder.path().join("project");
    assert!(project.join("quickstart.toml").is_file());
    assert!(project.join("datasets/support_tickets/train.csv").is_file());
    run(&project, &["validate", "quickstart.toml"]).success();

    // Copying twice is no harm; a changed recipe is not replaced.
    run(folder.path(), &["recipes", "copy", "quickstart", "--to", "project"]).success();
    write(project.join("quickstart.toml"), "name = \"mine\"\n");
    let stderr = run(folder.path(), &["recipes", "copy", "quickstart", "--to", "project"]).refusal();
    assert!(stderr.contains("`project/quickstart.toml`"), "{stderr}");
    assert_eq!(std::fs::read(project.join("quickstart.toml")).expect("reads"), b"name = \"mine\"\n");

    let stderr = run(folder.path(), &["recipes", "copy", "quikstart"]).refusal();
    assert!(stderr.contains("`quikstart`") && stderr.contains("`quickstart`"), "{stderr}");
}

#[test]
fn data_sets_are_listed_and_written() {
    let folder = folder();
    let list = run(folder.path(), &["datasets"]).success().stdout;
    assert!(list.contains("support_tickets"), "{list}");
    run(folder.path(), &["datasets", "write", "support_tickets", "--out", "here"]).success();
    assert!(folder.path().join("here/support_tickets/test.csv").is_file());
    assert!(run(folder.path(), &["datasets", "write", "nothing"]).refusal().contains("`support_tickets`"));
}

#[test]
fn devices_are_listed() {
    let folder = folder();
    let text = run(folder.path(), &["inspect", "--device"]).success().stdout;
    for name in ["flex", "ndarray", "cuda", "auto"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
    }
    let json = run(folder.path(), &["inspect", "--device", "--format", "json"]).success().stdout;
    let devices: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(devices["devices"][0]["name"], "flex");
}

/// Runs a recipe that has mistakes; nothing may be written.
#[track_caller]
fn mistakes(recipe: &str, more: &[&str]) -> String {
    let folder = tiny_folder();
    write(folder.path().join("tiny.toml"), recipe);
    let before = tree(folder.path());
    let arguments: Vec<&str> = ["run", "tiny.toml"].iter().chain(more).copied().collect();
    let stderr = run(folder.path(), &arguments).refusal();
    assert!(tree(folder.path()) == before, "a recipe with mistakes writes nothing");
    stderr
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let recipe = r#"nam = "tiny"
seed = -1

[task]
kind = "clasification"

[model]
architecture = "bret"
hiden_size = 32

[data]
train = "train.csv"
text = []
validation_fraction = 1.5
max_length = "long"

[train]
lr = 1e-3
epochs = 0
batch_size = 8.5
warmup_ratio = 500
lr_scheduler_type = "linaer"
freeze = ["("]

[trian]
epochs = 3
"#;
    insta::assert_snapshot!(mistakes(recipe, &[]));
}

#[test]
fn mistakes_that_only_the_trainer_knows() {
    let recipe = support::TINY_RECIPE
        .replace("train = \"train.csv\"", "train = \"trian.csv\"")
        .replace("[train]", "[train]\nmetric_for_best_model = \"acuracy\"");
    insta::assert_snapshot!(mistakes(&recipe, &[]));
}

#[test]
fn keys_that_exclude_each_other() {
    let recipe = support::TINY_RECIPE.replace("warmup_ratio = 0.1", "warmup_ratio = 0.1\nwarmup_steps = 5");
    insta::assert_snapshot!(mistakes(&recipe, &[]));
}

#[test]
fn a_key_given_twice() {
    insta::assert_snapshot!(mistakes(&support::TINY_RECIPE.replace("seed = 7", "seed = 7\nseed = 8"), &[]));
}

#[test]
fn text_that_is_not_toml() {
    insta::assert_snapshot!(mistakes("name = \"tiny\"\n[train\nepochs = 3\n", &[]));
}

#[test]
fn mistakes_in_overrides() {
    let sets = ["--set", "train.epoch=3", "--set", "train.batch_size=lots", "--set", "device=gpu"];
    insta::assert_snapshot!(mistakes(support::TINY_RECIPE, &sets));
}

#[test]
fn an_override_without_a_value() {
    insta::assert_snapshot!(mistakes(support::TINY_RECIPE, &["--set", "train.epochs"]));
}

#[test]
fn a_recipe_that_is_not_there() {
    let folder = folder();
    insta::assert_snapshot!(run(folder.path(), &["run", "nothing.toml"]).refusal());
}

#[test]
fn mistakes_for_programs() {
    let folder = tiny_folder();
    write(folder.path().join("tiny.toml"), support::TINY_RECIPE.replace("epochs = 3", "epoch = 3"));
    let stderr = run(folder.path(), &["validate", "tiny.toml", "--log-format", "json"]).refusal();
    let fault: Value = serde_json::from_str(stderr.trim_end()).expect("one JSON object");
    assert_eq!(fault["event"], "error");
    assert_eq!(fault["file"], "tiny.toml");
    let line = support::TINY_RECIPE.lines().position(|line| line == "epochs = 3").expect("a line") + 1;
    assert_eq!((fault["line"].as_u64(), fault["column"].as_u64()), (Some(line as u64), Some(1)));
}

#[test]
fn overrides_change_what_the_recipe_says() {
    let folder = tiny_folder();
    let sets = [
        "--set",
        "train.epochs=1",
        "--set",
        "name=other",
        "--set",
        "output_dir=elsewhere/out",
        "--format",
        "json",
    ];
    let arguments: Vec<&str> = ["plan", "tiny.toml"].iter().chain(&sets).copied().collect();
    let plan: Value = serde_json::from_str(&run(folder.path(), &arguments).success().stdout).expect("JSON");
    assert_eq!(plan["name"], "other");
    assert_eq!(plan["output_dir"], "elsewhere/out");
    assert_eq!(plan["epochs"], 1.0);
}

#[test]
fn progress_for_programs_is_one_object_a_line() {
    let folder = tiny_folder();
    let arguments = ["run", "tiny.toml", "--set", "train.max_steps=6", "--log-format", "json"];
    let outcome = run(folder.path(), &arguments).success();
    assert_eq!(outcome.stdout, "");
    let events: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "step")
        .filter_map(|event| event["step"].as_u64())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    assert_eq!(events.last().expect("an event")["event"], "finished");
    assert!(events.iter().any(|event| event["event"] == "validated" && event["report"]["accuracy"].is_f64()));
}

#[test]
fn quiet_is_quiet() {
    let folder = tiny_folder();
    let outcome =
        run(folder.path(), &["run", "tiny.toml", "--quiet", "--set", "train.max_steps=2"]).success();
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.lines().all(|line| line.starts_with("warning: ")), "{}", outcome.stderr);
}
