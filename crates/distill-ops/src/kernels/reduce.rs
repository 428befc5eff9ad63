//! Sums and checks over whole tensors, the same bits with any number of threads.

use super::isa::for_each_isa;
use super::pieces::{PIECE, each_piece, rows_per_piece};

/// `Σ x²` in f64, where the squares of f32 numbers are exact.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    each_piece(x.chunks(PIECE), squares).into_iter().sum()
}

/// The sum of each column of a `[rows, columns]` tensor: the gradient of a bias.
pub(crate) fn column_sums(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(x.len(), rows * columns);
    if x.is_empty() {
        return vec![0.0; columns];
    }
    let pieces = x.chunks(rows_per_piece(columns) * columns);
    in_order(each_piece(pieces, |x| {
        let mut sums = vec![0.0; columns];
        add_rows(x, &mut sums);
        sums
    }))
}

/// `x · factor` in place.
pub(crate) fn scale_all(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        each_piece(x.chunks_mut(PIECE), |x| scale(x, factor));
    }
}

/// The sum of vectors of one length, first to last; empty for no vectors.
pub(crate) fn in_order(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut sums = parts.next().unwrap_or_default();
    for part in parts {
        add(&mut sums, &part);
    }
    sums
}

for_each_isa! { fn squares(x: &[f32]) -> f64 = squares_body }
for_each_isa! { fn add_rows(x: &[f32], sums: &mut [f32]) = add_rows_body }
for_each_isa! { fn add(a: &mut [f32], b: &[f32]) = add_body }
for_each_isa! { fn scale(x: &mut [f32], factor: f32) = scale_body }
#[inline(always)]
fn squares_body<const FMA: bool>(x: &[f32]) -> f64 {
    const LANES: usize = 32;
    let square = |x: f32| f64::from(x) * f64::from(x);
    let mut lanes = [0f64; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += square(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += square(*x);
    }
    lanes.into_iter().sum()
}

#[inline(always)]
fn add_rows_body<const FMA: bool>(x: &[f32], sums: &mut [f32]) {
    let columns = sums.len();
    // Four rows at a time: a quarter of the traffic to `sums`.
    let mut fours = x.chunks_exact(4 * columns);
    for four in &mut fours {
        let (ab, cd) = four.split_at(2 * columns);
        let ((a, b), (c, d)) = (ab.split_at(columns), cd.split_at(columns));
        for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += (a + b) + (c + d);
        }
    }
    for row in fours.remainder().chunks_exact(columns) {
        add_body::<FMA>(sums, row);
    }
}

#[inline(always)]
fn add_body<const FMA: bool>(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

#[inline(always)]
fn scale_body<const FMA: bool>(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37).sin() * 3.0).collect()
    }

    #[test]
    fn squares_add_up() {
        for len in [0, 1, 31, 33, 1000, 3 * PIECE + 11] {
            let x = wave(len);
            let expected: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((sum_of_squares(&x) - expected).abs() <= 1e-12 * expected);
        }
        assert_eq!(sum_of_squares(&[1e30]), f64::from(1e30f32).powi(2));
    }

    #[test]
    fn columns_add_up() {
        let shapes = [(0, 5), (5, 0), (1, 1), (7, 3), (1, 40_000), (3, 20_000), (133, 385), (20_000, 2)];
        for (rows, columns) in shapes {
            let x = wave(rows * columns);
            let found = column_sums(&x, rows, columns);
            assert_eq!(found.len(), columns);
            for (column, found) in found.iter().enumerate() {
                let values = (0..rows).map(|row| f64::from(x[row * columns + column]));
                let (expected, size): (f64, f64) = (values.clone().sum(), values.map(f64::abs).sum());
                assert!((f64::from(*found) - expected).abs() <= 1e-6 * size);
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let x = wave(9 * PIECE + 3 * 385);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let rows = x.len() / 385;
            pool.install(|| (sum_of_squares(&x).to_bits(), column_sums(&x[..rows * 385], rows, 385)))
        };
        assert_eq!(run(1), run(5));
    }
}
