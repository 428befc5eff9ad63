//! `distill predict`: labels for texts, as a stream.

use super::Context;
use super::model_arguments::ModelArguments;
use crate::failure::Failure;
use crate::json_rows::{JsonRows, RowFormat, RowSource, text_of};
use crate::sink::Sink;
use crate::threads;
use clap::Args;
use distill_train::Prediction;
use serde::Serialize;
use std::path::PathBuf;

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
            sink.write(&self.lines(&predictions)?)
        };
        match source {
            Source::Texts(texts) => {
                for batch in texts.chunks(self.model.settings.batch_size()) {
                    label(batch, &mut sink)?;
                }
            }
            Source::Rows(source) => {
                let mut rows = JsonRows::read(source, self.model.settings.batch_size(), TEXTS);
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
        RowSource::open(self.input.as_deref())?.map(Source::Rows).ok_or_else(|| {
            Failure::input("there is no text to label")
                .with_help("give `--text \"...\"` or `--input FILE`, or pipe JSON lines in")
        })
    }

    fn lines(&self, predictions: &[Prediction]) -> Result<Vec<u8>, Failure> {
        let mut lines = Vec::new();
        for prediction in predictions {
            let logits = self.logits.then_some(prediction.logits.as_slice());
            let answer = Answer { label: &prediction.label, score: prediction.score, logits };
            serde_json::to_writer(&mut lines, &answer)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

const TEXTS: RowFormat<String> =
    RowFormat { example: r#"{"text": "..."}"#, parse: |object| text_of(object, "text") };

/// Where the texts come from.
enum Source {
    Texts(Vec<String>),
    Rows(RowSource),
}

/// A line of the output.
#[derive(Serialize)]
struct Answer<'a> {
    label: &'a str,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}
