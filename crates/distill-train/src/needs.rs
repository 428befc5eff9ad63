//! How much memory and disk space a run needs: estimates, from sizes alone.

use crate::computing::Computing;
use crate::memory::{available_disk, available_memory};
use distill_models::{Activations, BaseModelConfig};
use distill_ops::Precision;
use distill_recipe::Recipe;
use serde::Serialize;

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
pub(crate) const FLOAT: u64 = 4;
/// Bytes of a bf16.
const BF16: u64 = 2;
/// How many tensors there are of each shape; set so that the estimate is a little above what was measured.
#[derive(Clone, Copy)]
struct Tensors {
    /// `[batch, length, hidden]`, that one layer keeps for its backward pass.
    hidden: u64,
    /// `[batch, length, intermediate]`, likewise.
    intermediate: u64,
    /// `[batch, heads, length, length]`, likewise.
    scores: u64,
    /// Of the shape of a trained parameter, besides itself: gradient, moments, what the update makes.
    states: u64,
}

/// With our kernels: BERT 6 x 384, batch 64 x 128, 1.8 GiB for 1.6; recomputed 0.9 for 0.7.
const BY_KERNELS: Tensors = Tensors { hidden: 11, intermediate: 2, scores: 0, states: 3 };
/// With burn's operations alone: MiniLM-L6, batch 32 x 128, 2.2 GiB for 2.0.
const BY_OPERATIONS: Tensors = Tensors { hidden: 14, intermediate: 4, scores: 4, states: 4 };
/// The program itself, tokeniser and token buffers.
const PROGRAM: u64 = 100 << 20;
/// A checkpoint of a parameter: weight and two moments.
const CHECKPOINT_FLOATS: u64 = 3;

impl ModelSize {
    /// Memory of training with micro-batches of `batch` sequences of `length` tokens, in bytes: an estimate.
    ///
    /// Weights, frozen ones once more as they are multiplied, gradients, both moments; and what the backward pass needs of every layer, or of one layer with its
    /// gradients and the inputs of all.
    pub fn training_memory(
        &self,
        batch: u64,
        length: u64,
        activations: Activations,
        computing: &Computing,
    ) -> u64 {
        let tensors = if computing.has_kernels() { BY_KERNELS } else { BY_OPERATIONS };
        let product =
            |factors: &[u64]| factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor));
        let hidden = product(&[batch, length, self.hidden_size, tensors.hidden]);
        let intermediate = product(&[batch, length, self.intermediate_size, tensors.intermediate]);
        let scores = product(&[batch, length, length, self.num_attention_heads, tensors.scores]);
        let layer = hidden.saturating_add(intermediate).saturating_add(scores);
        let kept = product(&[layer, self.num_hidden_layers, FLOAT]);
        let activations = match activations {
            Activations::Keep => kept,
            Activations::Recompute => {
                let inputs = product(&[batch, length, self.hidden_size, self.num_hidden_layers]);
                product(&[layer.saturating_mul(2).saturating_add(inputs), FLOAT]).min(kept)
            }
        };
        let states = product(&[self.trainable_parameters, tensors.states, FLOAT])
            .saturating_add(product(&[self.parameters, FLOAT]));
        // Kernels keep a frozen weight packed for either pass, where they multiply in bf16.
        let frozen = self.parameters.saturating_sub(self.trainable_parameters);
        let packed = match computing.has_kernels() && computing.dtype == Precision::Bf16.to_string() {
            true => product(&[frozen, 2, BF16]),
            false => 0,
        };
        PROGRAM.saturating_add(states).saturating_add(packed).saturating_add(activations)
    }

    /// Disk space of a run that keeps `checkpoints` of them, in bytes: those, one being written, the best model and
    /// the final one.
    pub fn disk(&self, checkpoints: u64) -> u64 {
        let weights = self.parameters.saturating_mul(FLOAT);
        let moments = self.trainable_parameters.saturating_mul((CHECKPOINT_FLOATS - 1) * FLOAT);
        let checkpoint = weights.saturating_add(moments);
        checkpoint.saturating_mul(checkpoints.saturating_add(1)).saturating_add(weights.saturating_mul(3))
    }
}

/// Sizes of a model of which `parameters` numbers are there and `trainable_parameters` are trained.
pub(crate) fn base_model_size(
    base: &dyn BaseModelConfig,
    parameters: u64,
    trainable_parameters: u64,
) -> ModelSize {
    ModelSize {
        parameters,
        trainable_parameters,
        hidden_size: base.hidden_size() as u64,
        num_hidden_layers: base.num_hidden_layers() as u64,
        num_attention_heads: base.num_attention_heads() as u64,
        intermediate_size: base.intermediate_size() as u64,
    }
}

/// Memory that training needs on `rows` rows of at most `longest` tokens, and what is there.
pub(crate) fn memory_need(
    recipe: &Recipe,
    computing: &Computing,
    size: &ModelSize,
    rows: usize,
    longest: usize,
) -> Need {
    let batch = recipe.train.batch_size.min(rows) as u64;
    let needed_bytes = size.training_memory(batch, longest as u64, activations(recipe), computing);
    Need { needed_bytes, available_bytes: available_memory() }
}

/// What `gradient_checkpointing` says.
pub(crate) fn activations(recipe: &Recipe) -> Activations {
    if recipe.train.gradient_checkpointing { Activations::Recompute } else { Activations::Keep }
}

/// Disk space that the run needs, and what is there.
pub(crate) fn disk_need(recipe: &Recipe, size: &ModelSize) -> Need {
    let kept = recipe.train.save_total_limit.map_or(recipe.train.epochs.ceil() as u64, |limit| limit as u64);
    // Of a model with adapters they alone are written.
    let written = match recipe.lora {
        Some(_) => ModelSize { parameters: size.trainable_parameters, ..*size },
        None => *size,
    };
    Need { needed_bytes: written.disk(kept), available_bytes: available_disk(&recipe.output_dir) }
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

    fn computing(device: &str) -> Computing {
        Computing {
            device: device.to_owned(),
            dtype: "f32".to_owned(),
            instruction_set: (device == "flex").then(|| "avx2".to_owned()),
            threads: 1,
        }
    }

    #[test]
    fn memory_grows_with_the_batch_and_not_below_the_states() {
        for (device, states) in [("flex", 4), ("ndarray", 5)] {
            let (computing, states) = (computing(device), states * MINILM.parameters * FLOAT);
            let needed = |batch, length| MINILM.training_memory(batch, length, Activations::Keep, &computing);
            assert!(needed(1, 8) > states);
            assert!(needed(32, 128) > 2 * needed(8, 128) - (PROGRAM + states));
        }
    }

    #[test]
    fn only_burns_operations_keep_scores() {
        let growth = |device| {
            let computing = computing(device);
            let needed = |batch, length| MINILM.training_memory(batch, length, Activations::Keep, &computing);
            needed(8, 512) - needed(32, 128)
        };
        assert_eq!(growth("flex"), 0);
        assert!(growth("ndarray") > 0);
    }

    #[test]
    fn weights_that_do_not_learn_are_kept_once_more_in_bf16() {
        let frozen = ModelSize { trainable_parameters: 0, ..MINILM };
        let needed = |size: &ModelSize, device, dtype: &str| {
            let computing = Computing { dtype: dtype.to_owned(), ..computing(device) };
            size.training_memory(32, 128, Activations::Keep, &computing)
        };
        let [packed, plain] = ["bf16", "f32"].map(|dtype| needed(&frozen, "flex", dtype));
        assert_eq!(packed - plain, 4 * MINILM.parameters);
        assert_eq!(needed(&MINILM, "flex", "bf16"), needed(&MINILM, "flex", "f32"));
        assert_eq!(needed(&frozen, "ndarray", "bf16"), needed(&frozen, "ndarray", "f32"));
    }

    #[test]
    fn recomputing_needs_the_memory_of_one_layer_and_of_the_inputs() {
        let computing = computing("flex");
        let states = PROGRAM + 4 * MINILM.parameters * FLOAT;
        let needed = |activations| MINILM.training_memory(32, 128, activations, &computing) - states;
        let (all, one) = (needed(Activations::Keep), needed(Activations::Recompute));
        assert!(one > all / 3 && one < all / 2, "{one} of {all}");
        let shallow = ModelSize { num_hidden_layers: 1, ..MINILM };
        // With one layer there is nothing to gain, and no more is foreseen than without.
        assert_eq!(
            shallow.training_memory(32, 128, Activations::Recompute, &computing),
            shallow.training_memory(32, 128, Activations::Keep, &computing)
        );
    }

    #[test]
    fn short_only_where_the_system_says_so() {
        assert!(Need { needed_bytes: 2, available_bytes: Some(1) }.is_short());
        assert!(!Need { needed_bytes: 2, available_bytes: None }.is_short());
    }
}
