//! What a model in training is saved with.

use crate::error::TrainError;
use crate::merge::keep_files;
use crate::prepare::Prepared;
use distill_data::tokenizer::Tokenizer;
use distill_models::{AdapterConfig, Model, ModelConfig, save};
use std::path::{Path, PathBuf};

/// Everything of a model folder but the weights.
pub(crate) struct Saver {
    config: ModelConfig,
    tokenizer: Tokenizer,
    adapter: Option<AdapterConfig>,
    /// Where the model came from: what it keeps beside its weights is there.
    from: Option<PathBuf>,
}

impl Prepared {
    pub(crate) fn saver(&self) -> Saver {
        let base = self.recipe.model.path().map(str::to_owned);
        let adapter = |lora| AdapterConfig { lora, base_model_name_or_path: base };
        Saver {
            config: self.loaded.config.clone(),
            tokenizer: self.tokenizer.clone(),
            adapter: self.loaded.lora.clone().map(adapter),
            from: self.model_folder.clone(),
        }
    }
}

impl Saver {
    /// Writes a folder that can be loaded again: the weights, or the adapters alone, with configuration and tokenizer.
    ///
    /// # Errors
    /// [`TrainError::Model`], [`TrainError::Tokenizer`] or [`TrainError::Io`].
    pub(crate) fn save(&self, model: &dyn Model, folder: &Path) -> Result<(), TrainError> {
        match &self.adapter {
            Some(adapter) => {
                adapter.save(model, &self.config.task, folder)?;
                // Names the labels of a classifier, which PEFT's files do not.
                self.config.write(folder)?;
            }
            None => save(model, &self.config, folder)?,
        }
        self.tokenizer.save(folder)?;
        keep_files([self.from.as_deref()], folder)
    }
}
