//! `distill datasets`: the data sets that come with the program.

use super::Context;
use crate::failure::Failure;
use crate::output;
use crate::terminal::table::{Align, Table};
use crate::terminal::{Paint, units};
use clap::{Args, Subcommand};
use distill_datasets::{DATASETS, GeneratedDataset, SEED};
use std::path::{Path, PathBuf};

/// List the data sets that come with the program, or write one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Datasets {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a data set into the folder OUT/NAME
    Write {
        /// Name of the data set
        name: String,
        /// The folder that the data set's own folder is made in
        #[arg(long, value_name = "DIR", default_value = "datasets")]
        out: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  distill datasets
  distill datasets write support_tickets";

impl Datasets {
    /// Lists or writes.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        match &self.action {
            None => list(),
            Some(Action::Write { name, out }) => write(&generate(name)?, out, context),
        }
    }
}

/// The data set of this name, with the seed of the committed files.
///
/// # Errors
/// An unknown name, with the known ones.
pub fn generate(name: &str) -> Result<GeneratedDataset, Failure> {
    let found = DATASETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, generate)| generate(SEED)).ok_or_else(|| {
        let known: Vec<String> = DATASETS.iter().map(|(name, _)| format!("`{name}`")).collect();
        Failure::input(format!("unknown data set `{name}`; allowed are {}", known.join(", ")))
    })
}

/// Writes a data set into the folder `parent/name` and tells what was written.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dataset: &GeneratedDataset, parent: &Path, context: &Context) -> Result<(), Failure> {
    let paths =
        dataset.write(parent).map_err(|error| Failure::io("write", error.path.display(), error.source))?;
    for path in paths {
        context.voice.note(&format!("wrote `{}`", path.display()));
    }
    Ok(())
}

fn list() -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut table = Table::new([Align::Left, Align::Right, Align::Left]);
    table.row(["name", "size", "description"].map(|text| paint.bold(text)));
    for (_, generate) in DATASETS {
        let dataset = generate(SEED);
        let size: usize = dataset.files.iter().map(|(_, contents)| contents.len()).sum();
        table.row([dataset.name.to_owned(), units::bytes(size as u64), dataset.description.to_owned()]);
    }
    Ok(output::print(&(table.lines(0).join("\n") + "\n"))?)
}
