//! Rows of a data set: where they are read from, which of them, and their tokens.
//!
//! Files are scanned once for labels and checksums and once for tokens, so that their texts need not fit into memory.

use crate::error::TrainError;
use distill_data::tokenizer::Tokenizer;
use distill_data::{
    Batch, CacheKey, DataSpec, IGNORED_LABEL, LanguageSpec, Layout, Padding, Piece, RowEncoder, RowKind,
    RowParts, Scan, TokenizedDataset, collate_sequences, read_language_rows, read_rows,
};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Of rows that a generative model learns from.
    pub language: Option<LanguageSource>,
}

/// Rows with parts: documents, prompts with targets, conversations.
#[derive(Debug)]
pub struct LanguageSource {
    /// What a row is made of.
    pub spec: LanguageSpec,
    /// Bytes (UTF-8) of what is learnt of each row.
    pub bytes: Vec<u64>,
    /// Which kind of model reads them.
    pub layout: Layout,
}

impl Source {
    /// Rows of text, with or without labels.
    pub fn of_texts(spec: DataSpec, scan: Scan) -> Self {
        Self { spec, scan, language: None }
    }

    /// Whether its rows are documents, which may be cut anywhere.
    pub(crate) fn are_documents(&self) -> bool {
        self.language.as_ref().is_some_and(|language| matches!(language.spec.kind, RowKind::Document))
    }
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
        if self.source.language.is_some() {
            return self.for_each_row(&mut |number, parts| f(number, &text_of(parts)));
        }
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

    /// Calls `f` with the number and the parts of each of these rows, reading the files again.
    ///
    /// # Errors
    /// As [`Self::for_each_text`]; rows without parts are none.
    pub fn for_each_row(
        &self,
        f: &mut dyn FnMut(usize, &RowParts) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let Some(language) = &self.source.language else { return Ok(()) };
        let mut wanted = self.rows.iter().peekable();
        let (mut number, mut failed) = (0, None);
        read_language_rows(&language.spec, &mut |row| {
            if failed.is_none() && wanted.next_if_eq(&&number).is_some() {
                failed = f(number, &row.parts).err();
            }
            number += 1;
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Bytes (UTF-8) of what is learnt of these rows; 0 where that is not counted.
    pub fn learnt_bytes(&self) -> u64 {
        let bytes =
            self.source.language.as_ref().map(|language| language.bytes.as_slice()).unwrap_or_default();
        self.rows.iter().filter_map(|&row| bytes.get(row)).sum()
    }

    /// These rows but for those whose text is one of `held_out`: `transfer_data` may name the very files that validation
    /// rows were split off from, and scores would flatter a student that had learnt them from its teacher.
    ///
    /// # Errors
    /// [`TrainError::Data`] if a file can no longer be read.
    pub fn without(self, held_out: &[&Self]) -> Result<Self, TrainError> {
        let mut digests = HashSet::new();
        for rows in held_out {
            rows.for_each_text(&mut |_, text| {
                digests.insert(digest(text));
                Ok(())
            })?;
        }
        if digests.is_empty() {
            return Ok(self);
        }
        let mut rows = Vec::with_capacity(self.rows.len());
        self.for_each_text(&mut |number, text| {
            if !digests.contains(&digest(text)) {
                rows.push(number);
            }
            Ok(())
        })?;
        Ok(Self { rows, ..self })
    }
}

/// All that a row says, as one text.
fn text_of(parts: &RowParts) -> String {
    match parts {
        RowParts::Document(text) => text.clone(),
        RowParts::Pair { prompt, targets } => {
            [prompt.as_str(), targets.first().map_or("", String::as_str)].join(" ")
        }
        RowParts::Rationale(row) => [row.prompt.as_str(), &row.target].join(" "),
        RowParts::Chat(messages) => {
            messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Of 64 bits, so that not all texts need be in memory: of a million texts no two share one by chance.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Tokens of some rows, read from the cache as they are needed.
///
/// Rows may come from several data sets, one after the other: labelled texts, and more that only a teacher labels.
#[derive(Clone, Debug, Default)]
pub struct TokenizedRows {
    datasets: Vec<Arc<TokenizedDataset>>,
    /// The data set of each row, and its number there.
    rows: Vec<(usize, usize)>,
    lengths: Vec<u32>,
}

impl TokenizedRows {
    /// The tokens of `rows`; `dataset` holds all of their source.
    pub fn new(dataset: Arc<TokenizedDataset>, rows: &Rows) -> Self {
        let mut all = Self::default();
        all.extend(dataset, rows);
        all
    }

    /// Adds the tokens of more rows; `dataset` holds all of their source.
    pub fn extend(&mut self, dataset: Arc<TokenizedDataset>, rows: &Rows) {
        let number = self.datasets.len();
        for &row in &rows.rows {
            if let Some(&length) = dataset.lengths().get(row) {
                self.rows.push((number, row));
                self.lengths.push(length);
            }
        }
        self.datasets.push(dataset);
    }

    /// These rows of a data set.
    pub fn of_dataset(dataset: &Arc<TokenizedDataset>, rows: Vec<usize>) -> Self {
        let lengths =
            rows.iter().map(|&row| dataset.lengths().get(row).copied().unwrap_or_default()).collect();
        Self {
            datasets: vec![dataset.clone()],
            rows: rows.into_iter().map(|row| (0, row)).collect(),
            lengths,
        }
    }

    /// The data set that was added as number `number`, from 0.
    pub fn dataset(&self, number: usize) -> Option<&Arc<TokenizedDataset>> {
        self.datasets.get(number)
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
        let length =
            |&(dataset, row): &(usize, usize)| self.datasets.get(dataset)?.full_lengths().get(row).copied();
        self.rows.iter().filter_map(length).collect()
    }

    /// Label ids of all labelled rows.
    pub fn labels(&self) -> Vec<u32> {
        self.rows.iter().filter_map(|&(dataset, row)| self.datasets.get(dataset)?.label(row)).collect()
    }

    /// The data set of the row at `position`, by its place among those that were added, and its number there.
    pub fn place(&self, position: usize) -> Option<(usize, usize)> {
        self.rows.get(position).copied()
    }

    /// Token ids of the row at `position`.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the cache cannot be read.
    pub fn read(&self, position: usize) -> Result<Vec<u32>, TrainError> {
        match self.rows.get(position).and_then(|&(dataset, row)| Some((self.datasets.get(dataset)?, row))) {
            Some((dataset, row)) => Ok(dataset.read(row)?),
            None => Ok(Vec::new()),
        }
    }

    /// A part of the tokens of the row at position `piece.row`, with their marks.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the cache cannot be read.
    pub fn read_piece(&self, piece: Piece) -> Result<Vec<u32>, TrainError> {
        let place = self.rows.get(piece.row);
        match place.and_then(|&(dataset, row)| Some((self.datasets.get(dataset)?, row))) {
            Some((dataset, row)) => Ok(dataset.read_piece(Piece { row, ..piece })?),
            None => Ok(Vec::new()),
        }
    }

    /// A batch of the rows at these positions, padded to the longest and to a multiple of 8; `rows` of the batch are
    /// the positions.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the cache cannot be read.
    pub fn batch(
        &self,
        positions: &[usize],
        pad_token_id: u32,
        max_length: usize,
    ) -> Result<Batch, TrainError> {
        let sequences: Vec<Vec<u32>> =
            positions.iter().map(|&position| self.read(position)).collect::<Result<_, _>>()?;
        let mut batch = collate_sequences(&sequences, 0, &padding(pad_token_id, max_length))?;
        batch.rows = positions.to_vec();
        let label = |&position: &usize| {
            let (dataset, row) = self.rows.get(position).copied()?;
            self.datasets.get(dataset)?.label(row)
        };
        batch.labels = positions.iter().map(|row| label(row).map_or(IGNORED_LABEL, i64::from)).collect();
        Ok(batch)
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
    if let Some(language) = &source.language {
        let encoder = RowEncoder::new(tokenizer, language.layout, max_length)?;
        let key = CacheKey::new(&encoder.key(), max_length, source.scan.content);
        let encode = |rows: &[RowParts]| encoder.encode_batch(rows);
        return Ok(TokenizedDataset::from_language_rows(cache, &key, &language.spec, &encode, progress)?);
    }
    let key = CacheKey::new(&tokenizer.hash(), max_length, source.scan.content);
    let encode = |texts: &[String]| tokenizer.encode_batch(texts, max_length);
    Ok(TokenizedDataset::from_files(cache, &key, &source.spec, &source.scan, &encode, progress)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_data::scan_texts;

    fn rows(folder: &Path, name: &str, text: &str) -> Rows {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writes");
        let spec = DataSpec {
            sources: vec![path.display().to_string()],
            format: None,
            header: true,
            delimiter: None,
            text: vec!["text".into()],
            label: None,
        };
        let scan = scan_texts(&spec, &mut |_| {}).expect("reads");
        Rows::all(Arc::new(Source::of_texts(spec, scan)))
    }

    #[test]
    fn what_is_measured_is_not_learnt() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let all = rows(folder.path(), "all.txt", "one\ntwo\nthree\nfour\n");
        let test = rows(folder.path(), "test.csv", "text,label\nthree,x\nfive,y\n");
        let validation = Rows { rows: vec![0], ..all.clone() };
        let left = all.clone().without(&[&validation, &test]).expect("reads");
        assert_eq!(left.rows, [1, 3]);
        assert_eq!(all.clone().without(&[]).expect("reads").rows, all.rows);
    }
}
