//! One forward and one backward pass, timed: what the loop and `distill bench` have in common.

use crate::objectives::{Losses, Outputs, Projection, StepCounts, Targets, TeacherOutput};
use burn::tensor::{Gradients, Tensor};
use distill_models::{Activations, Loss, Model, ModelInput, ModelOutput};
use distill_ops::{Dropout, Precision, autocast};
use std::time::{Duration, Instant};

/// How a pass is made.
#[derive(Clone, Copy, Debug)]
pub struct PassSettings<'a> {
    /// What is minimised.
    pub losses: &'a Losses,
    /// What matrix products multiply in.
    pub precision: Precision,
    /// What the backward pass finds of the layers.
    pub activations: Activations,
}

/// What a pass works on besides the model's input.
#[derive(Clone, Copy)]
pub struct PassInput<'a> {
    /// Labels and masks.
    pub targets: &'a Targets<'a>,
    /// What the teacher says of the batch.
    pub teacher: Option<&'a TeacherOutput>,
    /// The learned projection.
    pub projection: Option<&'a Projection>,
    /// What losses are divided by: the units of the whole step.
    pub counts: &'a StepCounts,
}

/// What came of a pass.
#[derive(Debug)]
pub struct Pass {
    /// The weighted sum of the losses, each a sum over this pass divided by the units of the step, in nats.
    pub loss: f64,
    /// Each of them, unweighted.
    pub parts: Vec<f64>,
    /// Gradients by parameter name, flat: the model's in its order, then the projection's.
    pub gradients: Vec<(String, Tensor<1>)>,
    /// Wall time from the input to the loss.
    pub forward: Duration,
    /// Wall time from the loss to the gradients.
    pub backward: Duration,
}

/// Gradients of the losses of `input`.
pub fn pass(
    settings: &PassSettings<'_>,
    model: &dyn Model,
    input: &ModelInput,
    on: PassInput<'_>,
    dropout: &mut Dropout,
) -> Pass {
    let start = Instant::now();
    let needs = settings.losses.needs();
    let mut sum = SumOfLosses {
        losses: settings.losses,
        on,
        loss: 0.0,
        parts: Vec::new(),
        of_projection: Vec::new(),
        forward: Duration::ZERO,
        start,
    };
    let mut gradients = autocast(settings.precision, || {
        model.gradients_of(input, needs.student, settings.activations, dropout, &mut sum)
    });
    gradients.append(&mut sum.of_projection);
    let backward = start.elapsed().saturating_sub(sum.forward);
    Pass { loss: sum.loss, parts: sum.parts, gradients, forward: sum.forward, backward }
}

struct SumOfLosses<'a> {
    losses: &'a Losses,
    on: PassInput<'a>,
    loss: f64,
    parts: Vec<f64>,
    of_projection: Vec<(String, Tensor<1>)>,
    forward: Duration,
    start: Instant,
}

impl Loss for SumOfLosses<'_> {
    fn loss(&mut self, output: ModelOutput) -> Tensor<1> {
        let PassInput { targets, teacher, projection, counts } = self.on;
        let needs = self.losses.needs();
        let outputs = Outputs { student: &output, teacher, needs: &needs, projection, targets };
        let (total, parts) = self.losses.total(&outputs, counts);
        self.loss = f64::from(total.clone().into_scalar::<f32>());
        self.parts = parts;
        self.forward = self.start.elapsed();
        total
    }

    fn take_gradients(&mut self, grads: &mut Gradients) {
        self.of_projection = self.on.projection.map(|it| it.take_gradients(grads)).unwrap_or_default();
    }
}
