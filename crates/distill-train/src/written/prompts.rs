//! The beginnings of texts that models are to go on from.

use crate::error::TrainError;
use crate::prepare::Prepared;
use crate::rows::TokenizedRows;
use distill_data::marks::{id, is_learnt};
use distill_data::windows;

/// Tokens of a document that are kept as its beginning, where nothing is said.
const USUAL_PROMPT_TOKENS: usize = 32;

/// Where in a row the beginning ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beginning {
    /// Before what is learnt: of prompts with targets, and of conversations before their first answer.
    BeforeLearnt,
    /// After so many tokens: of documents.
    Tokens(usize),
}

impl Beginning {
    /// That of the rows of a run.
    pub(super) fn of_run(prepared: &Prepared, prompt_tokens: Option<usize>) -> Self {
        match prepared.reads_documents() {
            true => Self::Tokens(prompt_tokens.unwrap_or(USUAL_PROMPT_TOKENS)),
            false => Self::BeforeLearnt,
        }
    }

    /// The beginning of a row, or of a piece of one: ids without marks, at least one where there is one.
    pub(super) fn of(self, tokens: &[u32]) -> Vec<u32> {
        let end = match self {
            Self::Tokens(count) => count,
            Self::BeforeLearnt => {
                tokens.iter().position(|token| is_learnt(*token)).unwrap_or(tokens.len()).max(1)
            }
        };
        tokens.iter().take(end).map(|token| id(*token)).collect()
    }

    /// Those of all rows: one a row, or one for each `max_length` tokens of a document.
    pub(super) fn of_rows(
        self,
        rows: &TokenizedRows,
        max_length: usize,
    ) -> Result<Vec<Vec<u32>>, TrainError> {
        let prompts: Vec<Vec<u32>> = match self {
            Self::BeforeLearnt => (0..rows.len())
                .map(|position| Ok(self.of(&rows.read(position)?)))
                .collect::<Result<_, TrainError>>()?,
            Self::Tokens(_) => windows(rows.lengths(), max_length, max_length.saturating_sub(1).max(1))?
                .into_iter()
                .map(|piece| Ok(self.of(&rows.read_piece(piece)?)))
                .collect::<Result<_, TrainError>>()?,
        };
        Ok(prompts.into_iter().filter(|prompt| !prompt.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_data::marks::learnt;

    #[test]
    fn beginnings_end_before_the_answer_or_after_some_tokens() {
        let row = [1, 2, learnt(3), learnt(4)];
        assert_eq!(Beginning::BeforeLearnt.of(&row), [1, 2]);
        assert_eq!(Beginning::BeforeLearnt.of(&row[2..]), [3]);
        assert_eq!(Beginning::Tokens(3).of(&row), [1, 2, 3]);
        assert_eq!(Beginning::Tokens(9).of(&row), [1, 2, 3, 4]);
        assert!(Beginning::BeforeLearnt.of(&[]).is_empty());
    }
}
