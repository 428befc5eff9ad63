//! Table look-up, and its gradient as a scatter that touches only the rows in use.

use super::pieces::{each_piece, filled, rows_per_piece};

/// The rows of `weight` with the numbers `ids`: `[ids, width]`.
///
/// # Panics
/// If an id is not a row of `weight`.
#[allow(unsafe_code)]
pub(crate) fn embedding(weight: &[f32], width: usize, ids: &[i64]) -> Vec<f32> {
    let rows = rows_per_piece(width);
    // SAFETY: each id has its `width` elements of `out`, and all of them are written, or nothing returns.
    unsafe {
        filled(ids.len() * width, |out| {
            each_piece(ids.chunks(rows).zip(out.chunks_mut(rows * width)), |(ids, out)| {
                for (id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
                    let first = row_of(*id) * width;
                    out.write_copy_of_slice(&weight[first..first + width]);
                }
            });
        })
    }
}

/// Adds each row of `dy` to the row of `grad` that its id names, and returns the distinct ids, ascending.
///
/// Rows of one id are added in the order of `ids`, by one thread. Rows of `grad` that no id names are not touched.
///
/// # Shapes
/// - `dy`: `[ids, width]`
/// - `grad`: `[vocab, width]`
///
/// # Panics
/// If an id is not a row of `grad`.
pub(crate) fn embedding_backward(dy: &[f32], width: usize, ids: &[i64], grad: &mut [f32]) -> Vec<usize> {
    assert_eq!(dy.len(), ids.len() * width);
    let mut order: Vec<(usize, usize)> = ids.iter().map(|id| row_of(*id)).zip(0..).collect();
    order.sort_unstable();
    let uses: Vec<&[(usize, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let touched: Vec<usize> = uses.iter().map(|uses| uses[0].0).collect();

    let (mut rest, mut next) = (grad, 0);
    let mut targets = Vec::with_capacity(uses.len());
    for (row, uses) in touched.iter().zip(uses) {
        let from_here = std::mem::take(&mut rest);
        let (target, after) = from_here[(row - next) * width..].split_at_mut(width);
        targets.push((target, uses));
        (rest, next) = (after, row + 1);
    }
    // Pieces of about equal work: common ids have many rows.
    let rows = rows_per_piece(width);
    let (mut pieces, mut load) = (vec![], rows);
    for target in targets {
        if load >= rows {
            pieces.push(vec![]);
            load = 0;
        }
        load += target.1.len();
        if let Some(piece) = pieces.last_mut() {
            piece.push(target);
        }
    }
    each_piece(pieces.into_iter(), |piece| {
        for (target, uses) in piece {
            for (_, position) in uses {
                let dy = &dy[position * width..][..width];
                for (target, dy) in target.iter_mut().zip(dy) {
                    *target += dy;
                }
            }
        }
    });
    touched
}

fn row_of(id: i64) -> usize {
    usize::try_from(id).unwrap_or_else(|_| panic!("`{id}` is not a row of an embedding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(len: usize, vocab: usize) -> Vec<i64> {
        (0..len).map(|i| (i * i * 31 % 97 * 7919 % vocab) as i64).collect()
    }

    #[test]
    fn rows_are_copied() {
        for (len, vocab, width) in [(0, 3, 4), (1, 1, 1), (9, 5, 7), (700, 300, 65), (3, 9, 40_000)] {
            let weight: Vec<f32> = (0..vocab * width).map(|i| i as f32).collect();
            let ids = ids(len, vocab);
            let expected: Vec<f32> =
                ids.iter().flat_map(|id| weight[*id as usize * width..][..width].to_vec()).collect();
            assert_eq!(embedding(&weight, width, &ids), expected);
        }
    }

    #[test]
    fn gradients_are_added_in_order_to_the_rows_in_use() {
        for (len, vocab, width) in [(0, 3, 4), (1, 1, 1), (9, 5, 7), (700, 300, 65), (999, 2, 130)] {
            let ids = ids(len, vocab);
            let dy: Vec<f32> = (0..len * width).map(|i| (i as f32 * 0.71).sin()).collect();
            let start: Vec<f32> = (0..vocab * width).map(|i| (i as f32 * 0.3).cos()).collect();
            let (mut found, mut expected) = (start.clone(), start);
            let touched = embedding_backward(&dy, width, &ids, &mut found);
            for (id, dy) in ids.iter().zip(dy.chunks(width)) {
                for (expected, dy) in expected[*id as usize * width..].iter_mut().zip(dy) {
                    *expected += dy;
                }
            }
            assert_eq!(found, expected);
            let mut distinct: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(touched, distinct);
        }
    }

    #[test]
    #[should_panic(expected = "`-1` is not a row")]
    fn a_negative_id_is_refused() {
        embedding(&[1.0], 1, &[-1]);
    }
}
