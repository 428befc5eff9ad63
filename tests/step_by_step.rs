//! Labels learnt with the steps that lead to them, from recipe to report.

mod support;

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use support::{Outcome, read_json, run};

/// Sums with their steps; one row in five has no rationale, one in seven one for a wrong answer.
fn write_data(folder: &Path) {
    let mut rows = String::new();
    for a in 0..9 {
        for b in 0..8 {
            let number: usize = a * 8 + b;
            let taught = if number % 7 == 3 { a + b + 1 } else { a + b };
            let rationale = (number % 5 != 2).then(|| format!("we have {a} and {b} , that is {taught}"));
            let row = json!({
                "question": format!("{a} and {b}"), "answer": (a + b).to_string(), "rationale": rationale,
                "teacher_answer": taught.to_string(),
                "choices": [(a + b).to_string(), (a + b + 1).to_string(), (a + b + 20).to_string()],
            });
            let _ = writeln!(rows, "{row}");
        }
    }
    std::fs::write(folder.join("train.jsonl"), &rows).expect("writes");
    // Held-out files need neither rationales nor a teacher's answers.
    let test: String = rows
        .lines()
        .step_by(6)
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let kept =
                json!({"question": row["question"], "answer": row["answer"], "choices": row["choices"]});
            format!("{kept}\n")
        })
        .collect();
    std::fs::write(folder.join("test.jsonl"), test).expect("writes");
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    folder
}

fn recipe(architecture: &str, task: &str, rationale: &str) -> String {
    format!(
        "name = \"sums\"\nseed = 5\noutput_dir = \"out\"\n[task]\nkind = \"rationale\"\nmax_new_tokens = 24\n{task}\n\
         [rationale]\nlabel_prompt = \"predict: {{question}}\"\nrationale_prompt = \"explain: {{question}}\"\n\
         label = \"{{answer}}\"\nrationale = \"{{rationale}}\"\n{rationale}\n[model]\narchitecture = \"{architecture}\"\n\
         hidden_size = 32\nnum_hidden_layers = 2\nnum_attention_heads = 4\n[tokenizer]\n\
         train = {{ kind = \"gpt2\", vocab_size = 340 }}\n[data]\ntrain = \"train.jsonl\"\ntest = \"test.jsonl\"\n\
         max_length = 64\nvalidation_fraction = 0.1\n[train]\nepochs = 2\nbatch_size = 8\nlearning_rate = 3e-3\n\
         dtype = \"f32\"\ndropout = 0.0\nlogging_steps = 1\n"
    )
}

fn train(folder: &Path, recipe: &str, arguments: &[&str]) -> Outcome {
    std::fs::write(folder.join("recipe.toml"), recipe).expect("writes");
    run(folder, &[&["run", "recipe.toml", "--overwrite"], arguments].concat())
}

/// The lines of `metrics.jsonl` that are of training.
fn logged(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("out/metrics.jsonl")).expect("is there");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == "train").collect()
}

fn answers(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("out/predictions.jsonl")).expect("is there");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

const SUMS: &str = "compare = \"expression\"";

#[test]
fn both_tasks_are_learnt_and_told_apart() {
    for architecture in ["llama", "gpt2", "t5"] {
        let folder = folder();
        train(folder.path(), &recipe(architecture, SUMS, "weight = 0.3"), &[]).success();
        for line in logged(folder.path()) {
            // A step of one row may have no rationale.
            let rationale = line["losses"]["rationale_tokens"].as_f64().unwrap_or(0.0);
            let label = number(&line["losses"]["label_tokens"]);
            let expected = 0.3 * label + 0.7 * rationale;
            assert!((number(&line["loss"]) - expected).abs() < 1e-5 * expected, "{architecture}: {line}");
        }
        let record = read_json(folder.path().join("out/run.json"));
        let report = &record["metrics"]["test"];
        assert_eq!((&report["rows"], &report["rationales"]), (&json!(12), &json!(12)), "{report}");
        assert!(number(&report["label_tokens"]["loss"]) > 0.0);
        let rows = answers(folder.path());
        let right = rows.iter().filter(|row| row["right"] == true).count();
        assert!((number(&report["accuracy"]) - right as f64 / 12.0).abs() < 1e-9);
        assert!(rows.iter().all(|row| row["rationale"].is_string() && row["prediction"] == row["written"]));
        let shown = std::fs::read_to_string(folder.path().join("out/rationales.md")).expect("is there");
        assert!(shown.contains("12 answers") && shown.contains("predict: 0 and 0"), "{shown}");
    }
}

#[test]
fn each_task_is_a_mean_over_its_own_tokens_however_a_step_is_cut() {
    let folder = folder();
    for architecture in ["llama", "t5"] {
        let losses = |arguments: &[&str]| -> Vec<f64> {
            train(folder.path(), &recipe(architecture, SUMS, ""), arguments).success();
            logged(folder.path()).iter().map(|line| number(&line["loss"])).collect()
        };
        let whole = losses(&[]);
        let cut = losses(&["--set", "train.batch_size=2", "--set", "train.gradient_accumulation_steps=4"]);
        assert_eq!(whole.len(), cut.len());
        for (whole, cut) in whole.iter().zip(&cut) {
            assert!((whole - cut).abs() < 1e-4 * whole, "{architecture}: {whole} and {cut}");
        }
    }
}

#[test]
fn a_rationale_without_weight_leaves_its_label_alone() {
    let folder = folder();
    for architecture in ["llama", "t5"] {
        let labels = |rationale: &str, loss: &dyn Fn(&Value) -> f64| -> Vec<f64> {
            // All rows in one step, so that their order, which goes by length, does not matter.
            let settings = ["--set", "train.batch_size=100", "--set", "train.epochs=6"];
            train(folder.path(), &recipe(architecture, SUMS, rationale), &settings).success();
            logged(folder.path()).iter().map(loss).collect()
        };
        let both = labels("weight = 1.0", &|line| number(&line["losses"]["label_tokens"]));
        let alone = labels("mode = \"label_only\"", &|line| number(&line["loss"]));
        assert!(!both.is_empty());
        for (both, alone) in both.iter().zip(&alone) {
            assert!((both - alone).abs() < 1e-3 * alone, "{architecture}: {both} and {alone}");
        }
    }
}

#[test]
fn wrong_rationales_are_dropped_and_held_out_answers_stay() {
    let folder = folder();
    let count = |keys: &str| {
        let recipe = recipe("llama", SUMS, keys);
        std::fs::write(folder.path().join("recipe.toml"), recipe).expect("writes");
        run(folder.path(), &["plan", "recipe.toml", "--batches", "batches.jsonl"]).success();
        let text = std::fs::read_to_string(folder.path().join("batches.jsonl")).expect("is there");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let rows = lines.iter().filter(|line| line.get("step").is_some());
        let segments = rows.flat_map(|line| line["segment_ids"].as_array().cloned().unwrap_or_default());
        // A row with a rationale has two segments and, mostly, padding.
        segments.filter(|row| row.as_array().is_some_and(|row| row.contains(&json!(1)))).count()
    };
    let kept = count("teacher_label = \"{teacher_answer}\"");
    let dropped = count("teacher_label = \"{teacher_answer}\"\nwrong_rationales = \"drop\"");
    assert!(dropped < kept, "{dropped} of {kept}");
    // The teacher's answers are learnt, the right ones measure.
    let keys = "mode = \"label_only\"\ngold = \"{answer}\"";
    let text =
        recipe("llama", SUMS, keys).replace("label = \"{answer}\"\n", "label = \"{teacher_answer}\"\n");
    train(folder.path(), &text, &["--set", "train.max_steps=1"]).success();
    assert_eq!(answers(folder.path())[0]["gold"], "0");
}

#[test]
fn choices_are_weighed() {
    for (architecture, mode) in
        [("llama", "multi_task"), ("t5", "multi_task"), ("llama", "single_task"), ("t5", "single_task")]
    {
        let folder = folder();
        let keys = format!("choices = \"choices\"\nmode = \"{mode}\"");
        let recipe = recipe(architecture, "generate = \"test\"", &keys);
        let told = train(folder.path(), &recipe, &["--log-format", "json"]).success().stderr;
        let events = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let measured: Vec<Value> =
            events.filter(|event| event["what"] == "measuring on the test set").collect();
        let last = measured.last().expect("progress");
        assert_eq!(last["done"], last["total"], "{architecture}");
        assert!(measured.iter().all(|event| event["done"].as_u64() <= event["total"].as_u64()));
        let record = read_json(folder.path().join("out/run.json"));
        let validation = &record["metrics"]["validation"];
        assert!(validation["accuracy"].is_number(), "weighed without being written: {validation}");
        let report = &record["metrics"]["test"];
        for key in ["accuracy", "accuracy_by_token", "written_accuracy"] {
            assert!(report[key].is_number(), "{architecture}: no `{key}` in {report}");
        }
        for row in answers(folder.path()) {
            let choices = row["choices"].as_array().expect("choices");
            assert_eq!(choices.len(), 3);
            let best = choices.iter().max_by(|one, other| {
                number(&one["log_likelihood"]).total_cmp(&number(&other["log_likelihood"]))
            });
            assert_eq!(row["prediction"], best.expect("one")["text"], "{architecture}");
            assert!(choices.iter().all(|choice| number(&choice["log_likelihood"]) < 0.0));
            assert_eq!(
                mode == "single_task" || row["row"].as_u64() < Some(100),
                row["rationale"].is_string()
            );
        }
    }
}

#[test]
fn a_resumed_run_and_another_number_of_threads_end_with_the_same_bytes() {
    let folder = folder();
    let text = recipe("llama", SUMS, "") + "save_steps = 4\nsave_total_limit = 9\n";
    train(folder.path(), &text, &["--threads", "1"]).success();
    let model = || std::fs::read(folder.path().join("out/model.safetensors")).expect("is there");
    let whole = model();
    let out = folder.path().join("out");
    for later in std::fs::read_dir(out.join("checkpoints")).expect("checkpoints").flatten() {
        let name = later.file_name().to_string_lossy().into_owned();
        if name.starts_with("step-") && !name.ends_with("00000004") {
            std::fs::remove_dir_all(later.path()).expect("removes");
        }
    }
    let mut record = read_json(out.join("run.json"));
    record["status"] = "running".into();
    std::fs::write(out.join("run.json"), record.to_string()).expect("writes");
    run(folder.path(), &["run", "recipe.toml", "--resume", "--threads", "2"]).success();
    assert!(whole == model());
}

#[test]
fn test_questions_that_were_learnt_are_told_whatever_rationale_they_had() {
    let folder = folder();
    for (architecture, mode) in [("llama", "multi_task"), ("gpt2", "single_task"), ("t5", "label_only")] {
        let extra = format!("mode = \"{mode}\"");
        let recipe = recipe(architecture, SUMS, &extra).replace("= 0.1", "= 0.0");
        let outcome = train(folder.path(), &recipe, &["--set", "train.max_steps=1"]).success();
        let expected = "12 of 12 test rows have the same prompt as a training row";
        assert!(outcome.stderr.contains(expected), "{mode}: {}", outcome.stderr);
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let folder = folder();
    let whole = recipe("llama", SUMS, "");
    let cases = [
        (
            whole.replace("kind = \"rationale\"", "kind = \"seq2seq\"").replace(SUMS, ""),
            "belongs to the task",
        ),
        (recipe("llama", SUMS, "choices = \"question\""), "holds no list of choices"),
        (recipe("llama", SUMS, "choices = \"choice\""), "no column `choice`"),
        (recipe("llama", SUMS, "mode = \"cot\""), "did you mean `single_task`?"),
        (recipe("bert", SUMS, ""), "language modelling"),
        (
            recipe("llama", "generate = \"test\"", "") + "metric_for_best_model = \"accuracy\"\n",
            "no validation prompt",
        ),
        (whole.clone() + "metric_for_best_model = \"acuracy\"\n", "did you mean `accuracy`?"),
        (whole.replace("[rationale]", "[x]"), "needs a `[rationale]`"),
        (whole.replace("kind = \"gpt2\"", "kind = \"bpe\""), "help: train it with `kind = \"gpt2\"`"),
        (
            whole.replace(
                "[model]",
                "[teacher]\npath = \"t\"\n[distill]\nmethod = \"sequence_level\"\n[student]",
            ),
            "ask the teacher by `distill rationales`",
        ),
    ];
    for (recipe, message) in cases {
        let refused = train(folder.path(), &recipe, &[]).refusal();
        assert!(refused.contains(message), "`{message}` is not in:\n{refused}");
        assert!(!folder.path().join("out").exists(), "nothing is written");
    }
}

#[test]
fn the_quick_start_is_copied_and_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), &["recipes", "copy", "step_by_step_quickstart"]).success();
    for mode in ["single_task", "multi_task", "label_only"] {
        let mode = format!("rationale.mode={mode}");
        let few =
            ["--set", "train.max_steps=3", "--set", "task.max_new_tokens=4", "--overwrite", "--set", &mode];
        run(folder.path(), &[&["run", "step_by_step_quickstart.toml"], &few[..]].concat()).success();
        let record = read_json(folder.path().join("checkpoints/step-by-step-quickstart/run.json"));
        assert!(record["metrics"]["test"]["accuracy"].is_number(), "{record}");
    }
}
