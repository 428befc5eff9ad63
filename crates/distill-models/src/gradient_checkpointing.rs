//! Gradients with the activations of one layer at a time in memory: each layer is run again when its turn in the
//! backward pass comes; Chen et al. 2016, §3 (arXiv:1604.06174).
//!
//! The first pass keeps the input of every layer, with the place in the stream of dropout masks, and no graph. A layer
//! that is run again therefore computes the same numbers, and the gradients are those of an ordinary pass, to the bit;
//! only where layers share their parameters (ALBERT) are they summed in another order.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use distill_ops::Dropout;

use crate::model::{
    Forward, ForwardOptions, HeadOutput, ModelInput, ModelOutput, take_gradients, trainable_names,
};

/// The gradients of what `loss` makes of the output, by name, in parameter order.
pub(crate) fn gradients_of<M: Forward>(
    module: &M,
    input: &ModelInput,
    options: ForwardOptions,
    dropout: &mut Dropout,
    loss: &mut dyn FnMut(ModelOutput) -> Tensor<1>,
) -> Vec<(String, Tensor<1>)> {
    // Not `Module::valid`: the plain device has other operations than the one with gradients, and other last digits.
    let saved = FirstPass::run(&module.clone().no_grad(), input, options, dropout);
    let layers = saved.layers.len();
    let mut sums = Sums::default();

    // The head and the loss, on leaves; a loss that asks for hidden states has a gradient for each of them.
    let last = leaf(saved.last);
    let mut leaves: Vec<Option<Tensor<3>>> = vec![None; layers + 1];
    if options.hidden_states {
        for (leaf_of, (hidden, _)) in leaves.iter_mut().zip(&saved.layers) {
            *leaf_of = Some(leaf(hidden.clone()));
        }
    }
    leaves[layers] = Some(last.clone());
    let hidden_states = options.hidden_states.then(|| leaves.iter().flatten().cloned().collect());
    let HeadOutput { logits, pooler_output } = module.head(&last, dropout);
    let last_hidden_state = options.keeps_last().then_some(last);
    let output = ModelOutput { logits, last_hidden_state, pooler_output, hidden_states };
    let mut grads = loss(output).backward();
    sums.add(module, &mut grads);
    let mut from_loss: Vec<Option<Tensor<3>>> =
        leaves.into_iter().map(|leaf| leaf.and_then(|leaf| leaf.grad_remove(&mut grads))).collect();
    drop(grads);

    let encoder = module.encoder();
    let lowest = trainable_names(module).iter().filter_map(|name| encoder.first_layer_of(name)).min();
    let mut grad = from_loss.pop().flatten();
    for (n, (hidden, mut masks)) in saved.layers.into_iter().enumerate().rev() {
        // Below the lowest parameter that is trained nothing needs a gradient.
        if lowest.is_none_or(|lowest| lowest > n + 1) {
            break;
        }
        let own = from_loss.pop().flatten();
        let Some(of_output) = grad.take() else {
            grad = own;
            continue;
        };
        let hidden = leaf(hidden);
        let tokens = module.tokens_of(n, options);
        let output = encoder.layer(n, hidden.clone(), tokens, &input.attention_bias, &mut masks);
        let mut grads = backward(output, of_output);
        sums.add(module, &mut grads);
        grad = match (hidden.grad_remove(&mut grads), own) {
            (Some(through), Some(own)) => Some(through + own),
            (through, own) => through.or(own),
        };
    }
    if let (Some(0), Some(grad)) = (lowest, grad) {
        let mut masks = saved.at_embeddings;
        let mut grads = backward(encoder.embed(input, &mut masks), grad);
        sums.add(module, &mut grads);
    }
    sums.in_order_of(module)
}

/// What the pass without a graph leaves behind.
struct FirstPass {
    /// The dropout as it was before the embeddings.
    at_embeddings: Dropout,
    /// The input of each layer, and the dropout as it was before it.
    layers: Vec<(Tensor<3>, Dropout)>,
    /// After the last layer.
    last: Tensor<3>,
}

impl FirstPass {
    fn run<M: Forward>(
        module: &M,
        input: &ModelInput,
        options: ForwardOptions,
        dropout: &mut Dropout,
    ) -> Self {
        let encoder = module.encoder();
        let at_embeddings = dropout.clone();
        let mut hidden = encoder.embed(input, dropout);
        let mut layers = Vec::with_capacity(encoder.num_hidden_layers());
        for n in 0..encoder.num_hidden_layers() {
            layers.push((hidden.clone(), dropout.clone()));
            let tokens = module.tokens_of(n, options);
            hidden = encoder.layer(n, hidden, tokens, &input.attention_bias, dropout);
        }
        Self { at_embeddings, layers, last: hidden }
    }
}

/// A tensor at which a graph begins, and whose gradient is wanted.
fn leaf(tensor: Tensor<3>) -> Tensor<3> {
    tensor.detach().require_grad()
}

/// The backward pass from `output`, whose gradient is known: that of `Σ output · grad`.
fn backward(output: Tensor<3>, grad: Tensor<3>) -> Gradients {
    (output * grad.autodiff()).sum().backward()
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
