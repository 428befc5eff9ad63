//! What can stop a run.

use distill_data::DataError;
use distill_data::hub::HubError;
use distill_data::tokenizer::TokenizerError;
use distill_eval::EvalError;
use distill_models::ModelError;
use distill_ops::DeviceError;
use distill_recipe::Faults;
use std::path::{Path, PathBuf};

/// What can stop a run, before it or in it.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe has mistakes.
    #[error(transparent)]
    Recipe(#[from] Faults),
    /// A data file cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The hub refused, or could not be reached.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The tokeniser cannot be read or made.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model cannot be read, made or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The predictions cannot be measured.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A file or folder cannot be read or written.
    #[error("cannot read or write `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The output folder has a run in it.
    #[error("`{}` already holds a run ({status})", path.display())]
    OutputExists {
        /// The output folder.
        path: PathBuf,
        /// How far that run got.
        status: String,
    },
    /// The output folder has something else in it.
    #[error("`{}` is not empty, and what it holds is not a run of `distill`", path.display())]
    OutputNotARun {
        /// The output folder.
        path: PathBuf,
    },
    /// Another process trains into the output folder.
    #[error("another process is writing to `{}`", path.display())]
    OutputLocked {
        /// The output folder.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("nothing to resume: `{}` holds no run", path.display())]
    NothingToResume {
        /// The output folder.
        path: PathBuf,
    },
    /// The recipe, the data or the model differ from those of the run to go on with.
    #[error("`{}` was begun with other settings:\n{}", path.display(), differences.join("\n"))]
    ResumeDiffers {
        /// The output folder.
        path: PathBuf,
        /// A line for each setting: its key, the value then and the value now.
        differences: Vec<String>,
    },
    /// A file of a checkpoint is not what was written.
    #[error("`{}` is damaged: it differs from its recorded checksum or cannot be read", file.display())]
    CorruptCheckpoint {
        /// The file.
        file: PathBuf,
    },
    /// A checkpoint does not fit the model.
    #[error("the checkpoint does not fit the model: {message}")]
    Checkpoint {
        /// What does not fit.
        message: String,
    },
    /// The loss or the gradient is not a finite number.
    #[error(
        "the {what} of step {step} is {value} (learning rate {learning_rate:.3e}); {}",
        last_good.as_ref().map_or("there is no checkpoint yet".to_owned(), |path| format!("last good checkpoint: `{}`", path.display()))
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// The value found.
        value: f64,
        /// The learning rate of that step.
        learning_rate: f64,
        /// The newest checkpoint.
        last_good: Option<PathBuf>,
    },
    /// The machine has too little memory or disk.
    #[error("{what} needed: about {}, there: {}", gibibytes(*needed), gibibytes(*available))]
    TooLittle {
        /// `memory` or `disk space`.
        what: &'static str,
        /// Bytes needed, an estimate.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// The model and the tokeniser do not belong together.
    #[error("the tokenizer has {tokenizer} tokens, the model's embeddings {model}")]
    VocabularyMismatch {
        /// Tokens of the tokeniser: its largest id + 1.
        tokenizer: usize,
        /// Rows of the embeddings.
        model: usize,
    },
    /// Texts may be longer than the model can read.
    #[error("`max_length` is {max_length}, the model reads at most {limit} tokens")]
    TooLong {
        /// The setting.
        max_length: usize,
        /// The model's limit.
        limit: usize,
    },
    /// Stopped from outside where there is nothing to save.
    #[error("stopped")]
    Interrupted,
    /// The model cannot be used as it is asked to be.
    #[error("{message}")]
    Unusable {
        /// Why not.
        message: String,
        /// The way out.
        help: String,
    },
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

impl TrainError {
    /// Makes an error of what the system says about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn checkpoint_without(name: &str) -> Self {
        Self::Checkpoint { message: format!("`{name}` is in one and not in the other") }
    }

    /// Whether the cause is what the user gave (exit code 2), not what happened on the way (1).
    pub fn is_input(&self) -> bool {
        let on_the_way = matches!(
            self,
            Self::Io { .. }
                | Self::NotFinite { .. }
                | Self::CorruptCheckpoint { .. }
                | Self::OutputLocked { .. }
                | Self::Interrupted
                | Self::Eval(EvalError::NotFinite { .. })
                | Self::Hub(HubError::Network { .. } | HubError::Disk { .. } | HubError::Corrupt { .. })
        );
        !on_the_way
    }

    /// The way out, where the message does not say it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::OutputExists { .. } => {
                "go on with it by `--resume`, replace it by `--overwrite`, or choose another `output_dir`"
            }
            Self::OutputNotARun { .. } => "choose another `output_dir`; `--overwrite` replaces only runs",
            Self::OutputLocked { .. } => "wait for it, or choose another `output_dir`",
            Self::NothingToResume { .. } => "leave `--resume` away, or check `output_dir`",
            Self::ResumeDiffers { .. } => {
                "put the settings back to go on, or start anew by `--overwrite` or in another `output_dir`"
            }
            Self::CorruptCheckpoint { file } if file.to_string_lossy().contains("best-") => {
                "the best model is lost: start anew by `--overwrite`"
            }
            Self::CorruptCheckpoint { .. } => {
                "remove that folder; `--resume` then takes the checkpoint before it"
            }
            Self::NotFinite { .. } => {
                "lower `learning_rate`, raise `warmup_ratio`, check the data, or write `on_nan = \"skip\"`"
            }
            Self::TooLittle { what: "memory", .. } => {
                "lower `batch_size` (and raise `gradient_accumulation_steps`) or `max_length`, set \
                 `gradient_checkpointing = true`, or take a smaller model"
            }
            Self::TooLittle { .. } => {
                "free some space, choose another `output_dir`, or lower `save_total_limit`"
            }
            Self::VocabularyMismatch { .. } => "use the tokenizer that the model was trained with",
            Self::TooLong { .. } => "lower `max_length`",
            Self::Unusable { help, .. } => help,
            Self::Data(error) => return error.help(),
            _ => return None,
        };
        Some(help.to_owned())
    }
}
