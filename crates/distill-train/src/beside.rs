//! What is learnt beside the model: it trains along, is kept in checkpoints, and is no part of the model that is saved.

use crate::masked_text::MaskedLmTwin;
use crate::objectives::Projection;
use burn::tensor::Tensor;

/// Everything that a run learns besides its model.
#[derive(Default)]
pub struct Beside {
    /// The student's width to its teacher's, where a loss needs it.
    pub projection: Option<Projection>,
    /// The head that guesses hidden tokens, where a classifier does so beside its task.
    pub masked_lm: Option<MaskedLmTwin>,
}

impl Beside {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.projection.is_none() && self.masked_lm.is_none()
    }

    /// Names and shapes of the parameters.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let projection = self.projection.iter().flat_map(Projection::parameters);
        projection.chain(self.masked_lm.iter().flat_map(MaskedLmTwin::parameters)).collect()
    }

    /// Replaces each parameter, shown flat and without a graph, by what `f` makes of it.
    pub fn update(&mut self, f: &mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>) {
        if let Some(projection) = &mut self.projection {
            projection.update(f);
        }
        if let Some(twin) = &mut self.masked_lm {
            twin.update(f);
        }
    }

    /// Name, shape and numbers of each parameter.
    pub fn to_host(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let projection = self.projection.iter().flat_map(Projection::to_host);
        projection.chain(self.masked_lm.iter().flat_map(MaskedLmTwin::to_host)).collect()
    }
}
