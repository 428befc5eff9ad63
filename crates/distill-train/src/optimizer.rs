//! AdamW over the named parameters of a model, with a group for each and a state that can be saved.

use crate::beside::Beside;
use crate::error::TrainError;
use crate::parameter_groups::{GroupRules, ParameterGroup};
use burn::tensor::{Device, Tensor, TensorData};
use distill_models::{Model, ParameterInfo, TensorFileContent};
use distill_ops::{AdamW, AdamWState, sum_of_squares};
use indexmap::IndexMap;
use std::collections::HashMap;

/// Gradients by parameter name, flat, in the model's order.
pub type Gradients = IndexMap<String, Tensor<1>>;

/// The optimiser of a run: one [`AdamW`] and what it remembers of each parameter.
#[derive(Debug)]
pub struct Optimizer {
    adamw: AdamW,
    groups: HashMap<String, ParameterGroup>,
    states: IndexMap<String, AdamWState>,
}

impl Optimizer {
    /// An optimiser for the parameters of `model` and of what is learned beside it, with nothing remembered.
    pub fn new(adamw: AdamW, rules: &GroupRules, model: &dyn Model, beside: &Beside) -> Self {
        let group = |parameter: &ParameterInfo| rules.group(parameter, model.layer_of(&parameter.name));
        let beside = beside.parameters().into_iter().map(|(name, shape)| ParameterInfo { name, shape });
        let parameters = model.parameters().into_iter().chain(beside);
        let groups = parameters.map(|parameter| (parameter.name.clone(), group(&parameter))).collect();
        Self { adamw, groups, states: IndexMap::new() }
    }

    /// One update of every parameter that has a gradient; gradients are multiplied by `grad_scale` first.
    pub fn step(
        &mut self,
        model: &mut dyn Model,
        beside: &mut Beside,
        mut gradients: Gradients,
        learning_rate: f64,
        grad_scale: f64,
    ) {
        let mut update = |name: &str, value: Tensor<1>| {
            let Some(gradient) = gradients.swap_remove(name) else { return value };
            let group = self.groups[name];
            let state = self.states.swap_remove(name);
            let rate = learning_rate * group.learning_rate_scale;
            let (value, state) =
                self.adamw.step(value, gradient, state, rate, group.weight_decay, grad_scale);
            self.states.insert(name.to_owned(), state);
            value
        };
        model.update(&mut |parameter, value| update(&parameter.name, value));
        beside.update(&mut update);
    }

    /// The moments of every parameter, flat, with their names: `exp_avg.NAME` and `exp_avg_sq.NAME`.
    pub fn export(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let flat = |prefix: &str, name: &str, tensor: &Tensor<1>| {
            let values: Vec<f32> = tensor.to_data().iter::<f32>().collect();
            (format!("{prefix}.{name}"), vec![values.len()], values)
        };
        let both = |(name, state): (&String, &AdamWState)| {
            [flat("exp_avg", name, &state.exp_avg), flat("exp_avg_sq", name, &state.exp_avg_sq)]
        };
        self.states.iter().flat_map(both).collect()
    }

    /// Updates done for each parameter, by name: they differ where layers were frozen or steps skipped.
    pub fn steps(&self) -> IndexMap<String, u64> {
        let mut steps: IndexMap<String, u64> =
            self.states.iter().map(|(name, state)| (name.clone(), state.step)).collect();
        steps.sort_keys();
        steps
    }

    /// Takes up the moments that [`Optimizer::export`] and [`Optimizer::steps`] gave.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if a moment is missing, or has no parameter in this model.
    pub fn import(
        &mut self,
        mut moments: TensorFileContent,
        steps: &IndexMap<String, u64>,
        device: &Device,
    ) -> Result<(), TrainError> {
        let mut take = |name: String| {
            let moment = moments.tensors.remove(&name);
            let (_, values) = moment.ok_or_else(|| TrainError::checkpoint_without(&name))?;
            let length = values.len();
            Ok::<_, TrainError>(Tensor::<1>::from_data(TensorData::new(values, [length]), device))
        };
        for (name, &step) in steps {
            if !self.groups.contains_key(name) {
                return Err(TrainError::checkpoint_without(name));
            }
            let exp_avg = take(format!("exp_avg.{name}"))?;
            let exp_avg_sq = take(format!("exp_avg_sq.{name}"))?;
            self.states.insert(name.clone(), AdamWState { exp_avg, exp_avg_sq, step });
        }
        Ok(())
    }
}

/// Global L2 norm of all gradients, summed in f64.
pub fn gradient_norm(gradients: &Gradients) -> f64 {
    gradients.values().map(|gradient| sum_of_squares(gradient.clone())).sum::<f64>().sqrt()
}

/// Factor that brings a gradient of norm `norm` to at most `max_norm`, as PyTorch's `clip_grad_norm_`; 0 switches off.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::clip_factor;

    #[test]
    fn clips_only_what_is_too_long() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(1e9, 0.0), 1.0);
    }
}
