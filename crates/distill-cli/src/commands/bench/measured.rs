//! What is measured and how it is told, alike for both kinds of measurement.

use crate::commands::dtype::Dtype;
use crate::failure::Failure;
use crate::terminal::table::Facts;
use crate::terminal::units::count;
use clap::{Args, ValueEnum};
use distill_ops::DeviceSpec;
use distill_train::TrainError;
use distill_train::bench::{BenchModel, Conditions, ScratchModel};
use std::num::NonZeroUsize;

/// The model and where it is computed.
#[derive(Debug, Args)]
pub struct Measured {
    /// Output folder of a run, a Hugging Face folder or a hub id; without it a new model is measured
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["config", "hidden_size", "layers", "heads", "intermediate_size", "vocab_size"])]
    model: Option<String>,
    /// Architecture of a new model: bert, distilbert, roberta, xlm-roberta, albert, llama, qwen2 or gpt2
    #[arg(long, value_name = "ARCHITECTURE", default_value = "bert", help_heading = "A new model")]
    config: String,
    /// Width of a layer
    #[arg(long, value_name = "N", default_value = "384", help_heading = "A new model")]
    hidden_size: NonZeroUsize,
    /// Layers
    #[arg(long, value_name = "N", default_value = "6", help_heading = "A new model")]
    layers: NonZeroUsize,
    /// Attention heads of a layer
    #[arg(long, value_name = "N", default_value = "12", help_heading = "A new model")]
    heads: NonZeroUsize,
    /// Width inside a feed-forward block
    #[arg(long, value_name = "N", default_value = "1536", help_heading = "A new model")]
    intermediate_size: NonZeroUsize,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N", default_value = "30522", help_heading = "A new model")]
    vocab_size: NonZeroUsize,
    /// Tokens a sequence, none of them padding
    #[arg(long, value_name = "N", default_value = "128")]
    pub length: NonZeroUsize,
    /// What matrix products multiply in
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Where to compute: auto, flex, ndarray, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Seed of token ids, dropout and new weights
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// How the result is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub format: Format,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

impl Measured {
    /// The model to measure.
    ///
    /// # Errors
    /// An architecture that there is not.
    pub fn model(&self) -> Result<BenchModel, Failure> {
        if let Some(model) = &self.model {
            return Ok(BenchModel::Pretrained(model.clone()));
        }
        let architecture =
            distill_models::find(&self.config).map_err(|error| Failure::input(error.to_string()))?;
        Ok(BenchModel::Scratch(ScratchModel {
            architecture,
            hidden_size: self.hidden_size.get(),
            num_hidden_layers: self.layers.get(),
            num_attention_heads: self.heads.get(),
            intermediate_size: self.intermediate_size.get(),
            vocab_size: self.vocab_size.get(),
        }))
    }

    /// Where to compute.
    ///
    /// # Errors
    /// A device that there is not.
    pub fn device(&self) -> Result<DeviceSpec, Failure> {
        Ok(self.device.parse::<DeviceSpec>().map_err(TrainError::from)?)
    }
}

/// The conditions of a measurement, below its result.
pub fn add_conditions(facts: &mut Facts, conditions: &Conditions) {
    let model = &conditions.model;
    facts.add(
        "model",
        format!(
            "{} ({}), {} parameters: {} layers of {}, {} heads, {} inside, vocabulary {}",
            model.source,
            model.architecture,
            count(model.parameters),
            model.num_hidden_layers,
            model.hidden_size,
            model.num_attention_heads,
            count(model.intermediate_size as u64),
            count(model.vocab_size as u64),
        ),
    );
    facts.add("device", conditions.computing.to_string());
}

/// Peak memory as it is told.
pub fn memory(conditions: &Conditions) -> String {
    match conditions.peak_memory_mib {
        Some(mebibytes) => format!("{} MiB at its peak", count(mebibytes.round() as u64)),
        None => "not known on this system".to_owned(),
    }
}

/// A rate as it is told.
pub fn rate(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { count(value.round() as u64) }
}

/// Milliseconds as they are told, without the unit.
pub fn milliseconds(value: f64) -> String {
    if value < 9.995 { format!("{value:.2}") } else { format!("{value:.1}") }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use distill_train::Computing;
    use distill_train::bench::ModelSizes;

    pub fn conditions() -> Conditions {
        Conditions {
            computing: Computing {
                device: "flex".to_owned(),
                dtype: "bf16".to_owned(),
                instruction_set: Some("amx".to_owned()),
                threads: 2,
            },
            batch: 16,
            length: 128,
            seed: 42,
            model: ModelSizes {
                source: "from scratch".to_owned(),
                architecture: "bert".to_owned(),
                parameters: 22_714_756,
                hidden_size: 384,
                num_hidden_layers: 6,
                num_attention_heads: 12,
                intermediate_size: 1536,
                vocab_size: 30_522,
            },
            peak_memory_mib: Some(812.4),
        }
    }

    #[test]
    fn numbers_keep_about_three_figures() {
        assert_eq!([7.04, 61.24, 1234.4].map(rate), ["7.0", "61.2", "1,234"]);
        assert_eq!([0.123, 9.99, 263.44].map(milliseconds), ["0.12", "9.99", "263.4"]);
    }
}
