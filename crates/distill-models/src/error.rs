//! What can be wrong with a model's folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::ConfigError;

/// Why a model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system said no.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// `read`, `write`, `open`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No weights where they are looked for.
    #[error(
        "no weights in `{}`: expected `model.safetensors` or `model.safetensors.index.json`{}",
        folder.display(), other_format(.folder)
    )]
    NoWeights {
        /// The model's folder.
        folder: PathBuf,
    },
    /// `config.json` is not JSON.
    #[error("`{}` is not valid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// `config.json` describes something that cannot be built.
    #[error("`{}`: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A weights file that is cut short, damaged or no safetensors file at all.
    #[error("`{}` is not a usable safetensors file: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// `model.safetensors.index.json` names a file that is not there.
    #[error("`{}` names the shard `{shard}`, which is not in its folder; download the model again", index.display())]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The missing file's name.
        shard: String,
    },
    /// `model.safetensors.index.json` is not an index.
    #[error("`{}` is not a usable index of weights: {reason}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tensors that are missing or do not fit, all of them.
    #[error("the weights in `{}` do not fit their `config.json`: {}", folder.display(), list(.faults))]
    Tensors {
        /// The model's folder.
        folder: PathBuf,
        /// Every fault, in the order of the architecture.
        faults: Vec<TensorFault>,
    },
    /// An adapter that cannot be used.
    #[error("`{}` is not a usable adapter: {reason}", path.display())]
    Adapter {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `target_modules` names no layer.
    #[error("`target_modules` matches no dense layer of this model; it has {}", quoted(.modules))]
    NothingAdapted {
        /// The last words of the layers' names.
        modules: Vec<String>,
    },
    /// The architecture has no such head.
    #[error("`{model_type}` models cannot be used for {task}; {}", .help)]
    UnsupportedTask {
        /// The architecture.
        model_type: &'static str,
        /// The task, in words.
        task: &'static str,
        /// What to do.
        help: &'static str,
    },
}

/// One tensor that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorFault {
    /// The architecture has it, the files do not.
    Missing {
        /// The tensor.
        name: String,
        /// Its shape by `config.json`.
        expected: Vec<usize>,
    },
    /// It has another shape.
    Shape {
        /// The tensor.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// Its shape by `config.json`.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// It holds no floating-point numbers.
    Dtype {
        /// The tensor.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// Its data type in the file.
        found: String,
    },
}

impl TensorFault {
    /// The tensor.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Missing { name, .. } | Self::Shape { name, .. } | Self::Dtype { name, .. } => name,
        }
    }
}

impl fmt::Display for TensorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected } => {
                write!(f, "tensor `{name}` is missing (expected shape {expected:?})")
            }
            Self::Shape { name, file, expected, found } => write!(
                f,
                "tensor `{name}` in `{}` has shape {found:?}, expected {expected:?}",
                file.display()
            ),
            Self::Dtype { name, file, found } => write!(
                f,
                "tensor `{name}` in `{}` has data type {found}, expected F32, F16, BF16 or F64",
                file.display()
            ),
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Faults shown in one message; the rest is counted.
const SHOWN: usize = 5;

fn list(faults: &[TensorFault]) -> String {
    let mut text = faults.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if faults.len() > SHOWN {
        text.push_str(&format!("; and {} more", faults.len() - SHOWN));
    }
    text
}

fn other_format(folder: &Path) -> &'static str {
    if folder.join("pytorch_model.bin").exists() {
        "; `pytorch_model.bin` is not read: convert it with `save_pretrained(..., safe_serialization=True)`"
    } else {
        ""
    }
}

impl ModelError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_faults_are_cut() {
        let fault = |n: usize| TensorFault::Missing { name: format!("layer.{n}"), expected: vec![2, 3] };
        let error = ModelError::Tensors { folder: "m".into(), faults: (0..7).map(fault).collect() };
        let message = error.to_string();
        assert!(message.contains("tensor `layer.4` is missing (expected shape [2, 3])"), "{message}");
        assert!(message.ends_with("; and 2 more"), "{message}");
    }
}
