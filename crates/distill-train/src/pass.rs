//! One forward and one backward pass, timed: what the loop and `distill bench` have in common.

use crate::objectives::{Objective, Targets};
use burn::tensor::Tensor;
use distill_models::{Activations, ForwardOptions, Model, ModelInput};
use distill_ops::{Dropout, Precision, autocast};
use std::time::{Duration, Instant};

/// How a pass is made.
#[derive(Clone, Copy, Debug)]
pub struct PassSettings {
    /// What is minimised.
    pub objective: Objective,
    /// Share of the target spread over all labels.
    pub label_smoothing: f64,
    /// What matrix products multiply in.
    pub precision: Precision,
    /// What the backward pass finds of the layers.
    pub activations: Activations,
}

/// What came of a pass.
#[derive(Debug)]
pub struct Pass {
    /// Loss summed over the rows, in nats.
    pub loss_sum: f64,
    /// Gradients by parameter name, flat, in the model's order.
    pub gradients: Vec<(String, Tensor<1>)>,
    /// Wall time from the input to the loss.
    pub forward: Duration,
    /// Wall time from the loss to the gradients.
    pub backward: Duration,
}

/// Gradients of the loss over the rows of `input`, divided by `examples`, those of the whole step.
///
/// `labels` has a class for each row, −100 = ignored.
pub fn pass(
    settings: &PassSettings,
    model: &dyn Model,
    input: &ModelInput,
    labels: &[i64],
    examples: u64,
    dropout: &mut Dropout,
) -> Pass {
    let start = Instant::now();
    let device = model.device();
    let targets = Targets { labels, label_smoothing: settings.label_smoothing, device: &device };
    let (mut loss_sum, mut forward) = (0.0, Duration::ZERO);
    let gradients = autocast(settings.precision, || {
        model.gradients_of(input, ForwardOptions::default(), settings.activations, dropout, &mut |output| {
            let sum = (settings.objective.loss_sum)(&output, &targets);
            loss_sum = f64::from(sum.clone().into_scalar::<f32>());
            forward = start.elapsed();
            sum.div_scalar(examples as f32)
        })
    });
    Pass { loss_sum, gradients, forward, backward: start.elapsed().saturating_sub(forward) }
}
