//! Why no student can be made as it was asked for.

use std::path::PathBuf;

use crate::{ConfigError, ModelError};

/// Why no student can be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StudentError {
    /// The teacher's folder cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The architecture or its sizes, every fault.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// An empty choice of layers.
    #[error("`layers` must name at least one of the teacher's {available} layers")]
    NoLayers {
        /// The teacher's layers.
        available: usize,
    },
    /// More layers than there are.
    #[error("`num_hidden_layers` must be at most {available}, the layers of the teacher, found `{found}`")]
    TooManyLayers {
        /// Layers of the student.
        found: usize,
        /// The teacher's layers.
        available: usize,
    },
    /// A layer that the teacher does not have.
    #[error(
        "`layers` must be numbers from 0 to {}, found `{found}`: the teacher has {available} layers, counted from 0",
        available - 1
    )]
    LayerOutOfRange {
        /// The number.
        found: usize,
        /// The teacher's layers.
        available: usize,
    },
    /// Layers in another order than the teacher's.
    #[error("`layers` must be in ascending order, each layer once, found `{found:?}`")]
    LayersNotAscending {
        /// The choice.
        found: Vec<usize>,
    },
    /// A number of layers that contradicts the choice of layers.
    #[error("`num_hidden_layers` is `{found}`, but `layers` chooses {chosen}: leave one of them out")]
    LayerCount {
        /// The number.
        found: usize,
        /// How many layers are chosen.
        chosen: usize,
    },
    /// Fewer or more layers, and no word on which.
    #[error(
        "`num_hidden_layers` is `{found}`, the teacher has {available} layers: add `layers` to say which of them the \
         student starts from, a list of numbers from 0 or \"even\""
    )]
    LayersNotChosen {
        /// The number.
        found: usize,
        /// The teacher's layers.
        available: usize,
    },
    /// Copied layers in another architecture.
    #[error(
        "`layers` copies layers of the teacher, which is `{teacher}`, into a student of architecture `{student}`: \
         leave out `layers`, and the student takes the teacher's embeddings alone, or leave out `architecture`"
    )]
    LayersOfAnotherArchitecture {
        /// `model_type` of the teacher.
        teacher: &'static str,
        /// `model_type` of the student.
        student: &'static str,
    },
    /// Copied layers of other sizes.
    #[error(
        "`layers` copies layers of the teacher, whose `{key}` is `{teacher}`, found `{found}`: leave out `{key}`, or \
         leave out `layers` for new layers and the teacher's embeddings"
    )]
    LayersOfOtherSize {
        /// The key.
        key: String,
        /// The student's value.
        found: String,
        /// The teacher's value.
        teacher: String,
    },
    /// A student of a model that writes texts with layers of its own.
    #[error(
        "a student of `{teacher}`, which writes texts, has layers of its teacher and its sizes: choose them by `layers`, \
         and leave out other sizes; or begin a model of its own by `path` or `architecture` in `[student]`, without `init`"
    )]
    NewLayersOfAWriter {
        /// `model_type` of the teacher.
        teacher: &'static str,
    },
    /// An encoder-decoder whose layers cannot be chosen by one list.
    #[error(
        "the teacher has {encoder} layers in its encoder and {decoder} in its decoder: layers are chosen alike in both \
         halves, and need as many in each"
    )]
    UnequalHalves {
        /// Layers of the encoder.
        encoder: usize,
        /// Layers of the decoder.
        decoder: usize,
    },
    /// Embeddings can be projected onto fewer numbers, not onto more.
    #[error("`{key}` must be at most {teacher}, the width of the teacher's embeddings, found `{found}`")]
    Wider {
        /// `hidden_size` or `embedding_size`.
        key: &'static str,
        /// The student's width.
        found: usize,
        /// The teacher's width.
        teacher: usize,
    },
    /// Embeddings without principal directions.
    #[error("the word embeddings in `{}` cannot be projected: {reason}", folder.display())]
    Projection {
        /// The teacher's folder.
        folder: PathBuf,
        /// What is wrong with them.
        reason: &'static str,
    },
}
