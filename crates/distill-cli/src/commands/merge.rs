//! `distill merge`: an adapter and its model made one.

use super::Context;
use crate::failure::Failure;
use crate::output::print;
use clap::Args;
use distill_train::merge_adapter;
use std::path::PathBuf;

/// Make one model of an adapter and the model that it belongs to
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Merge {
    /// Folder of an adapter in PEFT's layout, or its hub id
    #[arg(value_name = "ADAPTER")]
    adapter: String,
    /// Folder to write; it must not exist, or be empty
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  distill merge checkpoints/abstracts-lora checkpoints/abstracts
  distill generate checkpoints/abstracts --prompt \"Background: \"

The model is found by `base_model_name_or_path` of `adapter_config.json`. What is written is an ordinary Hugging Face
folder in f32, that needs neither the adapter nor PEFT.";

impl Merge {
    /// Writes the model.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let mut observer = context.voice.observer();
        let merged = merge_adapter(&self.adapter, &self.output, observer.as_mut())?;
        drop(observer);
        let (layers, output) = (merged.layers, self.output.display());
        print(&format!("{layers} adapted layers of `{}` merged into `{output}`\n", merged.base.display()))?;
        Ok(())
    }
}
