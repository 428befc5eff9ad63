//! Safetensors files: read a tensor at a time, written so that the same tensors give the same bytes.
//!
//! The header is read by the `safetensors` crate's own checked parser; the data is read by seeking, without a memory
//! map, so that a file that shrinks under us is an error and not a signal.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::ModelError;
use crate::atomic::write_atomically;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the length field before the header.
const LENGTH_FIELD: u64 = 8;

/// An opened file: its header in memory, its data on disk.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Where the data starts, in bytes.
    start: u64,
}

impl TensorFile {
    /// Opens a file and checks that its header and its length agree.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = || ModelError::io("read", path);
        let mut file = File::open(path).map_err(io())?;
        let length = file.metadata().map_err(io())?.len();
        if length < LENGTH_FIELD {
            return Err(ModelError::corrupt(path, format!("it has {length} bytes, too few for a header")));
        }
        let mut field = [0; LENGTH_FIELD as usize];
        file.read_exact(&mut field).map_err(io())?;
        let header_length = u64::from_le_bytes(field);
        if header_length > MAX_HEADER {
            return Err(ModelError::corrupt(
                path,
                format!("its header would have {header_length} bytes, allowed are {MAX_HEADER}"),
            ));
        }
        let start = LENGTH_FIELD + header_length;
        if start > length {
            return Err(ModelError::corrupt(
                path,
                format!("its header ends at byte {start}, but it has {length} bytes: it is cut short"),
            ));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io())?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| ModelError::corrupt(path, format!("its header is damaged: {error}")))?;
        let expected = start.saturating_add(header.data_len() as u64);
        if expected != length {
            let what = if length < expected { "it is cut short" } else { "it has bytes that no tensor owns" };
            return Err(ModelError::corrupt(
                path,
                format!("its tensors end at byte {expected}, but it has {length} bytes: {what}"),
            ));
        }
        Ok(Self { path: path.to_owned(), file, header, start })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor's name and description, in the order of the file.
    pub(crate) fn tensors(&self) -> Vec<(String, TensorInfo)> {
        self.header
            .offset_keys()
            .into_iter()
            .filter_map(|name| self.header.info(&name).cloned().map(|info| (name, info)))
            .collect()
    }

    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// One tensor's numbers as f32; `None` if it is not of a floating-point type.
    pub(crate) fn read_f32(&self, info: &TensorInfo) -> Result<Option<Vec<f32>>, ModelError> {
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Ok(None);
        }
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        // `&File` reads too, so that readers need no `&mut`.
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64)).map_err(ModelError::io("read", &self.path))?;
        file.read_exact(&mut bytes).map_err(ModelError::io("read", &self.path))?;
        Ok(Some(match info.dtype {
            Dtype::F32 => numbers(&bytes, f32::from_le_bytes),
            Dtype::F16 => numbers(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => numbers(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
            _ => numbers(&bytes, |b| f64::from_le_bytes(b) as f32),
        }))
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
}

/// A safetensors file in memory, as f32.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFileContent {
    /// Name to shape and numbers, row by row.
    pub tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// The free-form metadata of the header.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a whole file of floating-point tensors; other types are left out.
///
/// # Errors
/// [`ModelError::Io`], or [`ModelError::Corrupt`] for a file that is cut short or damaged.
pub fn read_safetensors(path: &Path) -> Result<TensorFileContent, ModelError> {
    let file = TensorFile::open(path)?;
    let mut tensors = HashMap::new();
    for (name, info) in file.tensors() {
        if let Some(values) = file.read_f32(&info)? {
            tensors.insert(name, (info.shape, values));
        }
    }
    Ok(TensorFileContent { tensors, metadata: file.metadata() })
}

/// Writes f32 tensors, sorted by name: the same tensors and metadata give the same bytes.
///
/// The file appears whole or not at all: it is written under a temporary name, synced and renamed.
///
/// # Errors
/// [`ModelError::Io`]; [`ModelError::Corrupt`] if a shape and its numbers disagree or a name occurs twice.
pub fn write_safetensors(
    path: &Path,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ModelError> {
    write_tensors(path, tensors, metadata, StoredDtype::F32)
}

/// What numbers are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredDtype {
    /// As they are.
    F32,
    /// Rounded to IEEE half precision.
    F16,
    /// Rounded to bfloat16.
    Bf16,
}

impl StoredDtype {
    /// Bytes of a number.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name in safetensors headers.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// The name in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn write(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => bytes.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
            Self::Bf16 => bytes.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes())),
        }
    }
}

/// [`write_safetensors`] with the numbers rounded to `dtype`.
pub(crate) fn write_tensors(
    path: &Path,
    mut tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    metadata: &BTreeMap<String, String>,
    dtype: StoredDtype,
) -> Result<(), ModelError> {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let header = header(path, &tensors, metadata, dtype)?;
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut bytes = Vec::new();
        for (_, _, values) in &tensors {
            for values in values.chunks(1 << 16) {
                bytes.clear();
                dtype.write(values, &mut bytes);
                file.write_all(&bytes)?;
            }
        }
        Ok(())
    })
}

fn header(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: &BTreeMap<String, String>,
    dtype: StoredDtype,
) -> Result<String, ModelError> {
    let mut entries = serde_json::Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    }
    let mut offset = 0;
    for (name, shape, values) in tensors {
        if shape.iter().product::<usize>() != values.len() {
            let reason = format!("tensor `{name}` of shape {shape:?} was given {} numbers", values.len());
            return Err(ModelError::corrupt(path, reason));
        }
        let end = offset + values.len() * dtype.bytes();
        let entry = serde_json::json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [offset, end]});
        if entries.insert(name.clone(), entry).is_some() {
            return Err(ModelError::corrupt(path, format!("tensor `{name}` was given twice")));
        }
        offset = end;
    }
    let mut header = serde_json::Value::Object(entries).to_string();
    // The format wants the data aligned; readers skip trailing spaces.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<(String, Vec<usize>, Vec<f32>)> {
        vec![
            ("b".to_owned(), vec![2, 2], vec![1.0, -2.0, 0.5, f32::MIN_POSITIVE]),
            ("a".to_owned(), vec![3], vec![0.1, 0.2, 0.3]),
            ("scalar".to_owned(), vec![], vec![7.0]),
        ]
    }

    fn pt() -> BTreeMap<String, String> {
        BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("step".to_owned(), "3".to_owned())])
    }

    #[test]
    fn what_is_written_is_read_back_and_the_bytes_do_not_vary() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.safetensors"), folder.path().join("two.safetensors"));
        write_safetensors(&one, sample(), &pt()).unwrap();
        let mut reversed = sample();
        reversed.reverse();
        write_safetensors(&two, reversed, &pt()).unwrap();
        let bytes = std::fs::read(&one).unwrap();
        assert_eq!(bytes, std::fs::read(&two).unwrap());
        let content = read_safetensors(&one).unwrap();
        assert_eq!(content.metadata, pt());
        for (name, shape, values) in sample() {
            assert_eq!(content.tensors[&name], (shape, values));
        }
        // The reference reader agrees.
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("b").unwrap().shape(), [2, 2]);
        assert_eq!(reference.names().len(), 3);
        // No temporary file is left.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn half_and_double_precision_are_read_as_single() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let values = [1.5f32, -0.25, 100.0];
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|v| f(*v)).collect::<Vec<u8>>();
        let tensors = [
            ("f16", Dtype::F16, bytes(&|v| f16::from_f32(v).to_le_bytes().to_vec())),
            ("bf16", Dtype::BF16, bytes(&|v| bf16::from_f32(v).to_le_bytes().to_vec())),
            ("f64", Dtype::F64, bytes(&|v| f64::from(v).to_le_bytes().to_vec())),
        ];
        let views: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, data)| {
                (*name, safetensors::tensor::TensorView::new(*dtype, vec![3], data).unwrap())
            })
            .collect();
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let content = read_safetensors(&path).unwrap();
        for name in ["f16", "bf16", "f64"] {
            assert_eq!(content.tensors[name].1, values);
        }
    }

    #[test]
    fn damaged_files_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        write_safetensors(&path, sample(), &pt()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let damaged = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match read_safetensors(&path).unwrap_err() {
                ModelError::Corrupt { reason, .. } => reason,
                other => panic!("expected `Corrupt`, found {other}"),
            }
        };
        assert!(damaged(&whole[..4]).contains("too few for a header"));
        assert!(damaged(&whole[..40]).contains("it is cut short"));
        assert!(damaged(&whole[..whole.len() - 1]).contains("it is cut short"));
        assert!(damaged(&[&whole[..], b"x"].concat()).contains("no tensor owns"));
        assert!(damaged(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()).contains("allowed are"));
        let mut broken = whole.clone();
        broken[10] = b'}';
        assert!(damaged(&broken).contains("header is damaged"));
        let overlapping = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
        let mut bytes = (overlapping.len() as u64).to_le_bytes().to_vec();
        bytes.extend(overlapping);
        bytes.extend([0; 6]);
        assert!(damaged(&bytes).contains("header is damaged"));
    }

    #[test]
    fn a_shape_that_disagrees_with_its_numbers_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let wrong = vec![("a".to_owned(), vec![2], vec![1.0])];
        assert!(write_safetensors(&path, wrong, &pt()).is_err());
        assert!(!path.exists());
    }
}
