//! Architectures, Hugging Face configurations and weights in and out.
//!
//! A [`ModelConfig`] reads `config.json`, [`pretrained::load`] makes a [`Model`] of it, and [`pretrained::save`] writes
//! both back. An architecture is one file and one line in [`ARCHITECTURES`].

mod adapter_file;
mod albert;
mod albert_config;
mod architecture;
mod atomic;
mod base_model_config;
mod bert;
mod bert_config;
mod bert_encoder;
mod causal_lm;
mod checkpoint;
mod config;
mod distilbert;
mod error;
mod gpt2;
mod gradient_checkpointing;
mod inspect;
mod key_value_cache;
mod layer_context;
mod layer_output;
mod layer_set;
mod layers;
mod llama;
mod llama_config;
mod logits;
mod lora;
mod loss;
mod model;
mod parameters;
pub mod pretrained;
mod roberta;
mod rotary_embedding;
mod student;
mod t5;
mod t5_block;
mod t5_config;
mod tensor_file;
mod weights;
mod weights_file;

pub use adapter_file::{AdapterConfig, is_adapter};
pub use architecture::{Architecture, TaskKind, find};
pub use base_model_config::{BaseModelConfig, Sizes};
pub use config::{ConfigError, ModelConfig, Task};
pub use error::{ModelError, TensorFault};
pub use inspect::{FileSummary, Inspection, TensorSummary, inspect};
pub use key_value_cache::KeyValueCache;
pub use layer_set::Layers;
pub use logits::Logits;
pub use lora::{LoraConfig, TargetModules};
pub use loss::Loss;
pub use model::{Activations, DecoderInput, ForwardOptions, Model, ModelInput, ModelOutput};
pub use parameters::ParameterInfo;
pub use pretrained::{
    Adapter, LoadRequest, Loaded, from_scratch, load, parameters_to_host, save, save_merged, save_without,
};
pub use student::{
    LayerChoice, StudentError, StudentReport, StudentRequest, student_config, student_from_teacher,
};
pub use tensor_file::{StoredDtype, TensorFileContent, read_safetensors, write_safetensors};
pub use weights::{HeadPolicy, LoadReport, normal as normal_values};
pub use weights_file::WeightsFormat;

/// Every architecture, by the name that `model_type` and recipes use.
pub const ARCHITECTURES: &[Architecture] = &[
    bert::ARCHITECTURE,
    distilbert::ARCHITECTURE,
    roberta::ROBERTA,
    roberta::XLM_ROBERTA,
    albert::ARCHITECTURE,
    llama::LLAMA,
    llama::QWEN2,
    gpt2::ARCHITECTURE,
    t5::ARCHITECTURE,
];
