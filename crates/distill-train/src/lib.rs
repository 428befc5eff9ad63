//! The training loop, its objectives, optimiser, schedules and checkpoints.
//!
//! The way of a run: [`read_recipe`] checks the recipe, [`prepare`] reads everything that it names,
//! [`run()`] trains ([`trainer`]), keeps checkpoints ([`checkpoint`]), chooses by validation, tests once and saves.

mod answers;
pub mod augment;
mod batches;
pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod computing;
pub mod datasets;
pub mod error;
pub mod evaluate;
pub mod events;
pub mod examples;
mod explain;
pub mod fingerprint;
mod finished_model;
mod generator;
mod label_order;
mod measure;
pub mod memory;
mod merge;
pub mod more_text;
mod next_tokens;
pub mod objectives;
pub mod optimizer;
pub mod parameter_groups;
pub mod pass;
pub mod plan;
pub mod predictions;
pub mod predictor;
pub mod prepare;
mod prepare_checks;
mod read_data;
pub mod read_model;
pub mod recipe_checks;
pub mod record;
pub mod report;
pub mod rows;
pub mod run;
pub mod run_folder;
mod saver;
pub mod schedule;
pub mod stages;
pub mod tasks;
pub mod teacher;
pub mod trainer;
mod writing;
mod written;

pub use batches::write_batches;
pub use computing::{Computing, precision_for};
pub use error::TrainError;
pub use events::{Event, LoggedRecord, Observer, Silent, StepRecord};
pub use finished_model::FinishedModel;
pub use generator::{Generator, Prompt};
pub use merge::{Merged, merge_adapter};
pub use plan::{PlanReport, plan};
pub use predictor::{Prediction, Predictor, evaluate_files};
pub use prepare::prepare;
pub use recipe_checks::{StageRecipe, components, json_schema, read_recipe, read_stages, validate};
pub use record::{RunSummary, Timings};
pub use report::{ChosenMetric, LossReport, Report};
pub use run::{RunOptions, RunOutcome, run};
pub use run_folder::Start;
pub use stages::{planned, run_stages};
