//! The tables of a recipe: one file a table, one line of registration each.

pub(crate) mod augment;
pub(crate) mod data;
pub(crate) mod distill;
pub(crate) mod head;
pub(crate) mod lora;
pub(crate) mod model;
pub(crate) mod one_or_many;
pub(crate) mod parse;
pub(crate) mod rationale;
pub(crate) mod student;
pub(crate) mod task;
pub(crate) mod teacher;
mod template_fault;
pub(crate) mod tokenizer;
pub(crate) mod train;

use serde_json::Value as Json;

use crate::type_schema::schema_of;

/// Whether a recipe needs a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A recipe without it is a fault.
    Required,
    /// Nothing stands in for it.
    Optional,
    /// Without it, every key has its default.
    Defaulted,
}

/// A table as the recipe's schema lists it.
pub(crate) struct Entry {
    pub(crate) key: &'static str,
    pub(crate) presence: Presence,
    pub(crate) about: &'static str,
    /// The keys that the table has whatever components are registered.
    pub(crate) schema: fn() -> Json,
    /// The key that names a component, which then brings the other keys of the table.
    pub(crate) tag: Option<&'static str>,
}

/// Every table, in the order in which recipes are written.
pub(crate) const TABLES: &[Entry] = &[
    Entry {
        key: "task",
        presence: Presence::Required,
        about: "What the model is to learn; `kind` names the task, which brings the other keys.",
        schema: schema_of::<task::TaskForm>,
        tag: Some("kind"),
    },
    Entry {
        key: "model",
        // Or `[student]` in its place.
        presence: Presence::Optional,
        about: "The model: one to start from (`path`), or one from scratch (`architecture` and its sizes).",
        schema: schema_of::<model::ModelForm>,
        tag: Some("architecture"),
    },
    Entry {
        key: "teacher",
        presence: Presence::Optional,
        about: "The trained model, or models, that the student learns from.",
        schema: schema_of::<teacher::TeacherTable>,
        tag: None,
    },
    Entry {
        key: "student",
        presence: Presence::Optional,
        about: "In place of `[model]` where there is a teacher: one to start from (`path`), one from scratch (`architecture`), or one made of the teacher (`init`).",
        schema: schema_of::<student::StudentForm>,
        tag: Some("architecture"),
    },
    Entry {
        key: "distill",
        presence: Presence::Optional,
        about: "What the student learns from its teacher.",
        schema: schema_of::<distill::DistillTable>,
        tag: None,
    },
    Entry {
        key: "tokenizer",
        presence: Presence::Optional,
        about: "The tokenizer, if it is not the one that comes with the model.",
        schema: schema_of::<tokenizer::TokenizerTable>,
        tag: None,
    },
    Entry {
        key: "data",
        presence: Presence::Required,
        about: "Where the examples come from and how they are read.",
        schema: schema_of::<data::DataTable>,
        tag: None,
    },
    Entry {
        key: "augment",
        presence: Presence::Optional,
        about: "Changed copies of the training texts, labelled by the teacher.",
        schema: schema_of::<augment::AugmentTable>,
        tag: None,
    },
    Entry {
        key: "lora",
        presence: Presence::Optional,
        about: "Low-rank adapters that learn in place of the weights.",
        schema: schema_of::<lora::LoraTable>,
        tag: None,
    },
    Entry {
        key: "rationale",
        presence: Presence::Optional,
        about: "For the task `rationale`: labels that are learnt with the steps that lead to them.",
        schema: schema_of::<rationale::RationaleTable>,
        tag: None,
    },
    Entry {
        key: "train",
        presence: Presence::Defaulted,
        about: "How the model is trained.",
        schema: schema_of::<train::TrainTable>,
        tag: None,
    },
];
