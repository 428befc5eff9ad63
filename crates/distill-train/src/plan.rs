//! What a run will do, decided without training: what `distill plan` shows and what is checked before a run.

use serde::Serialize;

/// What a run will do, and what it needs.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// Name of the run.
    pub name: String,
    /// Where it writes.
    pub output_dir: String,
    /// The device, as it was resolved.
    pub device: String,
    /// Kind of task.
    pub task: String,
    /// Rows of each label.
    pub labels: Vec<LabelCount>,
    /// How the values of the label column became ids.
    pub label_mapping: String,
    /// Rows of each data set.
    pub rows: Rows,
    /// Lengths of the training texts in tokens, special tokens counted, before truncation.
    pub token_lengths: TokenLengths,
    /// Share of the training texts that are cut at `max_length`.
    pub truncated_share: f64,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// The model.
    pub model: ModelPlan,
    /// Optimizer steps.
    pub steps: Steps,
    /// Passes over the training rows.
    pub epochs: f64,
    /// Memory in bytes.
    pub memory: Need,
    /// Disk space in bytes.
    pub disk: Need,
    /// What is probably not what the user wants.
    pub warnings: Vec<String>,
}

/// Rows of one label.
#[derive(Clone, Debug, Serialize)]
pub struct LabelCount {
    /// The label.
    pub name: String,
    /// Training rows.
    pub train: u64,
    /// Validation rows.
    pub validation: u64,
    /// Test rows.
    pub test: u64,
}

/// Rows of each data set.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rows {
    /// Training rows.
    pub train: u64,
    /// Validation rows.
    pub validation: u64,
    /// Test rows.
    pub test: u64,
}

/// Lengths in tokens.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TokenLengths {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: usize,
    /// 90% are at most this long.
    pub p90: usize,
    /// 95% are at most this long.
    pub p95: usize,
    /// 99% are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

/// The model of a run.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPlan {
    /// Folder, hub id or `from scratch`.
    pub source: String,
    /// `model_type`.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Those that are trained.
    pub trainable_parameters: u64,
    /// Tensors that the checkpoint does not have and that start at random.
    pub newly_initialised: Vec<String>,
    /// Tensors of the checkpoint that this task does not use.
    pub unused: Vec<String>,
}

/// Optimizer steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Steps {
    /// A pass over the training rows.
    pub per_epoch: u64,
    /// The run.
    pub total: u64,
    /// The warm-up.
    pub warmup: u64,
}

/// Something needed, and what is there.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Need {
    /// Bytes needed, an estimate.
    pub needed_bytes: u64,
    /// Bytes there; `None` where the system does not say.
    pub available_bytes: Option<u64>,
}

impl Need {
    /// Whether there is less than needed.
    pub fn is_short(&self) -> bool {
        self.available_bytes.is_some_and(|available| available < self.needed_bytes)
    }
}

/// Sizes that memory depends on.
#[derive(Clone, Copy, Debug)]
pub struct ModelSize {
    /// All parameters.
    pub parameters: u64,
    /// Those that are trained.
    pub trainable_parameters: u64,
    /// Width of a layer.
    pub hidden_size: u64,
    /// Layers.
    pub num_hidden_layers: u64,
    /// Attention heads of a layer.
    pub num_attention_heads: u64,
    /// Width inside a feed-forward block.
    pub intermediate_size: u64,
}

/// Bytes of an f32.
const FLOAT: u64 = 4;
/// Tensors of `[batch, length, hidden]` that one layer keeps for its backward pass.
const HIDDEN_TENSORS: u64 = 24;
/// Tensors of `[batch, length, intermediate]` likewise.
const INTERMEDIATE_TENSORS: u64 = 6;
/// Tensors of `[batch, heads, length, length]` likewise.
const SCORE_TENSORS: u64 = 7;
/// The program itself, tokeniser and token buffers.
const PROGRAM: u64 = 150 << 20;
/// A checkpoint of a parameter: weight and two moments.
const CHECKPOINT_FLOATS: u64 = 3;

impl ModelSize {
    /// Memory of training with micro-batches of `batch` sequences of `length` tokens, in bytes: an estimate.
    ///
    /// Weights, gradients, both moments and one copy that the update makes of each tensor in turn; and what the
    /// backward pass needs of every layer.
    pub fn training_memory(&self, batch: u64, length: u64) -> u64 {
        let tokens = batch * length;
        let layer = tokens * self.hidden_size * HIDDEN_TENSORS
            + tokens * self.intermediate_size * INTERMEDIATE_TENSORS
            + tokens * length * self.num_attention_heads * SCORE_TENSORS;
        let activations = layer * self.num_hidden_layers * FLOAT;
        let states = (self.parameters + 4 * self.trainable_parameters) * FLOAT;
        PROGRAM + states + activations
    }

    /// Disk space of a run that keeps `checkpoints` of them, in bytes: those, one being written, the best model and
    /// the final one.
    pub fn disk(&self, checkpoints: u64) -> u64 {
        let weights = self.parameters * FLOAT;
        let checkpoint = weights + (CHECKPOINT_FLOATS - 1) * self.trainable_parameters * FLOAT;
        checkpoint * (checkpoints + 1) + 3 * weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: ModelSize = ModelSize {
        parameters: 22_700_000,
        trainable_parameters: 22_700_000,
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
    };

    #[test]
    fn memory_grows_with_the_batch_and_not_below_the_states() {
        let states = 5 * MINILM.parameters * FLOAT;
        assert!(MINILM.training_memory(1, 8) > states);
        assert!(MINILM.training_memory(32, 128) > 2 * MINILM.training_memory(8, 128) - (PROGRAM + states));
    }

    #[test]
    fn short_only_where_the_system_says_so() {
        assert!(Need { needed_bytes: 2, available_bytes: Some(1) }.is_short());
        assert!(!Need { needed_bytes: 2, available_bytes: None }.is_short());
    }
}
