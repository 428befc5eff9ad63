//! A finished model as somebody names it: the folder of a run, of a checkpoint or of an adapter, or a hub id.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::read_model::model_folder;
use burn::tensor::Device;
use distill_models::{
    Adapter, AdapterConfig, HeadPolicy, LoadRequest, Loaded, ModelConfig, ModelError, Task, is_adapter, load,
};
use std::path::{Path, PathBuf};

/// Where a model's files are.
#[derive(Clone, Debug)]
pub struct FinishedModel {
    /// The folder that was named.
    pub folder: PathBuf,
    /// That of the model which the adapter in `folder` belongs to, if there is one.
    pub base: Option<PathBuf>,
}

impl FinishedModel {
    /// Finds the folders; downloads what is on the hub.
    ///
    /// # Errors
    /// [`TrainError::Hub`], or an adapter that does not name its model.
    pub fn find(reference: &str, observer: &mut dyn Observer) -> Result<Self, TrainError> {
        let folder = model_folder(reference, observer)?;
        if !is_adapter(&folder) {
            return Ok(Self { folder, base: None });
        }
        let Some(name) = AdapterConfig::read(&folder)?.base_model_name_or_path else {
            return Err(TrainError::Unusable {
                message: format!("the adapter `{reference}` does not say which model it belongs to"),
                help: "write `base_model_name_or_path` into its `adapter_config.json`".to_owned(),
            });
        };
        let base = model_folder(&name, observer)?;
        if is_adapter(&base) {
            return Err(TrainError::Unusable {
                message: format!("the adapter `{reference}` belongs to `{name}`, which is an adapter itself"),
                help: format!("merge that one first: `distill merge {name}`"),
            });
        }
        Ok(Self { folder, base: Some(base) })
    }

    /// Where the tokenizer is: in the folder itself, or with the model that its adapter belongs to.
    pub fn tokenizer_folder(&self) -> &Path {
        match &self.base {
            Some(base) if !self.folder.join("tokenizer.json").is_file() => base,
            _ => &self.folder,
        }
    }

    /// The configuration, with the task of the adapter where it has a configuration of its own.
    ///
    /// # Errors
    /// [`TrainError::Model`].
    pub fn config(&self) -> Result<ModelConfig, TrainError> {
        let of_adapter = self.base.is_some() && self.folder.join("config.json").is_file();
        let folder = if of_adapter { &self.folder } else { self.base.as_ref().unwrap_or(&self.folder) };
        Ok(ModelConfig::read(folder)?)
    }

    /// The model without dropout; its head must be there.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(&self, task: Task, device: Device) -> Result<Loaded, ModelError> {
        let (folder, adapter) = match &self.base {
            Some(base) => (base, Some(Adapter::Saved(self.folder.clone()))),
            None => (&self.folder, None),
        };
        // What an adapter brings takes the place of a head that is not in its model.
        let head = HeadPolicy::MustMatch;
        load(folder, LoadRequest { task, seed: 0, device, dropout: Some(0.0), head, adapter })
    }

    /// Says that it is being loaded.
    pub(crate) fn announce(&self, reference: &str, observer: &mut dyn Observer) {
        let message = match &self.base {
            Some(base) => format!("loading `{reference}`, an adapter of `{}`", base.display()),
            None => format!("loading `{reference}`"),
        };
        observer.event(&Event::Stage { message });
    }
}
