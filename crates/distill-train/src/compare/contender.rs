//! A model that takes part in a comparison.

use crate::error::TrainError;
use crate::predictor::Predictor;
use distill_data::LabelMap;

/// A loaded model with what is known of where it comes from.
pub struct Contender {
    reference: String,
    predictor: Predictor,
    label_map: Option<LabelMap>,
    weight_bytes: u64,
}

impl Contender {
    /// Takes a model that was loaded from the folder or hub id `reference`.
    ///
    /// `label_map` is how the run which made it read the label column; it counts only if its names are the model's, in
    /// their order.
    ///
    /// # Errors
    /// [`TrainError::Model`] if its files can no longer be read.
    pub fn new(
        reference: impl Into<String>,
        predictor: Predictor,
        label_map: Option<LabelMap>,
    ) -> Result<Self, TrainError> {
        let weight_bytes = distill_models::inspect(predictor.folder())?.bytes;
        let label_map = label_map.filter(|map| map.names() == predictor.labels());
        Ok(Self { reference: reference.into(), predictor, label_map, weight_bytes })
    }

    /// Folder or hub id, as it was named.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The model.
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// Size of its weights files, in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// How the run that made it read the label column.
    pub(super) fn label_map(&self) -> Option<&LabelMap> {
        self.label_map.as_ref()
    }
}
