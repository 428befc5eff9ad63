//! Recipes: their schema, their checks and the position of every mistake.
//!
//! The way of a recipe through this crate: [`Document`] is the TOML as written, with `--set`
//! overrides applied and the place of every value kept; [`Recipe`] is the document after every
//! check, as typed tables. A table whose keys depend on a registered component (`[task]` by `kind`,
//! a `[model]` from scratch by `architecture`) is kept as a [`Component`], which parses itself into
//! the type that its owner names; [`ComponentSchema`] lets the same pass check those keys too, so
//! that every [`Fault`] is reported at once.

mod component;
mod device;
mod document;
mod fault;
mod json_schema;
mod node;
mod overrides;
mod recipe;
mod schema;
mod stages;
mod suggest;
mod tables;
mod type_schema;

pub use component::{Component, ComponentSchema, unknown_component_fault};
pub use device::Device;
pub use document::Document;
pub use fault::{Fault, Faults, Label, Location};
pub use json_schema::json_schema;
pub use node::{Node, Origin, Table, Value};
pub use recipe::Recipe;
pub use stages::{STAGE_FOLDER, Stage, stages};
pub use suggest::did_you_mean;
pub use tables::augment::{AugmentTable, ReplacementsChoice};
pub use tables::data::{Column, DataFormat, DataTable, TextUnit};
pub use tables::distill::{CacheDtype, Distill, DistillTable, LOSSES, LossForm, Method, WrittenTexts};
pub use tables::lora::LoraTable;
pub use tables::model::ModelTable;
pub use tables::one_or_many::OneOrMany;
pub use tables::rationale::{RationaleMode, RationaleTable, WrongRationales};
pub use tables::student::{FromTeacher, Init, Spread, StudentLayers};
pub use tables::teacher::{TeacherModel, TeacherTable};
pub use tables::tokenizer::{TokenizerKind, TokenizerTable, TokenizerTraining};
pub use tables::train::{DtypeChoice, LrSchedulerType, NanPolicy, TrainTable};
