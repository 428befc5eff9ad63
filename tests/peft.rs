//! Adapters and merged models go both ways between this program and PEFT: the same tensors, tokens, logits and losses.
//!
//! Needs a Python with PyTorch, Transformers and PEFT: `$DISTILL_PEER_PYTHON`, by default the one of
//! `~/.cache/peer-venv`. Says on stderr that it skipped itself where there is none.

mod support;

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{folder, run, write};

/// A model of `peft_make.py`.
struct Case {
    name: &'static str,
    /// The tables of the task, with the columns that it reads.
    task: &'static str,
    columns: &'static str,
    /// PEFT's adapters for it.
    adapters: &'static [&'static str],
}

/// The reference takes each row by itself, so that rows must not be cut to fill sequences.
const DECODER: &str = "kind = \"language_modeling\"\npacking = false";
const CASES: [Case; 7] = [
    Case { name: "llama", task: DECODER, columns: "", adapters: &["names", "all"] },
    Case { name: "qwen2", task: DECODER, columns: "", adapters: &["expression", "all"] },
    Case { name: "gpt2", task: DECODER, columns: "", adapters: &["names", "all"] },
    Case {
        name: "t5",
        task: "kind = \"seq2seq\"\nmax_new_tokens = 12",
        columns: "prompt = \"prompt\"\ntarget = \"target\"",
        adapters: &["names", "all"],
    },
    Case { name: "bert", task: "kind = \"classification\"", columns: "", adapters: &["names", "all"] },
    Case { name: "roberta", task: "kind = \"classification\"", columns: "", adapters: &[] },
    Case { name: "distilbert", task: "kind = \"classification\"", columns: "", adapters: &[] },
];

impl Case {
    /// Every training row in each step, so that a reference needs no order of rows.
    fn recipe(&self) -> String {
        let Self { name, task, columns, .. } = self;
        format!(
            r#"name = "{name}"
seed = 3
output_dir = "{name}/run-new"

[task]
{task}

[model]
path = "{name}/base"

[data]
train = "train.jsonl"
test = "test.jsonl"
validation_fraction = 0
max_length = 48
{columns}

[lora]

[train]
max_steps = 4
batch_size = 64
learning_rate = 5e-3
dropout = 0.0
dtype = "f32"
logging_steps = 1
"#
        )
    }

    /// Trains from new adapters and from each of PEFT's; the folders of runs and of adapters.
    fn train(&self, folder: &Path) -> Vec<String> {
        let Self { name, adapters, .. } = self;
        let recipe = format!("{name}.toml");
        write(folder.join(&recipe), self.recipe());
        run(folder, &["run", &recipe, "-q"]).success();
        let mut folders = vec![format!("{name}/run-new")];
        for adapter in *adapters {
            let (peft, from) = (format!("{name}/peft-{adapter}"), format!("{name}/from-{adapter}"));
            let recipe = format!("{name}-{adapter}.toml");
            write(
                folder.join(&recipe),
                self.recipe().replace("[lora]", &format!("[lora]\nadapter = \"{peft}\"")),
            );
            run(folder, &["run", &recipe, "-q", "--set", &format!("output_dir={from}")]).success();
            folders.extend([peft, from]);
        }
        folders
    }

    /// Writes what a model or an adapter answers beside it.
    fn answer(&self, folder: &Path, model: &str) {
        let output = format!("{model}.jsonl");
        let command: &[&str] = if self.task.contains("classification") {
            &["predict", "--logits"]
        } else {
            &["generate", "--do-sample=false", "--min-new-tokens=8", "--max-new-tokens=12"]
        };
        let arguments = ["-q", model, "--input", "test.jsonl", "--dtype", "f32", "--output", &output];
        run(folder, &[command, &arguments].concat()).success();
    }
}

fn python() -> Option<PathBuf> {
    let default =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/peer-venv/bin/python");
    let python = std::env::var_os("DISTILL_PEER_PYTHON").map_or_else(default, PathBuf::from);
    let works = Command::new(&python).args(["-c", "import peft, torch, transformers"]).output();
    works.is_ok_and(|output| output.status.success()).then_some(python)
}

/// What a script of `tests/support` writes to stdout.
fn script(python: &Path, name: &str, folder: &Path, arguments: &[String]) -> String {
    // Tests run in the folder of their crate; the script runs elsewhere.
    let path = std::env::current_dir().expect("a folder").join("../../tests/support").join(name);
    let output = Command::new(python)
        .arg(path)
        .args(arguments)
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn assert_below(result: &Value, key: &str, limit: f64) {
    let found = result[key].as_f64().unwrap_or_else(|| panic!("a number as `{key}` of {result}"));
    assert!(found < limit, "`{key}` of {result}");
}

/// A merged model against PEFT's, whichever form it was written in.
fn assert_merged(result: &Value, form: Option<&str>) {
    assert_eq!(result["tensors"], result["expected_tensors"], "{result}");
    if form == Some("bf16") {
        assert_eq!(result["dtypes"], json!(["torch.bfloat16"]), "{result}");
        // bf16 has 8 significant bits: rounding to the nearest moves a weight by at most 1/256 of it.
        assert_below(result, "weight_difference", 1.0 / 256.0);
    } else {
        assert_eq!(result["dtypes"], json!(["torch.float32"]), "{result}");
        assert_below(result, "weight_difference", 1e-4);
        assert_below(result, "difference", 1e-4);
    }
    match form {
        None => assert_eq!((&result["files"], &result["index"]), (&json!(1), &Value::Null), "{result}"),
        Some(_) => {
            assert_eq!(result["index"], true, "{result}");
            assert!(result["files"].as_u64() > Some(2), "{result}");
        }
    }
}

/// A model or an adapter that answered the test rows, and a run's losses.
fn assert_same_answers(result: &Value, folder: &str) {
    assert_eq!((&result["rows"], &result["same"]), (&json!(12), &json!(12)), "{result}");
    if result.get("difference").is_some() {
        assert_below(result, "difference", 1e-4);
    } else {
        // A text may stop early: what is compared must still be more than ends of texts.
        assert!(result["tokens"].as_u64() > Some(100), "{result}");
    }
    if folder.starts_with("run-") || folder.starts_with("from-") {
        assert_below(result, "loss_difference", 1e-4);
    }
    if folder.starts_with("from-") {
        let steps = result["step_differences"].as_array().expect("a list");
        assert_eq!(steps.len(), 4, "{result}");
        assert!(steps.iter().all(|step| step.as_f64().is_some_and(|step| step < 1e-4)), "{result}");
    }
}

#[test]
fn adapters_and_merged_models_go_both_ways() {
    let Some(python) = python() else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no Python with PyTorch, Transformers and PEFT; set DISTILL_PEER_PYTHON to one"
        );
        return;
    };
    let temporary = folder();
    let folder = temporary.path();
    script(&python, "peft_make.py", folder, &[]);

    let mut paths = Vec::new();
    for case in &CASES {
        let name = case.name;
        let adapters = case.train(folder);
        let mut models = adapters.clone();
        if !case.adapters.is_empty() {
            models.extend(["base", "f16", "bf16"].map(|kind| format!("{name}/{kind}")));
        }
        for model in &models {
            case.answer(folder, model);
        }
        for path in adapters {
            let merged = path.replace('/', "/merged-");
            run(folder, &["merge", &path, &merged, "-q"]).success();
            models.push(merged);
        }
        for (form, dtype, size) in [("sharded", "f32", "20KB"), ("bf16", "bf16", "10KB")] {
            let (path, merged) = (format!("{name}/run-new"), format!("{name}/merged-run-new.{form}"));
            let flags = ["--dtype", dtype, "--max-shard-size", size];
            run(folder, &[["merge", &path, &merged, "-q"], flags].concat()).success();
            models.push(merged);
        }
        paths.extend(models);
    }

    let stdout = script(&python, "peft_check.py", folder, &paths);
    let results: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(results.len(), paths.len(), "{stdout}");
    for (result, path) in results.iter().zip(&paths) {
        assert_eq!(result["folder"], path.as_str());
        for kind in ["missing", "unexpected", "mismatched"] {
            assert_eq!(result[kind], json!([]), "{kind} of {result}");
        }
        let (_, folder) = path.split_once('/').expect("a model and a folder");
        match folder.strip_prefix("merged-") {
            Some(merged) => assert_merged(result, merged.split_once('.').map(|(_, form)| form)),
            None => assert_same_answers(result, folder),
        }
    }
}
