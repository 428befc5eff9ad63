//! The tokenised data sets of a run.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::prepare::Prepared;
use crate::rows::{self, Rows, TokenizedRows};
use crate::tasks::Task;
use distill_data::TokenizedDataset;
use distill_data::marks::is_learnt;
use distill_data::tokenizer::Tokenizer;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

/// Tokenised rows of each data set.
#[derive(Debug)]
pub struct Datasets {
    /// Training rows.
    pub train: TokenizedRows,
    /// Validation rows, if any.
    pub validation: Option<TokenizedRows>,
    /// Test rows, if any.
    pub test: Option<TokenizedRows>,
    /// What two rows that are the same have in common.
    same: Same,
}

/// What two rows that are the same have in common.
#[derive(Clone, Copy, Debug)]
enum Same {
    /// All of their tokens.
    Tokens,
    /// The tokens before those that are learnt: a test row has no rationale, whatever training rows have.
    Prompt,
}

impl Same {
    /// The part of a row by which it is compared.
    fn of(self, row: &[u32]) -> &[u32] {
        match self {
            Self::Tokens => row,
            Self::Prompt => &row[..row.iter().position(|token| is_learnt(*token)).unwrap_or(row.len())],
        }
    }

    /// For people.
    fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Prompt => "prompt",
        }
    }
}

/// Tokenises every data set of a run, or finds its tokens in the cache.
///
/// # Errors
/// [`TrainError::Data`] if a file cannot be read, tokenised or written.
pub fn tokenize(
    prepared: &Prepared,
    cache: &Path,
    observer: &mut dyn Observer,
) -> Result<Datasets, TrainError> {
    let max_length = prepared.recipe.data.max_length;
    let mut tokens = Tokens { tokenizer: &prepared.tokenizer, max_length, cache, done: Vec::new(), observer };
    Ok(Datasets {
        train: tokens.of(&prepared.training_parts(), "training")?,
        validation: prepared.validation.as_ref().map(|rows| tokens.of(&[rows], "validation")).transpose()?,
        test: prepared.test.as_ref().map(|rows| tokens.of(&[rows], "test")).transpose()?,
        same: if matches!(prepared.task, Task::Rationale(_)) { Same::Prompt } else { Same::Tokens },
    })
}

/// The tokens of rows that are read besides, as `what` calls them.
///
/// # Errors
/// As [`tokenize`].
pub fn tokenize_by(
    tokenizer: &Tokenizer,
    parts: &[&Rows],
    max_length: usize,
    cache: &Path,
    what: &str,
    observer: &mut dyn Observer,
) -> Result<TokenizedRows, TrainError> {
    let mut tokens = Tokens { tokenizer, max_length, cache, done: Vec::new(), observer };
    tokens.of(parts, what)
}

/// One tokeniser at work on sources that several data sets may share.
struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    max_length: usize,
    cache: &'a Path,
    done: Vec<(Arc<rows::Source>, Arc<TokenizedDataset>)>,
    observer: &'a mut dyn Observer,
}

impl Tokens<'_> {
    fn of(&mut self, parts: &[&Rows], what: &str) -> Result<TokenizedRows, TrainError> {
        let mut all = TokenizedRows::default();
        for rows in parts {
            // Training and validation rows are often parts of one source, which is tokenised once.
            let done = self.done.iter().find(|(source, _)| Arc::ptr_eq(source, &rows.source));
            let dataset = match done {
                Some((_, dataset)) => dataset.clone(),
                None => self.new_source(&rows.source, what)?,
            };
            all.extend(dataset, rows);
        }
        Ok(all)
    }

    fn new_source(
        &mut self,
        source: &Arc<rows::Source>,
        what: &str,
    ) -> Result<Arc<TokenizedDataset>, TrainError> {
        let total = Some(source.scan.rows);
        let what = format!("tokenising {what} rows");
        let observer = &mut *self.observer;
        let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total });
        let dataset = rows::tokenize(source, self.tokenizer, self.max_length, self.cache, &mut progress)?;
        let dataset = Arc::new(dataset);
        self.done.push((source.clone(), dataset.clone()));
        Ok(dataset)
    }
}

/// How many test rows are training rows: an honest test has none.
fn leaked_rows(datasets: &Datasets) -> Result<usize, TrainError> {
    let Some(test) = &datasets.test else { return Ok(0) };
    let digest = |rows: &TokenizedRows, position| {
        let mut hasher = DefaultHasher::new();
        datasets.same.of(&rows.read(position)?).hash(&mut hasher);
        Ok::<u64, TrainError>(hasher.finish())
    };
    let train = &datasets.train;
    let seen = (0..train.len()).map(|position| digest(train, position)).collect::<Result<HashSet<_>, _>>()?;
    let mut leaked = 0;
    for position in 0..test.len() {
        leaked += usize::from(seen.contains(&digest(test, position)?));
    }
    Ok(leaked)
}

impl Datasets {
    /// A sentence if test rows are also training rows.
    ///
    /// # Errors
    /// [`TrainError::Data`] if the token cache cannot be read.
    pub fn leak_warning(&self) -> Result<Option<String>, TrainError> {
        let leaked = leaked_rows(self)?;
        let (rows, same) = (self.test.as_ref().map_or(0, TokenizedRows::len), self.same.name());
        Ok((leaked > 0).then(|| {
            format!(
                "{leaked} of {rows} test rows have the same {same} as a training row, which flatters the scores"
            )
        }))
    }
}
