//! Products of matrices: packing, tiles and threads around the micro-kernels.
//!
//! The right operand is packed once, whole. Blocks of rows of the left one are packed by the task that multiplies them,
//! so that they stay in its cache. Every element of the result is one sum over `k`, in the same order whatever the
//! number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::activation::Curve;
use super::matrix::Matrix;
use super::micro_kernels::{MicroKernel, Operands, Start, Units};
use super::packed_right::{ACTIVATED, PackedRight, SERIAL_PACKING, TASKS_PER_THREAD, kernel, with_packed};
use super::packing::{BLOCK, pack_left};
use crate::precision::Precision;

/// What the product is added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Onto<'a> {
    /// Nothing.
    Nothing,
    /// A row of biases, `[columns]`, in every row.
    Bias(&'a [f32]),
    /// A matrix of the shape of the result, whose rows are contiguous.
    Matrix(Matrix<'a>),
}

/// A second product that is added to a first one while its rows are in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term<'a> {
    /// `[rows, k]`, of another `k` than the first.
    pub(crate) a: Matrix<'a>,
    /// `[k, columns]`
    pub(crate) b: &'a PackedRight,
}

/// Multiplications below which one thread does a product.
const SERIAL_PRODUCT: usize = 1 << 18;

/// Blocks of the sum that are multiplied at once: a right panel of so many is 96 KiB.
const BLOCKS_AT_ONCE: usize = 48;

/// Rows that one task multiplies, where there are enough of them; whole panels of every kernel.
const ROWS_PER_TASK: usize = 96;

thread_local! {
    /// The left operand's panels of the task at hand.
    static LEFT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// An activation that is part of a product, applied to rows while they are in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Activated<'a> {
    /// None.
    No,
    /// `curve(a) · b`.
    Left(Curve),
    /// `(a · b) · curve'(x)`, element by element: what an activation does to a gradient.
    Slope(Curve, Matrix<'a>),
}

/// `a · b` into a new vector, on all threads.
///
/// # Shapes
/// - `a`: `[rows, k]`; `b`: `[k, columns]`; returns `[rows, columns]`
pub(crate) fn product(
    precision: Precision,
    a: Matrix<'_>,
    b: Matrix<'_>,
    onto: Onto<'_>,
    activated: Activated<'_>,
) -> Vec<f32> {
    with_packed(precision, b, |b| product_packed(a, b, onto, activated))
}

/// [`product`] with a right operand that is packed already.
pub(crate) fn product_packed(
    a: Matrix<'_>,
    b: &PackedRight,
    onto: Onto<'_>,
    activated: Activated<'_>,
) -> Vec<f32> {
    let mut result = uninitialised(a.rows * b.columns);
    let kernel = kernel(b.precision).for_rows(a.rows);
    Work { kernel, a, b, base: Base::New(onto), activated, term: None }.multiply(&mut result);
    result
}

/// `a · b + term.a · term.b`: each sum over `k` goes on through that of the term.
///
/// # Shapes
/// As [`product`]; `term.a`: `[rows, any]`; `term.b`: `[any, columns]`
pub(crate) fn product_sum(a: Matrix<'_>, b: &PackedRight, term: Term<'_>, onto: Onto<'_>) -> Vec<f32> {
    assert_eq!([term.a.rows, term.a.columns, term.b.columns], [a.rows, term.b.k, b.columns]);
    let mut result = uninitialised(a.rows * b.columns);
    let kernel = kernel(b.precision).for_rows(a.rows);
    let work = Work { kernel, a, b, base: Base::New(onto), activated: Activated::No, term: Some(term) };
    work.multiply(&mut result);
    result
}

/// Adds `a · b` to `result`: the sum over `k` goes on where it stood, as if both parts of it had been one product.
///
/// # Shapes
/// As [`product`]; `result`: `[rows, columns]`
pub(crate) fn add_product(result: &mut [f32], a: Matrix<'_>, b: &PackedRight) {
    let kernel = kernel(b.precision);
    Work { kernel, a, b, base: Base::Result, activated: Activated::No, term: None }.multiply(result);
}

/// What the result holds before.
#[derive(Debug, Clone, Copy)]
enum Base<'a> {
    /// Nothing of worth.
    New(Onto<'a>),
    /// A sum to go on with.
    Result,
}

/// A product under way.
#[derive(Clone, Copy)]
struct Work<'a> {
    kernel: MicroKernel,
    a: Matrix<'a>,
    b: &'a PackedRight,
    base: Base<'a>,
    activated: Activated<'a>,
    term: Option<Term<'a>>,
}

impl Work<'_> {
    fn multiply(&self, result: &mut [f32]) {
        assert_eq!(self.a.columns, self.b.k, "the summed dimensions differ");
        assert_eq!(result.len(), self.a.rows * self.b.columns);
        if let Base::New(Onto::Matrix(onto)) = self.base {
            assert_eq!([onto.rows, onto.columns, onto.column_stride], [self.a.rows, self.b.columns, 1]);
        }
        if result.is_empty() {
            return;
        }
        let rows = self.a.rows;
        let few_rows = rows < 4 * ROWS_PER_TASK && rows < ROWS_PER_TASK * rayon::current_num_threads();
        if self.kernel.most_panels() > 1 {
            self.column_tasks(result);
        } else if self.multiplications() < SERIAL_PRODUCT {
            self.rows(0, result);
        } else if few_rows && self.b.columns > self.kernel.columns && matches!(self.base, Base::New(_)) {
            // As in a single text: the columns are shared out instead.
            self.column_tasks(result);
        } else {
            self.row_tasks(result);
        }
    }

    fn multiplications(&self) -> usize {
        self.a.rows * self.a.columns * self.b.columns
    }

    /// Tasks of at most [`ROWS_PER_TASK`] rows, whole panels of them as evenly as may be: no thread waits for long.
    fn row_tasks(&self, result: &mut [f32]) {
        let (rows, panels) = (self.a.rows, self.a.rows.div_ceil(self.kernel.rows));
        let tasks = rows.div_ceil(ROWS_PER_TASK).next_multiple_of(rayon::current_num_threads());
        let first = |task: usize| rows.min(task * panels / tasks * self.kernel.rows);
        let mut parts = Vec::with_capacity(tasks);
        let mut rest = result;
        for task in 0..tasks {
            let (part, more) = rest.split_at_mut((first(task + 1) - first(task)) * self.b.columns);
            parts.push((first(task), part));
            rest = more;
        }
        parts.into_par_iter().for_each(|(first, part)| self.rows(first, part));
    }

    fn blocks(&self) -> usize {
        self.kernel.words.blocks(self.a.columns)
    }

    /// The sum cut into pieces whose right panels fit into the second-level cache beside the rest.
    fn block_ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let blocks = self.blocks();
        (0..blocks.max(1)).step_by(BLOCKS_AT_ONCE).map(move |first| first..blocks.min(first + BLOCKS_AT_ONCE))
    }

    /// Words of one panel of the left operand.
    fn left_words(&self) -> usize {
        self.blocks() * self.kernel.rows * BLOCK
    }

    /// `left`, long enough for so many rows.
    fn room<'b>(&self, rows: usize, left: &'b mut Vec<u32>) -> &'b mut [u32] {
        let len = rows.div_ceil(self.kernel.rows) * self.left_words();
        if left.len() < len {
            left.resize(len, 0);
        }
        &mut left[..len]
    }

    /// Packs panels of the left operand, from row `first` on, as many as `rows` needs.
    fn pack(&self, first: usize, rows: usize, out: &mut [u32]) {
        let Activated::Left(curve) = self.activated else {
            return pack_left(self.kernel.words, self.a, [first, rows], self.kernel.rows, out);
        };
        let columns = self.a.columns;
        if columns == 0 {
            return;
        }
        ACTIVATED.with_borrow_mut(|activated| {
            for (panel, out) in out.chunks_exact_mut(self.left_words()).enumerate() {
                let above = panel * self.kernel.rows;
                let rows = self.kernel.rows.min(rows - above);
                activated.resize(rows * columns, 0.0);
                for (row, out) in (first + above..).zip(activated.chunks_exact_mut(columns)) {
                    curve.forward_serial(&self.a.data[row * self.a.row_stride..][..columns], out);
                }
                let activated = Matrix::new(activated, rows, columns);
                pack_left(self.kernel.words, activated, [0, rows], self.kernel.rows, out);
            }
        });
    }

    /// [`pack`](Self::pack) of all rows, on all threads where that pays.
    fn pack_all(&self, out: &mut [u32]) {
        let rows = self.a.rows;
        if rows <= ROWS_PER_TASK || rows * self.a.columns < SERIAL_PACKING {
            return self.pack(0, rows, out);
        }
        let task_words = ROWS_PER_TASK / self.kernel.rows * self.left_words();
        out.par_chunks_mut(task_words).enumerate().for_each(|(task, out)| {
            let first = task * ROWS_PER_TASK;
            self.pack(first, ROWS_PER_TASK.min(rows - first), out);
        });
    }

    /// What is left to do for rows of the result, from `first` on.
    fn finish(&self, first: usize, result: &mut [f32]) {
        if let Activated::Slope(curve, x) = self.activated {
            for (row, result) in (first..).zip(result.chunks_exact_mut(self.b.columns)) {
                curve.backward_serial(&x.data[row * x.row_stride..][..self.b.columns], result);
            }
        }
    }

    /// What is added to the product, after it.
    fn rest(&self) -> Option<Work<'_>> {
        let Term { a, b } = self.term?;
        let kernel = kernel(b.precision);
        Some(Work { kernel, a, b, base: Base::Result, activated: Activated::No, term: None })
    }

    /// Puts into `result`, rows from `first` on of `stride` columns from `column` on, what the product is added to,
    /// if that is a matrix.
    fn begin(&self, first: usize, column: usize, result: &mut [f32], stride: usize) {
        if let Base::New(Onto::Matrix(onto)) = self.base {
            for (row, result) in (first..).zip(result.chunks_exact_mut(stride)) {
                result.copy_from_slice(&onto.data[row * onto.row_stride + column..][..stride]);
            }
        }
    }

    /// The rows of `result`, which are those from `first` on, with all their columns.
    fn rows(&self, first: usize, result: &mut [f32]) {
        let columns = self.b.columns;
        self.begin(first, 0, result, columns);
        LEFT.with_borrow_mut(|left| {
            let rows = result.len() / columns;
            let left = self.room(rows, left);
            self.pack(first, rows, left);
            let units = self.kernel.units();
            for blocks in self.block_ranges() {
                for panel in 0..columns.div_ceil(self.kernel.columns) {
                    let at = panel * self.kernel.columns;
                    self.panels_of_columns(
                        (self.kernel, &units),
                        left,
                        panel,
                        blocks.clone(),
                        result,
                        columns,
                        at,
                    );
                }
            }
        });
        if let Some(rest) = self.rest() {
            rest.rows(first, result);
        }
        self.finish(first, result);
    }

    /// All rows, each task with some panels of columns, put together at the end.
    fn column_tasks(&self, result: &mut [f32]) {
        let (rows, columns) = (self.a.rows, self.b.columns);
        let mut buffer = LEFT.take();
        let left = self.room(rows, &mut buffer);
        self.pack_all(left);
        let left = &*left;
        let (panels, threads) = (columns.div_ceil(self.kernel.columns), rayon::current_num_threads());
        let tasks = if self.multiplications() < SERIAL_PRODUCT {
            1
        } else {
            let tiles = panels.div_ceil(threads * self.kernel.most_panels());
            threads * tiles.min(TASKS_PER_THREAD)
        };
        let panels_per_task = panels.div_ceil(tasks);
        let width = panels_per_task * self.kernel.columns;
        let strip = |task: usize, strip: &mut [f32]| {
            let first = task * panels_per_task;
            let stride = width.min(columns - task * width);
            self.begin(0, task * width, strip, stride);
            self.strip(left, first..panels.min(first + panels_per_task), strip, stride);
        };
        if rows == 1 {
            result.par_chunks_mut(width).enumerate().for_each(|(task, result)| strip(task, result));
        } else {
            let strips: Vec<Vec<f32>> = (0..columns.div_ceil(width))
                .into_par_iter()
                .map(|task| {
                    let mut values = uninitialised(rows * width.min(columns - task * width));
                    strip(task, &mut values);
                    values
                })
                .collect();
            for (task, strip) in strips.iter().enumerate() {
                let stride = strip.len() / rows;
                for (row, strip) in result.chunks_mut(columns).zip(strip.chunks(stride)) {
                    row[task * width..][..stride].copy_from_slice(strip);
                }
            }
        }
        LEFT.replace(buffer);
        if let Some(rest) = self.rest() {
            rest.multiply(result);
        }
        self.finish(0, result);
    }

    /// Some panels of the right operand against all packed panels of the left one; `strip` has their columns alone.
    fn strip(&self, left: &[u32], panels: Range<usize>, strip: &mut [f32], stride: usize) {
        let (columns, most) = (self.kernel.columns, self.kernel.most_panels());
        let units = self.kernel.units();
        if most == 1 {
            for panel in panels.clone() {
                for blocks in self.block_ranges() {
                    let at = (panel - panels.start) * columns;
                    self.panels_of_columns((self.kernel, &units), left, panel, blocks, strip, stride, at);
                }
            }
            return;
        }
        let tiles = panels.len().div_ceil(most);
        for tile in 0..tiles {
            let [first, end] = [tile, tile + 1].map(|tile| tile * panels.len() / tiles);
            let kernel = self.kernel.for_panels(end - first);
            let (panel, at) = (panels.start + first, first * columns);
            self.panels_of_columns((kernel, &units), left, panel, 0..self.blocks(), strip, stride, at);
        }
    }

    /// A panel of the right operand, or as many as `kernel` has in a tile, against all packed panels of the left one; the
    /// tiles begin at column `at` of `result`, whose rows are `stride` long.
    #[allow(clippy::too_many_arguments)]
    fn panels_of_columns(
        &self,
        (kernel, units): (MicroKernel, &Units),
        left: &[u32],
        panel: usize,
        blocks: Range<usize>,
        result: &mut [f32],
        stride: usize,
        at: usize,
    ) {
        let block_words = self.kernel.columns * BLOCK;
        let left_words = self.left_words();
        let right_words = self.blocks() * block_words;
        let right =
            &self.b.words[panel * right_words..][..right_words * (kernel.columns / self.kernel.columns)];
        // Several panels come with all of their blocks.
        let end = right.len() - (self.blocks() - blocks.end) * block_words;
        let right = &right[blocks.start * block_words..end];
        let words = self.kernel.words.words(self.a.columns).min(blocks.end * BLOCK) - blocks.start * BLOCK;
        let inside = blocks.start * kernel.rows * BLOCK..blocks.end * kernel.rows * BLOCK;
        let first_column = panel * self.kernel.columns;
        let live = kernel.columns.min(stride - at).min(self.b.columns - first_column);
        let mut padded_bias = [0f32; LARGEST_TILE_COLUMNS];
        let start = match self.base {
            _ if blocks.start > 0 => Start::Result,
            Base::Result | Base::New(Onto::Matrix(_)) => Start::Result,
            Base::New(Onto::Nothing) => Start::Zero,
            Base::New(Onto::Bias(bias)) => {
                padded_bias[..live].copy_from_slice(&bias[first_column..first_column + live]);
                Start::Bias(&padded_bias)
            }
        };
        for (tile, result) in result.chunks_mut(kernel.rows * stride).enumerate() {
            let left = &left[tile * left_words..(tile + 1) * left_words];
            let operands = Operands { left: &left[inside.clone()], right, words };
            let rows = result.len() / stride;
            if rows == kernel.rows && at + kernel.columns <= stride {
                kernel.tile(units, operands, start, &mut result[at..], stride);
            } else {
                edge((kernel, units), operands, start, result, Edge { stride, at, rows, live });
            }
        }
    }
}

/// Of the widest tile, which has one row, and of the largest.
const LARGEST_TILE_COLUMNS: usize = 256;
const LARGEST_TILE: usize = 1024;

/// Where an incomplete tile goes.
struct Edge {
    stride: usize,
    at: usize,
    rows: usize,
    live: usize,
}

/// A tile that hangs over the edge of the result: computed aside, then its inner part is copied.
fn edge(
    (kernel, units): (MicroKernel, &Units),
    operands: Operands<'_>,
    start: Start<'_>,
    result: &mut [f32],
    edge: Edge,
) {
    let mut aside = [0f32; LARGEST_TILE];
    let aside = &mut aside[..kernel.rows * kernel.columns];
    let Edge { stride, at, rows, live } = edge;
    if matches!(start, Start::Result) {
        for (aside, row) in aside.chunks_mut(kernel.columns).zip(result.chunks(stride)) {
            aside[..live].copy_from_slice(&row[at..at + live]);
        }
    }
    let kernel = if 2 * live <= kernel.columns { kernel.for_half() } else { kernel };
    kernel.tile(units, operands, start, aside, kernel.columns);
    for (row, aside) in result.chunks_mut(stride).zip(aside.chunks(kernel.columns)).take(rows) {
        row[at..at + live].copy_from_slice(&aside[..live]);
    }
}

/// A vector for results that are written before they are read: clearing it first would cost a pass over its pages.
#[allow(unsafe_code, clippy::uninit_vec)]
pub(crate) fn uninitialised(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there; what it holds is nobody's to read until it is written, and every caller writes all
    // of it before anybody reads.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5) - 1.0).collect()
    }

    fn round(precision: Precision, x: f32) -> f64 {
        match precision {
            Precision::F32 => f64::from(x),
            Precision::Bf16 => f64::from(f32::from_bits(super::super::packing::bf16_bits(x) << 16)),
        }
    }

    fn at(m: &Matrix<'_>, row: usize, column: usize) -> f32 {
        m.data[row * m.row_stride + column * m.column_stride]
    }

    /// Compares every element with the sum in f64 of the (rounded) operands.
    fn check(precision: Precision, a: Matrix<'_>, b: Matrix<'_>, onto: Onto<'_>, found: &[f32]) {
        for row in 0..a.rows {
            for column in 0..b.columns {
                let products = (0..a.columns)
                    .map(|k| round(precision, at(&a, row, k)) * round(precision, at(&b, k, column)));
                let mut expected: f64 = products.clone().sum();
                let mut size: f64 = products.map(f64::abs).sum();
                let base = match onto {
                    Onto::Nothing => 0.0,
                    Onto::Bias(bias) => f64::from(bias[column]),
                    Onto::Matrix(onto) => f64::from(at(&onto, row, column)),
                };
                expected += base;
                size += base.abs();
                let found = found[row * b.columns + column];
                let error = (f64::from(found) - expected).abs();
                let shape = [a.rows, a.columns, b.columns];
                assert!(
                    error <= 1e-6 * size + 1e-30,
                    "{shape:?} {row},{column}: {found} instead of {expected}"
                );
            }
        }
    }

    const SHAPES: [[usize; 3]; 13] = [
        [1, 1, 1],
        [1, 384, 7],
        [2, 3, 5],
        [12, 32, 32],
        [13, 33, 31],
        [31, 17, 65],
        [64, 48, 96],
        [97, 129, 33],
        [200, 70, 40],
        [33, 200, 1],
        [500, 1, 50],
        [300, 100, 70],
        [3, 0, 4],
    ];

    #[test]
    fn products_of_every_shape_and_order() {
        for precision in [Precision::F32, Precision::Bf16] {
            for [m, k, n] in SHAPES {
                let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
                let sum = numbers(m * n, 4);
                for a in [Matrix::new(&a, m, k), Matrix::new(&a, k, m).transposed()] {
                    for b in [Matrix::new(&b, k, n), Matrix::new(&b, n, k).transposed()] {
                        for onto in [Onto::Nothing, Onto::Bias(&bias), Onto::Matrix(Matrix::new(&sum, m, n))]
                        {
                            check(precision, a, b, onto, &product(precision, a, b, onto, Activated::No));
                        }
                        let packed = PackedRight::new(precision, b);
                        let found = product_packed(a, &packed, Onto::Nothing, Activated::No);
                        check(precision, a, b, Onto::Nothing, &found);
                    }
                }
            }
        }
    }

    /// With the activation applied before or after, in a pass of its own.
    #[test]
    fn activations_inside_products_change_no_bit() {
        let curve = Curve::Gelu;
        for precision in [Precision::F32, Precision::Bf16] {
            for [m, k, n] in SHAPES {
                let (a, b, x) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
                let (left, right) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                let activated = curve.forward(&a);
                let plain = Matrix::new(&activated, m, k);
                assert_eq!(
                    product(precision, left, right, Onto::Nothing, Activated::Left(curve)),
                    product(precision, plain, right, Onto::Nothing, Activated::No),
                );
                let slope = Activated::Slope(curve, Matrix::new(&x, m, n));
                let mut expected = product(precision, left, right, Onto::Nothing, Activated::No);
                curve.backward(&x, &mut expected);
                assert_eq!(product(precision, left, right, Onto::Nothing, slope), expected);
                let packed = PackedRight::activated(precision, left, curve);
                assert_eq!(packed.words, PackedRight::new(precision, plain).words);
            }
        }
    }

    #[test]
    fn a_sum_in_parts_is_that_of_one_product_to_the_bit() {
        for precision in [Precision::F32, Precision::Bf16] {
            for [m, k, n] in [[5, 96, 7], [130, 224, 50], [500, 128, 70]] {
                let (a, b) = (numbers(k * m, 1), numbers(k * n, 2));
                let whole = product(
                    precision,
                    Matrix::new(&a, k, m).transposed(),
                    Matrix::new(&b, k, n),
                    Onto::Nothing,
                    Activated::No,
                );
                let mut sum = vec![0.0; m * n];
                for first in (0..k).step_by(64) {
                    let rows = 64.min(k - first);
                    let left = Matrix::new(&a[first * m..(first + rows) * m], rows, m).transposed();
                    let right = Matrix::new(&b[first * n..(first + rows) * n], rows, n);
                    add_product(&mut sum, left, &PackedRight::new(precision, right));
                }
                assert_eq!(sum, whole);
            }
        }
    }

    #[test]
    fn a_term_goes_on_with_the_sum_to_the_bit() {
        for precision in [Precision::F32, Precision::Bf16] {
            for [m, k, n] in SHAPES {
                for inner in [1, 8, 40] {
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    let (c, d, bias) = (numbers(m * inner, 3), numbers(inner * n, 4), numbers(n, 5));
                    let (a, b) = (Matrix::new(&a, m, k), PackedRight::new(precision, Matrix::new(&b, k, n)));
                    let d = PackedRight::new(precision, Matrix::new(&d, inner, n));
                    let term = Term { a: Matrix::new(&c, m, inner), b: &d };
                    let mut expected = product_packed(a, &b, Onto::Bias(&bias), Activated::No);
                    let before = expected.clone();
                    add_product(&mut expected, term.a, &d);
                    assert_ne!(before, expected);
                    assert_eq!(product_sum(a, &b, term, Onto::Bias(&bias)), expected, "{m} {k} {n} {inner}");
                }
            }
        }
    }

    /// To the bit: the same sums in the same order.
    #[test]
    fn few_rows_are_multiplied_as_among_many() {
        for precision in [Precision::F32, Precision::Bf16] {
            for [k, n] in [[20, 7], [100, 64], [300, 1000], [1700, 200]] {
                let (a, b, bias) = (numbers(40 * k, 1), numbers(k * n, 2), numbers(n, 3));
                let packed = PackedRight::new(precision, Matrix::new(&b, k, n));
                let product = |rows: usize| {
                    let a = Matrix::new(&a[..rows * k], rows, k);
                    product_packed(a, &packed, Onto::Bias(&bias), Activated::No)
                };
                let many = product(40);
                for rows in 1..=5 {
                    assert_eq!(product(rows), many[..rows * n]);
                }
            }
        }
    }

    #[test]
    fn rows_with_gaps_are_read_in_place() {
        let (data, b) = (numbers(10 * 50, 5), numbers(20 * 9, 6));
        let a = Matrix { data: &data[7..], rows: 9, columns: 20, row_stride: 50, column_stride: 1 };
        let b = Matrix::new(&b, 20, 9);
        for precision in [Precision::F32, Precision::Bf16] {
            let found = product(precision, a, b, Onto::Nothing, Activated::No);
            check(precision, a, b, Onto::Nothing, &found);
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for (m, k, n) in [(500, 300, 200), (30, 400, 500), (300, 100, 70)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                    product(Precision::Bf16, a, b, Onto::Nothing, Activated::No)
                })
            };
            assert_eq!(run(1), run(3));
        }
    }
}
