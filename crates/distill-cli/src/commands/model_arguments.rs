//! The model on the command line, alike for all commands that use one.

use super::Context;
use super::dtype::Dtype;
use crate::failure::Failure;
use clap::Args;
use distill_data::LabelMap;
use distill_recipe::DataTable;
use distill_train::Predictor;
use std::num::NonZeroUsize;
use std::path::Path;

/// A trained model and how to run it.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// Output folder of a run, a checkpoint, a Hugging Face folder or a hub id
    #[arg(value_name = "MODEL")]
    model: String,
    /// Texts that are labelled together
    #[arg(long, value_name = "N", default_value = "32")]
    batch_size: NonZeroUsize,
    /// Longest text in tokens, what is longer is cut [default: as in the run that made the model, else what its tokenizer says, at most 512]
    #[arg(long, value_name = "N")]
    max_length: Option<NonZeroUsize>,
    /// Where to compute: auto, flex, ndarray, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// What matrix products multiply in
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Dtype::Auto)]
    dtype: Dtype,
}

impl ModelArguments {
    /// Loads the model.
    ///
    /// # Errors
    /// A model or a device that cannot be used.
    pub fn load(&self, context: &Context) -> Result<Predictor, Failure> {
        let mut observer = context.voice.observer();
        let in_training = || self.data_table().map(|table| table.max_length);
        let max_length = self.max_length.map(NonZeroUsize::get).or_else(in_training);
        let loaded =
            Predictor::load(&self.model, &self.device, self.dtype.into(), max_length, observer.as_mut());
        drop(observer);
        Ok(loaded?)
    }

    /// Texts that are labelled together.
    pub fn batch_size(&self) -> usize {
        self.batch_size.get()
    }

    /// The `[data]` table of the recipe that the model comes from: that of its run folder, or of the run folder that
    /// its checkpoint is in.
    pub fn data_table(&self) -> Option<DataTable> {
        serde_json::from_value(self.run_record()?.get("recipe")?.get("data")?.clone()).ok()
    }

    /// How the run that made the model understood the values of the label column.
    pub fn label_map(&self) -> Option<LabelMap> {
        serde_json::from_value(self.run_record()?.get("labels")?.clone()).ok()
    }

    fn run_record(&self) -> Option<serde_json::Value> {
        let model = Path::new(&self.model);
        let folders = [Some(model), model.ancestors().nth(2)];
        let record =
            folders.into_iter().flatten().find_map(|folder| std::fs::read(folder.join("run.json")).ok())?;
        serde_json::from_slice(&record).ok()
    }
}
