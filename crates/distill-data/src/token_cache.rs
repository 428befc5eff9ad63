//! Token ids of a data set in a file, so that it is tokenised once and may be larger than memory.
//!
//! Layout, integers little-endian:
//!
//! | bytes | |
//! |-|-|
//! | 8 | magic `DSTLTOK\0` |
//! | 4 | format version |
//! | 4 | 1 if there are labels, else 0 |
//! | 32 | key: tokenizer, `max_length`, texts and labels |
//! | 8, 8 | rows, tokens |
//! | 32 | SHA-256 of all other bytes |
//! | 4 × tokens | token ids, row by row |
//! | 4 × rows | tokens of each row |
//! | 4 × rows | tokens of each row before truncation |
//! | 4 × rows | class ids, if there are labels |
//!
//! Rows are read by position when they are needed, and the page cache of the operating system keeps
//! the file warm: the same effect as a memory map, without its `unsafe`. Lengths and labels, 20
//! bytes a row, are held in memory.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::content::{ContentHash, hex};
use crate::corpus::{Scan, read_rows};
use crate::error::DataError;
use crate::language_row::RowParts;
use crate::language_source::{LanguageSpec, read_language_rows};
use crate::packing::Piece;
use crate::source::DataSpec;
use crate::token_writer::{Row, TokenWriter};
use crate::tokenizer::Encoded;

pub(crate) const MAGIC: &[u8; 8] = b"DSTLTOK\0";
pub(crate) const VERSION: u32 = 1;
/// The header up to the checksum.
pub(crate) const CHECKED_HEADER: usize = 64;
pub(crate) const HEADER: usize = CHECKED_HEADER + 32;

/// What the tokens of a data set depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey {
    pub(crate) hash: [u8; 32],
    /// Texts and labels; part of `hash`, and compared with what is tokenised.
    pub(crate) content: ContentHash,
}

impl CacheKey {
    /// Key of `content` tokenised by the tokenizer with the hash `tokenizer`, to at most `max_length`
    /// tokens.
    pub fn new(tokenizer: &str, max_length: usize, content: ContentHash) -> Self {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(VERSION.to_le_bytes());
        hash.update((max_length as u64).to_le_bytes());
        hash.update((tokenizer.len() as u64).to_le_bytes());
        hash.update(tokenizer);
        hash.update(content.0);
        Self { hash: hash.finalize().into(), content }
    }

    /// The cache file in `cache_dir`.
    pub fn path(&self, cache_dir: &Path) -> PathBuf {
        cache_dir.join(format!("{}.tokens", hex(&self.hash[..16])))
    }
}

/// Encodes texts, or rows of parts, in their order, each cut to `max_length` tokens; parallel if it
/// likes.
pub type Encode<'a, E, T = String> = dyn Fn(&[T]) -> Result<Vec<Encoded>, E> + 'a;

/// Hands all rows to a writer.
type Fill<'a, E, T> = dyn FnMut(&mut TokenWriter<'_, E, T>) -> Result<(), DataError> + 'a;

/// Token ids, lengths and labels of a data set, backed by a file.
#[derive(Debug)]
pub struct TokenizedDataset {
    file: File,
    path: PathBuf,
    /// First token of each row, and the number of tokens at the end.
    offsets: Vec<u64>,
    lengths: Vec<u32>,
    full_lengths: Vec<u32>,
    labels: Option<Vec<u32>>,
}

impl TokenizedDataset {
    /// Tokenises `texts`, or opens the cache if it holds them; `progress` is told the rows done.
    ///
    /// `labels` has one class id a text.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or the cache cannot be written.
    pub fn from_texts<E: std::fmt::Display>(
        cache_dir: &Path,
        key: &CacheKey,
        texts: &[String],
        labels: Option<&[u32]>,
        encode: &Encode<'_, E>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, DataError> {
        Self::build_or_open(cache_dir, key, labels, encode, progress, &mut |writer| {
            texts.iter().try_for_each(|text| writer.push(text.clone()))
        })
    }

    /// Tokenises the rows of files, or opens the cache if it holds them.
    ///
    /// The rows are read a second time, so that they need not fit into memory; `scan` is the outcome
    /// of the first, whose labels and hash count.
    ///
    /// # Errors
    /// As [`TokenizedDataset::from_texts`]; a file that changed since the scan.
    pub fn from_files<E: std::fmt::Display>(
        cache_dir: &Path,
        key: &CacheKey,
        spec: &DataSpec,
        scan: &Scan,
        encode: &Encode<'_, E>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, DataError> {
        let spec = DataSpec { label: None, ..spec.clone() };
        Self::build_or_open(cache_dir, key, scan.labels.as_deref(), encode, progress, &mut |writer| {
            read_rows(&spec, &mut |row| writer.push(row.text)).map(|_| ())
        })
    }

    /// Tokenises rows of parts, or opens the cache if it holds them; `content` is the hash of their
    /// scan, and `encode` that of a [`RowEncoder`](crate::RowEncoder), whose key is in `key`.
    ///
    /// # Errors
    /// As [`TokenizedDataset::from_files`].
    pub fn from_language_rows<E: std::fmt::Display>(
        cache_dir: &Path,
        key: &CacheKey,
        spec: &LanguageSpec,
        encode: &Encode<'_, E, RowParts>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, DataError> {
        Self::build_or_open(cache_dir, key, None, encode, progress, &mut |writer| {
            read_language_rows(spec, &mut |row| writer.push(row.parts)).map(|_| ())
        })
    }

    fn build_or_open<E: std::fmt::Display, T: Row>(
        cache_dir: &Path,
        key: &CacheKey,
        labels: Option<&[u32]>,
        encode: &Encode<'_, E, T>,
        progress: &mut dyn FnMut(u64),
        fill: &mut Fill<'_, E, T>,
    ) -> Result<Self, DataError> {
        if let Some(dataset) = Self::open(cache_dir, key)? {
            progress(dataset.len() as u64);
            return Ok(dataset);
        }
        let mut writer = TokenWriter::create(cache_dir, encode, progress)?;
        fill(&mut writer)?;
        writer.finish(key, labels)?;
        let path = key.path(cache_dir);
        Self::open(cache_dir, key)?.ok_or_else(|| DataError::TokenCache {
            path,
            reason: "it does not read as it was written; the disk may be faulty".into(),
        })
    }

    /// Opens the cache of `key`; `None` if there is none, or one that is damaged.
    ///
    /// The whole file is read once, to compare its checksum.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn open(cache_dir: &Path, key: &CacheKey) -> Result<Option<Self>, DataError> {
        let path = key.path(cache_dir);
        let fault = |error| DataError::io("read", &path, error);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        let size = file.metadata().map_err(fault)?.len();
        let mut bytes = [0; HEADER];
        let header = match file.read_exact(&mut bytes) {
            Ok(()) => Header::parse(&bytes, &key.hash, size),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(fault(error)),
        };
        let sound = match &header {
            Some(header) => header.checksum == checksum(&mut file, &bytes).map_err(fault)?,
            None => false,
        };
        match header {
            Some(header) if sound => Self::read_tables(file, path, &header).map(Some),
            _ => {
                tracing::warn!(path = %path.display(), "token cache is damaged or from another version; building it again");
                Ok(None)
            }
        }
    }

    fn read_tables(mut file: File, path: PathBuf, header: &Header) -> Result<Self, DataError> {
        let start = HEADER as u64 + 4 * header.tokens;
        let mut tables = || -> std::io::Result<Vec<Vec<u32>>> {
            file.seek(SeekFrom::Start(start))?;
            (0..header.tables())
                .map(|_| {
                    let mut bytes = vec![0; 4 * header.rows as usize];
                    file.read_exact(&mut bytes)?;
                    Ok(integers(&bytes))
                })
                .collect()
        };
        let mut tables = tables().map_err(|error| DataError::io("read", &path, error))?.into_iter();
        let (lengths, full_lengths) = (tables.next().unwrap_or_default(), tables.next().unwrap_or_default());
        let labels = tables.next();
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut offset = 0;
        offsets.push(offset);
        for length in &lengths {
            offset += u64::from(*length);
            offsets.push(offset);
        }
        Ok(Self { file, path, offsets, lengths, full_lengths, labels })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Tokens of each row, special tokens included.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Tokens of each row before truncation.
    pub fn full_lengths(&self) -> &[u32] {
        &self.full_lengths
    }

    /// How many rows lost tokens.
    pub fn cut_rows(&self) -> usize {
        self.lengths.iter().zip(&self.full_lengths).filter(|(length, full)| length < full).count()
    }

    /// Class id of each row; `None` without labels.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// Class id of a row; `None` without labels, or beyond the end.
    pub fn label(&self, row: usize) -> Option<u32> {
        self.labels.as_ref()?.get(row).copied()
    }

    /// Size of the cache file in bytes.
    pub fn file_size(&self) -> u64 {
        let tables = if self.labels.is_some() { 3 } else { 2 };
        HEADER as u64 + 4 * (self.offsets.last().copied().unwrap_or(0) + tables * self.len() as u64)
    }

    /// Token ids of a row.
    ///
    /// # Errors
    /// [`DataError::TokenCache`] for a row beyond the end; the file cannot be read.
    pub fn read(&self, row: usize) -> Result<Vec<u32>, DataError> {
        self.read_piece(Piece::whole(row, usize::MAX))
    }

    /// Token ids of a piece of a row, up to the row's end.
    ///
    /// # Errors
    /// As [`TokenizedDataset::read`].
    pub fn read_piece(&self, piece: Piece) -> Result<Vec<u32>, DataError> {
        let Piece { row, start, len, .. } = piece;
        let (Some(offset), Some(length)) = (self.offsets.get(row), self.lengths.get(row)) else {
            let reason = format!("there is no row {row}, it has {}", self.len());
            return Err(DataError::TokenCache { path: self.path.clone(), reason });
        };
        let start = start.min(*length as usize);
        let mut bytes = vec![0; 4 * len.min(*length as usize - start)];
        read_at(&self.file, &mut bytes, HEADER as u64 + 4 * (offset + start as u64))
            .map_err(|error| DataError::io("read", &self.path, error))?;
        Ok(integers(&bytes))
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

fn integers(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect()
}

/// SHA-256 of the header up to the checksum and of what follows it; `file` stands behind the header.
fn checksum(file: &mut File, header: &[u8; HEADER]) -> std::io::Result<[u8; 32]> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    hash.update(&header[..CHECKED_HEADER]);
    Ok(hash.finalize().into())
}

/// The head of a cache file.
pub(crate) struct Header {
    pub(crate) labelled: bool,
    pub(crate) rows: u64,
    pub(crate) tokens: u64,
    pub(crate) checksum: [u8; 32],
}

impl Header {
    /// The bytes that the checksum covers.
    pub(crate) fn checked_bytes(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32::from(self.labelled).to_le_bytes());
        bytes.extend(key);
        bytes.extend(self.rows.to_le_bytes());
        bytes.extend(self.tokens.to_le_bytes());
        bytes
    }

    /// Number of tables of one integer a row.
    fn tables(&self) -> u64 {
        if self.labelled { 3 } else { 2 }
    }

    /// `None` unless everything fits: magic, version, key, and the file's size in bytes.
    fn parse(bytes: &[u8; HEADER], key: &[u8; 32], size: u64) -> Option<Self> {
        let long = |start: usize| Some(u64::from_le_bytes(bytes.get(start..start + 8)?.try_into().ok()?));
        let header = Self {
            labelled: bytes[12] == 1,
            rows: long(48)?,
            tokens: long(56)?,
            checksum: bytes[CHECKED_HEADER..].try_into().ok()?,
        };
        let tables = header.rows.checked_mul(header.tables())?;
        let expected = tables.checked_add(header.tokens)?.checked_mul(4)?.checked_add(HEADER as u64)?;
        let same = header.checked_bytes(key) == bytes[..CHECKED_HEADER];
        (same && expected == size).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A token a letter, at most 4.
    fn encode(texts: &[String]) -> Result<Vec<Encoded>, String> {
        texts
            .iter()
            .map(|text| match text.as_str() {
                "bad" => Err("bad text".to_owned()),
                _ => Ok(Encoded {
                    ids: text.bytes().take(4).map(u32::from).collect(),
                    full_length: text.len(),
                }),
            })
            .collect()
    }

    fn texts(rows: usize) -> Vec<String> {
        (0..rows).map(|row| "abcdef"[..1 + row % 6].to_owned()).collect()
    }

    fn build(dir: &Path, texts: &[String], labels: Option<&[u32]>) -> (TokenizedDataset, bool) {
        let key = CacheKey::new("tokenizer", 4, ContentHash::of(texts, labels));
        let called = Cell::new(false);
        let counted = |part: &[String]| {
            called.set(true);
            encode(part)
        };
        let mut done = 0;
        let dataset =
            TokenizedDataset::from_texts(dir, &key, texts, labels, &counted, &mut |rows| done = rows)
                .unwrap();
        assert_eq!(done, texts.len() as u64);
        (dataset, called.get())
    }

    fn only_file(dir: &Path) -> PathBuf {
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn rows_come_back_and_are_tokenised_once() {
        let dir = tempfile::tempdir().unwrap();
        let texts = texts(10_000);
        let labels: Vec<u32> = (0..10_000).map(|row| row % 3).collect();
        assert!(build(dir.path(), &texts, Some(&labels)).1);
        let (dataset, again) = build(dir.path(), &texts, Some(&labels));
        assert!(!again);
        assert_eq!(dataset.labels(), Some(labels.as_slice()));
        assert_eq!(dataset.file_size(), std::fs::metadata(only_file(dir.path())).unwrap().len());
        for (row, encoded) in encode(&texts).unwrap().into_iter().enumerate() {
            assert_eq!(dataset.read(row).unwrap(), encoded.ids);
            for piece in [Piece::whole(row, 2), Piece { row, start: 1, len: 9, context: 1 }] {
                assert_eq!(dataset.read_piece(piece).unwrap(), piece.of(&encoded.ids));
            }
            assert_eq!(dataset.lengths()[row] as usize, encoded.ids.len());
            assert_eq!(dataset.full_lengths()[row] as usize, encoded.full_length);
        }
        assert!(matches!(dataset.read(10_000), Err(DataError::TokenCache { .. })));
        assert_eq!(dataset.label(10_000), None);
    }

    #[test]
    fn the_key_covers_tokenizer_length_texts_and_labels() {
        let key = |tokenizer, length, text: &str, labels: Option<&[u32]>| {
            CacheKey::new(tokenizer, length, ContentHash::of(&[text.to_owned()], labels))
        };
        let base = key("a", 4, "x", Some(&[0]));
        for other in [
            key("b", 4, "x", Some(&[0])),
            key("a", 5, "x", Some(&[0])),
            key("a", 4, "y", Some(&[0])),
            key("a", 4, "x", Some(&[1])),
            key("a", 4, "x", None),
        ] {
            assert_ne!(base.hash, other.hash);
        }
    }

    #[test]
    fn a_damaged_cache_is_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let texts = texts(100);
        build(dir.path(), &texts, None);
        let path = only_file(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let mut longer = whole.clone();
        longer.push(0);
        let mut damaged = vec![longer, whole[..whole.len() - 4].to_vec(), whole[..50].to_vec(), Vec::new()];
        for position in [0, 8, 12, 20, 48, 56, 70, HEADER + 5, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[position] ^= 1;
            damaged.push(bytes);
        }
        for bytes in damaged {
            std::fs::write(&path, bytes).unwrap();
            let (dataset, built) = build(dir.path(), &texts, None);
            assert!(built);
            assert_eq!(dataset.read(3).unwrap(), [97, 98, 99, 100]);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = texts(5000);
        rows[4500] = "bad".into();
        let key = CacheKey::new("t", 4, ContentHash::of(&rows, None));
        let error =
            TokenizedDataset::from_texts(dir.path(), &key, &rows, None, &encode, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "cannot tokenise rows 4096 to 4999: bad text");
        let other = CacheKey::new("t", 4, ContentHash::of(&texts(5), None));
        let error = TokenizedDataset::from_texts(dir.path(), &other, &texts(6), None, &encode, &mut |_| ())
            .unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
