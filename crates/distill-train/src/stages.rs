//! A recipe of several stages: one run after the other, each from the model of the last.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::prepare::{Shortage, prepare};
use crate::recipe_checks::StageRecipe;
use crate::run::{RunOptions, RunOutcome, run};
use crate::run_folder::{Start, Status, check};
use distill_recipe::{ModelTable, TeacherTable};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

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
    check_later(stages, options.start, &options.interrupt, observer)?;
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

/// Reads and checks the stages after the one that is next, as far as can be without its model: a fault of the last is
/// better told before the first is trained.
fn check_later(
    stages: &[StageRecipe],
    start: Start,
    interrupt: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let is_done = |stage: &StageRecipe| {
        Ok::<_, TrainError>(check(&stage.recipe.output_dir, Start::Overwrite)? == Status::Finished)
    };
    let mut next = 0;
    while start == Start::Resume && next < stages.len() && is_done(&stages[next])? {
        next += 1;
    }
    for stage in stages.iter().skip(next + 1) {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(());
        }
        observer.event(&Event::Stage { message: format!("checking the stage `{}`", stage.name) });
        prepare(&from_first(stages, stage).recipe, Shortage::Tell, observer)?;
    }
    Ok(())
}

/// The stages as they can be planned before any has run: each has the sizes of the first one's student.
pub fn planned(stages: &[StageRecipe]) -> Vec<StageRecipe> {
    let is_made = |stage: &StageRecipe| {
        stage.starts_from.as_ref().is_none_or(|folder| folder.join("config.json").exists())
    };
    let planned = |stage| if is_made(stage) { stage.clone() } else { from_first(stages, stage) };
    stages.iter().map(planned).collect()
}

/// A stage as if it started from the student of the first.
fn from_first(stages: &[StageRecipe], stage: &StageRecipe) -> StageRecipe {
    let mut stage = stage.clone();
    let Some(first) = stages.first().filter(|_| stage.starts_from.is_some()) else { return stage };
    stage.recipe.model = first.recipe.model.clone();
    stage.recipe.tokenizer = first.recipe.tokenizer.clone();
    if let ModelTable::FromTeacher(student) = &mut stage.recipe.model {
        let teachers = first.recipe.teacher.as_ref().map(TeacherTable::members).unwrap_or_default();
        student.teacher = teachers.into_iter().next().map(|teacher| teacher.path);
    }
    stage
}
