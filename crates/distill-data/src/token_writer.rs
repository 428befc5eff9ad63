//! Writes a token cache: to a temporary name, flushed to disk, then renamed.
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::content::ContentHasher;
use crate::error::DataError;
use crate::language_row::RowParts;
use crate::token_cache::{CacheKey, Encode, HEADER, Header};

/// Texts that are handed to the tokenizer together: enough for every core, and little memory.
const CHUNK: usize = 4096;

/// What is tokenised: its hash must tell it from others.
pub(crate) trait Row {
    fn hash(&self, hasher: &mut ContentHasher);
}

impl Row for String {
    fn hash(&self, hasher: &mut ContentHasher) {
        hasher.text(self);
    }
}

impl Row for RowParts {
    fn hash(&self, hasher: &mut ContentHasher) {
        self.hash(hasher);
    }
}

/// Takes rows one by one, and tokenises and writes them chunk by chunk.
pub(crate) struct TokenWriter<'a, E, T> {
    folder: PathBuf,
    file: BufWriter<NamedTempFile>,
    encode: &'a Encode<'a, E, T>,
    progress: &'a mut dyn FnMut(u64),
    chunk: Vec<T>,
    content: ContentHasher,
    checksum: Sha256,
    tokens: u64,
    lengths: Vec<u32>,
    full_lengths: Vec<u32>,
}

impl<'a, E: std::fmt::Display, T: Row> TokenWriter<'a, E, T> {
    /// Begins a cache in `folder`, which is made if it is not there.
    pub(crate) fn create(
        folder: &Path,
        encode: &'a Encode<'a, E, T>,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self, DataError> {
        let fault = |error| DataError::io("write", folder, error);
        std::fs::create_dir_all(folder).map_err(fault)?;
        let mut file = BufWriter::with_capacity(1 << 18, NamedTempFile::new_in(folder).map_err(fault)?);
        file.write_all(&[0; HEADER]).map_err(fault)?;
        Ok(Self {
            folder: folder.to_owned(),
            file,
            encode,
            progress,
            chunk: Vec::with_capacity(CHUNK),
            content: ContentHasher::default(),
            checksum: Sha256::new(),
            tokens: 0,
            lengths: Vec::new(),
            full_lengths: Vec::new(),
        })
    }

    pub(crate) fn push(&mut self, row: T) -> Result<(), DataError> {
        row.hash(&mut self.content);
        self.chunk.push(row);
        if self.chunk.len() == CHUNK { self.write_chunk() } else { Ok(()) }
    }

    fn write_chunk(&mut self) -> Result<(), DataError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let first = self.lengths.len();
        let fault = |reason| DataError::Tokenise { first, last: first + self.chunk.len() - 1, reason };
        let rows = (self.encode)(&self.chunk).map_err(|error| fault(error.to_string()))?;
        if rows.len() != self.chunk.len() {
            return Err(fault(format!("{} rows came back", rows.len())));
        }
        for row in &rows {
            self.write_integers(&row.ids)?;
            self.tokens += row.ids.len() as u64;
            self.lengths.push(row.ids.len() as u32);
            self.full_lengths.push(row.full_length as u32);
        }
        self.chunk.clear();
        (self.progress)(self.lengths.len() as u64);
        Ok(())
    }

    fn write_integers(&mut self, integers: &[u32]) -> Result<(), DataError> {
        let bytes: Vec<u8> = integers.iter().flat_map(|integer| integer.to_le_bytes()).collect();
        self.checksum.update(&bytes);
        self.file.write_all(&bytes).map_err(|error| DataError::io("write", &self.folder, error))
    }

    /// Writes the tables and the header and gives the file its name.
    ///
    /// Fails if what was pushed is not what `key` stands for.
    pub(crate) fn finish(mut self, key: &CacheKey, labels: Option<&[u32]>) -> Result<(), DataError> {
        self.write_chunk()?;
        let path = key.path(&self.folder);
        if std::mem::take(&mut self.content).finish(labels) != key.content {
            return Err(DataError::TokenCache {
                path,
                reason: "the data changed while they were read".into(),
            });
        }
        let (lengths, full_lengths) =
            (std::mem::take(&mut self.lengths), std::mem::take(&mut self.full_lengths));
        for table in [lengths.as_slice(), &full_lengths, labels.unwrap_or_default()] {
            self.write_integers(table)?;
        }
        let rows = lengths.len() as u64;
        let mut header = Header { labelled: labels.is_some(), rows, tokens: self.tokens, checksum: [0; 32] };
        let bytes = header.checked_bytes(&key.hash);
        self.checksum.update(&bytes);
        header.checksum = self.checksum.finalize().into();
        store(self.file, &[bytes.as_slice(), &header.checksum], &path)
            .map_err(|error| DataError::io("write", &path, error))
    }
}

/// Puts the header in its place, and the file at `path` once it is whole and on disk.
fn store(file: BufWriter<NamedTempFile>, header: &[&[u8]], path: &Path) -> std::io::Result<()> {
    let mut file = file.into_inner().map_err(|error| error.into_error())?;
    file.seek(SeekFrom::Start(0))?;
    for part in header {
        file.write_all(part)?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The name is on disk once the folder is; Windows has no such call.
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
