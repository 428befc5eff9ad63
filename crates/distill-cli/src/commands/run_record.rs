//! What a run says of the model that it made.

use distill_data::LabelMap;
use distill_recipe::DataTable;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The `run.json` beside a model; nothing for a model that no run made.
#[derive(Debug)]
pub struct RunRecord {
    record: Option<Value>,
    folder: Option<PathBuf>,
}

impl RunRecord {
    /// Reads that of a model's run folder, or of the run folder that its checkpoint is in.
    pub fn of(model: &str) -> Self {
        let model = Path::new(model);
        let folders = [Some(model), model.ancestors().nth(2)];
        let read = |folder: &Path| Some((std::fs::read(folder.join("run.json")).ok()?, folder.to_owned()));
        let (record, folder) = folders.into_iter().flatten().find_map(read).unzip();
        Self { record: record.and_then(|record| serde_json::from_slice(&record).ok()), folder }
    }

    /// The recipe that the run went by.
    pub fn recipe_file(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("recipe.toml")).filter(|path| path.is_file())
    }

    /// The `[data]` table of its recipe.
    pub fn data_table(&self) -> Option<DataTable> {
        serde_json::from_value(self.record.as_ref()?.get("recipe")?.get("data")?.clone()).ok()
    }

    /// How it understood the values of the label column.
    pub fn label_map(&self) -> Option<LabelMap> {
        serde_json::from_value(self.record.as_ref()?.get("labels")?.clone()).ok()
    }
}
