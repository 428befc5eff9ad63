//! Which rows, or pieces of them, share a sequence of full length.
//!
//! Short rows that are padded one by one waste most of a batch; packed, they fill it, and attention
//! stays within each piece by [`segment_ids`](crate::LanguageModelBatch::segment_ids).
use std::collections::BTreeMap;

use crate::error::DataError;

/// A stretch of a row's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The row.
    pub row: usize,
    /// Its first token that belongs to the piece.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// How many tokens at the start are only read, at least 1: nothing precedes the first one.
    pub context: usize,
}

impl Piece {
    /// The whole of a row of `len` tokens.
    pub fn whole(row: usize, len: usize) -> Self {
        Self { row, start: 0, len, context: 1 }
    }

    /// The piece of the row's `tokens`; shorter where the row is.
    pub fn of(self, tokens: &[u32]) -> &[u32] {
        let end = self.start.saturating_add(self.len).min(tokens.len());
        &tokens[self.start.min(end)..end]
    }
}

/// Where rows may be cut so that sequences are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Anywhere, as suits documents. The piece after a cut begins with the last token before it, so
    /// that every token but a row's first is predicted once.
    Anywhere,
    /// Nowhere, as suits prompts with targets, and conversations.
    Never,
}

/// The pieces of each packed sequence of at most `max_length` tokens; `lengths` has the tokens of
/// each row.
///
/// [`Cut::Anywhere`] fills one sequence after the other in the order of rows. [`Cut::Never`] puts
/// each row, the longest first, into the fullest sequence that has room for it (best fit decreasing,
/// which needs at most 11/9 of the fewest sequences; Johnson et al. 1974, SIAM J. Comput. 3); the
/// sequences then stand in the order of their first rows. Rows of fewer than two tokens predict
/// nothing and are left out.
///
/// # Errors
/// [`DataError::TooLong`] for a row longer than `max_length` that must not be cut;
/// [`DataError::WindowTooShort`] if `max_length` is below 2.
pub fn pack(lengths: &[u32], max_length: usize, cut: Cut) -> Result<Vec<Vec<Piece>>, DataError> {
    if max_length < 2 {
        return Err(DataError::WindowTooShort { max_length });
    }
    match cut {
        Cut::Anywhere => Ok(fill(lengths, max_length)),
        Cut::Never => best_fit(lengths, max_length),
    }
}

fn fill(lengths: &[u32], max_length: usize) -> Vec<Vec<Piece>> {
    let (mut sequences, mut open, mut room) = (Vec::new(), Vec::new(), max_length);
    for (row, length) in lengths.iter().enumerate() {
        let length = *length as usize;
        let mut start = 0;
        // Of the rest of a row its first token is context, so that one token alone is done.
        while length > start + 1 {
            if room < 2 {
                sequences.push(std::mem::take(&mut open));
                room = max_length;
            }
            let len = room.min(length - start);
            open.push(Piece { row, start, len, context: 1 });
            room -= len;
            start += len - 1;
        }
    }
    if !open.is_empty() {
        sequences.push(open);
    }
    sequences
}

fn best_fit(lengths: &[u32], max_length: usize) -> Result<Vec<Vec<Piece>>, DataError> {
    let mut rows: Vec<usize> = (0..lengths.len()).filter(|row| lengths[*row] > 1).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(lengths[*row]), *row));
    let mut sequences: Vec<Vec<Piece>> = Vec::new();
    // Sequences by the tokens that they have room for.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows {
        let length = lengths[row] as usize;
        if length > max_length {
            return Err(DataError::TooLong { row, length, max_length });
        }
        let fullest = open.range_mut(length..).next().map(|(room, with_it)| (*room, with_it.pop()));
        let (room, sequence) = match fullest {
            Some((room, Some(sequence))) => {
                if open.get(&room).is_some_and(Vec::is_empty) {
                    open.remove(&room);
                }
                (room, sequence)
            }
            _ => {
                sequences.push(Vec::new());
                (max_length, sequences.len() - 1)
            }
        };
        sequences[sequence].push(Piece::whole(row, length));
        open.entry(room - length).or_default().push(sequence);
    }
    for sequence in &mut sequences {
        sequence.sort_unstable_by_key(|piece| piece.row);
    }
    sequences.sort_unstable_by_key(|sequence| sequence.first().map(|piece| piece.row));
    Ok(sequences)
}

/// Windows of `max_length` tokens that score rows of any length: each row's first window, and then
/// one every `stride` tokens, of which only the last `stride` count, so that every token but a row's
/// first is scored exactly once, with at least `max_length - stride` tokens before it where there are
/// as many.
///
/// # Errors
/// [`DataError::Stride`] unless `stride` is at least 1 and below `max_length`.
pub fn windows(lengths: &[u32], max_length: usize, stride: usize) -> Result<Vec<Piece>, DataError> {
    if stride == 0 || stride >= max_length {
        return Err(DataError::Stride { stride, max_length });
    }
    let mut windows = Vec::new();
    for (row, length) in lengths.iter().enumerate() {
        let length = *length as usize;
        // Tokens that have been scored, or are a row's first.
        let mut done = 1;
        while done < length {
            let end = if done == 1 { max_length } else { done + stride }.min(length);
            let start = end.saturating_sub(max_length);
            windows.push(Piece { row, start, len: end - start, context: done - start });
            done = end;
        }
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths from 0 to `largest`, by a simple generator.
    fn lengths(seed: u64, rows: usize, largest: u32) -> Vec<u32> {
        let mut state = seed;
        (0..rows)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32 % (largest + 1)
            })
            .collect()
    }

    /// How often each token of each row is predicted.
    fn predicted<'a>(lengths: &[u32], pieces: impl IntoIterator<Item = &'a Piece>) -> Vec<Vec<u32>> {
        let mut counts: Vec<Vec<u32>> = lengths.iter().map(|length| vec![0; *length as usize]).collect();
        for piece in pieces {
            assert!(piece.context >= 1 && piece.context < piece.len);
            for count in &mut counts[piece.row][piece.start + piece.context..piece.start + piece.len] {
                *count += 1;
            }
        }
        counts
    }

    fn once_but_the_first(lengths: &[u32]) -> Vec<Vec<u32>> {
        lengths.iter().map(|length| (0..*length).map(|token| u32::from(token > 0)).collect()).collect()
    }

    #[test]
    fn documents_fill_every_sequence_and_lose_no_token() {
        let piece = |row, start, len| Piece { row, start, len, context: 1 };
        let found = pack(&[5, 1, 3, 0, 9], 6, Cut::Anywhere).unwrap();
        let expected = [
            // One place is left, which could hold no prediction.
            vec![piece(0, 0, 5)],
            vec![piece(2, 0, 3), piece(4, 0, 3)],
            vec![piece(4, 2, 6)],
            vec![piece(4, 7, 2)],
        ];
        assert_eq!(found, expected);
        for (seed, max_length) in [(1, 2), (2, 3), (3, 17), (4, 64), (5, 1000)] {
            let lengths = lengths(seed, 200, 90);
            let found = pack(&lengths, max_length, Cut::Anywhere).unwrap();
            assert_eq!(predicted(&lengths, found.iter().flatten()), once_but_the_first(&lengths));
            let (last, full) = found.split_last().unwrap();
            let tokens = |pieces: &[Piece]| pieces.iter().map(|piece| piece.len).sum::<usize>();
            assert!(full.iter().all(|pieces| (max_length - 1..=max_length).contains(&tokens(pieces))));
            assert!(tokens(last) <= max_length);
        }
    }

    #[test]
    fn whole_rows_share_sequences_that_have_room() {
        let rows = |found: &[Vec<Piece>]| -> Vec<Vec<usize>> {
            found.iter().map(|pieces| pieces.iter().map(|piece| piece.row).collect()).collect()
        };
        // 7+3, 6+4, 5+2+2, and one token that predicts nothing.
        let found = pack(&[2, 7, 4, 1, 5, 3, 6, 2], 10, Cut::Never).unwrap();
        assert_eq!(rows(&found), [vec![0, 4, 7], vec![1, 5], vec![2, 6]]);
        for (seed, max_length) in [(1, 90), (2, 128), (3, 1000)] {
            let lengths = lengths(seed, 300, 90);
            let found = pack(&lengths, max_length, Cut::Never).unwrap();
            assert_eq!(predicted(&lengths, found.iter().flatten()), once_but_the_first(&lengths));
            assert!(
                found
                    .iter()
                    .flatten()
                    .all(|piece| piece.start == 0 && piece.len == lengths[piece.row] as usize)
            );
            let tokens: Vec<usize> =
                found.iter().map(|pieces| pieces.iter().map(|piece| piece.len).sum()).collect();
            assert!(tokens.iter().all(|tokens| *tokens <= max_length));
            let fewest = tokens.iter().sum::<usize>().div_ceil(max_length);
            assert!(found.len() * 9 <= fewest * 11 + 9, "{} of {fewest}", found.len());
        }
    }

    #[test]
    fn rows_that_cannot_be_packed_are_named() {
        let error = pack(&[3, 9], 8, Cut::Never).unwrap_err();
        assert_eq!(error.to_string(), "row 1 has 9 tokens, `max_length` is 8");
        assert!(matches!(pack(&[3], 1, Cut::Anywhere), Err(DataError::WindowTooShort { .. })));
        assert_eq!(pack(&[0, 1], 4, Cut::Anywhere).unwrap(), Vec::<Vec<Piece>>::new());
    }

    #[test]
    fn windows_score_every_token_but_the_first_once() {
        let found = windows(&[5, 1, 12], 6, 2).unwrap();
        let piece = |row, start, len, context| Piece { row, start, len, context };
        let expected =
            [piece(0, 0, 5, 1), piece(2, 0, 6, 1), piece(2, 2, 6, 4), piece(2, 4, 6, 4), piece(2, 6, 6, 4)];
        assert_eq!(found, expected);
        for (max_length, stride) in [(2, 1), (7, 3), (16, 15), (16, 1), (200, 64)] {
            let lengths = lengths(stride as u64, 40, 90);
            let found = windows(&lengths, max_length, stride).unwrap();
            assert_eq!(predicted(&lengths, &found), once_but_the_first(&lengths));
            for window in &found {
                assert!(window.len <= max_length);
                let (row, scored) = (lengths[window.row] as usize, window.len - window.context);
                let is_last = window.start + window.len == row;
                assert!(is_last || window.len == max_length);
                assert!(window.start == 0 || scored == stride || is_last && scored < stride);
            }
        }
        for stride in [0, 6, 7] {
            assert!(matches!(windows(&[5], 6, stride), Err(DataError::Stride { .. })));
        }
    }

    #[test]
    fn a_piece_is_cut_from_its_row() {
        let piece = Piece { row: 0, start: 1, len: 3, context: 1 };
        assert_eq!(piece.of(&[7, 8, 9, 10, 11]), [8, 9, 10]);
        assert_eq!(piece.of(&[7, 8]), [8]);
        assert_eq!(piece.of(&[]), [0_u32; 0]);
    }
}
