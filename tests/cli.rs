//! The command line itself: help, schema, shipped recipes, and every mistake of a recipe with its place.

mod support;

use serde_json::Value;
use support::{Outcome, folder, run, tiny_folder, tree, write};

const COMMANDS: [&str; 14] = [
    "run",
    "validate",
    "plan",
    "schema",
    "recipes",
    "datasets",
    "eval",
    "predict",
    "generate",
    "merge",
    "rationales",
    "compare",
    "inspect",
    "bench",
];

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
    for name in ["flex", "ndarray", "cuda", "auto", "instructions", "DISTILL_ISA", "threads", "dtype"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
    }
    let json = run(folder.path(), &["inspect", "--device", "--format", "json"]).success().stdout;
    let devices: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(devices["devices"][0]["name"], "flex");
    let available = devices["instruction_sets"].as_array().expect("a list");
    assert!(available.contains(&devices["instruction_set"]), "{devices}");
}

#[test]
fn the_instruction_set_can_be_forced() {
    let folder = folder();
    let inspect = |isa: &str| {
        let mut command = support::distill(folder.path(), &["inspect", "--device", "--format", "json"]);
        Outcome::from(command.env("DISTILL_ISA", isa).output().expect("the binary starts"))
    };
    let devices: Value = serde_json::from_str(&inspect("portable").success().stdout).expect("JSON");
    assert_eq!(devices["instruction_set"], "portable");
    assert_eq!(devices["isa_variable"], "portable");
    assert_eq!(devices["auto_dtype"], "f32");
    insta::assert_snapshot!(inspect("sse").refusal());
}

/// A model that is measured in no time.
const SMALL: [&str; 16] = [
    "--hidden-size",
    "16",
    "--layers",
    "2",
    "--heads",
    "2",
    "--intermediate-size",
    "32",
    "--vocab-size",
    "50",
    "--batch",
    "2",
    "--length",
    "8",
    "--warmup",
    "1",
];

fn bench(more: &[&str]) -> Vec<String> {
    ["bench"].iter().chain(&more[..1]).chain(&SMALL).chain(&more[1..]).map(ToString::to_string).collect()
}

fn run_bench(more: &[&str]) -> Outcome {
    let arguments = bench(more);
    run(folder().path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn bench_measures_training_steps() {
    for more in [[].as_slice(), &["--gradient-checkpointing", "--dropout", "0.3"], &["--config", "albert"]] {
        let arguments = [["train", "--steps", "3", "--format", "json"].as_slice(), more].concat();
        let report: Value = serde_json::from_str(&run_bench(&arguments).success().stdout).expect("JSON");
        assert!(report["examples_per_second"].as_f64().expect("a rate") > 0.0, "{report}");
        let number = |key: &str| report[key].as_f64().expect("a number");
        assert!((number("tokens_per_second") / number("examples_per_second") - 8.0).abs() < 1e-6);
        let parts = report["parts_ms"].as_object().expect("parts");
        let names: Vec<&str> = parts.keys().map(String::as_str).collect();
        assert_eq!(names, ["data", "forward", "backward", "gradient_norm", "optimizer"]);
        assert_eq!(report["steps"], 3);
        assert_eq!(report["gradient_checkpointing"], more.contains(&"--gradient-checkpointing"));
        assert!(number("last_loss").is_finite());
    }
    let text = run_bench(&["train", "--steps", "2"]).success().stdout;
    for part in ["examples/s", "ms median", "memory", "batch 2 x 8", "backward", "optimizer"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn bench_measures_predictions() {
    let json = run_bench(&["predict", "--batches", "4", "--format", "json"]).success().stdout;
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let latency = |key: &str| report["latency_ms"][key].as_f64().expect("a time");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99"), "{report}");
    let text = run_bench(&["predict", "--batches", "1"]).success().stdout;
    assert!(text.contains("p99") && text.contains("examples/s"), "{text}");
}

#[test]
fn bench_takes_the_classifier_of_a_model_or_a_new_one() {
    let folder = tiny_folder();
    run(folder.path(), &["run", "tiny.toml", "--set", "train.max_steps=1"]).success();
    let arguments = [
        "bench", "train", "--model", "out", "--batch", "2", "--length", "8", "--steps", "1", "--format",
        "json",
    ];
    let report: Value = serde_json::from_str(&run(folder.path(), &arguments).success().stdout).expect("JSON");
    assert_eq!(report["model"]["source"], "out");
    assert_eq!(report["model"]["hidden_size"], 32);
    let stderr = run(folder.path(), &["bench", "train", "--model", "out", "--length", "999"]).refusal();
    assert!(stderr.contains("reads at most 32 tokens, `--length` is 999"), "{stderr}");
}

#[test]
fn bench_refuses_what_cannot_be_measured() {
    for (arguments, part) in [
        (["train", "--config", "bret"], "did you mean `bert`?"),
        (["train", "--dropout", "1"], "must be at least 0 and below 1"),
        (["predict", "--device", "gpu"], "unknown device `gpu`"),
        (["train", "--heads", "7"], "must be a multiple of `num_attention_heads` (7)"),
    ] {
        let arguments = [&["bench"], arguments.as_slice()].concat();
        let stderr = run(folder().path(), &arguments).refusal();
        assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
    }
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
fn bf16_where_it_cannot_be_had() {
    insta::assert_snapshot!(mistakes(
        support::TINY_RECIPE,
        &["--set", "train.dtype=bf16", "--set", "device=ndarray"]
    ));
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
