//! `distill plan`: what a run will do and what it needs.

use super::Context;
use super::recipe_arguments::RecipeArguments;
use crate::failure::Failure;
use crate::{output, plan_text, threads};
use clap::{Args, ValueEnum};
use distill_train::write_batches;
use std::path::PathBuf;

/// Show what a run will do and need: rows, labels, token lengths, steps, memory, disk
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// How the plan is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Write what every step reads into this file, as JSON lines, instead of showing the plan
    #[arg(long, value_name = "FILE")]
    batches: Option<PathBuf>,
}

/// How a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  distill plan quickstart.toml
  distill plan ag_news.toml --set train.batch_size=64
  distill plan ag_news.toml --format json | jq .steps.total
  distill plan ag_news.toml --batches batches.jsonl";

impl Plan {
    /// Shows the plan.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let stages = self.recipe.read()?;
        threads::set(context.threads, stages.first().and_then(|stage| stage.recipe.train.threads))?;
        if let Some(path) = &self.batches {
            let [stage] = stages.as_slice() else {
                return Err(Failure::input("`--batches` writes those of one run, and the recipe has stages"));
            };
            let mut observer = context.voice.observer();
            let steps = write_batches(&stage.recipe, path, observer.as_mut())?;
            drop(observer);
            return Ok(output::print(&format!("{steps} steps written to `{}`\n", path.display()))?);
        }
        match self.format {
            Format::Text => plan_text::show(&stages, context),
            Format::Json => {
                let mut plans = plan_text::resolve(&stages, context)?;
                match plans.len() {
                    1 => Ok(output::print_json(&plans.remove(0))?),
                    _ => Ok(output::print_json(&serde_json::json!({ "stages": plans }))?),
                }
            }
        }
    }
}
