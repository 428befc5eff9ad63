//! The recipe on the command line, alike for all commands that take one.

use crate::failure::Failure;
use crate::shell::word;
use clap::Args;
use distill_train::StageRecipe;
use std::path::PathBuf;

/// A recipe and what to change in it.
#[derive(Debug, Args)]
pub struct RecipeArguments {
    /// Recipe file (TOML); `distill recipes` lists those that come with the program
    #[arg(value_name = "RECIPE")]
    path: PathBuf,
    /// Override a key of the recipe; may be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RecipeArguments {
    /// Reads and checks the recipe, all faults at once: its only run, or that of each stage.
    ///
    /// # Errors
    /// [`Failure::Recipe`] with every fault.
    pub fn read(&self) -> Result<Vec<StageRecipe>, Failure> {
        Ok(distill_train::read_stages(&self.path, &self.set)?)
    }

    /// The words after the command that name this recipe.
    pub fn words(&self) -> String {
        let mut words = word(&self.path.display().to_string());
        for set in &self.set {
            words.push_str(&format!(" --set {}", word(set)));
        }
        words
    }
}
