//! The logits of a teacher on disk, so that a second run, or another student, does not run it.
//!
//! A file holds those of all rows of a data set, in chunks with a checksum each. It grows under another name; what a
//! killed run left is read up to its first bad chunk and completed, and the file gets its own name once it is whole.
//! Rows are read where they stand, a batch at a time. Logits have no pattern that a compressor would find (their
//! mantissas are noise); `f16` halves them.

use crate::checkpoint::hex;
use crate::error::TrainError;
use distill_recipe::{CacheDtype, STAGE_FOLDER};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"DSTLLGT\x01";
/// Rows of a chunk.
const CHUNK_ROWS: usize = 512;
/// Bytes of a chunk's checksum: the first of its SHA-256.
const CHECKSUM: usize = 8;
/// Chunks between two flushes to the disk.
const CHUNKS_A_SYNC: usize = 16;

/// The folder of the caches of a run that writes to `output_dir`: beside it, so that other runs find them; the stages of
/// a recipe have one, beside the folder of the whole recipe.
pub fn teacher_cache(output_dir: &Path) -> PathBuf {
    let stages = output_dir.parent().filter(|parent| parent.ends_with(STAGE_FOLDER));
    let of_recipe = stages.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let parent = of_recipe.unwrap_or(output_dir).parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).join(".teacher-cache")
}

/// All that a teacher's logits depend on.
#[derive(Clone, Debug)]
pub struct LogitKey {
    /// SHA-256 of the teacher's weights and configuration.
    pub teacher: String,
    /// Hash of the tokeniser that it reads by.
    pub tokenizer: String,
    /// Where its texts are cut, in tokens.
    pub max_length: usize,
    /// Hash of the texts.
    pub content: String,
    /// What it multiplies in, and on which device.
    pub computing: String,
    /// Which rows of the data set are there: hash of their numbers, empty for all.
    pub selection: String,
    /// Rows.
    pub rows: usize,
    /// Logits a row.
    pub classes: usize,
    /// As they are stored.
    pub dtype: CacheDtype,
}

impl LogitKey {
    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let numbers = [self.max_length, self.rows, self.classes, value_bytes(self.dtype)];
        for text in [&self.teacher, &self.tokenizer, &self.content, &self.computing, &self.selection] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        for number in numbers {
            hash.update((number as u64).to_le_bytes());
        }
        hash.finalize().into()
    }

    fn header(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &self.hash()].concat()
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.logits", hex(&self.hash()[..16])))
    }
}

fn value_bytes(dtype: CacheDtype) -> usize {
    match dtype {
        CacheDtype::F32 => 4,
        CacheDtype::F16 => 2,
    }
}

/// The logits of a data set, read from their file as they are needed.
#[derive(Debug)]
pub struct CachedLogits {
    file: File,
    path: PathBuf,
    rows: usize,
    classes: usize,
    dtype: CacheDtype,
}

impl CachedLogits {
    /// The cache of `key` if it is there and whole.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it is there and cannot be read.
    pub fn open(folder: &Path, key: &LogitKey) -> Result<Option<Self>, TrainError> {
        let path = key.path(folder);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io(&path)(error)),
        };
        let whole = good_chunks(&mut file, key).map_err(TrainError::io(&path))? == chunks(key);
        Ok(whole.then_some(Self { file, path, rows: key.rows, classes: key.classes, dtype: key.dtype }))
    }

    /// The cache of `key`, made or completed by `ask` where it is not whole: it is given the numbers of some rows and
    /// returns their logits, row by row.
    ///
    /// While another process is making it, `wait` is called again and again; it returns after a moment.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the disk refuses, and whatever `ask` and `wait` fail with; what was answered stays.
    pub fn complete(
        folder: &Path,
        key: &LogitKey,
        wait: &mut dyn FnMut() -> Result<(), TrainError>,
        ask: &mut dyn FnMut(std::ops::Range<usize>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Self, TrainError> {
        if let Some(cached) = Self::open(folder, key)? {
            return Ok(cached);
        }
        fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let path = key.path(folder);
        // A file of that name that is not whole was damaged after it had been finished: it is made anew.
        let partial = path.with_extension("partial");
        let io = |error| TrainError::io(&partial)(error);
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(true).truncate(false);
        let mut file = loop {
            let file = open.open(&partial).map_err(io)?;
            // Some network file systems have no locks; the file is then used without.
            if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                break file;
            }
            wait()?;
        };
        // Whoever had the lock may have finished it; what was opened is then either that file, or new and empty.
        if let Some(cached) = Self::open(folder, key)? {
            let _ = fs::remove_file(&partial);
            return Ok(cached);
        }
        let done = good_chunks(&mut file, key).map_err(io)?;
        let at = key.header().len() + done * (CHUNK_ROWS * key.classes * value_bytes(key.dtype) + CHECKSUM);
        if done == 0 {
            file.set_len(0).map_err(io)?;
            file.seek(SeekFrom::Start(0)).map_err(io)?;
            file.write_all(&key.header()).map_err(io)?;
        } else {
            file.set_len(at as u64).map_err(io)?;
            file.seek(SeekFrom::Start(at as u64)).map_err(io)?;
        }
        for chunk in done..chunks(key) {
            let rows = chunk * CHUNK_ROWS..((chunk + 1) * CHUNK_ROWS).min(key.rows);
            let bytes = encode(&ask(rows)?, key.dtype);
            file.write_all(&bytes).map_err(io)?;
            file.write_all(&checksum(&bytes)).map_err(io)?;
            if (chunk + 1) % CHUNKS_A_SYNC == 0 {
                file.sync_data().map_err(io)?;
            }
        }
        file.sync_all().map_err(io)?;
        fs::rename(&partial, &path).map_err(TrainError::io(&path))?;
        Self::open(folder, key)?.ok_or(TrainError::CorruptCheckpoint { file: path })
    }

    /// Logits of a row.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn read(&self, row: usize) -> Result<Vec<f32>, TrainError> {
        let width = self.classes * value_bytes(self.dtype);
        let row = row.min(self.rows.saturating_sub(1));
        let header = MAGIC.len() + 32;
        let at = header + row * width + row / CHUNK_ROWS * CHECKSUM;
        let mut bytes = vec![0; width];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(TrainError::io(&self.path))?;
        Ok(decode(&bytes, self.dtype))
    }
}

fn chunks(key: &LogitKey) -> usize {
    key.rows.div_ceil(CHUNK_ROWS)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let mut first = [0; CHECKSUM];
    first.copy_from_slice(&hash[..CHECKSUM]);
    first
}

/// How many chunks from the first one on are as they were written.
fn good_chunks(file: &mut File, key: &LogitKey) -> std::io::Result<usize> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = std::io::BufReader::new(file);
    let mut header = vec![0; key.header().len()];
    if !read_whole(&mut reader, &mut header)? || header != key.header() {
        return Ok(0);
    }
    for chunk in 0..chunks(key) {
        let rows = CHUNK_ROWS.min(key.rows - chunk * CHUNK_ROWS);
        let mut bytes = vec![0; rows * key.classes * value_bytes(key.dtype)];
        let mut sum = [0; CHECKSUM];
        let whole = read_whole(&mut reader, &mut bytes)? && read_whole(&mut reader, &mut sum)?;
        if !whole || sum != checksum(&bytes) {
            return Ok(chunk);
        }
    }
    Ok(chunks(key))
}

/// Whether there were so many bytes left.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn encode(logits: &[f32], dtype: CacheDtype) -> Vec<u8> {
    match dtype {
        CacheDtype::F32 => logits.iter().flat_map(|value| value.to_le_bytes()).collect(),
        CacheDtype::F16 => {
            logits.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect()
        }
    }
}

fn decode(bytes: &[u8], dtype: CacheDtype) -> Vec<f32> {
    match dtype {
        CacheDtype::F32 => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        CacheDtype::F16 => {
            bytes.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dtype: CacheDtype) -> LogitKey {
        LogitKey {
            teacher: "a".to_owned(),
            tokenizer: "b".to_owned(),
            max_length: 16,
            content: "c".to_owned(),
            computing: "flex, f32".to_owned(),
            selection: String::new(),
            rows: 3 * CHUNK_ROWS + 7,
            classes: 3,
            dtype,
        }
    }

    fn logits(rows: std::ops::Range<usize>) -> Vec<f32> {
        rows.flat_map(|row| [row as f32, -0.5, 0.25]).collect()
    }

    /// There is no other process to wait for.
    fn alone() -> Result<(), TrainError> {
        Err(TrainError::Interrupted)
    }

    #[test]
    fn rows_come_back_and_are_asked_for_once() {
        for dtype in [CacheDtype::F32, CacheDtype::F16] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut asked = 0;
            let mut ask = |rows: std::ops::Range<usize>| {
                asked += rows.len();
                Ok(logits(rows))
            };
            assert!(CachedLogits::open(folder.path(), &key(dtype)).expect("reads").is_none());
            let cached =
                CachedLogits::complete(folder.path(), &key(dtype), &mut alone, &mut ask).expect("writes");
            for row in [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, 3 * CHUNK_ROWS + 6] {
                assert_eq!(cached.read(row).expect("reads"), logits(row..row + 1));
            }
            CachedLogits::complete(folder.path(), &key(dtype), &mut alone, &mut ask).expect("opens");
            assert_eq!(asked, key(dtype).rows);
            let other = LogitKey { content: "d".to_owned(), ..key(dtype) };
            assert!(CachedLogits::open(folder.path(), &other).expect("reads").is_none());
        }
    }

    #[test]
    fn what_a_kill_left_is_completed_and_a_torn_chunk_is_not_trusted() {
        let key = key(CacheDtype::F32);
        let folder = tempfile::tempdir().expect("a folder");
        let mut chunk = 0;
        let stopped = CachedLogits::complete(folder.path(), &key, &mut alone, &mut |rows| {
            chunk += 1;
            if chunk == 3 { Err(TrainError::Interrupted) } else { Ok(logits(rows)) }
        });
        assert!(matches!(stopped, Err(TrainError::Interrupted)));
        // The second chunk is torn.
        let partial = key.path(folder.path()).with_extension("partial");
        let length = fs::metadata(&partial).expect("is there").len();
        OpenOptions::new()
            .write(true)
            .open(&partial)
            .and_then(|file| file.set_len(length - 5))
            .expect("cuts");
        let mut asked = Vec::new();
        let cached = CachedLogits::complete(folder.path(), &key, &mut alone, &mut |rows| {
            asked.push(rows.start);
            Ok(logits(rows))
        })
        .expect("completes");
        assert_eq!(asked, [CHUNK_ROWS, 2 * CHUNK_ROWS, 3 * CHUNK_ROWS]);
        assert_eq!(cached.read(CHUNK_ROWS + 1).expect("reads"), logits(CHUNK_ROWS + 1..CHUNK_ROWS + 2));
        assert!(!partial.exists());
    }

    #[test]
    fn a_cache_that_another_process_makes_is_waited_for() {
        let key = key(CacheDtype::F32);
        let folder = tempfile::tempdir().expect("a folder");
        let partial = key.path(folder.path()).with_extension("partial");
        let mut other = Some(File::create(&partial).expect("makes"));
        other.as_ref().expect("is open").lock().expect("locks");
        let elsewhere = tempfile::tempdir().expect("a folder");
        let mut ask = |rows: std::ops::Range<usize>| Ok(logits(rows));
        CachedLogits::complete(elsewhere.path(), &key, &mut alone, &mut ask).expect("writes");
        let mut looks = 0;
        let mut wait = || {
            looks += 1;
            if looks == 3 {
                fs::copy(key.path(elsewhere.path()), &partial).expect("copies");
                fs::rename(&partial, key.path(folder.path())).expect("renames");
                other = None;
            }
            Ok(())
        };
        let mut never = |_| Err(TrainError::Interrupted);
        let cached = CachedLogits::complete(folder.path(), &key, &mut wait, &mut never).expect("waits");
        assert_eq!(cached.read(5).expect("reads"), logits(5..6));
        assert_eq!(looks, 3);
        assert!(!partial.exists());
    }

    #[test]
    fn the_stages_of_a_recipe_have_one_folder() {
        let folder = |path: &str| teacher_cache(Path::new(path));
        assert_eq!(folder("checkpoints/a"), Path::new("checkpoints/.teacher-cache"));
        assert_eq!(folder("a"), Path::new("./.teacher-cache"));
        assert_eq!(folder("checkpoints/a/stages/1-general"), Path::new("checkpoints/.teacher-cache"));
        assert_eq!(folder("a/stages/1-general"), Path::new("./.teacher-cache"));
        assert_eq!(folder("stages/1-general"), Path::new("stages/.teacher-cache"));
    }

    #[test]
    fn a_whole_file_that_was_changed_is_made_anew() {
        let key = key(CacheDtype::F32);
        let folder = tempfile::tempdir().expect("a folder");
        CachedLogits::complete(folder.path(), &key, &mut alone, &mut |rows| Ok(logits(rows)))
            .expect("writes");
        let path = key.path(folder.path());
        let mut bytes = fs::read(&path).expect("reads");
        bytes[60] ^= 1;
        fs::write(&path, bytes).expect("writes");
        assert!(CachedLogits::open(folder.path(), &key).expect("reads").is_none());
        let cached = CachedLogits::complete(folder.path(), &key, &mut alone, &mut |rows| Ok(logits(rows)))
            .expect("writes");
        assert_eq!(cached.read(5).expect("reads"), logits(5..6));
    }
}
