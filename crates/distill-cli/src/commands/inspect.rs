//! `distill inspect`: what a model folder holds, and what there is to compute on.

use super::Context;
use crate::devices::Devices;
use crate::failure::Failure;
use crate::model_text;
use crate::output;
use crate::run_history::RunHistory;
use crate::terminal::{Paint, width};
use crate::threads;
use clap::{Args, ValueEnum};
use distill_models::Inspection;
use serde::Serialize;

/// Show a model's architecture, tensors, dtypes and size, or the devices of this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// Output folder of a run, a checkpoint, a Hugging Face folder or a hub id
    #[arg(value_name = "MODEL", required_unless_present = "device")]
    model: Option<String>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Show which devices this program can use on this machine, with instruction set and threads
    #[arg(long, conflicts_with_all = ["model", "tensors"])]
    device: bool,
    /// How it is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  distill inspect checkpoints/quickstart
  distill inspect checkpoints/quickstart --tensors
  distill inspect sentence-transformers/all-MiniLM-L6-v2 --format json | jq .parameters
  distill inspect --device";

/// A model and, where it comes from a run of this program, how far that run got.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    model: Inspection,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunHistory>,
}

impl Inspect {
    /// Shows what there is.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        match &self.model {
            Some(model) => self.show_model(model, context),
            None => self.show_devices(context),
        }
    }

    fn show_model(&self, reference: &str, context: &Context) -> Result<(), Failure> {
        let mut observer = context.voice.observer();
        let folder = distill_train::read_model::model_folder(reference, observer.as_mut());
        drop(observer);
        let folder = folder?;
        let run = RunHistory::read(&folder);
        let whole = run.as_ref().and_then(|run| run.newest_model(&folder)).unwrap_or(folder);
        let model = distill_models::inspect(&whole).map_err(distill_train::TrainError::from)?;
        match self.format {
            Format::Json => Ok(output::print_json(&Inspected { model, run })?),
            Format::Text => {
                let mut text = model_text::render(&model, run.as_ref(), Paint::stdout(), width());
                if self.tensors {
                    text.push('\n');
                    text.push_str(&model_text::tensors(&model, Paint::stdout()));
                }
                Ok(output::print(&text)?)
            }
        }
    }

    fn show_devices(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let devices = Devices::look();
        match self.format {
            Format::Json => Ok(output::print_json(&devices)?),
            Format::Text => Ok(output::print(&devices.render(Paint::stdout(), width()))?),
        }
    }
}
