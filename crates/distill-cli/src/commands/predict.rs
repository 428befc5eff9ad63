//! `distill predict`: labels for texts, as a stream.

use super::Context;
use super::model_arguments::ModelArguments;
use crate::failure::Failure;
use crate::files::PendingFile;
use crate::text_rows::{Gather, TextRows};
use crate::{interrupt, threads};
use clap::Args;
use distill_train::Prediction;
use serde::Serialize;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Label texts: JSON lines in, JSON lines out, a line a text, in order
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Predict {
    #[command(flatten)]
    model: ModelArguments,
    /// A text to label; may be given more than once
    #[arg(long, conflicts_with = "input")]
    text: Vec<String>,
    /// File of JSON lines, each with a key `text`; `-` is stdin, which is also read if it is a pipe
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// File to write instead of stdout; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Add the logits, in the order of the model's labels
    #[arg(long)]
    logits: bool,
}

const EXAMPLES: &str = "\
Examples:
  distill predict checkpoints/quickstart --text \"where is my parcel?\"
  distill predict checkpoints/quickstart --input texts.jsonl --output labels.jsonl
  tail -f tickets.jsonl | distill predict checkpoints/quickstart --logits

Input:   {\"text\": \"where is my parcel?\"}          other keys are allowed and not read
Output:  {\"label\": \"shipping\", \"score\": 0.98}     with --logits also \"logits\": [...]
Score is the label's probability. A bad line ends the command with exit code 2, after the lines before it.";

impl Predict {
    /// Labels the texts.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let source = self.source()?;
        let mut sink = Sink::open(self.output.as_deref())?;
        let predictor = self.model.load(context)?;
        let label = |texts: &[String], sink: &mut Sink| {
            let predictions = predictor.predict(texts)?;
            sink.write(&predictions, self.logits)
        };
        match source {
            Source::Texts(texts) => {
                for batch in texts.chunks(self.model.settings.batch_size()) {
                    label(batch, &mut sink)?;
                }
            }
            Source::Rows(name, stream, gather) => {
                let mut rows = TextRows::read(stream, name, self.model.settings.batch_size(), gather);
                loop {
                    let batch = rows.next_batch()?;
                    if batch.is_empty() {
                        break;
                    }
                    label(&batch, &mut sink)?;
                }
            }
        }
        sink.finish()
    }

    fn source(&self) -> Result<Source, Failure> {
        if let Some(number) = self.text.iter().position(|text| text.trim().is_empty()) {
            return Err(Failure::input(format!("`--text` number {} is empty", number + 1)));
        }
        if !self.text.is_empty() {
            return Ok(Source::Texts(self.text.clone()));
        }
        let stdin = || Source::Rows("stdin".to_owned(), Box::new(io::stdin()), Gather::Ready);
        match &self.input {
            Some(path) if path == Path::new("-") => Ok(stdin()),
            Some(path) => {
                let failed = |error| Failure::io("read", path.display(), error);
                let file = File::open(path).map_err(failed)?;
                let kind = file.metadata().map_err(failed)?;
                if kind.is_dir() {
                    return Err(failed(io::ErrorKind::IsADirectory.into()));
                }
                let gather = if kind.is_file() { Gather::Full } else { Gather::Ready };
                Ok(Source::Rows(path.display().to_string(), Box::new(file), gather))
            }
            None if io::stdin().is_terminal() => Err(Failure::input("there is no text to label")
                .with_help("give `--text \"...\"` or `--input FILE`, or pipe JSON lines in")),
            None => Ok(stdin()),
        }
    }
}

/// Where the texts come from.
enum Source {
    Texts(Vec<String>),
    Rows(String, Box<dyn io::Read + Send>, Gather),
}

/// Where the answers go.
enum Sink {
    Stdout,
    /// A device or a pipe with a name.
    Stream(PathBuf, File),
    File(PathBuf, PendingFile),
}

/// A line of the output.
#[derive(Serialize)]
struct Answer<'a> {
    label: &'a str,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

impl Sink {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if path.metadata().is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
            let file = File::options()
                .write(true)
                .open(path)
                .map_err(|error| Failure::io("write", path.display(), error))?;
            return Ok(Self::Stream(path.to_owned(), file));
        }
        let file = PendingFile::create(path)?;
        interrupt::remove(file.partial().to_owned())?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// Writes a batch and hands it on at once.
    fn write(&mut self, predictions: &[Prediction], logits: bool) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for prediction in predictions {
            let logits = logits.then_some(prediction.logits.as_slice());
            let answer = Answer { label: &prediction.label, score: prediction.score, logits };
            serde_json::to_writer(&mut lines, &answer)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            lines.push(b'\n');
        }
        let put = |stream: &mut dyn Write| stream.write_all(&lines).and_then(|()| stream.flush());
        match self {
            Self::Stdout => Ok(put(&mut io::stdout().lock())?),
            Self::Stream(path, file) => {
                put(file).map_err(|error| Failure::io("write", path.display(), error))
            }
            Self::File(path, file) => put(file).map_err(|error| Failure::io("write", path.display(), error)),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout | Self::Stream(..) => Ok(()),
            Self::File(_, file) => file.finish(),
        }
    }
}
