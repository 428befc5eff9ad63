//! Models that write texts, from recipe to text.

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use support::{Outcome, read_json, run};

/// Sums within twenty, told in words: a little to learn, and enough to see whether it was.
fn write_data(folder: &Path) {
    const WORDS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    let (mut pairs, mut texts, mut chats) = (String::new(), String::new(), String::new());
    for a in 0..10 {
        for b in 0..10 {
            let (question, answer) = (format!("{} and {} make", WORDS[a], WORDS[b]), WORDS[a + b]);
            let _ = writeln!(
                pairs,
                "{}",
                serde_json::json!({"question": question, "answer": format!(" {answer}")})
            );
            let _ = writeln!(texts, "{question} {answer}.\n");
            let messages = serde_json::json!([
                {"role": "user", "content": question}, {"role": "assistant", "content": answer}
            ]);
            let _ = writeln!(chats, "{}", serde_json::json!({"messages": messages}));
        }
    }
    for (name, text) in [("pairs.jsonl", pairs), ("texts.txt", texts), ("chats.jsonl", chats)] {
        std::fs::write(folder.join(name), text).expect("writes");
    }
}

const TRAIN: &str = "[train]\nepochs = 3\nbatch_size = 4\nlearning_rate = 3e-3\ndtype = \"f32\"\n";

fn decoder(architecture: &str, task: &str, data: &str) -> String {
    format!(
        "name = \"tiny\"\nseed = 5\noutput_dir = \"out\"\n[task]\n{task}\n[model]\narchitecture = \"{architecture}\"\n\
         hidden_size = 32\nnum_hidden_layers = 2\nnum_attention_heads = 4\n[tokenizer]\n\
         train = {{ kind = \"gpt2\", vocab_size = 340 }}\n[data]\n{data}\nmax_length = 48\nvalidation_fraction = 0.1\n{TRAIN}"
    )
}

const LANGUAGE: &str = "kind = \"language_modeling\"";
const ANSWERS: &str = "kind = \"seq2seq\"\nmax_new_tokens = 6";
const TEXTS: &str = "train = \"texts.txt\"";
const PAIRS: &str =
    "train = \"pairs.jsonl\"\ntest = \"pairs.jsonl\"\nprompt = \"question\"\ntarget = \"answer\"";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    folder
}

fn train(folder: &Path, recipe: &str, arguments: &[&str]) -> Outcome {
    std::fs::write(folder.join("recipe.toml"), recipe).expect("writes");
    run(folder, &[&["run", "recipe.toml"], arguments].concat())
}

fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|error| panic!("`{}`: {error}", path.as_ref().display()))
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    run(folder, &[&["generate"], arguments].concat()).success().stdout
}

/// Makes a finished run look like one that was killed after its first checkpoint.
fn cut(out: &Path) {
    let mut checkpoints: Vec<_> = std::fs::read_dir(out.join("checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .collect();
    checkpoints.sort();
    for later in &checkpoints[1..] {
        std::fs::remove_dir_all(later).expect("removes");
    }
    let mut record = read_json(out.join("run.json"));
    record["status"] = "running".into();
    std::fs::write(out.join("run.json"), record.to_string()).expect("writes");
}

#[test]
fn decoders_learn_from_packed_texts_and_write() {
    for architecture in ["llama", "qwen2", "gpt2"] {
        let folder = folder();
        train(folder.path(), &decoder(architecture, LANGUAGE, TEXTS), &["--set", "train.epochs=20"])
            .success();
        let record = read_json(folder.path().join("out/run.json"));
        let report = &record["metrics"]["validation"];
        // Guessing among the tokens that occur would cost about four nats.
        assert!(report["loss"].as_f64().expect("a loss") < 3.0, "{architecture}: {report}");
        assert!(report["bits_per_byte"].as_f64().expect("bits") > 0.0, "{architecture}: {report}");
        let config = read_json(folder.path().join("out/config.json"));
        assert_eq!(config["eos_token_id"], 0, "{architecture}");
        let greedy = || text(folder.path(), &["out", "--prompt", "two and two", "--max-new-tokens", "8"]);
        assert_eq!(greedy(), greedy());
        let drawn = |seed: &str| {
            let settings = ["--temperature", "2.0", "--seed", seed, "--max-new-tokens", "12"];
            text(folder.path(), &[&["out", "--prompt", "two and two"], &settings[..]].concat())
        };
        assert_eq!(drawn("1"), drawn("1"));
        assert_ne!(drawn("1"), drawn("2"));
    }
}

#[test]
fn a_resumed_run_and_another_number_of_threads_end_with_the_same_bytes() {
    let folder = folder();
    let recipe = decoder("llama", LANGUAGE, TEXTS) + "save_total_limit = 9\nsave_steps = 3\n";
    train(folder.path(), &recipe, &["--threads", "1"]).success();
    let whole = bytes(folder.path().join("out/model.safetensors"));
    cut(&folder.path().join("out"));
    train(folder.path(), &recipe, &["--resume", "--threads", "2"]).success();
    assert!(whole == bytes(folder.path().join("out/model.safetensors")));
}

#[test]
fn prompts_are_answered_and_the_answers_scored() {
    for architecture in ["llama", "t5"] {
        let folder = folder();
        train(folder.path(), &decoder(architecture, ANSWERS, PAIRS), &[]).success();
        let record = read_json(folder.path().join("out/run.json"));
        for part in ["validation", "test"] {
            let report = &record["metrics"][part];
            for key in ["rouge1", "rougeLsum_stemmed", "bleu", "chrf", "exact_match", "perplexity"] {
                assert!(report[key].is_number(), "{architecture}: no `{key}` in {report}");
            }
        }
        let lines = String::from_utf8(bytes(folder.path().join("out/predictions.jsonl"))).expect("UTF-8");
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows.len(), 100);
        assert_eq!(rows[0]["prompt"], "zero and zero make");
        assert_eq!(rows[0]["references"], serde_json::json!(["zero"]));
        // What was measured is what the saved model writes.
        let input: String = rows[..7]
            .iter()
            .map(|row| format!("{}\n", serde_json::json!({"prompt": row["prompt"]})))
            .collect();
        std::fs::write(folder.path().join("prompts.jsonl"), input).expect("writes");
        let settings =
            ["--input", "prompts.jsonl", "--max-new-tokens", "6", "--dtype", "f32", "--batch-size", "3"];
        let written = text(folder.path(), &[&["out"], &settings[..]].concat());
        for (line, row) in written.lines().zip(&rows) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(line["text"].as_str().map(str::trim), row["prediction"].as_str(), "{architecture}");
        }
        let beams = [&settings[..], &["--num-beams", "3"]].concat();
        assert_eq!(text(folder.path(), &[&["out"], &beams[..]].concat()).lines().count(), 7);
    }
}

#[test]
fn adapters_alone_learn_are_saved_and_merged() {
    let folder = folder();
    train(folder.path(), &decoder("llama", LANGUAGE, TEXTS), &[]).success();
    std::fs::rename(folder.path().join("out"), folder.path().join("base")).expect("renames");
    let recipe = format!(
        "name = \"lora\"\nseed = 7\noutput_dir = \"adapter\"\n[task]\n{ANSWERS}\n[model]\npath = \"base\"\n[lora]\nr = 4\n\
         dropout = 0.1\ntarget_modules = [\"q_proj\", \"v_proj\", \"down_proj\"]\n[data]\n{PAIRS}\nmax_length = 48\n\
         {TRAIN}save_steps = 5\nsave_total_limit = 9\n"
    );
    let base = bytes(folder.path().join("base/model.safetensors"));
    train(folder.path(), &recipe, &["--threads", "2"]).success();
    let out = folder.path().join("adapter");
    assert!(!out.join("model.safetensors").exists());
    assert!(base == bytes(folder.path().join("base/model.safetensors")));
    let adapter = bytes(out.join("adapter_model.safetensors"));
    let record = read_json(out.join("run.json"));
    // Three layers with factors of rank 4 in each of two: 4 · (32 + 32), 4 · (32 + 32), 4 · (96 + 32).
    assert_eq!(record["model"]["trainable_parameters"], 2 * 4 * (64 + 64 + 128));
    let config = read_json(out.join("adapter_config.json"));
    assert_eq!((&config["r"], &config["base_model_name_or_path"]), (&4.into(), &"base".into()));

    cut(&out);
    train(folder.path(), &recipe, &["--resume", "--threads", "1"]).success();
    assert!(adapter == bytes(out.join("adapter_model.safetensors")));

    let written = |model: &str| {
        let settings = ["--prompt", "four and five make", "--max-new-tokens", "6", "--dtype", "f32"];
        text(folder.path(), &[&[model], &settings[..]].concat())
    };
    run(folder.path(), &["merge", "adapter", "merged"]).success();
    run(folder.path(), &["merge", "adapter", "shards", "--max-shard-size", "40KB"]).success();
    assert!(folder.path().join("shards/model.safetensors.index.json").exists());
    assert_eq!(written("adapter"), written("merged"));
    assert_eq!(written("adapter"), written("shards"));
    let seen = run(folder.path(), &["inspect", "adapter"]).success().stdout;
    assert!(seen.contains("adapter_model.safetensors") && seen.contains("12 of F32"), "{seen}");

    let again = recipe
        .replace("r = 4\ndropout = 0.1", "adapter = \"adapter\"")
        .replace("\"adapter\"\n[task]", "\"more\"\n[task]");
    let again: String = again
        .lines()
        .filter(|line| !line.starts_with("target_modules"))
        .flat_map(|line| [line, "\n"])
        .collect();
    train(folder.path(), &again, &["--set", "train.max_steps=2"]).success();
    assert_ne!(adapter, bytes(folder.path().join("more/adapter_model.safetensors")));
}

#[test]
fn conversations_are_learnt_by_the_model_s_own_template() {
    let folder = folder();
    train(folder.path(), &decoder("llama", LANGUAGE, TEXTS), &[]).success();
    std::fs::rename(folder.path().join("out"), folder.path().join("base")).expect("renames");
    let data = "train = \"chats.jsonl\"\nmessages = \"messages\"";
    let recipe = decoder("llama", LANGUAGE, data);
    let start = recipe.find("[model]").expect("a model");
    let end = recipe.find("[data]").expect("data");
    let recipe = format!("{}[model]\npath = \"base\"\n{}", &recipe[..start], &recipe[end..]);
    let refused = train(folder.path(), &recipe, &[]).refusal();
    assert!(refused.contains("chat template"), "{refused}");
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    std::fs::write(folder.path().join("base/chat_template.jinja"), template).expect("writes");
    train(folder.path(), &recipe, &["--set", "train.max_steps=4"]).success();
    assert_eq!(bytes(folder.path().join("out/chat_template.jinja")), template.as_bytes());
    text(folder.path(), &["out", "--chat", "--prompt", "two and two make", "--max-new-tokens", "4"]);
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let folder = folder();
    let cases = [
        (decoder("bert", LANGUAGE, TEXTS), "language modelling"),
        (decoder("llama", "kind = \"classification\"", TEXTS), "label"),
        (decoder("llama", ANSWERS, TEXTS), "needs prompts and targets"),
        (decoder("t5", LANGUAGE, TEXTS), "language modelling"),
        (
            decoder("llama", LANGUAGE, TEXTS) + "metric_for_best_model = \"rougeL\"\n",
            "unknown metric `rougeL`",
        ),
        (
            decoder("llama", "kind = \"seq2seq\"\ngenerate = \"test\"", PAIRS)
                + "metric_for_best_model = \"bleu\"\n",
            "no validation prompt is answered",
        ),
        (
            decoder("llama", LANGUAGE, TEXTS).replace("[data]", "[lora]\nr = 2\n[data]"),
            "adapters need a trained model",
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
    run(folder.path(), &["recipes", "copy", "language_model_quickstart"]).success();
    let few = ["--set", "train.max_steps=3"];
    run(folder.path(), &[&["run", "language_model_quickstart.toml"], &few[..]].concat()).success();
    let record = read_json(folder.path().join("checkpoints/language-model-quickstart/run.json"));
    let report = &record["metrics"]["test"];
    assert!(
        report["bits_per_byte"].as_f64().expect("bits") > 0.2284,
        "less than the source's entropy: {report}"
    );
}

#[test]
fn a_run_without_steps_measures_the_model_as_it_is() {
    let folder = folder();
    train(folder.path(), &decoder("llama", ANSWERS, PAIRS), &[]).success();
    std::fs::rename(folder.path().join("out"), folder.path().join("base")).expect("renames");
    let recipe = decoder("llama", ANSWERS, PAIRS);
    let (start, end) = (recipe.find("[model]").expect("a model"), recipe.find("[data]").expect("data"));
    let recipe = format!("{}[model]\npath = \"base\"\n{}", &recipe[..start], &recipe[end..]);
    train(folder.path(), &recipe, &["--set", "train.max_steps=0"]).success();
    let metrics = |out: &str| read_json(folder.path().join(out).join("run.json"))["metrics"].clone();
    assert_eq!(metrics("out")["test"], metrics("base")["test"]);
    let weights = |out: &str| bytes(folder.path().join(out).join("model.safetensors"));
    assert!(weights("out") == weights("base"));
}

#[test]
fn what_steps_read_can_be_written_down() {
    let folder = folder();
    std::fs::write(folder.path().join("recipe.toml"), decoder("llama", LANGUAGE, TEXTS)).expect("writes");
    run(folder.path(), &["plan", "recipe.toml", "--batches", "batches.jsonl"]).success();
    let lines = String::from_utf8(bytes(folder.path().join("batches.jsonl"))).expect("UTF-8");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let first = &lines[0];
    assert_eq!((first["step"].as_u64(), first["input_ids"].as_array().map(Vec::len)), (Some(1), Some(4)));
    let (ids, labels) = (&first["input_ids"][0], &first["labels"][0]);
    let segments = &first["segment_ids"][0];
    for place in 0..ids.as_array().expect("ids").len() - 1 {
        let within = segments[place] == segments[place + 1];
        let expected = if within && first["attention_mask"][0][place + 1] == 1 {
            ids[place + 1].clone()
        } else {
            (-100).into()
        };
        assert_eq!(labels[place], expected, "place {place}");
    }
    assert!(lines.iter().any(|line| line["validation"] == true));
}
