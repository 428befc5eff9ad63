//! `[distill]`: what the student learns from its teacher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::one_or_many::OneOrMany;
use super::parse::typed;
use crate::component::{Component, ComponentSchema, registered_for};
use crate::document::Document;
use crate::fault::Fault;
use crate::json_schema::component_forms;
use crate::node::{Node, Value};
use crate::schema::{Context, Homes, Place};
use crate::type_schema::schema_of;

/// The path under which losses are registered as components.
pub const LOSSES: &str = "distill.losses";
const KEY: &str = "distill";

/// What `[distill]` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "objectives": "losses", "loss": "losses", "preset": "method", "kind": "method",
    "kd_temperature": "temperature", "cache": "cache_teacher", "unlabelled": "transfer_data",
    "unlabeled": "transfer_data", "transfer": "transfer_data", "transfer_set": "transfer_data",
    "lmbda": "on_policy", "student_data_fraction": "on_policy", "top_k": "cache_top_k",
    "generations": "teacher_texts", "seq_kd": "teacher_texts"
}))]
pub struct DistillTable {
    /// A method of the literature, which stands for its losses: `soft_labels`, `distilbert`, `tinybert` or `minilm`; of models that write texts `soft_labels`, `forward_kl`, `reverse_kl`, `jsd`, `gkd` or `sequence_level`; `distill plan` prints them.
    pub method: Option<Method>,
    /// Temperature of the method's soft labels or divergence; number above 0, default that of the method.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: Option<f64>,
    /// The losses, each `{ kind = "...", weight = 1.0, ... }`; not together with `method`.
    #[schemars(length(min = 1))]
    pub losses: Option<Vec<LossForm>>,
    /// More text, labelled by the teacher only: files as in `[data]`, with the same text columns; labels in them are not read.
    pub transfer_data: Option<OneOrMany<String>>,
    /// Keep the teacher's logits on disk, so that a second run or another student does not run the teacher; default `true`.
    #[serde(default = "yes")]
    pub cache_teacher: bool,
    /// Number format of that cache: `f32`, or `f16` for half the space; default `f32`.
    #[serde(default)]
    pub cache_dtype: CacheDtype,
    /// Of models that write texts: keep the teacher's likeliest tokens of every place on disk, so many with what all others have together, and compare with them; number from 1, default none: the teacher runs along.
    #[schemars(range(min = 1))]
    pub cache_top_k: Option<usize>,
    /// Of models that write texts: train on what the teacher writes to the training prompts, or goes on with after the first tokens of each document, in place of the data's own.
    pub teacher_texts: Option<WrittenTexts>,
    /// Of models that write texts: the part of the steps that train on what the student itself writes, corrected by the teacher; fraction, default 0 (`gkd`: 0.5).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub on_policy: Option<f64>,
    /// How the student writes the texts of `on_policy`.
    pub student_texts: Option<WrittenTexts>,
}

/// How texts to train on are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "max_tokens": "max_new_tokens", "prefix_tokens": "prompt_tokens", "beams": "num_beams", "T": "temperature"
}))]
pub struct WrittenTexts {
    /// Divides the logits that tokens are drawn from; number from 0 (the likeliest token always), default 0 for a teacher, 1 for a student.
    #[schemars(range(min = 0.0))]
    pub temperature: Option<f64>,
    /// Longest text, in tokens, where `max_length` leaves so many; number from 1, default 128.
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<usize>,
    /// How much of a document is kept as its beginning, in tokens; number from 1, default 32.
    #[schemars(range(min = 1))]
    pub prompt_tokens: Option<usize>,
    /// Beams of a search for the likeliest text, of a teacher alone and without a temperature; number from 1, default 1.
    #[schemars(range(min = 1))]
    pub num_beams: Option<usize>,
}

fn yes() -> bool {
    true
}

/// Methods of the literature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = {
    "hinton": "soft_labels", "kd": "soft_labels", "logits": "soft_labels", "logit_kd": "soft_labels",
    "distil_bert": "distilbert", "tiny_bert": "tinybert", "minilm_v2": "minilm", "minilmv2": "minilm",
    "mini_lm": "minilm", "kl": "forward_kl", "minillm": "reverse_kl", "js": "jsd", "jensen_shannon": "jsd",
    "seq_kd": "sequence_level", "seqkd": "sequence_level", "sequence_kd": "sequence_level"
}))]
pub enum Method {
    /// Hinton et al. 2015.
    SoftLabels,
    /// Sanh et al. 2019.
    Distilbert,
    /// Jiao et al. 2020.
    Tinybert,
    /// Wang et al. 2021.
    Minilm,
    /// Hinton et al. 2015, token by token of a model that writes texts.
    ForwardKl,
    /// Gu et al. 2023, token by token of the data's texts.
    ReverseKl,
    /// Agarwal et al. 2023 on the data's texts.
    Jsd,
    /// Agarwal et al. 2023.
    Gkd,
    /// Kim and Rush 2016.
    SequenceLevel,
}

impl Method {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SoftLabels => "soft_labels",
            Self::Distilbert => "distilbert",
            Self::Tinybert => "tinybert",
            Self::Minilm => "minilm",
            Self::ForwardKl => "forward_kl",
            Self::ReverseKl => "reverse_kl",
            Self::Jsd => "jsd",
            Self::Gkd => "gkd",
            Self::SequenceLevel => "sequence_level",
        }
    }
}

/// Number formats of cached logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = { "float32": "f32", "float16": "f16", "half": "f16" }))]
pub enum CacheDtype {
    /// 32-bit floats: as the teacher computed them.
    #[default]
    F32,
    /// 16-bit floats: three decimal digits.
    F16,
}

/// A loss as written: `kind`, and the keys of that kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LossForm {
    /// Kind of loss; `distill schema` shows all with their keys.
    pub kind: String,
    /// The other keys.
    #[serde(flatten)]
    pub keys: serde_json::Map<String, Json>,
}

/// `[distill]` with its losses as components.
#[derive(Clone, Debug)]
pub struct Distill {
    /// The table.
    pub table: DistillTable,
    /// The items of `losses`.
    pub losses: Vec<Component>,
}

/// Reads `[distill]`; where losses are registered, each item must be one of them.
pub(crate) fn parse(
    document: &Document,
    components: &[ComponentSchema],
    homes: &Homes,
    faults: &mut Vec<Fault>,
) -> Option<Distill> {
    let node = document.root.get(KEY)?;
    let context = Context { besides: &[], homes };
    let table: DistillTable =
        typed(node, &Place::new(KEY), &schema(components), &context, faults, DistillTable::check)?;
    let items = match node.get("losses").map(|losses| &losses.value) {
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    let losses = items.iter().enumerate().filter_map(|(index, item)| {
        let name = item.get("kind")?.as_str()?.to_string();
        let path = format!("{LOSSES}.{index}");
        Some(Component { path, tag: "kind".to_string(), name, node: item.clone() })
    });
    Some(Distill { losses: losses.collect(), table })
}

/// The schema of the table, with the keys of every registered loss.
pub(crate) fn schema(components: &[ComponentSchema]) -> Json {
    let mut schema = schema_of::<DistillTable>();
    let registered = registered_for(components, LOSSES);
    if registered.is_empty() {
        return schema;
    }
    let (forms, definitions) = component_forms(&registered);
    if let Some(items) = schema.pointer_mut("/properties/losses/items") {
        *items = serde_json::json!({ "oneOf": forms });
    }
    if let Some(schema) = schema.as_object_mut() {
        let entry = schema.entry("$defs").or_insert_with(|| Json::Object(serde_json::Map::new()));
        if let Some(entry) = entry.as_object_mut() {
            entry.extend(definitions);
        }
    }
    schema
}

impl DistillTable {
    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        match (written.get("method"), written.get("losses")) {
            (Some(method), Some(losses)) => faults.push(
                Fault::new("`[distill]` must have `method` or `losses`, not both", method.key_label())
                    .with_label(losses.key_label())
                    .with_help("`method` stands for a list of losses; `distill plan` prints it"),
            ),
            (None, None) => faults.push(
                Fault::new("`[distill]` must have `method` or `losses`", written.key_label()).with_help(
                    "the plainest is `method = \"soft_labels\"`; others: `distilbert`, `tinybert`, `minilm`",
                ),
            ),
            _ => {}
        }
        for (key, of_student) in [("teacher_texts", false), ("student_texts", true)] {
            let texts = if of_student { &self.student_texts } else { &self.teacher_texts };
            if let (Some(texts), Some(node)) = (texts, written.get(key)) {
                texts.check(node, of_student, faults);
            }
        }
        if let (Some(temperature), None) = (written.get("temperature"), written.get("method")) {
            faults.push(
                Fault::new("`temperature` here belongs to a `method`", temperature.key_label())
                    .with_help("write it into the loss: `{ kind = \"soft_labels\", temperature = 2.0 }`"),
            );
        }
    }
}

impl WrittenTexts {
    fn check(&self, written: &Node, of_student: bool, faults: &mut Vec<Fault>) {
        let Some(beams) = written.get("num_beams").filter(|_| self.num_beams.is_some_and(|beams| beams > 1))
        else {
            return;
        };
        let drawn = self.temperature.unwrap_or(if of_student { 1.0 } else { 0.0 }) > 0.0;
        if of_student || drawn {
            faults.push(
                Fault::new(
                    "`num_beams` searches for the likeliest text, and these are drawn",
                    beams.key_label(),
                )
                .with_help("leave `num_beams` out, or `temperature` of a teacher's texts"),
            );
        }
    }
}
