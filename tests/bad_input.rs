//! Whatever is wrong with what the user gives: exit code 2, a message that names it, nothing half-written.

mod support;

use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;
use support::{read_json, run, tiny_folder, tree, two_label_csv, write};

/// Runs the tiny recipe with some `--set`, expects a refusal and that nothing was written.
#[track_caller]
fn refused(folder: &Path, sets: &[&str]) -> String {
    let before = tree(folder);
    let mut arguments = vec!["run", "tiny.toml"];
    for set in sets {
        arguments.extend(["--set", set]);
    }
    let stderr = run(folder, &arguments).refusal();
    assert!(stderr.contains("error: "), "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{stderr}");
    assert!(!folder.join("out").exists(), "a refused run makes no output folder");
    assert!(tree(folder) == before, "a refused run writes nothing");
    stderr
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_missing_file_is_named_with_its_neighbour() {
    let folder = tiny_folder();
    let stderr = refused(folder.path(), &["data.train=trian.csv"]);
    assert_has(&stderr, &["trian.csv", "did you mean `", "train.csv`"]);
    let stderr = refused(folder.path(), &["data.train=nowhere/*.csv"]);
    assert_has(&stderr, &["`nowhere/*.csv`"]);
}

#[test]
fn a_missing_column_is_named_with_those_that_exist() {
    let folder = tiny_folder();
    let stderr = refused(folder.path(), &["data.text=txt"]);
    assert_has(&stderr, &["train.csv:1", "`txt`", "`text`, `label`", "did you mean `text`?"]);
    let stderr = refused(folder.path(), &["data.label=lable"]);
    assert_has(&stderr, &["train.csv:1", "`lable`", "did you mean `label`?"]);
    let stderr = refused(folder.path(), &["data.header=false", "data.text=[0]", "data.label=5"]);
    assert_has(&stderr, &["train.csv:1", "`5`"]);
}

#[test]
fn a_row_without_its_label_is_named() {
    let folder = tiny_folder();
    write(folder.path().join("train.csv"), two_label_csv(20) + "an apple,\n");
    assert_has(&refused(folder.path(), &[]), &["train.csv:22", "no label"]);
}

#[test]
fn a_row_with_too_many_or_too_few_columns_is_named() {
    let folder = tiny_folder();
    write(folder.path().join("train.csv"), two_label_csv(20) + "an apple, a pear,fruit\n");
    assert_has(&refused(folder.path(), &[]), &["train.csv:22", "3 columns", "2"]);
    write(folder.path().join("train.csv"), two_label_csv(20) + "fruit\n");
    assert_has(&refused(folder.path(), &[]), &["train.csv:22", "1 columns", "2"]);
    // A field over several lines does not shift the count.
    write(folder.path().join("train.csv"), two_label_csv(20) + "\"a\npear\",fruit\nb\n");
    assert_has(&refused(folder.path(), &[]), &["train.csv:24"]);
}

#[test]
fn bytes_that_are_not_utf8_are_named() {
    let folder = tiny_folder();
    let mut bytes = two_label_csv(20).into_bytes();
    bytes.extend(b"caf\xe9,fruit\n");
    write(folder.path().join("train.csv"), bytes);
    assert_has(&refused(folder.path(), &[]), &["train.csv:22", "UTF-8", "0xe9"]);
}

#[test]
fn an_empty_text_is_named() {
    let folder = tiny_folder();
    write(folder.path().join("train.csv"), two_label_csv(20) + "\"  \",fruit\n");
    assert_has(&refused(folder.path(), &[]), &["train.csv:22", "empty text"]);
}

#[test]
fn one_class_only_is_refused() {
    let folder = tiny_folder();
    write(folder.path().join("train.csv"), "text,label\na,fruit\nb,fruit\nc,fruit\n");
    assert_has(&refused(folder.path(), &[]), &["every row has the label `fruit`"]);
}

#[test]
fn a_label_outside_the_list_is_named() {
    let folder = tiny_folder();
    let stderr = refused(folder.path(), &["task.labels=[\"fruit\", \"metals\"]"]);
    assert_has(&stderr, &["train.csv:3", "`metal`", "`fruit`", "`metals`"]);
    write(folder.path().join("test.csv"), "text,label\niron,wood\n");
    assert_has(&refused(folder.path(), &[]), &["test.csv:2", "`wood`"]);
}

#[test]
fn a_broken_line_of_json_is_named() {
    let folder = tiny_folder();
    write(
        folder.path().join("train.jsonl"),
        "{\"text\": \"a\", \"label\": \"fruit\"}\n{\"text\": \"b\", \"label\"\n",
    );
    assert_has(&refused(folder.path(), &["data.train=train.jsonl"]), &["train.jsonl:2"]);
}

#[test]
fn a_parquet_file_that_is_cut_short_is_named() {
    let folder = tiny_folder();
    write(folder.path().join("train.parquet"), b"PAR1 and then nothing of use");
    assert_has(&refused(folder.path(), &["data.train=train.parquet"]), &["train.parquet"]);
}

#[test]
fn too_little_memory_is_told_before_the_run() {
    let folder = tiny_folder();
    let sets = ["model.hidden_size=4096", "model.num_attention_heads=32", "model.intermediate_size=16384"];
    let sets: Vec<&str> = sets.iter().copied().chain(["model.num_hidden_layers=400"]).collect();
    let stderr = refused(folder.path(), &sets);
    assert_has(&stderr, &["memory", "GiB", "help: "]);
}

#[test]
fn too_little_disk_is_told_before_the_run() {
    let folder = tiny_folder();
    let stderr = refused(folder.path(), &["train.save_total_limit=1000000000"]);
    assert_has(&stderr, &["disk space", "GiB", "`save_total_limit`"]);
}

/// A finished tiny model, made once.
fn model() -> &'static Path {
    static MODEL: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MODEL.get_or_init(|| {
        let folder = tiny_folder();
        run(folder.path(), &["run", "tiny.toml", "--set", "train.max_steps=2"]).success();
        folder
    });
    made.path()
}

/// A recipe that starts from a copy of that model, in `model/`.
fn pretrained_folder() -> tempfile::TempDir {
    let folder = tiny_folder();
    let recipe = support::TINY_RECIPE;
    let (begin, end) = (recipe.find("[model]").expect("a table"), recipe.find("[data]").expect("a table"));
    let recipe = format!("{}[model]\npath = \"model\"\n\n{}", &recipe[..begin], &recipe[end..]);
    write(folder.path().join("tiny.toml"), recipe);
    for entry in std::fs::read_dir(model().join("out")).expect("reads") {
        let path = entry.expect("an entry").path();
        if path.is_file() && path.file_name().is_some_and(|name| name != "run.json") {
            let name = path.file_name().expect("a name");
            write(folder.path().join("model").join(name), std::fs::read(&path).expect("reads"));
        }
    }
    folder
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    edit(&mut value);
    write(path, value.to_string());
}

#[test]
fn a_good_model_is_taken() {
    let folder = pretrained_folder();
    run(folder.path(), &["run", "tiny.toml", "--set", "train.max_steps=2"]).success();
}

#[test]
fn a_folder_without_a_model_is_named() {
    let folder = pretrained_folder();
    assert_has(&refused(folder.path(), &["model.path=modle"]), &["`modle`"]);
    std::fs::remove_file(folder.path().join("model/model.safetensors")).expect("removes");
    assert_has(&refused(folder.path(), &[]), &["`model`", "model.safetensors"]);
    std::fs::remove_file(folder.path().join("model/config.json")).expect("removes");
    assert_has(&refused(folder.path(), &[]), &["model/config.json"]);
}

#[test]
fn weights_that_are_cut_short_or_corrupt_are_named() {
    let folder = pretrained_folder();
    let weights = folder.path().join("model/model.safetensors");
    let bytes = std::fs::read(&weights).expect("reads");
    for (bytes, what) in [
        (&bytes[..bytes.len() - 1000], "cut short"),
        (&bytes[..5], "5 bytes"),
        (&bytes[8..], "header"),
        (&b"\x10\0\0\0\0\0\0\0{\"a\": not json  "[..], "header"),
    ] {
        write(&weights, bytes);
        assert_has(&refused(folder.path(), &[]), &["model/model.safetensors", what]);
    }
}

#[test]
fn tensors_that_do_not_fit_are_named_with_both_shapes() {
    let folder = pretrained_folder();
    edit_json(&folder.path().join("model/config.json"), |config| config["intermediate_size"] = 96.into());
    let stderr = refused(folder.path(), &[]);
    assert_has(&stderr, &["bert.encoder.layer.0.intermediate.dense.weight", "[64, 32]", "[96, 32]"]);
    edit_json(&folder.path().join("model/config.json"), |config| {
        config["intermediate_size"] = 64.into();
        config["num_hidden_layers"] = 3.into();
    });
    assert_has(&refused(folder.path(), &[]), &["bert.encoder.layer.2.", "missing"]);
}

#[test]
fn an_architecture_that_is_not_supported_is_named_with_those_that_are() {
    let folder = pretrained_folder();
    edit_json(&folder.path().join("model/config.json"), |config| config["model_type"] = "mamba".into());
    assert_has(&refused(folder.path(), &[]), &["`mamba`", "`bert`", "`distilbert`", "`roberta`", "`albert`"]);
    edit_json(&folder.path().join("model/config.json"), |config| {
        config.as_object_mut().expect("an object").remove("model_type");
    });
    assert_has(&refused(folder.path(), &[]), &["model_type"]);
}

#[test]
fn a_tokenizer_larger_than_the_embeddings_is_refused() {
    let folder = pretrained_folder();
    edit_json(&folder.path().join("model/tokenizer.json"), |tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
        let size = vocabulary.len();
        for more in 0..50 {
            vocabulary.insert(format!("more{more}"), (size + more).into());
        }
    });
    assert_has(&refused(folder.path(), &[]), &["tokenizer", "embeddings", "tokens"]);
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_way_to_it() {
    let folder = tiny_folder();
    let stderr = refused(folder.path(), &["device=cuda:7"]);
    assert_has(&stderr, &["cuda:7"]);
    assert_has(&refused(folder.path(), &["device=tpu"]), &["`tpu`", "`auto`", "`cuda`"]);
}

#[test]
fn eval_refuses_labels_that_the_model_does_not_have() {
    let folder = tiny_folder();
    write(folder.path().join("other.csv"), "text,label\niron,wood\n");
    let out = model().join("out");
    let model = out.to_str().expect("UTF-8");
    let stderr =
        run(folder.path(), &["eval", model, "--data", "other.csv", "--output", "scores.json"]).refusal();
    assert_has(&stderr, &["other.csv:2", "`wood`"]);
    assert!(!folder.path().join("scores.json").exists());
}

#[test]
fn predict_refuses_a_bad_line_and_leaves_no_file() {
    let folder = tiny_folder();
    write(folder.path().join("in.jsonl"), "{\"text\": \"iron\"}\n{\"txt\": \"tin\"}\n");
    let out = model().join("out");
    let model = out.to_str().expect("UTF-8");
    let arguments = ["predict", model, "--input", "in.jsonl", "--output", "out.jsonl"];
    assert_has(&run(folder.path(), &arguments).refusal(), &["in.jsonl:2", "`text`", "`txt`"]);
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("reads")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("out.jsonl") || name.contains("partial"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
    let arguments = ["predict", model, "--input", "none.jsonl"];
    assert_has(&run(folder.path(), &arguments).refusal(), &["`none.jsonl`"]);
    assert_has(
        &run(folder.path(), &["predict", "no-such-folder", "--text", "a"]).refusal(),
        &["no-such-folder"],
    );
}
