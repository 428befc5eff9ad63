//! A few rows by a table of many: the logits of the last tokens of texts.
//!
//! Each row of the table is read once, where it lies, and meets all the rows at once. A product reads a packed copy, which
//! in f32 is as long as the table and no faster to read.

use rayon::prelude::*;

use super::attention_decode::dot;
use super::for_each_isa;
use super::matrix::Matrix;
use super::pieces::rows_per_piece;
use super::product::{Onto, uninitialised};

/// `x · tableᵀ` in f32, of `x` and `table` row by row.
///
/// Every element is a sum of its own, whatever the number of rows and of threads; it is taken in another order than a
/// product's.
///
/// # Shapes
/// - `x`: `[rows, width]`; `table`: `[vocab, width]`; returns `[rows, vocab]`
pub(crate) fn times_table(x: Matrix<'_>, table: Matrix<'_>, onto: Onto<'_>) -> Vec<f32> {
    assert_eq!([x.columns, x.column_stride, table.column_stride], [table.columns, 1, 1]);
    let vocab = table.rows;
    if x.rows == 0 || vocab == 0 {
        return Vec::new();
    }
    let entries = rows_per_piece(table.columns);
    // By entries, `[vocab, rows]`: each task writes its own.
    let mut sums = uninitialised(vocab * x.rows);
    sums.par_chunks_mut(entries * x.rows)
        .enumerate()
        .for_each(|(task, sums)| entry_sums(x, table, task * entries, sums));
    let mut result = uninitialised(x.rows * vocab);
    for (row, result) in result.chunks_exact_mut(vocab).enumerate() {
        let sums = sums[row..].iter().step_by(x.rows);
        match onto {
            Onto::Nothing => result.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum),
            Onto::Bias(bias) => {
                result.iter_mut().zip(sums).zip(bias).for_each(|((out, sum), bias)| *out = sum + bias);
            }
            Onto::Matrix(onto) => {
                let onto = &onto.data[row * onto.row_stride..][..vocab];
                result.iter_mut().zip(sums).zip(onto).for_each(|((out, sum), onto)| *out = sum + onto);
            }
        }
    }
    result
}

for_each_isa! {
    fn entry_sums(x: Matrix<'_>, table: Matrix<'_>, first: usize, sums: &mut [f32]) = entry_sums_body
}

/// The sums of entries of the table, from the first one on, with each row of `x`.
#[inline(always)]
fn entry_sums_body<const FMA: bool>(x: Matrix<'_>, table: Matrix<'_>, first: usize, sums: &mut [f32]) {
    for (entry, sums) in (first..).zip(sums.chunks_exact_mut(x.rows)) {
        let entry = &table.data[entry * table.row_stride..][..table.columns];
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = dot::<FMA>(&x.data[row * x.row_stride..][..x.columns], entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, phase: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37 + phase).sin()).collect()
    }

    /// Compared with sums in f64.
    #[test]
    fn every_element_is_a_sum_of_products() {
        for [rows, width, vocab] in [[1, 1, 1], [1, 33, 7], [4, 64, 3000], [3, 576, 1001], [2, 2000, 3]] {
            let (x, table) = (wave(rows * width, 0.1), wave(vocab * width, 1.3));
            let (bias, sum) = (wave(vocab, 2.0), wave(rows * vocab, 2.5));
            let matrices = (Matrix::new(&x, rows, width), Matrix::new(&table, vocab, width));
            for onto in [Onto::Nothing, Onto::Bias(&bias), Onto::Matrix(Matrix::new(&sum, rows, vocab))] {
                let found = times_table(matrices.0, matrices.1, onto);
                assert_eq!(found.len(), rows * vocab);
                for (at, found) in found.into_iter().enumerate() {
                    let (row, entry) = (&x[at / vocab * width..], &table[at % vocab * width..][..width]);
                    let products = entry.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let base = match onto {
                        Onto::Nothing => 0.0,
                        Onto::Bias(bias) => f64::from(bias[at % vocab]),
                        Onto::Matrix(_) => f64::from(sum[at]),
                    };
                    let size = products.clone().map(f64::abs).sum::<f64>() + base.abs();
                    let expected = products.sum::<f64>() + base;
                    assert!((f64::from(found) - expected).abs() <= 1e-6 * size, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn rows_and_threads_change_no_bit_of_others() {
        let (x, table) = (wave(4 * 100, 0.1), wave(3000 * 100, 1.3));
        let run = |rows: usize, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (x, table) = (Matrix::new(&x[..rows * 100], rows, 100), Matrix::new(&table, 3000, 100));
            pool.install(|| times_table(x, table, Onto::Nothing))
        };
        let all = run(4, 3);
        for rows in 1..=4 {
            assert_eq!(run(rows, 1), all[..rows * 3000]);
        }
    }
}
