//! From tokenised rows to examples of a task: packed or cut in windows, with what is to be predicted of them.

use crate::error::TrainError;
use crate::examples::{ExampleKind, Examples, Sequences};
use crate::rows::TokenizedRows;
use crate::tasks::Task;
use distill_data::tokenizer::Tokenizer;
use distill_data::{Cut, Masking, Piece, RowEncoder, pack, windows};
use distill_models::{ModelConfig, Task as ModelTask};
use std::sync::Arc;

/// What examples of a task depend on.
#[derive(Clone, Copy)]
pub(crate) struct ExampleMaker<'a> {
    /// The task.
    pub(crate) task: &'a Task,
    /// The model's configuration.
    pub(crate) config: &'a ModelConfig,
    /// Hides tokens, for a masked language model.
    pub(crate) masking: Option<&'a Masking>,
    /// Longest sequence, in tokens.
    pub(crate) max_length: usize,
    /// Id of the padding token.
    pub(crate) pad_token_id: u32,
    /// As [`Examples::side_by_side`], for training.
    pub(crate) side_by_side: bool,
    /// Whether rows are documents, which may be cut anywhere.
    pub(crate) documents: bool,
}

impl ExampleMaker<'_> {
    /// These rows with what is to be learnt of them.
    ///
    /// # Errors
    /// [`TrainError::Data`] if rows do not fit into sequences of `max_length`.
    pub(crate) fn of_training(self, rows: TokenizedRows) -> Result<Examples, TrainError> {
        Ok(Examples { side_by_side: self.side_by_side, ..self.learnt(rows)? })
    }

    fn learnt(self, rows: TokenizedRows) -> Result<Examples, TrainError> {
        let packing = match self.task {
            Task::LanguageModeling(task) => task.packing,
            Task::Seq2Seq(task) => task.packing,
            Task::Rationale(_) => {
                let explained = |rows: &TokenizedRows| pieces_of(rows, Parts::All);
                return Ok(Examples { max_length: 2 * self.max_length, ..self.of_kind(rows, explained)? });
            }
            Task::Classification(_) | Task::MaskedLanguageModeling(_) => false,
        };
        // An encoder-decoder reads each prompt by itself.
        if !packing || self.config.task != ModelTask::CausalLm {
            return self.of_held_out(rows);
        }
        let cut = if self.documents { Cut::Anywhere } else { Cut::Never };
        self.of_kind(rows, |rows| Ok(pack(rows.lengths(), self.max_length, cut)?))
    }

    /// These rows with what is to be predicted of them when they are measured: texts that are too long in windows, each
    /// token counted once.
    ///
    /// # Errors
    /// As [`Self::of_training`].
    pub(crate) fn of_held_out(self, rows: TokenizedRows) -> Result<Examples, TrainError> {
        let stride = match self.task {
            Task::LanguageModeling(task) => task.stride,
            _ => None,
        };
        let stride = stride.unwrap_or(self.max_length).min(self.max_length - 1);
        let explained = matches!(self.task, Task::Rationale(_));
        self.of_kind(rows, |rows| {
            if explained {
                return pieces_of(rows, Parts::Labels);
            }
            if self.documents {
                let windows = windows(rows.lengths(), self.max_length, stride)?;
                return Ok(windows.into_iter().map(|window| vec![window]).collect());
            }
            let whole = |(row, &len): (usize, &u32)| vec![Piece::whole(row, len as usize)];
            Ok(rows.lengths().iter().enumerate().map(whole).collect())
        })
    }

    fn of_kind(
        self,
        rows: TokenizedRows,
        sequences: impl FnOnce(&TokenizedRows) -> Result<Vec<Vec<Piece>>, TrainError>,
    ) -> Result<Examples, TrainError> {
        let explained = matches!(self.task, Task::Rationale(_));
        let sequences = |rows: &TokenizedRows| {
            let sequences = Sequences::new(sequences(rows)?);
            Ok::<_, TrainError>(Arc::new(if explained { sequences.explained() } else { sequences }))
        };
        let kind = match (self.masking, &self.config.task) {
            (Some(masking), _) => ExampleKind::Hidden(masking.clone()),
            (None, ModelTask::CausalLm) => ExampleKind::Next(sequences(&rows)?),
            (None, ModelTask::Seq2SeqLm) => ExampleKind::Target {
                decoder_start_token_id: self.config.base.decoder_start_token_id().unwrap_or(0),
                sequences: sequences(&rows)?,
            },
            (None, ModelTask::Classification { .. } | ModelTask::MaskedLm) => ExampleKind::Labels,
        };
        let (pad_token_id, max_length) = (self.pad_token_id, self.max_length);
        Ok(Examples { rows, kind, pad_token_id, max_length, side_by_side: false })
    }
}

/// Id of the padding token: the tokeniser's, else the model's.
pub(crate) fn pad_token_id(tokenizer: &Tokenizer, config: &ModelConfig) -> u32 {
    tokenizer.pad_token_id().or(config.base.pad_token_id()).unwrap_or(0)
}

/// What hides tokens of a masked language model.
///
/// # Errors
/// [`TrainError::Unusable`] if the tokenizer has no mask token.
pub(crate) fn masking_of(
    task: &Task,
    tokenizer: &Tokenizer,
    seed: u64,
) -> Result<Option<Masking>, TrainError> {
    let Task::MaskedLanguageModeling(task) = task else { return Ok(None) };
    masking_with(tokenizer, task.mlm_probability, seed).map(Some)
}

/// What hides this part of the tokens.
///
/// # Errors
/// [`TrainError::Unusable`] if the tokenizer has no mask token.
pub(crate) fn masking_with(
    tokenizer: &Tokenizer,
    mlm_probability: f64,
    seed: u64,
) -> Result<Masking, TrainError> {
    Masking::new(tokenizer, mlm_probability, seed).ok_or_else(|| TrainError::Unusable {
        message: "the tokenizer has no mask token, and this task hides tokens".to_owned(),
        help: "take a tokenizer with a mask token, such as that of a BERT model".to_owned(),
    })
}

/// Which pairs of rationale rows are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    Labels,
}

/// The pairs of each row: the label's, and the rationale's where there is one.
fn pieces_of(rows: &TokenizedRows, parts: Parts) -> Result<Vec<Vec<Piece>>, TrainError> {
    let pieces = |row| {
        let tokens = rows.read(row)?;
        let Some(second) = RowEncoder::second_pair(&tokens) else {
            return Ok(vec![Piece::whole(row, tokens.len())]);
        };
        let label = Piece::whole(row, second);
        let rationale = Piece { start: second, ..Piece::whole(row, tokens.len() - second) };
        Ok(if parts == Parts::All { vec![label, rationale] } else { vec![label] })
    };
    (0..rows.len()).map(pieces).collect()
}
