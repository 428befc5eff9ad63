//! A recipe of several stages: one run after the other, each from the model of the last.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::recipe_checks::StageRecipe;
use crate::run::{RunOptions, RunOutcome, run};
use crate::run_folder::{Start, Status, check};
use std::path::PathBuf;

/// Runs every stage of a recipe in order; a recipe without stages is its own only one.
///
/// With [`Start::Resume`] finished stages are left alone, the one that was interrupted goes on, and the rest follow.
///
/// # Errors
/// As [`run`], before anything is written if a stage's folder is not as `start` wants it.
pub fn run_stages(
    stages: &[StageRecipe],
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<RunOutcome, TrainError> {
    let [earlier @ .., last] = stages else { return Err(TrainError::Interrupted) };
    if earlier.is_empty() {
        return run(&last.recipe, options, observer);
    }
    let output_dir = &last.recipe.output_dir;
    let begun = stages_begun(stages)?;
    match options.start {
        Start::Fresh if begun => {
            let finished = check(output_dir, Start::Overwrite)? == Status::Finished;
            let status = if finished { Status::Finished } else { Status::Interrupted };
            return Err(TrainError::OutputExists {
                path: output_dir.clone(),
                status: status.name().to_owned(),
            });
        }
        Start::Resume if !begun => return Err(TrainError::NothingToResume { path: output_dir.clone() }),
        _ => {}
    }
    let mut ended = None;
    for (index, stage) in stages.iter().enumerate() {
        let message = format!("stage {} of {}: {}", index + 1, stages.len(), stage.name);
        observer.event(&Event::Note { message });
        let status = check(&stage.recipe.output_dir, Start::Overwrite)?;
        let start = if status == Status::Absent { Start::Fresh } else { options.start };
        // A run of a later stage that outlived the model it was made of would pass for finished.
        let replaced = if start == Start::Resume { Vec::new() } else { present(&stages[index + 1..])? };
        let options = RunOptions { start, interrupt: options.interrupt.clone(), replaced };
        let outcome = run(&stage.recipe, &options, observer)?;
        if let RunOutcome::Interrupted { .. } = outcome {
            return Ok(outcome);
        }
        ended = Some(outcome);
    }
    ended.ok_or(TrainError::Interrupted)
}

/// Whether the folder of any stage has a run in it.
fn stages_begun(stages: &[StageRecipe]) -> Result<bool, TrainError> {
    Ok(!present(stages)?.is_empty())
}

/// The folders of these stages that have a run in them.
fn present(stages: &[StageRecipe]) -> Result<Vec<PathBuf>, TrainError> {
    let mut present = Vec::new();
    for stage in stages {
        let folder = &stage.recipe.output_dir;
        if check(folder, Start::Overwrite)? != Status::Absent {
            present.push(folder.clone());
        }
    }
    Ok(present)
}

/// The stages as they can be planned before any has run: each has the sizes of the first one's student.
pub fn planned(stages: &[StageRecipe]) -> Vec<StageRecipe> {
    let first = stages.first().map(|stage| &stage.recipe);
    stages
        .iter()
        .map(|stage| {
            let mut stage = stage.clone();
            let made: Option<PathBuf> =
                stage.starts_from.as_ref().filter(|folder| folder.join("config.json").exists()).cloned();
            if let (Some(first), Some(_), None) = (first, &stage.starts_from, made) {
                stage.recipe.model = first.model.clone();
                stage.recipe.tokenizer = first.tokenizer.clone();
            }
            stage
        })
        .collect()
}
