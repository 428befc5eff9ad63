//! Work in pieces of fixed size, and the new vectors that the pieces fill.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Elements of one piece. Work of at most one piece stays on its thread: waking another costs microseconds.
pub(crate) const PIECE: usize = 1 << 14;

/// How many rows of `width` elements make a piece.
pub(crate) fn rows_per_piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// `work` of each piece, in parallel if there are several; the results stand in the order of the pieces.
pub(crate) fn each_piece<T: Send, R: Send>(
    pieces: impl Iterator<Item = T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    let pieces: Vec<T> = pieces.collect();
    if pieces.len() <= 1 {
        return pieces.into_iter().map(work).collect();
    }
    pieces.into_par_iter().map(work).collect()
}

/// A new vector of `len` elements. Its memory is not cleared first, which would cost as much as a cheap kernel.
///
/// # Safety
/// `fill` writes every element.
#[allow(unsafe_code)]
pub(crate) unsafe fn filled(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is there, and the caller promises that all of it was written.
    unsafe { out.set_len(len) };
    out
}

/// `len` zeros, written by all threads: one alone would clear the gradient of a vocabulary's embeddings for a while.
#[allow(unsafe_code)]
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    // SAFETY: the pieces cover all of it.
    unsafe {
        filled(len, |out| {
            each_piece(out.chunks_mut(PIECE), |out| {
                out.fill(MaybeUninit::new(0.0));
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_order() {
        for pieces in [0, 1, 2, 1000] {
            assert_eq!(
                each_piece(0..pieces, |piece| piece * 2),
                (0..pieces).map(|p| p * 2).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_row_wider_than_a_piece_is_one() {
        assert_eq!(rows_per_piece(PIECE + 1), 1);
        assert_eq!(rows_per_piece(0), PIECE);
        assert_eq!(rows_per_piece(384), 42);
    }
}
