//! Other columns of the same rows: what a teacher reads, or what is learnt beside the labels.

use crate::error::TrainError;
use crate::events::Observer;
use crate::read_data::read_other_columns;
use crate::rows::{Rows, Source};
use distill_recipe::{Column, OneOrMany};
use std::sync::Arc;

/// Sources, each with the one that is read in its place.
#[derive(Default)]
pub struct ReadInstead(Vec<(Arc<Source>, Arc<Source>)>);

impl ReadInstead {
    /// The sources of these rows read by other columns; none without columns.
    ///
    /// # Errors
    /// As when the data were read first, if a column is missing.
    pub(crate) fn by_columns(
        columns: Option<&OneOrMany<Column>>,
        rows: &[&Rows],
        what: &str,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let mut found = Self::default();
        let Some(columns) = columns else { return Ok(found) };
        for rows in rows {
            // Training and validation rows are often parts of one source, which is read once.
            if !found.0.iter().any(|(source, _)| Arc::ptr_eq(source, &rows.source)) {
                let source = read_other_columns(&rows.source, columns, what, observer)?;
                found.0.push((rows.source.clone(), Arc::new(source)));
            }
        }
        Ok(found)
    }

    /// The same rows of the source that is read in place of theirs, if one is.
    pub(crate) fn rows(&self, rows: &Rows) -> Option<Rows> {
        let (_, source) = self.0.iter().find(|(source, _)| Arc::ptr_eq(source, &rows.source))?;
        Some(Rows { source: source.clone(), rows: rows.rows.clone() })
    }
}
