//! `distill schema`: the JSON Schema of recipes.

use crate::failure::Failure;
use crate::output;
use clap::Args;

/// Print the JSON Schema of recipes, with which editors complete and check
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Schema {}

const EXAMPLES: &str = "\
Examples:
  distill schema > recipe.schema.json
  # then, as the first line of a recipe, for editors with a TOML language server:
  #:schema ./recipe.schema.json";

impl Schema {
    /// Prints the schema.
    pub fn execute(&self) -> Result<(), Failure> {
        Ok(output::print_json(&distill_train::json_schema())?)
    }
}
