//! What a run minimises: one file an objective.

mod hard_labels;

pub use hard_labels::hard_labels;
