//! SHA-256 of files, and of texts with their labels.
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::DataError;

/// A file as it was read, for the record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileHash {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows that were read from it.
    pub rows: u64,
}

impl FileHash {
    /// Hashes the file at `path`, from which `rows` rows were read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(path: &Path, rows: u64) -> Result<Self, DataError> {
        let fault = |error| DataError::io("read", path, error);
        let mut file = File::open(path).map_err(fault)?;
        let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 16], 0);
        loop {
            let read = file.read(&mut buffer).map_err(fault)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            bytes += read as u64;
        }
        Ok(Self { path: path.to_owned(), sha256: hex(&hash.finalize()), bytes, rows })
    }
}

/// SHA-256 of rows in their order: equal for equal texts and labels, whatever files they came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub(crate) [u8; 32]);

impl ContentHash {
    /// Hash of `texts` with `labels`, which has one entry a text or is `None`.
    pub fn of(texts: &[String], labels: Option<&[u32]>) -> Self {
        let mut hasher = ContentHasher::default();
        for text in texts {
            hasher.text(text);
        }
        hasher.finish(labels)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// Texts first, as they come; labels at the end, when the mapping of them is known.
#[derive(Default)]
pub(crate) struct ContentHasher(Sha256);

impl ContentHasher {
    pub(crate) fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    pub(crate) fn finish(mut self, labels: Option<&[u32]>) -> ContentHash {
        // No text is as long, so that texts and labels cannot be taken for each other.
        self.0.update(u64::MAX.to_le_bytes());
        for label in labels.unwrap_or_default() {
            self.0.update(label.to_le_bytes());
        }
        ContentHash(self.0.finalize().into())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_known_hash() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let hash = FileHash::of(file.path(), 1).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((hash.bytes, hash.rows), (3, 1));
    }

    #[test]
    fn any_change_of_the_rows_changes_the_hash() {
        let rows = |texts: &[&str], labels: Option<&[u32]>| {
            ContentHash::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), labels)
        };
        let all = [
            rows(&["a", "b"], Some(&[0, 1])),
            rows(&["b", "a"], Some(&[0, 1])),
            rows(&["ab"], Some(&[0, 1])),
            rows(&["a", "b"], Some(&[1, 0])),
            rows(&["a", "b"], None),
            rows(&["a", "b", ""], None),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one), "{index}");
        }
    }
}
