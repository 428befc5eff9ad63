//! Models on the command line, alike for all commands that use one.

use super::Context;
use super::dtype::Dtype;
use super::run_record::RunRecord;
use crate::failure::Failure;
use clap::Args;
use distill_train::Predictor;
use std::num::NonZeroUsize;

/// A trained model and how to run it.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// Output folder of a run, a checkpoint, a Hugging Face folder or a hub id
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub settings: ModelSettings,
}

/// How models are run, alike for one and for several.
#[derive(Debug, Args)]
pub struct ModelSettings {
    /// Texts that are labelled together
    #[arg(long, value_name = "N", default_value = "32")]
    batch_size: NonZeroUsize,
    /// Longest text in tokens, what is longer is cut [default: as in the run that made the model, else what its tokenizer says, at most 512]
    #[arg(long, value_name = "N")]
    max_length: Option<NonZeroUsize>,
    /// Where to compute: auto, flex, ndarray, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// What matrix products multiply in
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
}

impl ModelArguments {
    /// Loads the model.
    ///
    /// # Errors
    /// A model or a device that cannot be used.
    pub fn load(&self, context: &Context) -> Result<Predictor, Failure> {
        self.settings.load(&self.model, context)
    }

    /// What the run that made the model left of itself.
    pub fn run_record(&self) -> RunRecord {
        RunRecord::of(&self.model)
    }
}

impl ModelSettings {
    /// Loads a model.
    ///
    /// # Errors
    /// A model or a device that cannot be used.
    pub fn load(&self, model: &str, context: &Context) -> Result<Predictor, Failure> {
        let mut observer = context.voice.observer();
        let in_training = || RunRecord::of(model).data_table().map(|table| table.max_length);
        let max_length = self.max_length.map(NonZeroUsize::get).or_else(in_training);
        let loaded = Predictor::load(model, &self.device, self.dtype.into(), max_length, observer.as_mut());
        drop(observer);
        Ok(loaded?)
    }

    /// Longest text in tokens, where it was named.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length.map(NonZeroUsize::get)
    }

    /// Texts that are labelled together.
    pub fn batch_size(&self) -> usize {
        self.batch_size.get()
    }
}
