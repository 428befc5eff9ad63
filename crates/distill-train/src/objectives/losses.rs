//! The losses of a run together: their weights, what they need, what they are divided by.

use super::hard_labels::LabelCrossEntropy;
use super::{LossConfig, OBJECTIVES, Objective, Outputs, Pair, Unfit, Unit, masked_lm};
use burn::tensor::Tensor;
use distill_data::{Batch, IGNORED_LABEL};
use distill_models::ForwardOptions;
use std::fmt;

/// What losses need of the forward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of the student's, besides logits.
    pub student: ForwardOptions,
    /// Of the teacher's, besides logits.
    pub teacher: ForwardOptions,
    /// The logits of the teacher, or teachers.
    pub teacher_logits: bool,
    /// A learned projection of the student's width to the teacher's.
    pub projection: bool,
    /// Logits of the student: whether the head learns.
    pub student_logits: bool,
}

impl Needs {
    /// What either needs.
    pub fn union(self, other: Self) -> Self {
        Self {
            student: self.student.union(other.student),
            teacher: self.teacher.union(other.teacher),
            teacher_logits: self.teacher_logits || other.teacher_logits,
            projection: self.projection || other.projection,
            student_logits: self.student_logits || other.student_logits,
        }
    }

    /// Whether a loss looks at a teacher at all.
    pub fn asks_teacher(&self) -> bool {
        self.teacher_logits || self.inside_of_teacher()
    }

    /// Whether a loss looks at more of the teacher than its logits.
    pub fn inside_of_teacher(&self) -> bool {
        self.teacher != ForwardOptions::default()
    }
}

/// A loss with its place in the sum.
pub struct WeightedObjective {
    /// Its name in logs: the kind, numbered where there are several of a kind.
    pub name: String,
    /// Factor on its mean.
    pub weight: f64,
    /// The loss.
    pub objective: Box<dyn Objective>,
}

/// `Σ weight · mean(loss)`: what a run minimises.
#[derive(Default)]
pub struct Losses(Vec<WeightedObjective>);

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|loss| (&loss.name, loss.weight))).finish()
    }
}

impl Losses {
    /// The losses of `configs` between a student and its teacher.
    ///
    /// # Errors
    /// Each loss that cannot be had, by its number.
    pub fn build(configs: &[LossConfig], pair: &Pair<'_>) -> Result<Self, Vec<(usize, Unfit)>> {
        let (mut built, mut unfit): (Vec<WeightedObjective>, _) = (Vec::new(), Vec::new());
        for (index, config) in configs.iter().enumerate() {
            let earlier = configs[..index].iter().filter(|other| other.kind == config.kind).count();
            let name = match earlier {
                0 => config.kind.to_owned(),
                earlier => format!("{}_{}", config.kind, earlier + 1),
            };
            match config.build(pair) {
                Ok(objective) => built.push(WeightedObjective { name, weight: config.weight, objective }),
                Err(reason) => unfit.push((index, reason)),
            }
        }
        if unfit.is_empty() { Ok(Self(built)) } else { Err(unfit) }
    }

    /// The cross entropy of hidden tokens alone.
    pub fn of_hidden_tokens(weight: f64) -> Self {
        let name = masked_lm::KIND.name.to_owned();
        Self(vec![WeightedObjective { name, weight, objective: Box::new(LabelCrossEntropy) }])
    }

    /// These, in a pass that hands out all that `needs` asks of the student, though no loss reads it.
    pub(crate) fn beside(mut self, needs: Needs) -> Self {
        let needs = Needs { student: needs.student, ..Needs::default() };
        let objective = Box::new(Unread(needs));
        self.0.push(WeightedObjective { name: "unread".to_owned(), weight: 0.0, objective });
        self
    }

    /// These for texts that have no labels of their own: what compares with a teacher, and of the others nothing, each in
    /// its place. `configs` are those that they were built of.
    pub(crate) fn comparing(mut self, configs: &[LossConfig]) -> Self {
        for (loss, config) in self.0.iter_mut().zip(configs) {
            let compares = OBJECTIVES.iter().any(|kind| kind.name == config.kind && kind.needs_teacher);
            if !compares {
                loss.objective = Box::new(Absent);
            }
        }
        self
    }

    /// The temperatures at which likeliest tokens are compared, each once.
    pub(crate) fn temperatures(&self) -> Vec<f64> {
        let mut found: Vec<f64> = self.0.iter().filter_map(|loss| loss.objective.temperature()).collect();
        found.sort_by(f64::total_cmp);
        found.dedup();
        found
    }

    /// Each loss.
    pub fn iter(&self) -> impl Iterator<Item = &WeightedObjective> {
        self.0.iter()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|loss| loss.name.clone()).collect()
    }

    /// What all of them need.
    pub fn needs(&self) -> Needs {
        let mut needs = self.0.iter().map(|loss| loss.objective.needs()).fold(Needs::default(), Needs::union);
        // A head that nobody reads is left out: that of a masked language model costs more than all of its layers.
        needs.student.without_logits = !needs.student_logits && needs.student != ForwardOptions::default();
        needs.teacher.without_logits = !needs.teacher_logits && needs.inside_of_teacher();
        needs
    }

    /// The weighted sum of the means, `[1]`, and each loss's mean, in the order of the losses.
    ///
    /// `counts` are those of the whole step: over its micro-steps both add up.
    pub fn total(&self, outputs: &Outputs<'_>, counts: &StepCounts) -> (Tensor<1>, Vec<f64>) {
        let mut total: Option<Tensor<1>> = None;
        let mut means = Vec::with_capacity(self.0.len());
        for loss in &self.0 {
            let sum = loss.objective.loss_sum(outputs);
            let count = counts.of(loss.objective.unit()).max(1) as f64;
            means.push(f64::from(sum.clone().into_scalar::<f32>()) / count);
            let weighted = sum * (loss.weight / count);
            total = Some(match total {
                Some(total) => total + weighted,
                None => weighted,
            });
        }
        let nothing = || outputs.student.logits().sum() * 0.0;
        (total.unwrap_or_else(nothing), means)
    }
}

/// Asks for outputs and makes nothing of them: for measuring what they cost by themselves.
#[derive(Debug)]
struct Unread(Needs);

impl Objective for Unread {
    fn needs(&self) -> Needs {
        self.0
    }

    fn unit(&self) -> Unit {
        Unit::Example
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        Tensor::zeros([1], outputs.targets.device)
    }
}

/// A loss that takes no part in a step.
#[derive(Debug)]
struct Absent;

impl Objective for Absent {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn unit(&self) -> Unit {
        Unit::Nothing
    }

    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1> {
        Tensor::zeros([1], outputs.targets.device)
    }
}

/// How many units of each sort a step has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Labels that are not −100.
    pub labels: u64,
    /// Those of them that are of a rationale.
    pub rationale_labels: u64,
    /// Texts.
    pub examples: u64,
    /// Tokens, padding not counted.
    pub tokens: u64,
    /// Tokens, padding counted.
    pub cells: u64,
    /// Pairs of tokens of a text, padding counted.
    pub cell_pairs: u64,
}

impl StepCounts {
    /// Those of a batch with these labels, some of them of rationales.
    pub fn of_batch(batch: &Batch, labels: &[i64], rationale: &[bool]) -> Self {
        let (rows, length) = (batch.batch_size as u64, batch.sequence_length as u64);
        let of_rationale = |(label, rationale): &(&i64, &bool)| **rationale && **label != IGNORED_LABEL;
        Self {
            rationale_labels: labels.iter().zip(rationale).filter(of_rationale).count() as u64,
            labels: labels.iter().filter(|&&label| label != IGNORED_LABEL).count() as u64,
            examples: rows,
            tokens: batch.tokens() as u64,
            cells: rows * length,
            cell_pairs: rows * length * length,
        }
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            labels: self.labels + other.labels,
            rationale_labels: self.rationale_labels + other.rationale_labels,
            examples: self.examples + other.examples,
            tokens: self.tokens + other.tokens,
            cells: self.cells + other.cells,
            cell_pairs: self.cell_pairs + other.cell_pairs,
        }
    }

    /// Those of this unit.
    pub fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Label => self.labels,
            Unit::LabelToken => self.labels - self.rationale_labels,
            Unit::RationaleToken => self.rationale_labels,
            Unit::Example => self.examples,
            Unit::Token => self.tokens,
            Unit::Cell => self.cells,
            Unit::CellPair => self.cell_pairs,
            Unit::Nothing => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::{Level, method_losses, usual_losses};
    use distill_recipe::Method;
    use serde_json::json;

    #[test]
    fn heads_are_left_out_where_no_loss_reads_them() {
        let table = json!({ "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2 });
        let bert = distill_models::find("bert").unwrap().from_scratch(&table, 20, 0).unwrap();
        let needs = |configs: Vec<LossConfig>, level| {
            let encoder = bert.as_ref();
            let pair =
                Pair { student: encoder, teacher: Some(encoder), teachers: 1, same_tokens: true, level };
            Losses::build(&configs, &pair).unwrap().needs()
        };
        let without = |needs: Needs| [needs.student, needs.teacher].map(|options| options.without_logits);
        for method in [Method::Tinybert, Method::Minilm] {
            let of_level = |level| needs(method_losses(method, level, None), level);
            assert_eq!(without(of_level(Level::Token)), [true, true]);
            assert_eq!(without(of_level(Level::Sequence)), [false, false]);
            let mut with_labels = method_losses(method, Level::Token, None);
            with_labels.extend(usual_losses(Level::Token));
            assert_eq!(without(needs(with_labels, Level::Token)), [false, true]);
        }
        let alone = needs(usual_losses(Level::Sequence), Level::Sequence);
        assert_eq!(without(alone), [false, false]);
        assert!(!alone.asks_teacher() && !Needs::default().asks_teacher());
        let nothing = needs(Vec::new(), Level::Sequence);
        assert_eq!(nothing, Needs::default(), "the sum of no losses is taken of the logits");
    }
}
