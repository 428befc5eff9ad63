//! Gradients with the activations of one layer at a time in memory: each layer is run again when its turn in the
//! backward pass comes; Chen et al. 2016, §3 (arXiv:1604.06174).
//!
//! The first pass keeps the input of every layer, with the place in the stream of dropout masks, and no graph. A layer
//! that is run again therefore computes the same numbers, and the gradients are those of an ordinary pass, to the bit.
//! Only where layers share their parameters (ALBERT), or where a loss asks for attention scores or for queries, keys and
//! values, are they summed in another order.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use distill_ops::Dropout;

use crate::Loss;
use crate::layer_output::{Kept, LayerOutput};
use crate::model::{Forward, ForwardOptions, ModelInput};
use crate::parameters::{take_gradients, trainable_names};

/// The gradients of what `loss` makes of the output, by name, in parameter order.
pub(crate) fn gradients_of<M: Forward>(
    module: &M,
    input: &ModelInput,
    options: ForwardOptions,
    dropout: &mut Dropout,
    loss: &mut dyn Loss,
) -> Vec<(String, Tensor<1>)> {
    // Not `Module::valid`: the plain device has other operations than the one with gradients, and other last digits.
    let context = module.encoder().context(input);
    let saved = FirstPass::run(&module.clone().no_grad(), input, options, dropout);
    let mut sums = Sums::default();

    // The head and the loss, on leaves: what a loss asks for has a gradient of its own, layer by layer.
    let leaves = Leaves::of(&saved, options);
    let output = module.finish(
        leaves.last.clone(),
        options.hidden_states.then(|| leaves.hidden_states()),
        leaves.layers.iter().map(|leaves| leaves.kept.clone()).collect(),
        options,
        &context,
        dropout,
    );
    let mut grads = loss.loss(output).backward();
    loss.take_gradients(&mut grads);
    sums.add(module, &mut grads);
    let mut grad = leaves.last.grad_remove(&mut grads);
    let from_loss: Vec<LayerGradients> =
        leaves.layers.into_iter().map(|leaves| LayerGradients::of(leaves, &mut grads)).collect();
    drop(grads);

    let encoder = module.encoder();
    let lowest = trainable_names(module).iter().filter_map(|name| encoder.first_layer_of(name)).min();
    for (n, (mut layer, from_loss)) in saved.layers.into_iter().zip(from_loss).enumerate().rev() {
        // Below the lowest parameter that is trained nothing needs a gradient.
        if lowest.is_none_or(|lowest| lowest > n + 1) {
            break;
        }
        let LayerGradients { input: own, kept } = from_loss;
        if grad.is_none() && kept.is_empty() {
            grad = own;
            continue;
        }
        let hidden = leaf(layer.input);
        let wanted = module.wanted_of(n, options);
        let output = encoder.layer(n, hidden.clone(), wanted, &context.fresh(), &mut layer.dropout);
        let mut grads = backward(output, grad, kept);
        sums.add(module, &mut grads);
        grad = match (hidden.grad_remove(&mut grads), own) {
            (Some(through), Some(own)) => Some(through + own),
            (through, own) => through.or(own),
        };
    }
    if let (Some(0), Some(grad)) = (lowest, grad) {
        let mut masks = saved.at_embeddings;
        let mut grads = product(encoder.embed(input, &mut masks), grad).backward();
        sums.add(module, &mut grads);
    }
    sums.in_order_of(module)
}

/// What the pass without a graph leaves behind.
struct FirstPass {
    /// The dropout as it was before the embeddings.
    at_embeddings: Dropout,
    layers: Vec<SavedLayer>,
    /// After the last layer.
    last: Tensor<3>,
}

struct SavedLayer {
    input: Tensor<3>,
    /// As it was before the layer.
    dropout: Dropout,
    kept: Kept,
}

impl FirstPass {
    fn run<M: Forward>(
        module: &M,
        input: &ModelInput,
        options: ForwardOptions,
        dropout: &mut Dropout,
    ) -> Self {
        let encoder = module.encoder();
        let (at_embeddings, context) = (dropout.clone(), encoder.context(input));
        let mut hidden = encoder.embed(input, dropout);
        let count = options.layers_run(encoder.num_hidden_layers());
        let mut layers = Vec::with_capacity(count);
        for n in 0..count {
            let (before, wanted) = (dropout.clone(), module.wanted_of(n, options));
            let output = encoder.layer(n, hidden.clone(), wanted, &context, dropout);
            layers.push(SavedLayer { input: hidden, dropout: before, kept: output.kept });
            hidden = output.hidden;
        }
        Self { at_embeddings, layers, last: hidden }
    }
}

/// What the loss sees, as tensors at which its graph begins.
struct Leaves {
    layers: Vec<LayerLeaves>,
    last: Tensor<3>,
}

struct LayerLeaves {
    /// Where hidden states are asked for.
    input: Option<Tensor<3>>,
    kept: Kept,
}

impl Leaves {
    fn of(saved: &FirstPass, options: ForwardOptions) -> Self {
        let of_layer = |layer: &SavedLayer| LayerLeaves {
            input: options.hidden_states.then(|| leaf(layer.input.clone())),
            kept: Kept {
                scores: layer.kept.scores.clone().map(leaf),
                queries_keys_values: layer.kept.queries_keys_values.clone().map(|qkv| qkv.map(leaf)),
            },
        };
        Self { layers: saved.layers.iter().map(of_layer).collect(), last: leaf(saved.last.clone()) }
    }

    fn hidden_states(&self) -> Vec<Tensor<3>> {
        let inputs = self.layers.iter().filter_map(|leaves| leaves.input.clone());
        inputs.chain([self.last.clone()]).collect()
    }
}

/// The gradients of a loss with respect to the leaves of one layer, where it has any.
struct LayerGradients {
    input: Option<Tensor<3>>,
    kept: KeptGradients,
}

impl LayerGradients {
    fn of(leaves: LayerLeaves, grads: &mut Gradients) -> Self {
        let Kept { scores, queries_keys_values } = leaves.kept;
        Self {
            input: leaves.input.and_then(|leaf| leaf.grad_remove(grads)),
            kept: KeptGradients {
                scores: scores.and_then(|leaf| leaf.grad_remove(grads)),
                queries_keys_values: queries_keys_values
                    .map(|qkv| qkv.map(|leaf| leaf.grad_remove(grads)))
                    .unwrap_or_default(),
            },
        }
    }
}

/// The part of them that belongs to what the layer kept.
struct KeptGradients {
    scores: Option<Tensor<4>>,
    queries_keys_values: [Option<Tensor<3>>; 3],
}

impl KeptGradients {
    fn is_empty(&self) -> bool {
        self.scores.is_none() && self.queries_keys_values.iter().all(Option::is_none)
    }
}

/// A tensor at which a graph begins, and whose gradient is wanted.
fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.detach().require_grad()
}

/// The backward pass from what a layer returned, whose gradients are known; there is at least one.
fn backward(output: LayerOutput, of_hidden: Option<Tensor<3>>, of_kept: KeptGradients) -> Gradients {
    let LayerOutput { hidden, kept } = output;
    let mut terms: Vec<Tensor<1>> = Vec::new();
    terms.extend(of_hidden.map(|grad| product(hidden, grad)));
    terms.extend(kept.scores.zip(of_kept.scores).map(|(scores, grad)| product(scores, grad)));
    let projected = kept.queries_keys_values.into_iter().flatten();
    for (x, grad) in projected.zip(of_kept.queries_keys_values) {
        terms.extend(grad.map(|grad| product(x, grad)));
    }
    Tensor::cat(terms, 0).sum().backward()
}

/// `Σ output · grad`, whose gradient with respect to `output` is `grad`.
fn product<const D: usize>(output: Tensor<D>, grad: Tensor<D>) -> Tensor<1> {
    (output * grad.autodiff()).sum()
}

/// Gradients by name; a parameter that is used more than once has several.
#[derive(Default)]
struct Sums(HashMap<String, Tensor<1>>);

impl Sums {
    fn add(&mut self, module: &impl Module, grads: &mut Gradients) {
        for (name, grad) in take_gradients(module, grads) {
            let sum = match self.0.remove(&name) {
                Some(sum) => sum + grad,
                None => grad,
            };
            self.0.insert(name, sum);
        }
    }

    fn in_order_of(mut self, module: &impl Module) -> Vec<(String, Tensor<1>)> {
        let names = trainable_names(module).into_iter();
        names.filter_map(|name| self.0.remove(&name).map(|grad| (name, grad))).collect()
    }
}
