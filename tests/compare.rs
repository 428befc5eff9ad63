//! `distill compare`: models side by side, whatever order their labels have.

mod support;

use distill_models::{read_safetensors, write_safetensors};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use support::{Outcome, folder, read_json, run, tiny_folder, tree, write};

/// A folder with two models of the same task, `out` and the smaller `small`, made once.
fn models() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tiny_folder();
        run(folder.path(), &["run", "tiny.toml"]).success();
        let sets = [
            "--set",
            "output_dir=small",
            "--set",
            "model.num_hidden_layers=1",
            "--set",
            "train.max_steps=12",
            "--set",
            "seed=5",
        ];
        let arguments: Vec<&str> = ["run", "tiny.toml"].iter().chain(&sets).copied().collect();
        run(folder.path(), &arguments).success();
        folder
    });
    folder.path()
}

/// Few enough answers for a test.
const QUICK: [&str; 8] = ["--latency-texts", "6", "--batches", "2", "--rounds", "2", "--warmup", "1"];

fn compare(folder: &Path, arguments: &[&str]) -> Outcome {
    let arguments: Vec<&str> = ["compare"].iter().chain(arguments).chain(&QUICK).copied().collect();
    run(folder, &arguments)
}

fn compare_json(folder: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().chain(&["--format", "json"]).copied().collect();
    serde_json::from_str(&compare(folder, &arguments).success().stdout).expect("JSON")
}

/// A model's files without what its run left, the labels turned round where `turned`.
fn copy(from: &Path, to: &Path, turned: bool) {
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"] {
        if let Ok(bytes) = std::fs::read(from.join(name)) {
            write(to.join(name), bytes);
        }
    }
    let mut config = read_json(from.join("config.json"));
    let mut weights = read_safetensors(&from.join("model.safetensors")).expect("weights");
    if turned {
        config["id2label"] = json!({"0": config["id2label"]["1"], "1": config["id2label"]["0"]});
        config["label2id"] = json!({"fruit": 1, "metal": 0});
        for name in ["classifier.weight", "classifier.bias"] {
            let (shape, values) = weights.tensors.get_mut(name).expect("a classifier");
            assert_eq!(shape[0], 2);
            let half = values.len() / 2;
            values.rotate_left(half);
        }
    }
    write(to.join("config.json"), config.to_string());
    let tensors = weights.tensors.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect();
    write_safetensors(&to.join("model.safetensors"), tensors, &weights.metadata).expect("writes");
}

#[test]
fn the_numbers_are_those_of_eval_and_of_the_files() {
    let here = models();
    let compared = compare_json(here, &["out", "small", "--data", "test.csv"]);
    assert_eq!((&compared["rows"], &compared["data"]), (&json!(40), &json!(["test.csv"])));
    assert_eq!(compared["labels"], json!(["fruit", "metal"]));
    assert_eq!(compared["timing"]["latency_texts"], 6);
    assert_eq!(compared["timing"]["batches"], 1, "40 rows have no two batches of 32");
    for (model, name) in compared["models"].as_array().expect("models").iter().zip(["out", "small"]) {
        let eval = run(here, &["eval", name, "--data", "test.csv", "--json"]).success().stdout;
        let eval: Value = serde_json::from_str(&eval).expect("JSON");
        assert_eq!(model["model"], name);
        assert_eq!((&model["accuracy"], &model["macro_f1"]), (&eval["accuracy"], &eval["macro_f1"]));
        let inspected = run(here, &["inspect", name, "--format", "json"]).success().stdout;
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!(model["parameters"], inspected["parameters"]);
        let size = std::fs::metadata(here.join(name).join("model.safetensors")).expect("a file").len();
        assert_eq!(model["weight_bytes"], size);
        assert_eq!(model["max_length"], 24, "as in the run");
        let latency = |key: &str| model["latency_ms"][key].as_f64().expect("a time");
        assert!(0.0 < latency("min") && latency("min") <= latency("p50") && latency("p50") <= latency("p99"));
        assert!(model["tokenizing_ms"]["p50"].as_f64().expect("a time") < latency("p50"));
        let rate = |key: &str| model[key].as_f64().expect("a rate");
        assert!(0.0 < rate("examples_per_second"));
        assert!(rate("examples_per_second") < rate("examples_per_second_tokenized"));
        assert!(model.get("energy_mj_per_example").is_some(), "null where nothing tells it");
    }
    let first = &compared["models"][0];
    for key in
        ["agreement", "parameters_ratio", "weight_bytes_ratio", "latency_speedup", "throughput_speedup"]
    {
        assert_eq!(first[key], 1.0, "{key}");
    }
    assert!(compared["models"][1]["parameters_ratio"].as_f64().is_some_and(|ratio| ratio < 1.0));
}

#[test]
fn labels_are_matched_by_name() {
    let here = models();
    copy(&here.join("out"), &here.join("turned"), true);
    let compared = compare_json(here, &["out", "turned", "small", "--data", "test.csv"]);
    let [out, turned, small] = [0, 1, 2].map(|number| &compared["models"][number]);
    assert_eq!(turned["agreement"], 1.0, "the same model with its labels turned round");
    assert_eq!((&out["accuracy"], &out["macro_f1"]), (&turned["accuracy"], &turned["macro_f1"]));

    // What `small` agrees with is counted from the answers themselves.
    let answers = |model: &str| {
        let predictions = std::fs::read_to_string(here.join(model).join("predictions.jsonl")).expect("reads");
        let label = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["prediction"].clone();
        predictions.lines().map(label).collect::<Vec<_>>()
    };
    let alike = answers("out").iter().zip(answers("small")).filter(|(one, other)| *one == other).count();
    assert_eq!(small["agreement"], alike as f64 / 40.0);
    let turned_first = compare_json(here, &["turned", "small", "--data", "test.csv"]);
    assert_eq!(turned_first["models"][1]["agreement"], small["agreement"]);
    assert_eq!(turned_first["models"][1]["accuracy"], small["accuracy"]);
}

#[test]
fn integer_labels_mean_what_they_meant_to_the_run() {
    let here = models();
    copy(&here.join("out"), &here.join("plain"), false);
    copy(&here.join("out"), &here.join("plain-turned"), true);
    let named = std::fs::read_to_string(here.join("test.csv")).expect("reads");
    write(here.join("numbers.csv"), named.replace(",fruit\n", ",0\n").replace(",metal\n", ",1\n"));
    let data = ["--data", "numbers.csv"];
    let accuracy =
        compare_json(here, &["out", "small", "--data", "test.csv"])["models"][0]["accuracy"].clone();
    // Without any run they count in the order of the first model's labels.
    let compared = compare_json(here, &[&["plain", "plain-turned"], data.as_slice()].concat());
    assert_eq!(
        (&compared["models"][0]["accuracy"], &compared["models"][1]["accuracy"]),
        (&accuracy, &accuracy)
    );
    assert_eq!(compared["models"][1]["agreement"], 1.0);
    // A run that knows better is believed, wherever it stands.
    copy(&here.join("out"), &here.join("of-run"), true);
    let record =
        |names: [&str; 2]| json!({"labels": {"names": names, "style": "integers_from0"}}).to_string();
    write(here.join("of-run/run.json"), record(["metal", "fruit"]));
    let compared = compare_json(here, &[&["plain", "of-run"], data.as_slice()].concat());
    let swapped = 1.0 - accuracy.as_f64().expect("a number");
    // `small` learned from names, which tells nothing of numbers.
    let with_names = compare_json(here, &[&["small", "of-run"], data.as_slice()].concat());
    assert_eq!(with_names["models"][1]["accuracy"], compared["models"][1]["accuracy"]);
    for model in 0..2 {
        let found = compared["models"][model]["accuracy"].as_f64().expect("a number");
        assert!((found - swapped).abs() < 1e-12, "{found}, not {swapped}");
    }
    // Two runs that contradict each other cannot be compared on such data.
    copy(&here.join("out"), &here.join("of-other-run"), false);
    write(here.join("of-other-run/run.json"), record(["fruit", "metal"]));
    let stderr = compare(here, &[&["of-run", "of-other-run"], data.as_slice()].concat()).refusal();
    assert!(
        stderr.contains("the label of row 1 is `metal` as the run of `of-run` read its data"),
        "{stderr}"
    );
}

#[test]
fn files_are_written_whole() {
    let here = models();
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let files = [at("deep/table.md"), at("all.json"), at("plot.svg"), at("plot.png")];
    write(&files[0], "an older table");
    let arguments = ["out", "small", "--data", "test.csv", "--markdown", &files[0], "--json", &files[1]];
    let outcome = compare(here, &[arguments.as_slice(), &["--plot", &files[2]]].concat()).success();
    for part in ["model", "accuracy", "agreement", "p50 ms", "speed-up", "texts/s", "small"] {
        assert!(outcome.stdout.contains(part), "`{part}` is not in:\n{}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("wrote `"), "{}", outcome.stderr);
    let table = std::fs::read_to_string(&files[0]).expect("reads");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("| model | accuracy | macro F1 | agreement |"), "{table}");
    assert!(lines[2].starts_with("| out | ") && lines[3].starts_with("| small | "), "{table}");
    assert!(lines[..4].iter().all(|line| line.matches('|').count() == lines[0].matches('|').count()));
    assert_eq!(read_json(&files[1])["models"][1]["model"], "small");
    let svg = std::fs::read_to_string(&files[2]).expect("reads");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("<title>small: accuracy (%) "), "a title a point");
    assert!(!svg.contains("<text"), "letters are curves: no font is needed to see them");

    compare(here, &["out", "out", "--data", "test.csv", "--plot", &files[3], "--quiet"]).success();
    let png = std::fs::read(&files[3]).expect("reads");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xae\x42\x60\x82"));
    assert_eq!((side(16), side(20)), (1760, 1120));
    let names: Vec<_> = tree(folder.path()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

/// Runs a comparison that cannot be made; nothing may be measured or written.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let here = models();
    let stderr = compare(here, &[arguments, &["--json", "never.json"]].concat()).refusal();
    assert!(!stderr.contains("measuring") && !stderr.contains("timing"), "{stderr}");
    assert!(!here.join("never.json").exists());
    stderr
}

#[test]
fn different_labels_are_refused() {
    let here = models();
    copy(&here.join("small"), &here.join("renamed"), false);
    let config = std::fs::read_to_string(here.join("renamed/config.json")).expect("reads");
    write(here.join("renamed/config.json"), config.replace("metal", "stone"));
    let stderr = refused(&["out", "small", "renamed", "--data", "test.csv"]);
    assert!(
        stderr.contains(
            "`out` and `renamed` know different labels: only `out` has `metal`, only `renamed` has `stone`"
        ),
        "{stderr}"
    );
}

#[test]
fn what_is_no_classifier_is_refused() {
    let here = models();
    copy(&here.join("out"), &here.join("headless"), false);
    let weights = here.join("headless/model.safetensors");
    let content = read_safetensors(&weights).expect("weights");
    let tensors = content.tensors.into_iter().filter(|(name, _)| !name.starts_with("classifier"));
    let tensors = tensors.map(|(name, (shape, values))| (name, shape, values)).collect();
    write_safetensors(&weights, tensors, &content.metadata).expect("writes");
    let mut config = read_json(here.join("headless/config.json"));
    config["architectures"] = json!(["BertModel"]);
    write(here.join("headless/config.json"), config.to_string());
    let stderr = refused(&["out", "headless", "--data", "test.csv"]);
    assert!(stderr.contains("`headless` is an encoder without a classifier"), "{stderr}");
    assert!(stderr.contains("distill run"), "{stderr}");
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is() {
    for (arguments, part) in [
        (["out", "nothing", "--data", "test.csv"].as_slice(), "`nothing`"),
        (&["out", "small", "--data", "nothing.csv"], "`nothing.csv`"),
        (&["out", "small", "--data", "test.csv", "--label", "lable"], "`lable`"),
        (&["out", "small", "--data", "test.csv", "--max-length", "999"], "999"),
        (&["out", "small", "--data", "test.csv", "--plot", "plot.jpg"], "`.png` or `.svg`"),
        (&["out", "small", "--data", "test.csv", "--markdown", "out"], "`out`"),
        (&["out", "small", "--data", "test.csv", "--device", "gpu"], "unknown device `gpu`"),
        (&["out", "--data", "test.csv"], "2 values"),
        (&["out", "small"], "--data"),
    ] {
        let stderr = refused(arguments);
        assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
    }
}
