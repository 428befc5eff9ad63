//! `[augment]` in a run: changed copies of the training texts become rows that only the teacher labels.

use crate::augment::{AugmentSettings, Replacements, augment, check_model};
use crate::error::TrainError;
use crate::events::Observer;
use crate::prepare::Prepared;
use crate::read_data::read_texts;
use crate::read_model::model_folder;
use crate::rows::Rows;
use crate::teacher::{TeacherSource, teacher_cache};
use distill_recipe::{AugmentTable, Column, DataFormat, DataTable, OneOrMany, Recipe, ReplacementsChoice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Texts that the masked language model reads at once.
const BATCH_SIZE: usize = 32;

/// Adds the copies of the training texts that the recipe asks for; made once, and found in the cache after.
///
/// # Errors
/// [`TrainError::Interrupted`]; whatever is wrong with the model that names the replacements, the texts or the disk.
pub fn add_copies(
    prepared: &mut Prepared,
    interrupt: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let Some(table) = prepared.recipe.augment.clone() else { return Ok(()) };
    let folder = namer(prepared, &table, observer)?;
    let recipe = &prepared.recipe;
    let cache = recipe.data.cache_dir.clone().unwrap_or_else(|| teacher_cache(&recipe.output_dir));
    let settings = settings(recipe, &table);
    let parts: Vec<Rows> = prepared.training_parts().into_iter().cloned().collect();
    for rows in parts {
        let (device, precision) = (&prepared.device, prepared.precision);
        let path = augment(&folder, &rows, &settings, device, precision, &cache, interrupt, observer)?;
        let sources = vec![path.display().to_string()];
        let spec = copies_table(&prepared.recipe, sources.clone());
        let source = read_texts(&sources, &spec, "augmented", &mut prepared.files, observer)?;
        prepared.transfer.push(Rows::all(Arc::new(source)));
    }
    Ok(())
}

/// Whether there is a model that can name the replacements that the recipe asks for.
///
/// # Errors
/// What it lacks.
pub(crate) fn check_namer(prepared: &Prepared, observer: &mut dyn Observer) -> Result<(), TrainError> {
    let Some(table) = &prepared.recipe.augment else { return Ok(()) };
    check_model(&namer(prepared, table, observer)?, &settings(&prepared.recipe, table))
}

fn settings(recipe: &Recipe, table: &AugmentTable) -> AugmentSettings {
    AugmentSettings {
        copies: table.copies,
        probability: table.probability,
        candidates: table.candidates,
        replacements: match table.replacements {
            ReplacementsChoice::Embeddings => Replacements::Embeddings,
            ReplacementsChoice::MaskedLm => Replacements::MaskedLm,
        },
        seed: recipe.seed,
        batch_size: BATCH_SIZE,
        max_length: recipe.data.max_length,
    }
}

/// The model that names replacements: that of the table, or the first teacher.
fn namer(
    prepared: &Prepared,
    table: &AugmentTable,
    observer: &mut dyn Observer,
) -> Result<PathBuf, TrainError> {
    if let Some(path) = &table.path {
        return model_folder(path, observer);
    }
    match prepared.teachers.first().map(|teacher| &teacher.source) {
        Some(TeacherSource::Folder(folder)) => Ok(folder.clone()),
        _ => {
            let message = "`[augment]` needs a model that names replacements, and the teacher has no folder";
            let help = Some("write `path` in `[augment]`".to_owned());
            let recipe = &prepared.recipe;
            Err(recipe.faults(vec![recipe.fault_at("augment.path", message, help)]).into())
        }
    }
}

/// How the file of copies is read.
fn copies_table(recipe: &Recipe, sources: Vec<String>) -> DataTable {
    DataTable {
        train: OneOrMany(sources),
        format: Some(DataFormat::Jsonl),
        header: true,
        delimiter: None,
        text: OneOrMany(vec![Column::Name("text".to_owned())]),
        ..recipe.data.clone()
    }
}
