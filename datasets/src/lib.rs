//! Generators of the data sets that the project ships.
//!
//! A data set is a pure function of its seed: the committed files are checked against their
//! generator, byte for byte.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

mod dice;
pub mod support_tickets;
pub mod village_stories;
pub mod word_problems;

/// The seed of the committed files.
pub const SEED: u64 = 42;

/// Makes a data set of a seed.
pub type Generate = fn(seed: u64) -> GeneratedDataset;

/// Every generator, by the name of its data set.
pub const DATASETS: &[(&str, Generate)] = &[
    ("support_tickets", support_tickets::generate),
    ("village_stories", village_stories::generate),
    ("word_problems", word_problems::generate),
];

/// A data set in memory, as its files are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedDataset {
    /// Name of the data set and of its folder.
    pub name: &'static str,
    /// What it is, in a line.
    pub description: &'static str,
    /// Name and contents of each file.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("cannot write `{}`: {source}; is the folder there, writable and not full?", path.display())]
pub struct WriteError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl GeneratedDataset {
    /// Writes the files into the folder `parent/name`, which is made if need be, and returns
    /// their paths. A file that already holds these bytes is left alone.
    ///
    /// # Errors
    /// [`WriteError`] names the file that could not be written. No file is left half-written:
    /// each gets its name when it is complete.
    pub fn write(&self, parent: &Path) -> Result<Vec<PathBuf>, WriteError> {
        let folder = parent.join(self.name);
        fs::create_dir_all(&folder).map_err(|source| WriteError { path: folder.clone(), source })?;
        let mut paths = Vec::with_capacity(self.files.len());
        for (name, contents) in &self.files {
            let path = folder.join(name);
            if fs::read(&path).ok().as_ref() != Some(contents) {
                let partial = folder.join(format!("{name}.partial"));
                fs::write(&partial, contents)
                    .and_then(|()| fs::rename(&partial, &path))
                    .map_err(|source| WriteError { path: path.clone(), source })?;
            }
            paths.push(path);
        }
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_names_its_data_sets() {
        for (name, generate) in DATASETS {
            let dataset = generate(1);
            assert_eq!(dataset.name, *name);
            assert!(!dataset.files.is_empty());
        }
    }

    #[test]
    fn the_committed_files_are_what_the_generator_gives() {
        // Tests run in the folder of their crate.
        let folder = Path::new(".");
        for (name, generate) in DATASETS {
            for (file, contents) in generate(SEED).files {
                let path = folder.join(name).join(file);
                let committed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(
                    committed == contents,
                    "`{}` differs from its generator; run `cargo run --release -p distill-datasets -- --out datasets`",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = std::env::temp_dir().join(format!("distill-datasets-{}", std::process::id()));
        fs::write(&file, "a file where a folder should be").unwrap();
        let dataset = GeneratedDataset { name: "x", description: "", files: vec![] };
        let error = dataset.write(&file).unwrap_err();
        fs::remove_file(&file).unwrap();
        assert!(error.to_string().starts_with(&format!("cannot write `{}", file.join("x").display())));
    }
}
