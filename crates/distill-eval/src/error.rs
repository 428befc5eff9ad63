//! What can be wrong with the numbers that are to be scored.

use thiserror::Error;

/// Predictions that cannot be scored.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EvalError {
    /// There is no row to score.
    #[error("there is no row to evaluate; give at least one")]
    Empty,

    /// A classifier needs a class.
    #[error("the predictions have `0` classes; a classifier has at least 1")]
    NoClasses,

    /// The logits do not form a `[rows, classes]` matrix.
    #[error(
        "found `{found}` logits for `{rows}` labels and `{classes}` classes; \
         a row-major `[rows, classes]` matrix has {rows} x {classes}"
    )]
    LogitShape {
        /// Number of logits given.
        found: usize,
        /// Number of labels, hence of rows expected.
        rows: usize,
        /// Number of classes.
        classes: usize,
    },

    /// A label that no class has.
    #[error("row {row} has label `{label}`, the model has `{classes}` classes; labels are 0 to {}", classes - 1)]
    LabelOutOfRange {
        /// Row, counted from 0.
        row: usize,
        /// The label found.
        label: u32,
        /// Number of classes, at least 1.
        classes: usize,
    },

    /// A predicted class that the model does not have.
    #[error("row {row} has prediction `{prediction}`, the model has `{classes}` classes; predictions are 0 to {}", classes - 1)]
    PredictionOutOfRange {
        /// Row, counted from 0.
        row: usize,
        /// The prediction found.
        prediction: u32,
        /// Number of classes, at least 1.
        classes: usize,
    },

    /// Labels and predicted classes of different length.
    #[error("found `{labels}` labels and `{predictions}` predictions; each row has one of both")]
    RowCount {
        /// Number of labels.
        labels: usize,
        /// Number of predicted classes.
        predictions: usize,
    },

    /// A logit that is infinite or not a number.
    #[error(
        "the logit of row {row}, class {class} is `{value}`, which is not finite; \
         the model has diverged or its weights are damaged"
    )]
    NotFinite {
        /// Row, counted from 0.
        row: usize,
        /// Class, counted from 0.
        class: usize,
        /// The value found.
        value: f32,
    },

    /// Class names that do not fit the classes.
    #[error("found `{names}` label names for `{classes}` classes; give one name a class")]
    NameCount {
        /// Number of names given.
        names: usize,
        /// Number of classes.
        classes: usize,
    },

    /// A generated text that nothing is known to compare with.
    #[error("row {row} has no reference text to compare the generated one with; give at least one")]
    NoReference {
        /// Row, counted from 0.
        row: usize,
    },
}
