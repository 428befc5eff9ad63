//! Batches of language models: packed sequences for decoders, pairs of sequences for
//! encoder-decoders.
use crate::batch::{IGNORED_LABEL, Padding};
use crate::error::DataError;
use crate::marks::{id, is_learnt};
use crate::packing::Piece;

/// Sequences of pieces side by side, row-major, padded at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageModelBatch {
    /// `[batch, seq]`.
    pub input_ids: Vec<u32>,
    /// `[batch, seq]`, 1 = token, 0 = padding.
    pub attention_mask: Vec<u8>,
    /// `[batch, seq]`: the token at the same place if it is to be predicted from those before it,
    /// else −100. Never that of a piece's first token, so that shifted by one place they stay within
    /// pieces.
    pub labels: Vec<i64>,
    /// `[batch, seq]`: place within the piece, from 0; 0 for padding.
    pub position_ids: Vec<u32>,
    /// `[batch, seq]`: number of the piece within its sequence, from 0; padding has the number after
    /// the last piece's. Tokens attend to their own segment alone.
    pub segment_ids: Vec<u32>,
    /// The pieces of each sequence.
    pub pieces: Vec<Vec<Piece>>,
    /// Number of sequences.
    pub batch_size: usize,
    /// Width in tokens, padding included.
    pub sequence_length: usize,
}

impl LanguageModelBatch {
    /// Number of tokens that are no padding.
    pub fn tokens(&self) -> usize {
        self.attention_mask.iter().map(|kept| usize::from(*kept)).sum()
    }

    /// Number of tokens that the loss counts.
    pub fn learnt(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED_LABEL).count()
    }

    /// Whether a sequence holds more than one piece, so that attention must not cross segments.
    pub fn is_packed(&self) -> bool {
        self.pieces.iter().any(|pieces| pieces.len() > 1)
    }
}

/// Makes a batch of sequences of pieces, each a row of a plan of [`pack`](crate::pack), or one
/// window, or one whole row; `read` gives the tokens of a piece with their marks, as
/// [`TokenizedDataset::read_piece`](crate::TokenizedDataset::read_piece) does.
///
/// The width is that of the longest sequence, rounded up as `padding` says.
///
/// # Errors
/// [`DataError::TooLong`] for a sequence longer than `padding.max_length`, and what `read` fails with.
pub fn collate_packed<E: From<DataError>>(
    sequences: &[&[Piece]],
    read: &mut dyn FnMut(Piece) -> Result<Vec<u32>, E>,
    padding: &Padding,
) -> Result<LanguageModelBatch, E> {
    let length = |pieces: &&[Piece]| pieces.iter().map(|piece| piece.len).sum::<usize>();
    let width = width(sequences.iter().map(length), padding).map_err(|(number, length)| {
        let row = sequences[number].first().map_or(0, |piece| piece.row);
        DataError::TooLong { row, length, max_length: padding.max_length }
    })?;
    let size = sequences.len() * width;
    let mut batch = LanguageModelBatch {
        input_ids: Vec::with_capacity(size),
        attention_mask: Vec::with_capacity(size),
        labels: Vec::with_capacity(size),
        position_ids: Vec::with_capacity(size),
        segment_ids: Vec::with_capacity(size),
        pieces: sequences.iter().map(|pieces| pieces.to_vec()).collect(),
        batch_size: sequences.len(),
        sequence_length: width,
    };
    for (number, pieces) in sequences.iter().enumerate() {
        for (segment, piece) in (0..).zip(*pieces) {
            let mut tokens = read(*piece)?;
            tokens.truncate(piece.len);
            batch.input_ids.extend(tokens.iter().map(|token| id(*token)));
            batch.labels.extend(tokens.iter().enumerate().map(|(place, token)| {
                if place >= piece.context.max(1) && is_learnt(*token) {
                    i64::from(id(*token))
                } else {
                    IGNORED_LABEL
                }
            }));
            batch.position_ids.extend(0..tokens.len() as u32);
            batch.segment_ids.resize(batch.input_ids.len(), segment);
        }
        batch.attention_mask.resize(number * width, 0);
        batch.attention_mask.resize(batch.input_ids.len(), 1);
        let end = (number + 1) * width;
        batch.input_ids.resize(end, padding.pad_token_id);
        batch.attention_mask.resize(end, 0);
        batch.labels.resize(end, IGNORED_LABEL);
        batch.position_ids.resize(end, 0);
        batch.segment_ids.resize(end, pieces.len() as u32);
    }
    Ok(batch)
}

/// Prompts and targets for an encoder-decoder, row-major, each padded at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seq2SeqBatch {
    /// `[batch, source_seq]`: what the encoder reads.
    pub input_ids: Vec<u32>,
    /// `[batch, source_seq]`, 1 = token, 0 = padding.
    pub attention_mask: Vec<u8>,
    /// `[batch, target_seq]`: what the decoder writes, from its first token on; −100 for padding.
    pub labels: Vec<i64>,
    /// `[batch]`, rows of the data set.
    pub rows: Vec<usize>,
    /// Number of rows.
    pub batch_size: usize,
    /// Width of `input_ids` in tokens.
    pub source_length: usize,
    /// Width of `labels` in tokens.
    pub target_length: usize,
}

/// Makes a batch of `rows` whose tokens, with their marks, are a prompt and then a target, as
/// [`Layout::EncoderDecoder`](crate::Layout) has them.
///
/// # Errors
/// [`DataError::TooLong`] for a prompt or a target longer than `padding.max_length`, and what `read`
/// fails with.
pub fn collate_seq2seq<E: From<DataError>>(
    rows: &[usize],
    read: &mut dyn FnMut(usize) -> Result<Vec<u32>, E>,
    padding: &Padding,
) -> Result<Seq2SeqBatch, E> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let mut source = read(*row)?;
        let target =
            source.split_off(source.iter().position(|token| is_learnt(*token)).unwrap_or(source.len()));
        parts.push((source, target));
    }
    let too_long = |(number, length): (usize, usize)| DataError::TooLong {
        row: rows[number],
        length,
        max_length: padding.max_length,
    };
    let source_length = width(parts.iter().map(|(source, _)| source.len()), padding).map_err(too_long)?;
    let target_length = width(parts.iter().map(|(_, target)| target.len()), padding).map_err(too_long)?;
    let (mut input_ids, mut attention_mask, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (source, target)) in parts.iter().enumerate() {
        input_ids.extend(source);
        attention_mask.resize(input_ids.len(), 1);
        input_ids.resize((number + 1) * source_length, padding.pad_token_id);
        attention_mask.resize((number + 1) * source_length, 0);
        labels.extend(target.iter().map(|token| i64::from(id(*token))));
        labels.resize((number + 1) * target_length, IGNORED_LABEL);
    }
    Ok(Seq2SeqBatch {
        input_ids,
        attention_mask,
        labels,
        rows: rows.to_vec(),
        batch_size: rows.len(),
        source_length,
        target_length,
    })
}

/// The longest of `lengths`, rounded up; the number and length of one that is too long.
fn width(lengths: impl Iterator<Item = usize>, padding: &Padding) -> Result<usize, (usize, usize)> {
    let mut longest = 1;
    for (number, length) in lengths.enumerate() {
        if length > padding.max_length {
            return Err((number, length));
        }
        longest = longest.max(length);
    }
    Ok(longest.next_multiple_of(padding.multiple_of.max(1)).min(padding.max_length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::learnt;
    use crate::packing::{Cut, pack, windows};

    const PADDING: Padding = Padding { pad_token_id: 99, multiple_of: 8, max_length: 12 };
    const X: i64 = IGNORED_LABEL;

    /// Row 0 is a document, row 1 a prompt with a target, row 2 a long document.
    fn rows() -> Vec<Vec<u32>> {
        let document = |ids: std::ops::Range<u32>| ids.map(learnt).collect::<Vec<u32>>();
        vec![document(10..13), vec![20, 21, learnt(22), learnt(23)], document(30..44)]
    }

    fn collated(sequences: &[&[Piece]]) -> Result<LanguageModelBatch, DataError> {
        let rows = rows();
        collate_packed(sequences, &mut |piece| Ok(piece.of(&rows[piece.row]).to_vec()), &PADDING)
    }

    #[test]
    fn pieces_keep_to_themselves() {
        let plan = [vec![Piece::whole(0, 3), Piece::whole(1, 4)], vec![Piece::whole(1, 4)]];
        let batch = collated(&[&plan[0], &plan[1]]).unwrap();
        assert_eq!((batch.batch_size, batch.sequence_length), (2, 8));
        assert_eq!(batch.input_ids[..8], [10, 11, 12, 20, 21, 22, 23, 99]);
        assert_eq!(batch.input_ids[8..], [20, 21, 22, 23, 99, 99, 99, 99]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(batch.labels[..8], [X, 11, 12, X, X, 22, 23, X]);
        assert_eq!(batch.labels[8..], [X, X, 22, 23, X, X, X, X]);
        assert_eq!(batch.position_ids, [0, 1, 2, 0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 0, 0, 0]);
        assert_eq!(batch.segment_ids, [0, 0, 0, 1, 1, 1, 1, 2, 0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!((batch.tokens(), batch.learnt()), (11, 6));
        assert!(batch.is_packed());
        assert!(!collated(&[&plan[1]]).unwrap().is_packed());
        assert_eq!(batch.pieces, plan);
    }

    #[test]
    fn every_learnt_token_is_a_label_once_however_rows_are_cut() {
        let rows = rows();
        let lengths: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
        let expected: Vec<i64> = vec![11, 12, 22, 23].into_iter().chain(31..44).collect();
        let labels = |plan: &[Vec<Piece>]| {
            let sequences: Vec<&[Piece]> = plan.iter().map(Vec::as_slice).collect();
            let batch = collated(&sequences).unwrap();
            let mut labels: Vec<i64> = batch.labels.iter().copied().filter(|label| *label != X).collect();
            labels.sort_unstable();
            labels
        };
        for max_length in 2..=12 {
            assert_eq!(labels(&pack(&lengths, max_length, Cut::Anywhere).unwrap()), expected);
            let windows = windows(&lengths, max_length, max_length / 2).unwrap();
            assert_eq!(labels(&windows.into_iter().map(|window| vec![window]).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn a_sequence_that_is_too_long_is_named() {
        let error = collated(&[&[Piece::whole(0, 3)], &[Piece::whole(2, 14)]]).unwrap_err();
        assert_eq!(error.to_string(), "row 2 has 14 tokens, `max_length` is 12");
        assert_eq!(collated(&[&[Piece { len: 9, ..Piece::whole(2, 9) }]]).unwrap().sequence_length, 12);
    }

    #[test]
    fn prompts_and_targets_are_padded_apart() {
        let rows = [vec![1, 2, 3, learnt(4), learnt(5)], vec![6, learnt(7)]];
        let batch: Result<_, DataError> =
            collate_seq2seq(&[1, 0], &mut |row| Ok(rows[row].clone()), &PADDING);
        let batch = batch.unwrap();
        assert_eq!((batch.batch_size, batch.source_length, batch.target_length), (2, 8, 8));
        assert_eq!(batch.input_ids, [6, 99, 99, 99, 99, 99, 99, 99, 1, 2, 3, 99, 99, 99, 99, 99]);
        assert_eq!(batch.attention_mask, [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(batch.labels, [7, X, X, X, X, X, X, X, 4, 5, X, X, X, X, X, X]);
        assert_eq!(batch.rows, [1, 0]);
        let long = |_| Ok::<_, DataError>(vec![learnt(1); 13]);
        let error = collate_seq2seq(&[5], &mut { long }, &PADDING).unwrap_err();
        assert_eq!(error.to_string(), "row 5 has 13 tokens, `max_length` is 12");
    }
}
