//! `distill validate`: every mistake of a recipe, before anything is done.

use super::Context;
use super::recipe_arguments::RecipeArguments;
use crate::failure::Failure;
use clap::Args;

/// Check a recipe: keys, values, names of components, files that must be there
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Validate {
    #[command(flatten)]
    recipe: RecipeArguments,
}

const EXAMPLES: &str = "\
Examples:
  distill validate quickstart.toml
  distill validate quickstart.toml --set train.learning_rate=5e-5";

impl Validate {
    /// Checks the recipe.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let stages = self.recipe.read()?;
        let name = stages.last().map(|stage| stage.recipe.name.as_str()).unwrap_or_default();
        context.voice.note(&format!("recipe `{name}` has no mistake"));
        Ok(())
    }
}
