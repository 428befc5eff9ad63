//! Models that write texts and learn from others that do, from recipe to weights.

mod support;

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;
use support::{Outcome, read_json, run};

/// A hundred sentences that follow a rule, as documents and as prompts with answers.
fn write_data(folder: &Path) {
    const COLOURS: [&str; 10] =
        ["red", "green", "blue", "black", "white", "brown", "pink", "grey", "gold", "teal"];
    const THINGS: [&str; 10] = ["cat", "dog", "car", "hat", "cup", "box", "pen", "bag", "map", "key"];
    let (mut pairs, mut texts) = (String::new(), String::new());
    for (n, colour) in COLOURS.iter().enumerate() {
        for (m, thing) in THINGS.iter().enumerate() {
            let (question, answer) =
                (format!("the {colour} {thing} is"), format!(" {}", COLOURS[(n + m) % 10]));
            let _ = writeln!(pairs, "{}", json!({"question": question, "answer": answer}));
            let _ = writeln!(texts, "{question}{answer}, as the {thing} was.\n");
        }
    }
    for (name, text) in [("pairs.jsonl", pairs), ("texts.txt", texts)] {
        std::fs::write(folder.join(name), text).expect("writes");
    }
}

const TRAIN: &str = "[train]\nepochs = 3\nbatch_size = 4\nlearning_rate = 3e-3\ndtype = \"f32\"\n";
const TEXTS: &str = "[task]\nkind = \"language_modeling\"\n[data]\ntrain = \"texts.txt\"\n";
const PAIRS: &str = "[task]\nkind = \"seq2seq\"\nmax_new_tokens = 6\ngenerate = \"never\"\n[data]\ntrain = \"pairs.jsonl\"\nprompt = \"question\"\n\
                     target = \"answer\"\n";
const KEPT: &str = "init = \"from_teacher\"\nlayers = [0, 2]";

fn trained(architecture: &str, data: &str, folder: &Path) {
    let recipe = format!(
        "name = \"teacher\"\nseed = 5\noutput_dir = \"teacher\"\n[model]\narchitecture = \"{architecture}\"\n\
         hidden_size = 32\nnum_hidden_layers = 3\nnum_attention_heads = 4\n[tokenizer]\n\
         train = {{ kind = \"gpt2\", vocab_size = 330 }}\n{data}max_length = 32\nvalidation_fraction = 0.1\n{TRAIN}"
    );
    std::fs::write(folder.join("teacher.toml"), recipe).expect("writes");
    // Trained until it knows the rule: a student could otherwise leave it behind.
    run(folder, &["run", "teacher.toml", "--set", "train.epochs=60"]).success();
}

/// A folder with data and the teacher of this architecture, which is trained once.
fn folder(architecture: &str) -> tempfile::TempDir {
    static MADE: [OnceLock<tempfile::TempDir>; 3] = [const { OnceLock::new() }; 3];
    let place = ["llama", "gpt2", "t5"].iter().position(|known| *known == architecture).expect("known");
    let made = MADE[place].get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_data(folder.path());
        trained(architecture, if architecture == "t5" { PAIRS } else { TEXTS }, folder.path());
        folder
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    for (path, bytes) in support::tree(&made.path().join("teacher")) {
        let name = path.strip_prefix(made.path()).expect("below it");
        support::write(folder.path().join(name), bytes);
    }
    folder
}

fn recipe(data: &str, student: &str, distill: &str) -> String {
    format!(
        "name = \"student\"\nseed = 7\noutput_dir = \"student\"\n[teacher]\npath = \"teacher\"\n[student]\n{student}\n\
         [distill]\n{distill}\n{data}max_length = 32\nvalidation_fraction = 0.1\n{TRAIN}logging_steps = 1\n"
    )
}

fn distil(folder: &Path, recipe: &str, arguments: &[&str]) -> Outcome {
    std::fs::write(folder.join("student.toml"), recipe).expect("writes");
    run(folder, &[&["run", "student.toml"], arguments].concat())
}

fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|error| panic!("`{}`: {error}", path.as_ref().display()))
}

fn weights(folder: &Path) -> Vec<u8> {
    bytes(folder.join("student/model.safetensors"))
}

/// The lines of `metrics.jsonl` of the training.
fn logged(folder: &Path) -> Vec<Value> {
    let text = String::from_utf8(bytes(folder.join("student/metrics.jsonl"))).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["learning_rate"].is_number()).collect()
}

/// Means of a loss over the first and the last quarter of the steps.
fn quarters(folder: &Path, loss: &str) -> [f64; 2] {
    let lines = logged(folder);
    let of = |line: &Value| line["losses"][loss].as_f64().unwrap_or_else(|| panic!("no `{loss}` in {line}"));
    let count = lines.len() / 4;
    let mean = |lines: &[Value]| lines.iter().map(of).sum::<f64>() / count as f64;
    assert!(count > 0, "{lines:?}");
    [mean(&lines[..count]), mean(&lines[lines.len() - count..])]
}

/// Makes a finished run look like one that was killed after its first checkpoint.
fn cut(out: &Path) {
    let mut checkpoints: Vec<_> = std::fs::read_dir(out.join("checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")))
        .collect();
    checkpoints.sort();
    assert!(checkpoints.len() > 1, "{checkpoints:?}");
    for later in &checkpoints[1..] {
        std::fs::remove_dir_all(later).expect("removes");
    }
    let mut record = read_json(out.join("run.json"));
    record["status"] = "running".into();
    std::fs::write(out.join("run.json"), record.to_string()).expect("writes");
}

/// A run that was cut and goes on with another number of threads ends with the bytes of one that was not.
fn assert_resumes(folder: &Path, recipe: &str) {
    let recipe = format!("{recipe}save_total_limit = 9\nsave_steps = 4\n");
    distil(folder, &recipe, &["--threads", "1"]).success();
    let (whole, lines) = (weights(folder), logged(folder).len());
    cut(&folder.join("student"));
    distil(folder, &recipe, &["--resume", "--threads", "2"]).success();
    assert!(whole == weights(folder), "`model.safetensors` differs");
    assert_eq!(logged(folder).len(), lines);
}

#[test]
fn every_divergence_teaches_decoders_of_the_teacher_s_layers() {
    for architecture in ["llama", "gpt2"] {
        let folder = folder(architecture);
        for (method, loss) in
            [("soft_labels", 0.7), ("forward_kl", 0.5), ("reverse_kl", 0.5), ("jsd", 0.5)].into_iter()
        {
            let recipe = recipe(TEXTS, KEPT, &format!("method = \"{method}\""));
            distil(folder.path(), &recipe, &["--overwrite"]).success();
            let record = read_json(folder.path().join("student/run.json"));
            assert_eq!(record["distillation"]["copied_layers"], json!([0, 2]));
            assert_eq!(record["distillation"]["losses"][1]["weight"], loss);
            let [first, last] = quarters(folder.path(), method);
            assert!(0.0 <= last && last < first, "{architecture}, {method}: {first} {last}");
            let [first, last] = quarters(folder.path(), "next_token");
            assert!(0.0 < last && last < first, "{architecture}, {method}: {first} {last}");
        }
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        for fact in ["the teacher's 0, 2", "in each step", "jsd, which stands for", "beta = 0.5"] {
            assert!(plan.contains(fact), "`{fact}` is not in\n{plan}");
        }
    }
}

#[test]
fn an_encoder_decoder_learns_from_its_teacher_s_answers_token_by_token() {
    let folder = folder("t5");
    let distill =
        "losses = [{ kind = \"forward_kl\", position_decay = 0.8 }, { kind = \"jsd\", beta = 0.1 }]";
    let recipe = recipe(PAIRS, KEPT, distill);
    assert_resumes(folder.path(), &recipe);
    let [first, last] = quarters(folder.path(), "forward_kl");
    assert!(last < first, "{first} {last}");
    let config = read_json(folder.path().join("student/config.json"));
    assert_eq!((&config["num_layers"], &config["num_decoder_layers"]), (&json!(2), &json!(2)));
}

#[test]
fn a_resumed_run_and_another_number_of_threads_end_with_the_same_bytes() {
    let folder = folder("llama");
    assert_resumes(folder.path(), &recipe(TEXTS, KEPT, "method = \"reverse_kl\""));
}

#[test]
fn a_student_from_scratch_comes_near_its_teacher() {
    let folder = folder("llama");
    let scratch = "architecture = \"llama\"\nhidden_size = 32\nnum_hidden_layers = 1\nnum_attention_heads = 4\n\
                   [tokenizer]\npath = \"teacher\"";
    for loss in ["forward_kl", "reverse_kl", "jsd"] {
        let recipe = recipe(TEXTS, scratch, &format!("losses = [{{ kind = \"{loss}\" }}]"));
        distil(folder.path(), &recipe, &["--overwrite", "--set", "train.epochs=10"]).success();
        let lines = logged(folder.path());
        let [first, last] =
            [&lines[0], &lines[lines.len() - 1]].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!(last < 0.7 * first, "{loss}: {first} {last}");
    }
}

#[test]
fn a_student_with_all_of_its_teacher_diverges_by_nothing() {
    let folder = folder("gpt2");
    let kinds = ["forward_kl", "reverse_kl", "jsd", "soft_labels"];
    let losses = kinds.map(|kind| format!("{{ kind = \"{kind}\" }}")).join(", ");
    let recipe = recipe(PAIRS, "init = \"from_teacher\"", &format!("losses = [{losses}]"));
    let settings =
        ["--set", "train.max_steps=1", "--set", "train.logging_steps=1", "--set", "train.dropout=0"];
    distil(folder.path(), &recipe, &settings).success();
    for kind in kinds {
        let found = logged(folder.path())[0]["losses"][kind].as_f64().expect("a loss");
        assert!(found.abs() < 1e-5, "{kind}: {found}");
    }
}

#[test]
fn adapters_learn_from_a_teacher_too() {
    let folder = folder("llama");
    let made = recipe(TEXTS, KEPT, "method = \"forward_kl\"");
    distil(folder.path(), &made, &["--set", "train.max_steps=2"]).success();
    std::fs::rename(folder.path().join("student"), folder.path().join("small")).expect("renames");
    let with_adapters =
        recipe(TEXTS, "path = \"small\"\n[lora]\nr = 2\ntarget_modules = \"all-linear\"", "method = \"jsd\"");
    distil(folder.path(), &with_adapters, &[]).success();
    assert!(folder.path().join("student/adapter_model.safetensors").is_file());
    let lines = logged(folder.path());
    assert!(lines[0]["losses"]["jsd"].is_number(), "{lines:?}");
    let [first, last] = quarters(folder.path(), "jsd");
    assert!(last < first, "{first} {last}");
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let folder = folder("llama");
    let scratch = |vocab: usize| {
        format!(
            "architecture = \"gpt2\"\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n[tokenizer]\n\
             train = {{ kind = \"gpt2\", vocab_size = {vocab} }}"
        )
    };
    let forward = "method = \"forward_kl\"";
    let cases = [
        (
            recipe(TEXTS, &scratch(300), forward),
            "`teacher` splits texts otherwise than the student that is made",
        ),
        (recipe(TEXTS, KEPT, "method = \"minilm\""), "looks inside of encoders"),
        (recipe(TEXTS, KEPT, "method = \"distilbert\""), "looks inside of encoders"),
        (recipe(TEXTS, "init = \"from_teacher\"\nhidden_size = 16", forward), "choose them by `layers`"),
        (
            recipe(TEXTS, KEPT, "method = \"jsd\"\ntransfer_data = \"texts.txt\""),
            "name more files by `train`",
        ),
        (recipe(TEXTS, KEPT, "losses = [{ kind = \"jsd\", beta = 1.0 }]"), "beta"),
        (
            recipe(TEXTS, KEPT, forward).replace("[data]", "[lora]\nr = 2\n[data]"),
            "adapters need a trained model",
        ),
        (recipe(TEXTS, KEPT, "losses = [{ kind = \"forward_kl\", position_decay = 1.5 }]"), "position_decay"),
    ];
    for (recipe, message) in cases {
        let refused = distil(folder.path(), &recipe, &[]).refusal();
        assert!(refused.contains(message), "`{message}` is not in:\n{refused}");
        assert!(!folder.path().join("student").exists(), "nothing is written");
    }
    let of_classifiers = "[task]\nkind = \"masked_language_modeling\"\n[data]\ntrain = \"texts.txt\"\n";
    let refused = distil(folder.path(), &recipe(of_classifiers, KEPT, forward), &[]).refusal();
    assert!(refused.contains("error"), "{refused}");
}

/// What a run told of its teacher, on stderr: an event a line.
fn events(outcome: Outcome) -> String {
    outcome.success().stderr
}

/// The files below a folder of `.teacher-cache`, by how their names begin and end.
fn cached(folder: &Path, start: &str, end: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder.join(".teacher-cache")).expect("a cache");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(start) && name.ends_with(end)
    };
    let mut found: Vec<_> = paths.filter(named).collect();
    found.sort();
    found
}

/// What every step of a recipe reads: the learnt tokens of each row.
fn learnt(folder: &Path, recipe: &str) -> Vec<Vec<i64>> {
    std::fs::write(folder.join("student.toml"), recipe).expect("writes");
    run(folder, &["plan", "student.toml", "--batches", "batches.jsonl"]).success();
    let lines = String::from_utf8(bytes(folder.join("batches.jsonl"))).expect("UTF-8");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut rows = Vec::new();
    for line in lines.filter(|line| line["validation"] != true) {
        for labels in line["labels"].as_array().expect("rows") {
            let labels = labels.as_array().expect("labels").iter().filter_map(Value::as_i64);
            rows.push(labels.filter(|label| *label != -100).collect());
        }
    }
    rows
}

#[test]
fn texts_of_the_teacher_take_the_place_of_the_data_s_and_are_written_once() {
    let numbers = "max_new_tokens = 5, prompt_tokens = 4";
    for (architecture, data, rows) in [("llama", TEXTS, 90), ("gpt2", PAIRS, 90), ("t5", PAIRS, 90)] {
        let folder = folder(architecture);
        let distill = format!("method = \"sequence_level\"\nteacher_texts = {{ {numbers} }}");
        let made = recipe(data, KEPT, &distill);
        assert_resumes(folder.path(), &made);
        let folders = cached(folder.path(), "texts-", "");
        assert_eq!(folders.len(), 1, "{architecture}: one teacher, one set of prompts");
        let parts = support::tree(&folders[0]);
        let texts: Vec<Vec<i64>> = parts
            .iter()
            .flat_map(|(_, bytes)| serde_json::from_slice::<Vec<Vec<i64>>>(bytes).expect("JSON"))
            .collect();
        assert_eq!(texts.len(), rows, "{architecture}");
        assert!(texts.iter().all(|text| (1..=5).contains(&text.len())), "{architecture}");

        // What is learnt is what the teacher wrote, and nothing else.
        let plain = made.replace(&distill, "method = \"forward_kl\"");
        let unpacked = |recipe: &str| recipe.replace("[task]\n", "[task]\npacking = false\n");
        let (mut found, others) =
            (learnt(folder.path(), &unpacked(&made)), learnt(folder.path(), &unpacked(&plain)));
        found.truncate(rows);
        let mut texts = texts;
        found.sort();
        texts.sort();
        assert_eq!(found, texts, "{architecture}");
        assert_ne!(found.len(), 0);
        assert!(others.iter().any(|row| !found.contains(row)), "{architecture}: the data's own differ");

        // A part that a kill took is written again, as it was, and only that.
        let path = folders[0].join(&parts[0].0);
        std::fs::remove_file(&path).expect("removes");
        let first = weights(folder.path());
        let told = events(distil(folder.path(), &made, &["--overwrite", "--log-format", "json"]));
        assert!(told.contains("loading the teacher"), "{told}");
        assert!(bytes(&path) == parts[0].1 && weights(folder.path()) == first);
        let told = events(distil(folder.path(), &made, &["--overwrite", "--log-format", "json"]));
        assert!(!told.contains("loading the teacher"), "{told}");
        // Other settings are other texts.
        let drawn = made.replace(numbers, &format!("{numbers}, temperature = 2.0"));
        distil(folder.path(), &drawn, &["--overwrite"]).success();
        assert_eq!(cached(folder.path(), "texts-", "").len(), 2);
    }
}

#[test]
fn a_student_learns_on_what_it_writes_itself() {
    for (architecture, data) in [("llama", TEXTS), ("gpt2", PAIRS), ("t5", PAIRS)] {
        let folder = folder(architecture);
        let texts = "student_texts = { max_new_tokens = 6, prompt_tokens = 4 }";
        let losses = "losses = [{ kind = \"next_token\" }, { kind = \"reverse_kl\" }]\non_policy = 0.5";
        assert_resumes(folder.path(), &recipe(data, KEPT, &format!("{losses}\n{texts}")));
        let [first, last] = quarters(folder.path(), "reverse_kl");
        assert!(last < first, "{architecture}: {first} {last}");
        // A step on the student's own texts has no labels: that loss takes no part there, and in the others all of it.
        let lines = logged(folder.path());
        let labels = lines.iter().map(|line| line["losses"]["next_token"].as_f64().unwrap_or(0.0));
        let (with, without): (Vec<f64>, Vec<f64>) = labels.partition(|loss| *loss > 0.0);
        assert!(with.len() > lines.len() / 5 && without.len() > lines.len() / 5, "{with:?} {without:?}");
        let half = weights(folder.path());
        let all = recipe(data, KEPT, &format!("method = \"gkd\"\non_policy = 1.0\n{texts}"));
        distil(folder.path(), &all, &["--overwrite"]).success();
        assert!(half != weights(folder.path()));
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        assert!(plan.contains("of the steps, the student's own texts"), "{plan}");
    }
}

#[test]
fn the_likeliest_tokens_are_kept_and_teach_as_the_whole_vocabulary() {
    for (architecture, data) in [("llama", TEXTS), ("t5", PAIRS)] {
        let folder = folder(architecture);
        let losses = "losses = [{ kind = \"forward_kl\" }, { kind = \"jsd\", temperature = 2.0 }]";
        let live = recipe(data, KEPT, losses);
        distil(folder.path(), &live, &[]).success();
        let told = logged(folder.path());
        let with = |k: usize, more: &str| recipe(data, KEPT, &format!("{losses}\ncache_top_k = {k}\n{more}"));
        // More than there are is all there are.
        assert_resumes_over(folder.path(), &with(100_000, ""));
        let from_cache = logged(folder.path());
        for (one, other) in told.iter().zip(&from_cache) {
            for name in ["forward_kl", "jsd"] {
                let [one, other] = [one, other].map(|line| line["losses"][name].as_f64().expect("a loss"));
                assert!((one - other).abs() < 2e-3 * one.abs().max(0.01), "{architecture}: {one} {other}");
            }
        }
        assert_eq!(cached(folder.path(), "", ".logits").len(), 1);
        let again = with(100_000, "");
        let told = events(distil(folder.path(), &again, &["--overwrite", "--log-format", "json"]));
        assert!(!told.contains("loading the teacher"), "{told}");
        // Killed on the way, in the middle of a text: completed to the same bytes.
        let whole = cached(folder.path(), "", ".logits").remove(0);
        let all = bytes(&whole);
        std::fs::remove_file(&whole).expect("removes");
        support::write(whole.with_extension("partial"), &all[..all.len() * 9 / 10]);
        distil(folder.path(), &again, &["--overwrite"]).success();
        assert!(bytes(&whole) == all, "{architecture}");
        let few = with(8, "cache_dtype = \"f16\"");
        distil(folder.path(), &few, &["--overwrite"]).success();
        let sizes: Vec<u64> = cached(folder.path(), "", ".logits")
            .iter()
            .map(|path| std::fs::metadata(path).expect("is there").len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().max() > sizes.iter().min().map(|size| size * 20).as_ref(), "{sizes:?}");
        let [first, last] = quarters(folder.path(), "forward_kl");
        assert!(last < first, "{architecture}: {first} {last}");
        let plan = run(folder.path(), &["plan", "student.toml"]).success().stdout;
        assert!(plan.contains("once, its 8 likeliest tokens"), "{plan}");
    }
}

/// [`assert_resumes`] in place of an earlier run.
fn assert_resumes_over(folder: &Path, recipe: &str) {
    std::fs::remove_dir_all(folder.join("student")).expect("removes");
    assert_resumes(folder, recipe);
}

#[test]
fn settings_of_written_texts_that_mean_nothing_are_refused() {
    let folder = folder("llama");
    let forward = "method = \"forward_kl\"";
    let several = |distill: &str| {
        recipe(TEXTS, "path = \"teacher\"", distill).replace(
            "path = \"teacher\"\n[student]",
            "models = [{ path = \"teacher\" }, { path = \"teacher\" }]\n[student]",
        )
    };
    let cases = [
        (
            recipe(TEXTS, KEPT, &format!("{forward}\nstudent_texts = {{}}")),
            "no step trains on the student's own",
        ),
        (recipe(TEXTS, KEPT, &format!("{forward}\non_policy = 0.5\ncache_top_k = 4")), "new in every step"),
        (
            recipe(TEXTS, KEPT, &format!("{forward}\ncache_teacher = false\ncache_top_k = 4")),
            "`cache_teacher` is off",
        ),
        (recipe(TEXTS, KEPT, "method = \"sequence_level\"\non_policy = 0.5"), "no loss does so"),
        (recipe(TEXTS, KEPT, "method = \"sequence_level\"\ncache_top_k = 4"), "no loss looks at"),
        (several(&format!("{forward}\ncache_top_k = 4")), "those of one teacher"),
        (several("method = \"sequence_level\""), "written by one teacher"),
        (
            recipe(
                TEXTS,
                KEPT,
                &format!("{forward}\nteacher_texts = {{ num_beams = 2, temperature = 1.0 }}"),
            ),
            "searches for the likeliest text",
        ),
        (
            recipe(TEXTS, KEPT, "method = \"gkd\"\nstudent_texts = { num_beams = 2 }"),
            "searches for the likeliest",
        ),
        (recipe(TEXTS, KEPT, "method = \"gkd\"\non_policy = 1.5"), "on_policy"),
    ];
    for (recipe, message) in cases {
        let refused = distil(folder.path(), &recipe, &[]).refusal();
        assert!(refused.contains(message), "`{message}` is not in:\n{refused}");
        assert!(!folder.path().join("student").exists(), "nothing is written");
    }
    std::fs::write(folder.path().join("student.toml"), recipe(TEXTS, KEPT, "method = \"gkd\""))
        .expect("writes");
    let refused = run(folder.path(), &["plan", "student.toml", "--batches", "batches.jsonl"]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("writes the texts of some steps"),
        "{refused:?}"
    );
}
