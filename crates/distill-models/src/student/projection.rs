//! The directions in which a table of embeddings varies most, and what remains of the table along them.
//!
//! With W = U Σ Vᵀ the best approximation of W Wᵀ, the inner products of all rows, by rows of k numbers is that of
//! W V_k; Eckart and Young 1936. The columns of V are the eigenvectors of WᵀW. All of it is computed in f64 and in an
//! order that depends on neither the number of threads nor the processor's instruction set.

use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

/// Orthonormal directions, those of the largest eigenvalues of WᵀW.
#[derive(Debug)]
pub(crate) struct PrincipalDirections {
    width: usize,
    kept: usize,
    /// `[width, kept]`, row by row: a column is a direction.
    directions: Vec<f64>,
    /// The share of the sum of squares of W that lies along them, a fraction.
    kept_energy: f64,
}

/// Rows that are multiplied before the next ones are read, so that they stay in the cache.
const PANEL_ROWS: usize = 256;
/// Rows and columns of the product whose sums stay in registers.
const TILE: usize = 4;

impl PrincipalDirections {
    /// The `kept` first directions of `table`, `[rows, width]`; `kept` is at most `width`.
    ///
    /// An eigenvector's sign is arbitrary: here its largest number is positive.
    pub(crate) fn of(table: &[f32], width: usize, kept: usize) -> Result<Self, &'static str> {
        let gram = gram(table, width);
        if !gram.iter().all(|number| number.is_finite()) {
            return Err("they hold numbers that are not finite");
        }
        let gram = DMatrix::from_vec(width, width, gram);
        let energy = gram.trace();
        // A sweep takes two to three iterations an eigenvalue; the bound only makes sure of an end.
        let eigen = SymmetricEigen::try_new(gram, f64::EPSILON, 1000 * width)
            .ok_or("the search for their principal directions did not converge")?;
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(kept);

        let mut directions = vec![0.0; width * kept];
        for (place, &column) in order.iter().enumerate() {
            let vector = eigen.eigenvectors.column(column);
            let largest = vector.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            for (row, number) in vector.iter().enumerate() {
                directions[row * kept + place] = number * largest.signum();
            }
        }
        // A positive semi-definite matrix has eigenvalues below zero by rounding alone.
        let along: f64 = order.iter().map(|&column| eigen.eigenvalues[column].max(0.0)).sum();
        let kept_energy = if energy > 0.0 { (along / energy).min(1.0) } else { 1.0 };
        Ok(Self { width, kept, directions, kept_energy })
    }

    pub(crate) fn kept_energy(&self) -> f64 {
        self.kept_energy
    }

    /// `[rows, width]` to `[rows, kept]`.
    pub(crate) fn project(&self, rows: &[f32]) -> Vec<f32> {
        let mut projected = vec![0.0; rows.len() / self.width * self.kept];
        projected.par_chunks_mut(self.kept).zip(rows.par_chunks(self.width)).for_each_init(
            || vec![0.0f64; self.kept],
            |sums, (projected, row)| {
                sums.fill(0.0);
                for (number, direction) in row.iter().zip(self.directions.chunks_exact(self.kept)) {
                    for (sum, component) in sums.iter_mut().zip(direction) {
                        *sum += f64::from(*number) * component;
                    }
                }
                for (out, sum) in projected.iter_mut().zip(sums) {
                    *out = *sum as f32;
                }
            },
        );
        projected
    }
}

/// WᵀW of a `[rows, width]` table: `[width, width]`, each number summed from the first row to the last.
fn gram(table: &[f32], width: usize) -> Vec<f64> {
    let stride = width.next_multiple_of(TILE);
    let mut gram = vec![0.0; stride * stride];
    let mut panel = vec![0.0; PANEL_ROWS * stride];
    for rows in table.chunks(PANEL_ROWS * width) {
        let filled = rows.len() / width * stride;
        for (wide, row) in panel.chunks_exact_mut(stride).zip(rows.chunks_exact(width)) {
            wide.iter_mut().zip(row).for_each(|(wide, number)| *wide = f64::from(*number));
        }
        let panel = &panel[..filled];
        gram.par_chunks_mut(TILE * stride).enumerate().for_each(|(band, sums)| {
            // The other half of a symmetric matrix is known.
            for column in (band * TILE..stride).step_by(TILE) {
                add_tile(panel, stride, band * TILE, column, sums);
            }
        });
    }
    let at = |row: usize, column: usize| gram[row.min(column) * stride + row.max(column)];
    (0..width * width).map(|place| at(place / width, place % width)).collect()
}

/// Adds to a tile of the product what the panel's rows contribute.
fn add_tile(panel: &[f64], stride: usize, row: usize, column: usize, sums: &mut [f64]) {
    let mut tile = [[0.0; TILE]; TILE];
    for (sums, tile) in sums.chunks_exact(stride).zip(&mut tile) {
        tile.copy_from_slice(&sums[column..column + TILE]);
    }
    for numbers in panel.chunks_exact(stride) {
        let (left, right) = (&numbers[row..row + TILE], &numbers[column..column + TILE]);
        for (tile, left) in tile.iter_mut().zip(left) {
            for (sum, right) in tile.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
    for (sums, tile) in sums.chunks_exact_mut(stride).zip(&tile) {
        sums[column..column + TILE].copy_from_slice(tile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without structure, between −1 and 1.
    fn noise(count: usize, mut state: u64) -> Vec<f64> {
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| number()).collect()
    }

    /// `count` orthonormal vectors of `length` numbers, by Gram and Schmidt.
    fn orthonormal(count: usize, length: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut vectors: Vec<Vec<f64>> = Vec::new();
        for candidate in noise(count * length, seed).chunks(length) {
            let mut vector = candidate.to_vec();
            for _ in 0..2 {
                for other in &vectors {
                    let along = dot(&vector, other);
                    vector.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
                }
            }
            let norm = dot(&vector, &vector).sqrt();
            vectors.push(vector.iter().map(|v| v / norm).collect());
        }
        vectors
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// A table with these singular values.
    fn table(rows: usize, values: &[f64]) -> (Vec<f32>, Vec<Vec<f64>>) {
        let (left, right) = (orthonormal(values.len(), rows, 1), orthonormal(values.len(), values.len(), 2));
        let number = |row: usize, column: usize| -> f64 {
            (0..values.len()).map(|n| left[n][row] * values[n] * right[n][column]).sum()
        };
        let width = values.len();
        ((0..rows * width).map(|place| number(place / width, place % width) as f32).collect(), right)
    }

    #[test]
    fn the_directions_are_the_right_singular_vectors_and_the_error_is_what_was_dropped() {
        let values = [9.0, 7.0, 4.0, 2.5, 1.0, 0.5, 0.25];
        let (rows, width) = (600, values.len());
        let (table, right) = table(rows, &values);
        let squares: Vec<f64> = values.iter().map(|v| v * v).collect();
        for kept in 1..=width {
            let found = PrincipalDirections::of(&table, width, kept).unwrap();
            let energy = squares[..kept].iter().sum::<f64>() / squares.iter().sum::<f64>();
            assert!((found.kept_energy() - energy).abs() < 1e-6, "{} of {energy}", found.kept_energy());
            for (n, expected) in right[..kept].iter().enumerate() {
                let direction: Vec<f64> = (0..width).map(|row| found.directions[row * kept + n]).collect();
                assert!((dot(&direction, expected).abs() - 1.0).abs() < 1e-6);
                let largest = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
                assert!(largest.unwrap() > 0.0);
            }
            // Eckart and Young: the squared error of all inner products is the sum of the dropped eigenvalues' squares.
            let short: Vec<f64> = found.project(&table).into_iter().map(f64::from).collect();
            let wide: Vec<f64> = table.iter().copied().map(f64::from).collect();
            let mut error = 0.0;
            for a in 0..rows {
                for b in 0..rows {
                    let of = |x: &[f64], n: usize| dot(&x[a * n..(a + 1) * n], &x[b * n..(b + 1) * n]);
                    error += (of(&wide, width) - of(&short, kept)).powi(2);
                }
            }
            let dropped: f64 = squares[kept..].iter().map(|v| v * v).sum();
            assert!((error - dropped).abs() < 1e-4 * dropped + 1e-6, "{error} for {dropped}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let width = 37;
        let table: Vec<f32> = noise(1000 * width, 3).into_iter().map(|n| n as f32).collect();
        let with_threads = |count| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            pool.install(|| {
                let found = PrincipalDirections::of(&table, width, 9).unwrap();
                (found.project(&table), found.directions)
            })
        };
        assert_eq!(with_threads(1), with_threads(3));
    }

    #[test]
    fn the_product_is_that_of_the_plain_sums() {
        for (rows, width) in [(1, 1), (3, 5), (257, 6), (600, 9)] {
            let table: Vec<f32> = noise(rows * width, 4).into_iter().map(|n| n as f32).collect();
            let found = gram(&table, width);
            for (place, found) in found.iter().enumerate() {
                let (i, j) = (place / width, place % width);
                let expected: f64 =
                    table.chunks(width).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
                assert!((found - expected).abs() < 1e-10, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn tables_without_directions_are_refused_and_zeros_are_not() {
        assert!(PrincipalDirections::of(&[1.0, f32::NAN, 0.0, 1.0], 2, 1).is_err());
        assert!(PrincipalDirections::of(&[1.0, f32::INFINITY, 0.0, 1.0], 2, 1).is_err());
        let zeros = PrincipalDirections::of(&[0.0; 6], 3, 2).unwrap();
        assert_eq!((zeros.kept_energy(), zeros.project(&[0.0; 6])), (1.0, vec![0.0; 4]));
    }
}
