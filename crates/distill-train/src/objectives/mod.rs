//! What a run minimises: one file a loss, one line in [`OBJECTIVES`].
//!
//! A recipe's loss is parsed into a [`LossConfig`], which needs no model; with the sizes of student and teacher
//! ([`Pair`]) it becomes an [`Objective`]. [`Losses`] are those of a run with their weights.

mod attention;
mod cosine;
mod embeddings;
mod explained;
mod forward_kl;
mod hard_labels;
mod hidden_states;
mod jsd;
mod layer_map;
mod likeliest_tokens;
mod losses;
mod masked_lm;
mod next_token;
mod presets;
mod projection;
mod relations;
mod reverse_kl;
mod soft_labels;
mod token_divergence;
mod token_rows;

pub use explained::explained_losses;
pub use layer_map::LayerMap;
pub use likeliest_tokens::LikeliestTokens;
pub use losses::{Losses, Needs, StepCounts, WeightedObjective};
pub use presets::{method_losses, usual_losses};
pub use projection::{PROJECTION_PREFIX, Projection};

use burn::tensor::{Device, Tensor};
use distill_models::{BaseModelConfig, ForwardOptions, Logits, ModelOutput};
use distill_recipe::{Component, Fault};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A kind of loss: its name in recipes and logs, its keys, and how they are read.
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveKind {
    /// `kind` in recipes.
    pub name: &'static str,
    /// Whether it compares with a teacher.
    pub needs_teacher: bool,
    /// Schema of its keys.
    pub schema: fn() -> Schema,
    /// Reads them; faults go into the list.
    pub parse: ParseObjective,
}

/// Reads the keys of a loss.
pub type ParseObjective = fn(&Component, &mut Vec<Fault>) -> Option<LossConfig>;

impl ObjectiveKind {
    const fn of<C: ObjectiveConfig + Serialize + DeserializeOwned + JsonSchema + 'static>(
        name: &'static str,
        needs_teacher: bool,
    ) -> Self {
        Self {
            name,
            needs_teacher,
            schema: schema_of::<C>,
            parse: |component, faults| {
                let config = component.parse::<C>(faults)?;
                let kind = OBJECTIVES.iter().find(|kind| kind.name == component.name)?;
                Some(LossConfig::new(kind, config))
            },
        }
    }
}

/// A loss as a recipe asks for it.
#[derive(Debug)]
pub struct LossConfig {
    /// `kind` in recipes.
    pub kind: &'static str,
    /// Factor on its value in the sum that is minimised.
    pub weight: f64,
    /// Its keys, without `kind`, defaults filled in.
    pub keys: serde_json::Value,
    config: Box<dyn ObjectiveConfig>,
}

impl LossConfig {
    fn new<C: ObjectiveConfig + Serialize + 'static>(kind: &ObjectiveKind, config: C) -> Self {
        let keys = serde_json::to_value(&config).unwrap_or_default();
        let weight = keys.get("weight").and_then(serde_json::Value::as_f64).unwrap_or(one());
        Self { kind: kind.name, weight, keys, config: Box::new(config) }
    }

    /// The loss between these two.
    ///
    /// # Errors
    /// [`Unfit`] where student and teacher cannot be compared so.
    pub fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit> {
        self.config.build(pair)
    }
}

fn schema_of<C: JsonSchema>() -> Schema {
    schemars::schema_for!(C)
}

/// Every kind of loss.
pub const OBJECTIVES: &[ObjectiveKind] = &[
    hard_labels::KIND,
    soft_labels::KIND,
    cosine::KIND,
    hidden_states::KIND,
    attention::KIND,
    embeddings::KIND,
    relations::KIND,
    masked_lm::KIND,
    next_token::KIND,
    explained::LABEL,
    explained::RATIONALE,
    forward_kl::KIND,
    reverse_kl::KIND,
    jsd::KIND,
];

/// The keys of a kind of loss, its `weight` among them.
trait ObjectiveConfig: fmt::Debug + Send + Sync {
    /// As [`LossConfig::build`].
    fn build(&self, pair: &Pair<'_>) -> Result<Box<dyn Objective>, Unfit>;
}

/// Default of every `weight`.
fn one() -> f64 {
    1.0
}

/// Whether logits belong to whole texts or to their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `[batch, num_labels]`.
    Sequence,
    /// `[batch · seq, vocab]`, of tokens that are hidden in their places.
    Token,
    /// `[batch · seq, vocab]`, of the tokens that come next.
    NextToken,
}

/// Student and teacher, as far as losses care.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The student's sizes.
    pub student: &'a dyn BaseModelConfig,
    /// The teacher's; `None` without one. Of several, the first.
    pub teacher: Option<&'a dyn BaseModelConfig>,
    /// How many teachers there are.
    pub teachers: usize,
    /// Whether both split texts into the same tokens.
    pub same_tokens: bool,
    /// What the logits belong to.
    pub level: Level,
}

impl<'a> Pair<'a> {
    /// The one teacher, token by token, of a loss that looks inside of it.
    fn inner_teacher(&self, kind: &str) -> Result<&'a dyn BaseModelConfig, Unfit> {
        let teacher = self.any_teacher(kind)?;
        if self.level == Level::NextToken {
            return Err(Unfit::new(
                format!("`{kind}` looks inside of encoders, and this task trains a model that writes texts"),
                "use losses on what is written next: `forward_kl`, `reverse_kl`, `jsd` or `soft_labels`",
            ));
        }
        if self.teachers > 1 {
            return Err(Unfit::new(
                format!("`{kind}` compares with the inside of one teacher, and there are {}", self.teachers),
                "name one teacher by `path`, or keep losses on logits: `soft_labels`",
            ));
        }
        if !self.same_tokens {
            return Err(Unfit::new(
                format!("`{kind}` compares token by token, and student and teacher split texts differently"),
                "use models that share a tokenizer, or losses on whole texts: `soft_labels`",
            ));
        }
        Ok(teacher)
    }

    /// Refuses two vocabularies that cannot be compared token by token.
    fn same_vocabulary(&self, kind: &str) -> Result<(), Unfit> {
        let teacher = self.any_teacher(kind)?;
        if !self.same_tokens {
            return Err(Unfit::new(
                format!(
                    "`{kind}` of a language model compares token by token, and student and teacher split texts differently"
                ),
                "use models that share a tokenizer",
            ));
        }
        let (student, teacher) = (self.student.vocab_size(), teacher.vocab_size());
        if student != teacher {
            return Err(Unfit::new(
                format!(
                    "the teacher has {teacher} tokens in its vocabulary, the student has {student}: `{kind}` of a language \
                     model compares them one by one"
                ),
                "use models that share a tokenizer and its vocabulary size",
            ));
        }
        Ok(())
    }

    fn any_teacher(&self, kind: &str) -> Result<&'a dyn BaseModelConfig, Unfit> {
        self.teacher.ok_or_else(|| {
            Unfit::new(format!("`{kind}` needs a teacher"), "write `[teacher]` with `path = \"...\"`")
        })
    }
}

/// Why a loss cannot be had between these two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The key of the loss that is at fault; `kind` where it is none of them.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: String,
}

impl Unfit {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { key: "kind", message: message.into(), help: help.into() }
    }

    fn at(key: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { key, ..Self::new(message, help) }
    }
}

/// A loss, ready to be computed.
pub trait Objective: fmt::Debug + Send + Sync {
    /// What the forward passes must hand back.
    fn needs(&self) -> Needs;

    /// The temperature at which it compares with the likeliest tokens of a teacher, where it does.
    fn temperature(&self) -> Option<f64> {
        None
    }

    /// What the value is a mean over.
    fn unit(&self) -> Unit;

    /// The loss *summed* over its units, `[1]`: the loop divides by those of the whole step, so that 4 micro-batches of 8
    /// give the gradient of one batch of 32.
    fn loss_sum(&self, outputs: &Outputs<'_>) -> Tensor<1>;
}

/// Whether losses of this kind look at the logits of teachers.
pub fn reads_teacher_logits(kind: &str) -> bool {
    [soft_labels::KIND, forward_kl::KIND, reverse_kl::KIND, jsd::KIND].iter().any(|known| known.name == kind)
}

/// What a loss is a mean over, counted over a whole step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Labels that are not −100, of texts or of tokens.
    Label,
    /// Those of them that are not of a rationale.
    LabelToken,
    /// Those of them that are of a rationale.
    RationaleToken,
    /// Texts.
    Example,
    /// Tokens, padding not counted.
    Token,
    /// Tokens, padding counted.
    Cell,
    /// Pairs of tokens of a text, padding counted.
    CellPair,
    /// Nothing: a loss that takes no part.
    Nothing,
}

/// What a loss looks at.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    /// The student's output, with its graph.
    pub student: &'a ModelOutput,
    /// The teacher's, without.
    pub teacher: Option<&'a TeacherOutput>,
    /// What was asked of both.
    pub needs: &'a Needs,
    /// The learned projection of the student's width to the teacher's, where one is needed.
    pub projection: Option<&'a Projection>,
    /// Labels and masks.
    pub targets: &'a Targets<'a>,
}

impl<'a> Outputs<'a> {
    /// What the teacher computed; the loop asks it for whatever [`Objective::needs`] says.
    fn teacher_output(&self) -> &'a ModelOutput {
        let output = self.teacher.and_then(|teacher| teacher.output.as_ref());
        output.expect("the teacher was asked for what the loss needs")
    }

    /// Attention scores of these layers: the student's, the teacher's.
    fn scores(&self, of_student: usize, of_teacher: usize) -> [Tensor<4>; 2] {
        let of = |output: &ModelOutput, options: &ForwardOptions, layer| {
            output.attention_scores[options.attention_scores.rank(layer)].clone()
        };
        let teacher = self.teacher_output();
        [of(self.student, &self.needs.student, of_student), of(teacher, &self.needs.teacher, of_teacher)]
    }

    /// Queries, keys and values of these layers: the student's, the teacher's.
    fn queries_keys_values(&self, of_student: usize, of_teacher: usize) -> [[Tensor<3>; 3]; 2] {
        let of = |output: &ModelOutput, options: &ForwardOptions, layer| {
            output.queries_keys_values[options.queries_keys_values.rank(layer)].clone()
        };
        let teacher = self.teacher_output();
        [of(self.student, &self.needs.student, of_student), of(teacher, &self.needs.teacher, of_teacher)]
    }
}

/// What the teachers say of a batch, on the student's device, without a graph.
#[derive(Clone, Debug, Default)]
pub struct TeacherOutput {
    /// Logits of each teacher with its weight; the weights sum to 1.
    pub logits: Vec<(f64, Logits)>,
    /// Of the one teacher, where a loss looks inside of it.
    pub output: Option<ModelOutput>,
    /// Of the one teacher in place of logits: its likeliest next tokens.
    pub likeliest: Option<LikeliestTokens>,
}

/// Labels and masks of a batch, on the host.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// A label for each row of the logits; −100 = ignored.
    pub labels: &'a [i64],
    /// Whether each of them is of a rationale; empty where there are none.
    pub rationale: &'a [bool],
    /// 1 = token, 0 = padding: `[batch, seq]`.
    pub attention_mask: &'a [u8],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Share of the target that is spread over all labels.
    pub label_smoothing: f64,
    /// The student's device.
    pub device: &'a Device,
}
