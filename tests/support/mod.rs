//! Runs the binary in folders of their own.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod tickets;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a command wrote and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// The same outcome, if the command did what it was asked to.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The stderr of a command that refused what it was given: exit code 2, nothing on stdout.
    #[track_caller]
    pub fn refusal(self) -> String {
        assert_eq!(self.code, Some(2), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "a refused command writes nothing to stdout");
        self.stderr
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The command `distill` in `folder`, away from the hub, the caller's settings and any terminal.
pub fn distill(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distill"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("hub")).env("LC_ALL", "C.UTF-8");
    for name in
        ["NO_COLOR", "CLICOLOR_FORCE", "DISTILL_LOG", "RUST_BACKTRACE", "HF_ENDPOINT", "HF_TOKEN", "COLUMNS"]
    {
        command.env_remove(name);
    }
    command
}

/// Runs `distill` to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Outcome {
    distill(folder, arguments).output().expect("the binary starts").into()
}

/// Runs `distill` to its end with a text on stdin.
pub fn run_with_input(folder: &Path, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = distill(folder, arguments).stdin(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that refuses its input closes the pipe early.
        let _ = stdin.write_all(&input);
    });
    let outcome = child.wait_with_output().expect("the binary ends").into();
    writer.join().expect("the writer ends");
    outcome
}

/// A temporary folder.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file, its folder too.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes the folder");
    std::fs::write(path, contents).expect("writes");
}

/// Reads JSON.
pub fn read_json(path: impl AsRef<Path>) -> serde_json::Value {
    let path = path.as_ref();
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` with its bytes, hidden ones left out, sorted.
pub fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("reads a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                let bytes = std::fs::read(&path).expect("reads a file");
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

/// `rows` rows of two labels that a small model can tell apart after some steps, with a header.
pub fn two_label_csv(rows: usize) -> String {
    const FRUIT: [&str; 6] = ["apple", "pear", "plum", "cherry", "grape", "melon"];
    const METAL: [&str; 6] = ["iron", "tin", "zinc", "copper", "silver", "lead"];
    let mut text = "text,label\n".to_owned();
    // A small generator of its own (Knuth's MMIX constants): the rows must never change.
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for row in 0..rows {
        let (words, label) = if row % 2 == 0 { (FRUIT, "fruit") } else { (METAL, "metal") };
        let _ = write!(text, "row {row}");
        for _ in 0..2 + next(6) {
            let _ = write!(text, " {}", words[next(6)]);
        }
        let _ = writeln!(text, ",{label}");
    }
    text
}

/// A recipe for a tiny model on `train.csv` (and `test.csv`), saved to `out`.
pub const TINY_RECIPE: &str = r#"name = "tiny"
seed = 7
output_dir = "out"

[task]
kind = "classification"

[model]
architecture = "bert"
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 64
max_position_embeddings = 32

[tokenizer]
train = { vocab_size = 300 }

[data]
train = "train.csv"
test = "test.csv"
validation_fraction = 0.1
max_length = 24

[train]
epochs = 3
batch_size = 8
learning_rate = 1e-3
warmup_ratio = 0.1
logging_steps = 5
eval_steps = 20
save_steps = 10
"#;

/// A folder with the tiny recipe as `tiny.toml` and its data.
pub fn tiny_folder() -> tempfile::TempDir {
    let folder = folder();
    write(folder.path().join("tiny.toml"), TINY_RECIPE);
    write(folder.path().join("train.csv"), two_label_csv(320));
    write(folder.path().join("test.csv"), two_label_csv(40));
    folder
}

/// Waits until `ready` or until the child ended; whether it is ready.
pub fn wait_until(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if ready() {
            return true;
        }
        if child.try_wait().expect("asks for the child").is_some() {
            return ready();
        }
        assert!(start.elapsed() < Duration::from_secs(120), "nothing happened in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The steps of the `train` lines in a `metrics.jsonl`, whole lines only.
pub fn logged_steps(metrics: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(metrics).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["kind"] == "train")
        .filter_map(|line| line["step"].as_u64())
        .collect()
}
