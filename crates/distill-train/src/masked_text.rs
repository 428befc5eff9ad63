//! Hidden tokens that a classifier guesses beside its labels, in the same step; `masked_lm` in `[task]`.
//!
//! A masked language model of the same architecture shares the classifier's encoder. Its passes are more micro-steps:
//! their gradients are added to the classifier's, whose update both then have.

use crate::error::TrainError;
use crate::events::Observer;
use crate::examples::{ExampleKind, Examples};
use crate::objectives::Losses;
use crate::parameter_groups::GroupRules;
use crate::read_instead::ReadInstead;
use crate::rows::{Rows, TokenizedRows};
use crate::tasks::MaskedLmBeside;
use burn::tensor::Tensor;
use distill_data::Masking;
use distill_models::{Loaded, Model};
use std::collections::{HashMap, HashSet};

/// Texts of which hidden tokens are guessed beside the labels.
pub struct MaskedSources {
    /// The training rows' sources, each with its texts.
    pub(crate) read: ReadInstead,
    /// Hides tokens.
    pub(crate) masking: Masking,
    /// Factor on the loss.
    pub(crate) weight: f64,
}

impl MaskedSources {
    /// The texts that `wanted` names, of these training rows.
    ///
    /// # Errors
    /// As when the data were read first, if a column is missing.
    pub(crate) fn read(
        wanted: &MaskedLmBeside,
        rows: &[&Rows],
        masking: Masking,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let what = "reading the texts of `masked_lm`";
        let read = ReadInstead::by_columns(Some(&wanted.text), rows, what, observer)?;
        Ok(Self { read, masking, weight: wanted.weight })
    }
}

/// A masked language model over the encoder of another model, and the head that is its own.
pub struct MaskedLmTwin {
    model: Box<dyn Model>,
    /// Its parameters that the other model does not have.
    own: HashSet<String>,
}

impl MaskedLmTwin {
    /// `twin` beside the model of `loaded`, whose report tells of both from now on.
    pub(crate) fn of(twin: Loaded, loaded: &mut Loaded, rules: &GroupRules) -> Self {
        let (report, of_twin) = (&mut loaded.report, twin.report);
        let twin = Self::new(twin.model, loaded.model.as_ref(), rules);
        report.unused.retain(|name| of_twin.unused.contains(name));
        report.newly_initialised.extend(of_twin.newly_initialised.into_iter().filter(|name| twin.owns(name)));
        twin
    }

    /// `model` as the twin of `other`; what both have is trained by the same rules, its head always.
    pub fn new(mut model: Box<dyn Model>, other: &dyn Model, rules: &GroupRules) -> Self {
        let shared: HashSet<String> =
            other.parameters().into_iter().map(|parameter| parameter.name).collect();
        let names = model.parameters().into_iter().map(|parameter| parameter.name);
        let own: HashSet<String> = names.filter(|name| !shared.contains(name)).collect();
        model.set_trainable(&|name| own.contains(name) || rules.trainable(name));
        Self { model, own }
    }

    /// Takes over what `other` has learnt; the numbers are shared, not copied.
    pub fn follow(&mut self, other: &dyn Model) {
        let mut values = HashMap::new();
        other.visit(&mut |parameter, value| {
            values.insert(parameter.name.clone(), value);
        });
        self.model.update(&mut |parameter, old| values.remove(&parameter.name).unwrap_or(old));
    }

    /// The masked language model.
    pub fn model(&self) -> &dyn Model {
        self.model.as_ref()
    }

    /// Whether this parameter is its own.
    pub fn owns(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// Names and shapes of its own parameters.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let own = self.model.parameters().into_iter().filter(|parameter| self.own.contains(&parameter.name));
        own.map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// Replaces each of its own parameters, shown flat and without a graph, by what `f` makes of it.
    pub fn update(&mut self, f: &mut dyn FnMut(&str, Tensor<1>) -> Tensor<1>) {
        let own = &self.own;
        self.model.update(&mut |parameter, value| match own.contains(&parameter.name) {
            true => f(&parameter.name, value),
            false => value,
        });
    }

    /// Name, shape and numbers of each of its own parameters.
    pub fn to_host(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut found = Vec::new();
        self.model.visit(&mut |parameter, value| {
            if self.own.contains(&parameter.name) {
                let values = value.into_data().iter::<f32>().collect();
                found.push((parameter.name.clone(), parameter.shape.clone(), values));
            }
        });
        found
    }
}

/// The texts whose tokens are hidden, one for each training row, and the loss that they add.
#[derive(Debug)]
pub struct MaskedText {
    /// The texts, in the order of the training rows.
    pub examples: Examples,
    /// The weighted loss.
    pub losses: Losses,
}

impl MaskedText {
    /// `rows` with tokens hidden by `masking`, and a loss of this weight.
    ///
    /// # Errors
    /// [`TrainError::Unusable`] if there is not a text for each of `expected` training rows.
    pub fn new(
        rows: TokenizedRows,
        expected: usize,
        masking: Masking,
        weight: f64,
        pad_token_id: u32,
        max_length: usize,
    ) -> Result<Self, TrainError> {
        if rows.len() != expected {
            let message = format!("`masked_lm` has {} texts for {expected} training rows", rows.len());
            let help = "give files whose rows have all columns that the recipe names".to_owned();
            return Err(TrainError::Unusable { message, help });
        }
        let kind = ExampleKind::Hidden(masking);
        let examples = Examples { rows, kind, pad_token_id, max_length, side_by_side: false };
        Ok(Self { examples, losses: Losses::of_hidden_tokens(weight) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use distill_models::{HeadPolicy, LoadRequest, Task, find, from_scratch};

    fn model(task: Task, seed: u64) -> Box<dyn Model> {
        let table = serde_json::json!({ "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2 });
        let device = Device::flex().autodiff();
        let request =
            LoadRequest { task, seed, device, dropout: None, head: HeadPolicy::Reinitialise, adapter: None };
        from_scratch(find("bert").unwrap(), &table, 20, 0, request).unwrap().model
    }

    fn values(model: &dyn Model) -> HashMap<String, Vec<f32>> {
        let mut values = HashMap::new();
        model.visit(&mut |parameter, value| {
            values.insert(parameter.name.clone(), value.into_data().iter::<f32>().collect());
        });
        values
    }

    #[test]
    fn the_encoder_is_shared_and_the_head_is_not() {
        let labels = ["a", "b"].map(str::to_owned).to_vec();
        let mut classifier = model(Task::Classification { id2label: labels }, 1);
        let alone = model(Task::MaskedLm, 2);
        let before = values(alone.as_ref());
        let rules = GroupRules {
            weight_decay: 0.0,
            freeze: vec![regex::Regex::new("^bert").unwrap()],
            lora: None,
            layerwise_lr_decay: None,
            num_hidden_layers: 1,
        };
        let mut twin = MaskedLmTwin::new(alone, classifier.as_ref(), &rules);
        let own: Vec<String> = twin.parameters().into_iter().map(|(name, _)| name).collect();
        assert!(own.iter().all(|name| name.starts_with("cls.")) && own.len() > 3, "{own:?}");
        for _ in 0..2 {
            twin.follow(classifier.as_ref());
            let (found, shared) = (values(twin.model()), values(classifier.as_ref()));
            for (name, found) in &found {
                let expected = if own.contains(name) { &before[name] } else { &shared[name] };
                assert_eq!(found, expected, "{name}");
            }
            classifier.update(&mut |_, value| value * 2.0 + 1.0);
        }
        assert_eq!(values(twin.model()).len(), before.len());
        twin.update(&mut |_, value| value + 1.0);
        let found: HashMap<_, _> =
            twin.to_host().into_iter().map(|(name, _, values)| (name, values)).collect();
        assert_eq!(found.len(), own.len());
        for (name, values) in found {
            assert!(values.iter().zip(&before[&name]).all(|(new, old)| *new == old + 1.0), "{name}");
        }
    }
}
