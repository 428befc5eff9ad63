//! `distill bench`: how fast this machine trains and answers.

mod distill;
mod generate;
mod measured;
mod predict;
mod train;

pub use measured::{milliseconds, rate};

use super::Context;
use crate::failure::Failure;
use clap::{Args, Subcommand};

/// Measure how fast a model trains or answers on this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  distill bench train --model sentence-transformers/all-MiniLM-L6-v2 --batch 16 --length 128
  distill bench predict --model checkpoints/quickstart --batch 1 --length 32
  distill bench distill --teacher checkpoints/ag-news --layers 3
  distill bench generate --model HuggingFaceTB/SmolLM2-135M --prompt-length 512 --new-tokens 128";

#[derive(Debug, Subcommand)]
enum What {
    Train(train::Train),
    Predict(predict::Predict),
    Distill(distill::Distill),
    Generate(generate::Generate),
}

impl Bench {
    /// Measures what is asked for.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        match &self.what {
            What::Train(command) => command.execute(context),
            What::Predict(command) => command.execute(context),
            What::Distill(command) => command.execute(context),
            What::Generate(command) => command.execute(context),
        }
    }
}
