//! Where the answers of a command go.

use crate::failure::Failure;
use crate::files::PendingFile;
use crate::interrupt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Stdout, or the file that `--output` names.
#[derive(Debug)]
pub enum Sink {
    Stdout,
    /// A device or a pipe with a name.
    Stream(PathBuf, File),
    File(PathBuf, PendingFile),
}

impl Sink {
    /// Opens `--output`; stdout if it is `-` or not given.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Stdout) };
        if path.metadata().is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
            let file = File::options()
                .write(true)
                .open(path)
                .map_err(|error| Failure::io("write", path.display(), error))?;
            return Ok(Self::Stream(path.to_owned(), file));
        }
        let file = PendingFile::create(path)?;
        interrupt::remove(file.partial().to_owned())?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// Writes some bytes and hands them on at once.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let put = |stream: &mut dyn Write| stream.write_all(bytes).and_then(|()| stream.flush());
        match self {
            Self::Stdout => Ok(put(&mut io::stdout().lock())?),
            Self::Stream(path, file) => {
                put(file).map_err(|error| Failure::io("write", path.display(), error))
            }
            Self::File(path, file) => put(file).map_err(|error| Failure::io("write", path.display(), error)),
        }
    }

    /// Gives a file its name.
    ///
    /// # Errors
    /// The disk is full, or the name cannot be taken.
    pub fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout | Self::Stream(..) => Ok(()),
            Self::File(_, file) => file.finish(),
        }
    }
}
