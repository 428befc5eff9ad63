//! `distill plan`: what a run will do and what it needs.

use super::Context;
use super::recipe_arguments::RecipeArguments;
use crate::failure::Failure;
use crate::{output, plan_text, threads};
use clap::{Args, ValueEnum};

/// Show what a run will do and need: rows, labels, token lengths, steps, memory, disk
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Plan {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// How the plan is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
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
  distill plan ag_news.toml --format json | jq .steps.total";

impl Plan {
    /// Shows the plan.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let stages = self.recipe.read()?;
        threads::set(context.threads, stages.first().and_then(|stage| stage.recipe.train.threads))?;
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
