//! Products of matrices: packing, tiles and threads around the micro-kernels.
//!
//! The right operand is packed once, whole. Blocks of rows of the left one are packed by the task that multiplies them,
//! so that they stay in its cache. Every element of the result is one sum over `k`, in the same order whatever the
//! number of threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::micro_kernels::{self, MicroKernel, Operands, Start};
use super::packing::{BLOCK, Words, pack_left, pack_right};
use super::{Isa, isa};
use crate::precision::Precision;

/// A matrix in a slice: element `(row, column)` is at `row · row_stride + column · column_stride`; one stride is 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row by row, without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows for columns; nothing moves.
    #[inline(always)]
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// What the product is added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Onto<'a> {
    /// Nothing: what is in the result is overwritten.
    Nothing,
    /// What is in the result.
    Result,
    /// A row of biases, `[columns]`, in every row.
    Bias(&'a [f32]),
}

/// A right operand in the order of the kernel that will read it.
#[derive(Debug, Clone)]
pub(crate) struct PackedRight {
    words: Vec<u32>,
    k: usize,
    columns: usize,
    precision: Precision,
}

impl PackedRight {
    /// Packs `b`, `[k, columns]`.
    pub(crate) fn new(precision: Precision, b: Matrix<'_>) -> Self {
        Self::into_buffer(precision, b, Vec::new())
    }

    fn into_buffer(precision: Precision, b: Matrix<'_>, mut words: Vec<u32>) -> Self {
        let kernel = kernel(precision);
        let panels = b.columns.div_ceil(kernel.columns);
        let panel_words = kernel.words.blocks(b.rows) * BLOCK * kernel.columns;
        words.resize(panels * panel_words, 0);
        let pack = |(panel, out): (usize, &mut [u32])| {
            pack_right(kernel.words, b, panel * kernel.columns, kernel.columns, out);
        };
        if panel_words > 0 {
            let panels = words.par_chunks_mut(panel_words).enumerate();
            if b.rows * b.columns < SERIAL_PACKING {
                words.chunks_mut(panel_words).enumerate().for_each(pack);
            } else {
                panels.for_each(pack);
            }
        }
        Self { words, k: b.rows, columns: b.columns, precision }
    }
}

/// Elements of a right operand below which one thread packs it.
const SERIAL_PACKING: usize = 1 << 14;

/// Multiplications below which one thread does a product.
const SERIAL_PRODUCT: usize = 1 << 18;

/// Panels of rows that one task multiplies, where there are enough of them.
const PANELS_PER_TASK: usize = 4;

thread_local! {
    /// The left operand's panels of the task at hand.
    static LEFT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The right operand of a product that packs its own.
    static RIGHT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// The kernel for this precision on this processor.
fn kernel(precision: Precision) -> MicroKernel {
    kernel_of(precision, isa())
}

fn kernel_of(precision: Precision, isa: Isa) -> MicroKernel {
    #[cfg(target_arch = "x86_64")]
    let float = match isa {
        Isa::Portable => micro_kernels::PORTABLE,
        Isa::Avx2 => micro_kernels::AVX2,
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => micro_kernels::AVX512,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let float = micro_kernels::PORTABLE;
    match (precision, isa) {
        (Precision::F32, _) => float,
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Isa::Avx512Bf16) => micro_kernels::AVX512_BF16,
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Isa::Amx) => micro_kernels::AMX,
        (Precision::Bf16, _) => MicroKernel { words: Words::Rounded, ..float },
    }
}

/// `a · b` into a new vector, on all threads.
///
/// # Shapes
/// - `a`: `[rows, k]`; `b`: `[k, columns]`; returns `[rows, columns]`
pub(crate) fn product(precision: Precision, a: Matrix<'_>, b: Matrix<'_>, onto: Onto<'_>) -> Vec<f32> {
    debug_assert!(!matches!(onto, Onto::Result), "a new vector holds nothing to add to");
    let mut result = uninitialised(a.rows * b.columns);
    product_into(precision, a, b, onto, &mut result);
    result
}

/// `a · b` into `result`, `[rows, columns]` without gaps, on all threads.
pub(crate) fn product_into(
    precision: Precision,
    a: Matrix<'_>,
    b: Matrix<'_>,
    onto: Onto<'_>,
    result: &mut [f32],
) {
    let buffer = RIGHT.take();
    let packed = PackedRight::into_buffer(precision, b, buffer);
    product_packed_into(a, &packed, onto, result);
    RIGHT.replace(packed.words);
}

/// [`product`] with a right operand that is packed already.
pub(crate) fn product_packed(a: Matrix<'_>, b: &PackedRight, onto: Onto<'_>) -> Vec<f32> {
    let mut result = uninitialised(a.rows * b.columns);
    product_packed_into(a, b, onto, &mut result);
    result
}

fn product_packed_into(a: Matrix<'_>, b: &PackedRight, onto: Onto<'_>, result: &mut [f32]) {
    assert_eq!(a.columns, b.k, "the summed dimensions differ");
    assert_eq!(result.len(), a.rows * b.columns, "the result has another size");
    if result.is_empty() {
        return;
    }
    let kernel = kernel(b.precision);
    let columns = b.columns;
    let work = Work { kernel, a, b, onto };
    if a.rows * b.columns * a.columns < SERIAL_PRODUCT {
        work.rows(0, result);
        return;
    }
    let rows = kernel.rows * PANELS_PER_TASK;
    // Few rows, as in a single text: the columns are shared out instead.
    if a.rows < 4 * rows {
        work.column_tasks(result);
        return;
    }
    result.par_chunks_mut(rows * columns).enumerate().for_each(|(task, result)| {
        work.rows(task * rows, result);
    });
}

/// A product under way.
#[derive(Clone, Copy)]
struct Work<'a> {
    kernel: MicroKernel,
    a: Matrix<'a>,
    b: &'a PackedRight,
    onto: Onto<'a>,
}

impl Work<'_> {
    fn blocks(&self) -> usize {
        self.kernel.words.blocks(self.a.columns)
    }

    /// Packs panels of the left operand, from row `first` on, as many as `rows` needs.
    fn pack(&self, first: usize, rows: usize, out: &mut Vec<u32>) {
        let panel_words = self.blocks() * self.kernel.rows * BLOCK;
        out.resize(rows.div_ceil(self.kernel.rows) * panel_words, 0);
        if panel_words == 0 {
            return;
        }
        for (panel, out) in out.chunks_mut(panel_words).enumerate() {
            pack_left(self.kernel.words, self.a, first + panel * self.kernel.rows, self.kernel.rows, out);
        }
    }

    /// The rows of `result`, which are those from `first` on, with all their columns.
    fn rows(&self, first: usize, result: &mut [f32]) {
        let columns = self.b.columns;
        LEFT.with_borrow_mut(|left| {
            self.pack(first, result.len() / columns, left);
            for panel in 0..columns.div_ceil(self.kernel.columns) {
                self.panel_of_columns(left, panel, result, columns, panel * self.kernel.columns);
            }
        });
    }

    /// All rows, each task with some panels of columns, put together at the end.
    fn column_tasks(&self, result: &mut [f32]) {
        let columns = self.b.columns;
        let mut left = LEFT.take();
        self.pack(0, self.a.rows, &mut left);
        let panels = columns.div_ceil(self.kernel.columns);
        let width = self.kernel.columns;
        let strips: Vec<Vec<f32>> = (0..panels)
            .into_par_iter()
            .map(|panel| {
                let mut strip = match self.onto {
                    Onto::Result => {
                        let mut strip = vec![0f32; self.a.rows * width];
                        let live = width.min(columns - panel * width);
                        for (out, row) in strip.chunks_mut(width).zip(result.chunks(columns)) {
                            out[..live].copy_from_slice(&row[panel * width..panel * width + live]);
                        }
                        strip
                    }
                    _ => uninitialised(self.a.rows * width),
                };
                self.panel_of_columns(&left, panel, &mut strip, width, 0);
                strip
            })
            .collect();
        for (panel, strip) in strips.iter().enumerate() {
            let live = width.min(columns - panel * width);
            for (row, strip) in result.chunks_mut(columns).zip(strip.chunks(width)) {
                row[panel * width..panel * width + live].copy_from_slice(&strip[..live]);
            }
        }
        LEFT.replace(left);
    }

    /// One panel of the right operand against all packed panels of the left one; the tiles begin at column `at` of
    /// `result`, whose rows are `stride` long.
    fn panel_of_columns(&self, left: &[u32], panel: usize, result: &mut [f32], stride: usize, at: usize) {
        let kernel = self.kernel;
        let (left_words, right_words) =
            (self.blocks() * kernel.rows * BLOCK, self.blocks() * kernel.columns * BLOCK);
        let right = &self.b.words[panel * right_words..(panel + 1) * right_words];
        let first_column = panel * kernel.columns;
        let live = kernel.columns.min(stride - at).min(self.b.columns - first_column);
        let mut padded_bias = [0f32; LARGEST_TILE_COLUMNS];
        let start = match self.onto {
            Onto::Nothing => Start::Zero,
            Onto::Result => Start::Result,
            Onto::Bias(bias) => {
                padded_bias[..live].copy_from_slice(&bias[first_column..first_column + live]);
                Start::Bias(&padded_bias)
            }
        };
        for (tile, result) in result.chunks_mut(kernel.rows * stride).enumerate() {
            let operands = Operands { left: &left[tile * left_words..(tile + 1) * left_words], right };
            let rows = result.len() / stride;
            if rows == kernel.rows && at + kernel.columns <= stride {
                (kernel.tile)(operands, start, &mut result[at..], stride);
            } else {
                edge(kernel, operands, start, result, Edge { stride, at, rows, live });
            }
        }
    }
}

const LARGEST_TILE_ROWS: usize = 32;
const LARGEST_TILE_COLUMNS: usize = 32;

/// Where an incomplete tile goes.
struct Edge {
    stride: usize,
    at: usize,
    rows: usize,
    live: usize,
}

/// A tile that hangs over the edge of the result: computed aside, then its inner part is copied.
fn edge(kernel: MicroKernel, operands: Operands<'_>, start: Start<'_>, result: &mut [f32], edge: Edge) {
    let mut aside = [0f32; LARGEST_TILE_ROWS * LARGEST_TILE_COLUMNS];
    let aside = &mut aside[..kernel.rows * kernel.columns];
    let Edge { stride, at, rows, live } = edge;
    if matches!(start, Start::Result) {
        for (aside, row) in aside.chunks_mut(kernel.columns).zip(result.chunks(stride)) {
            aside[..live].copy_from_slice(&row[at..at + live]);
        }
    }
    (kernel.tile)(operands, start, aside, kernel.columns);
    for (row, aside) in result.chunks_mut(stride).zip(aside.chunks(kernel.columns)).take(rows) {
        row[at..at + live].copy_from_slice(&aside[..live]);
    }
}

/// A vector for results that are written before they are read: clearing it first would cost a pass over its pages.
#[allow(unsafe_code, clippy::uninit_vec)]
pub(crate) fn uninitialised(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and any 32 bits are an f32; every caller overwrites all of them before it reads.
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
    fn check(
        precision: Precision,
        a: Matrix<'_>,
        b: Matrix<'_>,
        onto: Onto<'_>,
        before: &[f32],
        found: &[f32],
    ) {
        for row in 0..a.rows {
            for column in 0..b.columns {
                let products = (0..a.columns)
                    .map(|k| round(precision, at(&a, row, k)) * round(precision, at(&b, k, column)));
                let mut expected: f64 = products.clone().sum();
                let mut size: f64 = products.map(f64::abs).sum();
                let index = row * b.columns + column;
                let base = match onto {
                    Onto::Nothing => 0.0,
                    Onto::Result => f64::from(before[index]),
                    Onto::Bias(bias) => f64::from(bias[column]),
                };
                expected += base;
                size += base.abs();
                let error = (f64::from(found[index]) - expected).abs();
                assert!(
                    error <= 1e-6 * size + 1e-30,
                    "{}x{}x{} {row},{column}: {} instead of {expected}",
                    a.rows,
                    a.columns,
                    b.columns,
                    found[index]
                );
            }
        }
    }

    #[test]
    fn products_of_every_shape_and_order() {
        let shapes = [
            (1, 1, 1),
            (1, 384, 7),
            (2, 3, 5),
            (12, 32, 32),
            (13, 33, 31),
            (31, 17, 65),
            (64, 48, 96),
            (97, 129, 33),
            (200, 70, 40),
            (33, 200, 1),
            (300, 1, 50),
            (3, 0, 4),
        ];
        for precision in [Precision::F32, Precision::Bf16] {
            for (m, k, n) in shapes {
                let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
                for a in [Matrix::new(&a, m, k), Matrix::new(&a, k, m).transposed()] {
                    for b in [Matrix::new(&b, k, n), Matrix::new(&b, n, k).transposed()] {
                        for onto in [Onto::Nothing, Onto::Result, Onto::Bias(&bias)] {
                            let before = numbers(m * n, 4);
                            let mut found = before.clone();
                            product_into(precision, a, b, onto, &mut found);
                            check(precision, a, b, onto, &before, &found);
                        }
                        let packed = PackedRight::new(precision, b);
                        check(
                            precision,
                            a,
                            b,
                            Onto::Nothing,
                            &[],
                            &product_packed(a, &packed, Onto::Nothing),
                        );
                    }
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
            check(precision, a, b, Onto::Nothing, &[], &product(precision, a, b, Onto::Nothing));
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for (m, k, n) in [(500, 300, 200), (30, 400, 500)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    product(Precision::Bf16, Matrix::new(&a, m, k), Matrix::new(&b, k, n), Onto::Nothing)
                })
            };
            assert_eq!(run(1), run(3));
        }
    }
}
