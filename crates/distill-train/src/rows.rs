//! Rows of a data set: where they are read from, which of them, and their tokens.
//!
//! Files are scanned once for labels and checksums and once for tokens, so that their texts need not fit into memory.

use crate::error::TrainError;
use distill_data::tokenizer::Tokenizer;
use distill_data::{Batch, CacheKey, DataSpec, Padding, Scan, TokenizedDataset, collate, read_rows};
use std::path::Path;
use std::sync::Arc;

/// Sequences are padded to a multiple of this many tokens.
const PAD_TO_MULTIPLE_OF: usize = 8;

/// Files that have been read once.
#[derive(Debug)]
pub struct Source {
    /// Which files, and which of their columns.
    pub spec: DataSpec,
    /// What was found in them.
    pub scan: Scan,
}

/// Some rows of a source, such as its training part.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The files.
    pub source: Arc<Source>,
    /// Numbers of the rows, ascending.
    pub rows: Vec<usize>,
}

impl Rows {
    /// All rows of a source.
    pub fn all(source: Arc<Source>) -> Self {
        let rows = (0..source.scan.rows as usize).collect();
        Self { source, rows }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Label ids, in the order of the rows.
    pub fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        let labels = self.source.scan.labels.as_deref().unwrap_or_default();
        self.rows.iter().filter_map(move |&row| labels.get(row).copied())
    }

    /// Calls `f` with the number and the text of each of these rows, reading the files again.
    ///
    /// # Errors
    /// [`TrainError::Data`] if a file can no longer be read, and whatever `f` fails with.
    pub fn for_each_text(
        &self,
        f: &mut dyn FnMut(usize, &str) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let spec = DataSpec { label: None, ..self.source.spec.clone() };
        let mut wanted = self.rows.iter().peekable();
        let (mut number, mut failed) = (0, None);
        read_rows(&spec, &mut |row| {
            if failed.is_none() && wanted.next_if_eq(&&number).is_some() {
                failed = f(number, &row.text).err();
            }
            number += 1;
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }
}

/// Tokens of some rows, read from the cache as they are needed.
#[derive(Clone, Debug)]
pub struct TokenizedRows {
    dataset: Arc<TokenizedDataset>,
    rows: Vec<usize>,
    lengths: Vec<u32>,
}

impl TokenizedRows {
    /// The tokens of `rows`; `dataset` holds all of their source.
    pub fn new(dataset: Arc<TokenizedDataset>, rows: &Rows) -> Self {
        let lengths = rows.rows.iter().filter_map(|&row| dataset.lengths().get(row).copied()).collect();
        Self { dataset, rows: rows.rows.clone(), lengths }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of each row, special tokens counted, after truncation.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Tokens of each row before truncation.
    pub fn full_lengths(&self) -> Vec<u32> {
        self.rows.iter().filter_map(|&row| self.dataset.full_lengths().get(row).copied()).collect()
    }

    /// Label ids of all rows; empty without labels.
    pub fn labels(&self) -> Vec<u32> {
        self.rows.iter().filter_map(|&row| self.dataset.label(row)).collect()
    }

    /// Token ids of the row at `position`.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the cache cannot be read.
    pub fn read(&self, position: usize) -> Result<Vec<u32>, TrainError> {
        Ok(self.dataset.read(self.rows.get(position).copied().unwrap_or(usize::MAX))?)
    }

    /// A batch of the rows at these positions, padded to the longest and to a multiple of 8.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the cache cannot be read.
    pub fn batch(
        &self,
        positions: &[usize],
        pad_token_id: u32,
        max_length: usize,
    ) -> Result<Batch, TrainError> {
        let rows: Vec<usize> =
            positions.iter().filter_map(|&position| self.rows.get(position).copied()).collect();
        Ok(collate(&self.dataset, &rows, &padding(pad_token_id, max_length))?)
    }
}

/// How batches are padded.
pub fn padding(pad_token_id: u32, max_length: usize) -> Padding {
    Padding { pad_token_id, multiple_of: PAD_TO_MULTIPLE_OF, max_length }
}

/// The tokens of all rows of a source, from the cache in `cache` if they are there.
///
/// # Errors
/// [`TrainError::Data`] if a file cannot be read, tokenised or written.
pub fn tokenize(
    source: &Source,
    tokenizer: &Tokenizer,
    max_length: usize,
    cache: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<TokenizedDataset, TrainError> {
    let key = CacheKey::new(&tokenizer.hash(), max_length, source.scan.content);
    let encode = |texts: &[String]| tokenizer.encode_batch(texts, max_length);
    Ok(TokenizedDataset::from_files(cache, &key, &source.spec, &source.scan, &encode, progress)?)
}
