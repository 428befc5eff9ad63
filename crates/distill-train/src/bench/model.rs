//! The model that is measured.

use crate::error::TrainError;
use crate::events::Observer;
use crate::read_model::model_folder;
use burn::tensor::Device;
use distill_models::{
    Adapter, Architecture, HeadPolicy, LoadRequest, Loaded, LoraConfig, ModelConfig, Task, TaskKind,
    from_scratch, load,
};
use serde::Serialize;

/// Labels of a model that comes without a classifier.
const LABELS: usize = 4;
/// Positions of a new model; Hugging Face's default.
const POSITIONS: usize = 512;
/// Positions that an architecture may reserve for padding.
const RESERVED_POSITIONS: usize = 2;

/// Which model is measured.
#[derive(Clone, Debug)]
pub enum BenchModel {
    /// A folder or a hub id.
    Pretrained(String),
    /// A new one.
    Scratch(ScratchModel),
}

/// Sizes of a new model.
#[derive(Clone, Debug)]
pub struct ScratchModel {
    /// The architecture.
    pub architecture: &'static Architecture,
    /// Width of a layer.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width inside a feed-forward block.
    pub intermediate_size: usize,
    /// Rows of the embeddings.
    pub vocab_size: usize,
}

/// Sizes of the model that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSizes {
    /// Folder, hub id or `from scratch`.
    pub source: String,
    /// `model_type`.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Width of a layer.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads of a layer.
    pub num_attention_heads: usize,
    /// Width inside a feed-forward block.
    pub intermediate_size: usize,
    /// Rows of the embeddings.
    pub vocab_size: usize,
}

/// A model as it is to be measured.
pub(super) struct Wanted<'a> {
    pub(super) model: &'a BenchModel,
    pub(super) length: usize,
    pub(super) seed: u64,
    pub(super) dropout: Option<f64>,
    pub(super) device: Device,
    /// Adapters to train in place of the weights.
    pub(super) lora: Option<LoraConfig>,
}

impl Wanted<'_> {
    /// Loads or makes the model; one without a classifier gets a new one.
    pub(super) fn load(self, observer: &mut dyn Observer) -> Result<(Loaded, ModelSizes), TrainError> {
        let length = self.length;
        let (source, loaded) = match self.model {
            BenchModel::Pretrained(reference) => (reference.clone(), self.pretrained(reference, observer)?),
            BenchModel::Scratch(sizes) => ("from scratch".to_owned(), self.scratch(sizes)?),
        };
        let limit = loaded.config.base.max_length();
        if length > limit {
            return Err(TrainError::Unusable {
                message: format!("the model reads at most {limit} tokens, `--length` is {length}"),
                help: format!("lower it to {limit} or less"),
            });
        }
        let sizes = sizes(source, &loaded);
        Ok((loaded, sizes))
    }

    fn request(&self, task: Task) -> LoadRequest {
        LoadRequest {
            task,
            seed: self.seed,
            device: self.device.clone(),
            dropout: self.dropout,
            head: HeadPolicy::Reinitialise,
            adapter: self.lora.clone().map(Adapter::New),
        }
    }

    fn pretrained(&self, reference: &str, observer: &mut dyn Observer) -> Result<Loaded, TrainError> {
        let folder = model_folder(reference, observer)?;
        let config = ModelConfig::read(&folder)?;
        let writes = matches!(config.task.kind(), TaskKind::CausalLm | TaskKind::Seq2SeqLm);
        let task = if config.has_classifier() || writes { config.task } else { labels() };
        Ok(load(&folder, self.request(task))?)
    }

    fn scratch(&self, sizes: &ScratchModel) -> Result<Loaded, TrainError> {
        let table = serde_json::json!({
            "hidden_size": sizes.hidden_size,
            "num_hidden_layers": sizes.num_hidden_layers,
            "num_attention_heads": sizes.num_attention_heads,
            "intermediate_size": sizes.intermediate_size,
            "max_position_embeddings": POSITIONS.max(self.length + RESERVED_POSITIONS),
        });
        let task = if sizes.architecture.supports(TaskKind::CausalLm) { Task::CausalLm } else { labels() };
        let made = from_scratch(sizes.architecture, &table, sizes.vocab_size, 0, self.request(task));
        made.map_err(|errors| TrainError::Unusable {
            message: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            help: "choose other sizes".to_owned(),
        })
    }
}

fn labels() -> Task {
    Task::Classification { id2label: (0..LABELS).map(|label| format!("LABEL_{label}")).collect() }
}

fn sizes(source: String, loaded: &Loaded) -> ModelSizes {
    let encoder = loaded.config.base.as_ref();
    let count = |shape: &[usize]| shape.iter().product::<usize>() as u64;
    ModelSizes {
        source,
        architecture: loaded.config.architecture.model_type.to_owned(),
        parameters: loaded.model.parameters().iter().map(|parameter| count(&parameter.shape)).sum(),
        hidden_size: encoder.hidden_size(),
        num_hidden_layers: encoder.num_hidden_layers(),
        num_attention_heads: encoder.num_attention_heads(),
        intermediate_size: encoder.intermediate_size(),
        vocab_size: encoder.vocab_size(),
    }
}
