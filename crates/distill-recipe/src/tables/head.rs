//! The keys at the top of a recipe, before the first table.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TABLES;
use super::parse::typed;
use crate::document::Document;
use crate::fault::Fault;
use crate::node::Node;
use crate::schema::{Context, Homes, Place};
use crate::type_schema::schema_of;

/// The run as a whole: what it is called, where it writes, where it computes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "run_name": "name", "experiment": "name", "random_seed": "seed", "output": "output_dir",
    "output_path": "output_dir", "save_dir": "output_dir", "accelerator": "device"
}))]
pub(crate) struct Head {
    /// Name of the run, and of its folder under `checkpoints/` unless `output_dir` is given; one word without `/`.
    #[schemars(length(min = 1))]
    pub(crate) name: String,
    /// Seed of every random choice; integer from 0, default 42.
    #[serde(default = "default_seed")]
    pub(crate) seed: u64,
    /// Folder that the run writes to; default `checkpoints/<name>`.
    pub(crate) output_dir: Option<PathBuf>,
    /// Where to compute: `auto`, `flex` (CPU), `ndarray` (CPU), `cuda` or `cuda:N` (GPU number N, from 0); default `auto`.
    #[serde(default = "default_device")]
    pub(crate) device: String,
}

fn default_seed() -> u64 {
    42
}

fn default_device() -> String {
    "auto".to_string()
}

/// The keys of the recipe itself, checked; faults of the tables are found elsewhere.
pub(crate) fn parse(document: &Document, homes: &Homes, faults: &mut Vec<Fault>) -> Option<Head> {
    let tables: Vec<&str> = TABLES.iter().map(|entry| entry.key).collect();
    let context = Context { besides: &tables, homes };
    let schema = schema_of::<Head>();
    typed(&document.root, &Place::default(), &schema, &context, faults, Head::check)
}

impl Head {
    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        if self.name.contains(['/', '\\']) || matches!(self.name.trim(), "" | "." | "..") {
            let message =
                format!("`name` must be usable as a folder name, without `/` or `\\`, found `{}`", self.name);
            faults.push(written.fault_at("name", message).with_help("the folder itself is `output_dir`"));
        }
        if self.output_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            let message = "`output_dir` must not be empty";
            faults.push(written.fault_at("output_dir", message));
        }
    }
}
