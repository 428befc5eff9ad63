//! Small teachers and the recipes of their students, on some of the support tickets.

use super::{Outcome, folder, read_json, run, write};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Training rows: three parts of a cache of logits.
pub const ROWS: usize = 1100;
const TEST_ROWS: usize = 120;

/// The files of a model: names and bytes.
pub type Files = Vec<(String, Vec<u8>)>;

/// A masked language model of 3 layers of 64 numbers.
const MASKED: &str = r#"name = "masked"
seed = 1
output_dir = "masked"

[task]
kind = "masked_language_modeling"

[model]
architecture = "bert"
hidden_size = 64
num_hidden_layers = 3
num_attention_heads = 4
intermediate_size = 96
max_position_embeddings = 48

[tokenizer]
train = { vocab_size = 700 }

[data]
train = "corpus.txt"
max_length = 48

[train]
max_steps = 20
batch_size = 16
learning_rate = 2e-3
dtype = "f32"
threads = 1
"#;

/// The classifier that is made of it.
const TEACHER: &str = r#"name = "teacher"
seed = 2
output_dir = "teacher"

[task]
kind = "classification"

[model]
path = "masked"

[data]
train = "train.csv"
max_length = 48

[train]
epochs = 5
batch_size = 16
learning_rate = 2e-3
warmup_ratio = 0.1
dropout = 0.0
dtype = "f32"
threads = 1
"#;

/// A recipe that distils `teacher` into `student`: the bodies of its tables.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    pub task: &'a str,
    pub teacher: &'a str,
    pub student: &'a str,
    pub distill: &'a str,
    pub data: &'a str,
    /// Whatever stands at the end.
    pub more: &'a str,
}

impl Default for Recipe<'_> {
    fn default() -> Self {
        Self {
            task: "kind = \"classification\"",
            teacher: "path = \"teacher\"",
            student: "init = \"from_teacher\"\nlayers = [0, 2]",
            distill: "method = \"soft_labels\"",
            data: "train = \"train.csv\"\ntest = \"test.csv\"\nmax_rows = 200",
            more: "",
        }
    }
}

/// A student of other sizes than the teacher, whose tokens it shares.
pub const NARROW: &str = r#"init = "from_teacher"
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 4
intermediate_size = 32"#;

impl Recipe<'_> {
    /// Writes it to `student.toml`.
    pub fn write(&self, folder: &Path) {
        let Self { task, teacher, student, distill, data, more } = self;
        let text = format!(
            r#"name = "student"
seed = 7
output_dir = "student"

[task]
{task}

[teacher]
{teacher}

[student]
{student}

[distill]
{distill}

[data]
{data}
validation_fraction = 0.1
max_length = 48

[train]
epochs = 2
batch_size = 16
learning_rate = 2e-3
logging_steps = 4
dtype = "f32"
threads = 1
{more}"#
        );
        write(folder.join("student.toml"), text);
    }

    /// Writes it and runs it, from nothing.
    #[track_caller]
    pub fn run(&self, folder: &Path) -> Events {
        self.write(folder);
        student(folder, &["--overwrite"])
    }

    /// What is said against it; it writes nothing.
    #[track_caller]
    pub fn refusal(&self, folder: &Path) -> String {
        self.write(folder);
        let stderr = run(folder, &["run", "student.toml", "--quiet"]).refusal();
        assert!(!folder.join("student").exists(), "a refused run makes no output folder");
        stderr
    }
}

/// Runs `student.toml`.
#[track_caller]
pub fn student(folder: &Path, more: &[&str]) -> Events {
    let arguments = ["run", "student.toml", "--log-format", "json"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    Events::of(run(folder, &arguments).success())
}

/// What a run told.
pub struct Events(Vec<Value>);

impl Events {
    fn of(outcome: Outcome) -> Self {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self(outcome.stderr.lines().map(line).collect())
    }

    /// How many rows were done at each event of a counted piece of work.
    pub fn progress(&self, what: &str) -> Vec<u64> {
        let events = self.0.iter().filter(|event| event["event"] == "progress");
        let events = events.filter(|event| event["what"].as_str().is_some_and(|it| it.starts_with(what)));
        events.filter_map(|event| event["done"].as_u64()).collect()
    }

    /// Whether a teacher was asked for logits to keep.
    pub fn asked(&self) -> bool {
        !self.progress("asking the teacher").is_empty()
    }

    /// All notes and warnings.
    pub fn messages(&self) -> Vec<&str> {
        self.0.iter().filter_map(|event| event["message"].as_str()).collect()
    }

    /// The steps at which training began or went on.
    pub fn starts(&self) -> Vec<u64> {
        let starts = self.0.iter().filter(|event| event["event"] == "training_started");
        starts.filter_map(|event| event["resumed_at"].as_u64()).collect()
    }
}

fn tickets(name: &str, rows: usize) -> String {
    let text = std::fs::read_to_string(Path::new("../../datasets/support_tickets").join(name));
    let text = text.expect("the tickets are part of the repository");
    text.lines().take(rows + 1).flat_map(|line| [line, "\n"]).collect()
}

/// A folder with `train.csv`, `test.csv` and `corpus.txt`.
fn data_folder() -> tempfile::TempDir {
    let folder = folder();
    let train = tickets("train.csv", ROWS);
    let corpus = train.lines().skip(1).filter_map(|line| line.rsplit_once(',')).map(|(text, _)| text);
    let corpus: String = corpus.flat_map(|text| [text.trim_matches('"'), "\n"]).collect();
    write(folder.path().join("corpus.txt"), corpus);
    write(folder.path().join("train.csv"), train);
    write(folder.path().join("test.csv"), tickets("test.csv", TEST_ROWS));
    folder
}

/// The files of a model folder that make it a model.
fn model_files(folder: &Path) -> Files {
    const OF_THE_RUN: [&str; 4] = ["run.json", "recipe.toml", "metrics.jsonl", "predictions.jsonl"];
    let entries = std::fs::read_dir(folder).expect("a model").map(|entry| entry.expect("an entry").path());
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = entries.filter(|path| path.is_file());
    let files = files.filter(|path| !OF_THE_RUN.contains(&&*name(path)) && !name(path).starts_with('.'));
    files.map(|path| (name(&path), std::fs::read(&path).expect("reads"))).collect()
}

/// Trains a model by `recipe` in a folder of its own.
pub fn trained(recipe: &str, name: &str, more: &[(&str, &Files)]) -> Files {
    let folder = data_folder();
    for (name, files) in more {
        put(folder.path(), name, files);
    }
    write(folder.path().join("recipe.toml"), recipe);
    run(folder.path(), &["run", "recipe.toml", "--quiet"]).success();
    model_files(&folder.path().join(name))
}

/// A masked language model, trained once.
pub fn masked() -> &'static Files {
    static MODEL: OnceLock<Files> = OnceLock::new();
    MODEL.get_or_init(|| trained(MASKED, "masked", &[]))
}

/// A classifier with its tokens and sizes, trained once.
pub fn teacher() -> &'static Files {
    static MODEL: OnceLock<Files> = OnceLock::new();
    MODEL.get_or_init(|| trained(TEACHER, "teacher", &[("masked", masked())]))
}

/// A classifier with tokens of its own and 2 heads, trained once.
pub fn stranger() -> &'static Files {
    static MODEL: OnceLock<Files> = OnceLock::new();
    let model = "architecture = \"bert\"\nhidden_size = 24\nnum_hidden_layers = 2\nnum_attention_heads = 2\n\
                 intermediate_size = 48\nmax_position_embeddings = 48\n\n[tokenizer]\ntrain = { vocab_size = 350 }";
    let recipe = TEACHER.replace("path = \"masked\"", model).replace("epochs = 5", "max_steps = 20");
    MODEL.get_or_init(|| trained(&recipe, "teacher", &[]))
}

/// Writes the files of a model into a folder below.
pub fn put(folder: &Path, name: &str, files: &Files) {
    for (file, bytes) in files {
        write(folder.join(name).join(file), bytes);
    }
}

/// A folder with the data and the classifier `teacher`.
pub fn teacher_folder() -> tempfile::TempDir {
    let folder = data_folder();
    put(folder.path(), "teacher", teacher());
    folder
}

/// Changes the `config.json` of a model.
pub fn change_config(model: &Path, change: impl FnOnce(&mut Value)) {
    let path = model.join("config.json");
    let mut config = read_json(&path);
    change(&mut config);
    write(path, config.to_string());
}

/// The weights of the student, as bytes.
#[track_caller]
pub fn weights(folder: &Path) -> Vec<u8> {
    let path = folder.join("student/model.safetensors");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of its tensors.
#[track_caller]
pub fn tensor_names(folder: &Path) -> Vec<String> {
    let bytes = weights(folder);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    tensors.names().into_iter().map(str::to_owned).collect()
}

/// The lines of `metrics.jsonl` of one kind.
#[track_caller]
pub fn logged(folder: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("student/metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    lines.filter(|line| line["kind"] == kind).collect()
}

/// The caches of logits beside the output folder.
pub fn caches(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join(".teacher-cache")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == extension));
    paths.sort();
    paths
}

/// The classifier as another seed makes it, trained briefly.
pub fn teacher_of_another_seed() -> Files {
    let recipe = TEACHER.replace("seed = 2", "seed = 3").replace("epochs = 5", "max_steps = 5");
    trained(&recipe, "teacher", &[("masked", masked())])
}

/// Turns the order of a classifier's labels around, in its head and in its configuration: it says what it said.
pub fn reverse_labels(model: &Path) {
    let path = model.join("model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut tensors: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in file.tensors() {
        let mut data = view.data().to_vec();
        if name.starts_with("classifier.") {
            let row = data.len() / view.shape()[0];
            data = data.chunks(row).rev().flatten().copied().collect();
        }
        tensors.push((name, view.dtype(), view.shape().to_vec(), data));
    }
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).expect("a tensor");
        (name.clone(), view)
    });
    write(&path, safetensors::serialize(views, None).expect("safetensors"));
    change_config(model, |config| {
        let names: Vec<Value> = config["id2label"].as_object().expect("labels").values().cloned().collect();
        let reversed = names.iter().rev().enumerate();
        let id2label = reversed.clone().map(|(id, name)| (id.to_string(), name.clone()));
        config["id2label"] = id2label.collect::<serde_json::Map<_, _>>().into();
        let label2id = reversed.map(|(id, name)| (name.as_str().expect("a name").to_owned(), id.into()));
        config["label2id"] = label2id.collect::<serde_json::Map<_, _>>().into();
    });
}
