//! What [`Model::gradients_of`](crate::Model::gradients_of) minimises.

use burn::tensor::{Gradients, Tensor};

use crate::ModelOutput;

/// A loss of what a model returns. Closures are losses.
pub trait Loss {
    /// One number, `[1]`, that depends on the output; called once.
    fn loss(&mut self, output: ModelOutput) -> Tensor<1>;

    /// Takes the gradients of tensors that are not the model's (a learned projection) out of those of the loss; called
    /// once, after [`loss`](Self::loss).
    fn take_gradients(&mut self, _: &mut Gradients) {}
}

impl<F: FnMut(ModelOutput) -> Tensor<1>> Loss for F {
    fn loss(&mut self, output: ModelOutput) -> Tensor<1> {
        self(output)
    }
}
