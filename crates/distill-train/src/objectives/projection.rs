//! The learned projection of a student's width to its teacher's: it trains along and is dropped on export.

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use distill_models::normal_values;
use distill_ops::linear;

/// What the names of its parameters begin with.
pub const PROJECTION_PREFIX: &str = "distill_projection.";

/// `x · weightᵀ + bias`, shared by all states of the student; Jiao et al. 2020, §3.1 (arXiv:1909.10351).
#[derive(Clone, Debug)]
pub struct Projection {
    /// `[teacher_width, student_width]`.
    weight: Tensor<2>,
    /// `[teacher_width]`.
    bias: Tensor<1>,
}

impl Projection {
    /// Normal weights that keep the length of what they project, no bias: a function of the seed alone.
    pub fn new(student_width: usize, teacher_width: usize, seed: u64, device: &Device) -> Self {
        let std = (student_width as f64).sqrt().recip();
        let name = format!("{PROJECTION_PREFIX}weight");
        let values = normal_values(seed, &name, teacher_width * student_width, std);
        let weight = Tensor::from_data(TensorData::new(values, [teacher_width, student_width]), device);
        Self::of(weight, Tensor::zeros([teacher_width], device))
    }

    /// Of these values, which are to learn.
    pub fn of(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self { weight: weight.require_grad(), bias: bias.require_grad() }
    }

    /// `[batch, seq, student_width]` to `[batch, seq, teacher_width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.weight.clone(), Some(self.bias.clone()))
    }

    /// Names and shapes of the parameters.
    pub fn parameters(&self) -> [(String, Vec<usize>); 2] {
        [
            (format!("{PROJECTION_PREFIX}weight"), self.weight.dims().to_vec()),
            (format!("{PROJECTION_PREFIX}bias"), self.bias.dims().to_vec()),
        ]
    }

    /// Its gradients, flat, by name.
    pub fn take_gradients(&self, grads: &mut Gradients) -> Vec<(String, Tensor<1>)> {
        let [(weight, shape), (bias, _)] = self.parameters();
        let len = shape.iter().product::<usize>();
        let of_weight = self.weight.grad_remove(grads).map(|grad| (weight, grad.reshape([len])));
        let of_bias = self.bias.grad_remove(grads).map(|grad| (bias, grad));
        of_weight.into_iter().chain(of_bias).collect()
    }

    /// Replaces each parameter, shown flat and without a graph, by what `f` makes of it.
    pub fn update(&mut self, f: &mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>) {
        let [(weight, shape), (bias, _)] = self.parameters();
        let len = shape.iter().product::<usize>();
        let new_weight = f(&weight, self.weight.clone().without_autodiff().reshape([len]));
        let new_bias = f(&bias, self.bias.clone().without_autodiff());
        let new_weight = new_weight.reshape([shape[0], shape[1]]).autodiff();
        *self = Self::of(new_weight, new_bias.autodiff());
    }

    /// Name, shape and numbers of each parameter.
    pub fn to_host(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let [weight, bias] = self.parameters();
        vec![
            (weight.0, weight.1, self.weight.to_data().iter::<f32>().collect()),
            (bias.0, bias.1, self.bias.to_data().iter::<f32>().collect()),
        ]
    }
}

/// The student's state in the teacher's width.
pub(super) fn projected(state: Tensor<3>, needed: bool, projection: Option<&Projection>) -> Tensor<3> {
    match projection.filter(|_| needed) {
        Some(projection) => projection.forward(state),
        None => state,
    }
}
