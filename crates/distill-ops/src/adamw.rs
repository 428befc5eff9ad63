//! AdamW; Loshchilov & Hutter 2019, algorithm 2 (arXiv:1711.05101), in the order of operations of PyTorch's
//! `torch.optim.AdamW`: decay first, ε outside the root.

use burn::tensor::{Tensor, TensorData};

use crate::device::{Memory, memory_of};
use crate::kernels::{AdamWScalars, adamw};

/// The coefficients that all parameters share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the running mean of the gradient.
    pub beta1: f64,
    /// Decay of the running mean of its square.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl Default for AdamW {
    /// PyTorch's: 0.9, 0.999, 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// What AdamW remembers of one parameter.
#[derive(Debug, Clone)]
pub struct AdamWState {
    /// Running mean of the gradient: `[n]`.
    pub exp_avg: Tensor<1>,
    /// Running mean of its square: `[n]`.
    pub exp_avg_sq: Tensor<1>,
    /// How many updates this parameter has had.
    pub step: u64,
}

/// The scalars of one update.
#[derive(Debug, Clone, Copy)]
struct Update {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    keep: f64,
    step_size: f64,
    root_correction: f64,
    grad_scale: f64,
}

impl AdamW {
    /// One update of one flat parameter; `grad_scale` multiplies the gradient first (accumulation, clipping).
    ///
    /// # Shapes
    /// - `parameter`, `grad`, both moments: `[n]`, without autodiff
    pub fn step(
        &self,
        parameter: Tensor<1>,
        grad: Tensor<1>,
        state: Option<AdamWState>,
        learning_rate: f64,
        weight_decay: f64,
        grad_scale: f64,
    ) -> (Tensor<1>, AdamWState) {
        let state = state.unwrap_or_else(|| AdamWState {
            exp_avg: parameter.zeros_like(),
            exp_avg_sq: parameter.zeros_like(),
            step: 0,
        });
        let step = state.step + 1;
        let update = Update {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            keep: 1.0 - learning_rate * weight_decay,
            step_size: learning_rate / (1.0 - self.beta1.powf(step as f64)),
            root_correction: (1.0 - self.beta2.powf(step as f64)).sqrt(),
            grad_scale,
        };
        let (parameter, exp_avg, exp_avg_sq) = match memory_of(&parameter.device()) {
            Memory::Host => on_host(update, parameter, grad, state.exp_avg, state.exp_avg_sq),
            Memory::Device => on_device(update, parameter, grad, state.exp_avg, state.exp_avg_sq),
        };
        (parameter, AdamWState { exp_avg, exp_avg_sq, step })
    }
}

/// The update as tensor operations: a dozen passes, which a GPU hides.
fn on_device(
    u: Update,
    parameter: Tensor<1>,
    grad: Tensor<1>,
    exp_avg: Tensor<1>,
    exp_avg_sq: Tensor<1>,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let grad = grad * u.grad_scale;
    let parameter = parameter * u.keep;
    let exp_avg = exp_avg.clone() + (grad.clone() - exp_avg) * (1.0 - u.beta1);
    let exp_avg_sq = exp_avg_sq * u.beta2 + grad.clone() * grad * (1.0 - u.beta2);
    let root = exp_avg_sq.clone().sqrt() / u.root_correction + u.epsilon;
    (parameter - exp_avg.clone() / root * u.step_size, exp_avg, exp_avg_sq)
}

/// The update in one pass over host memory, in place where nobody else holds the tensors; each element's arithmetic is
/// that of [`on_device`], so the number of threads does not show.
fn on_host(
    u: Update,
    parameter: Tensor<1>,
    grad: Tensor<1>,
    exp_avg: Tensor<1>,
    exp_avg_sq: Tensor<1>,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let device = parameter.device();
    let [mut parameter, grad, mut exp_avg, mut exp_avg_sq] =
        [parameter, grad, exp_avg, exp_avg_sq].map(floats);
    let scalars = AdamWScalars {
        grad_scale: u.grad_scale as f32,
        share1: (1.0 - u.beta1) as f32,
        beta2: u.beta2 as f32,
        share2: (1.0 - u.beta2) as f32,
        root_correction: u.root_correction as f32,
        epsilon: u.epsilon as f32,
        keep: u.keep as f32,
        step_size: u.step_size as f32,
    };
    adamw(scalars, &mut parameter, &grad, &mut exp_avg, &mut exp_avg_sq);
    let upload = |values: Vec<f32>| {
        let len = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [len]), &device)
    };
    (upload(parameter), upload(exp_avg), upload(exp_avg_sq))
}

/// The values of a tensor: its own memory if nobody else holds it.
fn floats(tensor: Tensor<1>) -> Vec<f32> {
    let data = tensor.into_data();
    match data.try_into_vec::<f32>() {
        Ok(values) => values,
        Err(_) => unreachable!("parameters, gradients and moments are f32"),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The published algorithm in f64, one element.
    struct Reference {
        p: f64,
        m: f64,
        v: f64,
    }

    impl Reference {
        fn step(&mut self, g: f64, t: i32, learning_rate: f64, weight_decay: f64) {
            self.p -= learning_rate * weight_decay * self.p;
            self.m = 0.9 * self.m + 0.1 * g;
            self.v = 0.999 * self.v + 0.001 * g * g;
            let (m, v) = (self.m / (1.0 - 0.9f64.powi(t)), self.v / (1.0 - 0.999f64.powi(t)));
            self.p -= learning_rate * m / (v.sqrt() + 1e-8);
        }
    }

    type Body = fn(Update, Tensor<1>, Tensor<1>, Tensor<1>, Tensor<1>) -> (Tensor<1>, Tensor<1>, Tensor<1>);

    #[test]
    fn follows_the_formula_over_several_steps() {
        let device = Device::flex();
        let start = [0.5f32, -2.0, 1e-3, 30.0];
        let mut reference: Vec<_> =
            start.iter().map(|p| Reference { p: f64::from(*p), m: 0.0, v: 0.0 }).collect();
        let (mut parameter, mut state) = (Tensor::<1>::from_data(start, &device), None);
        for t in 1..=20 {
            let grads = [0.3, -1e-4, 2.0 / f64::from(t), f64::from(t % 3) - 1.0];
            for (r, g) in reference.iter_mut().zip(grads) {
                r.step(g * 0.5, t, 1e-2, 0.1);
            }
            let grad = Tensor::<1>::from_data(grads.map(|g| g as f32), &device);
            let (next, next_state) = AdamW::default().step(parameter, grad, state, 1e-2, 0.1, 0.5);
            assert_eq!(next_state.step, t as u64);
            (parameter, state) = (next, Some(next_state));
        }
        let found = parameter.into_data();
        for (found, r) in found.as_slice::<f32>().unwrap().iter().zip(&reference) {
            assert!((f64::from(*found) - r.p).abs() < 2e-6 * r.p.abs().max(1.0), "{found} {}", r.p);
        }
    }

    #[test]
    fn first_step_by_hand() {
        // m = 0.1 g, v = 0.001 g²; both corrections undo that, so the step is the learning rate times the sign.
        let device = Device::flex();
        let (next, _) = AdamW::default().step(
            Tensor::from_data([1.0f32, 1.0], &device),
            Tensor::from_data([4.0f32, -4.0], &device),
            None,
            0.1,
            0.5,
            1.0,
        );
        let next = next.into_data();
        for (found, expected) in next.as_slice::<f32>().unwrap().iter().zip([0.85f32, 1.05]) {
            assert!((found - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn both_bodies_agree() {
        let device = Device::flex();
        let n = (1 << 15) + 17;
        let wave = |scale: f32| {
            let values: Vec<f32> = (0..n).map(|i| scale * (i as f32 * 0.37).sin()).collect();
            Tensor::<1>::from_data(TensorData::new(values, [n]), &device)
        };
        let update = Update {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            keep: 0.9999,
            step_size: 1e-3,
            root_correction: 0.5,
            grad_scale: 0.25,
        };
        let run = |body: Body| body(update, wave(1.0), wave(0.3), wave(0.1), wave(0.2) * wave(0.2));
        let (host, device) = (run(on_host), run(on_device));
        for (a, b) in [(host.0, device.0), (host.1, device.1), (host.2, device.2)] {
            assert!((a - b).abs().max().into_scalar::<f32>() < 2e-7);
        }
    }
}
