//! The right operand of a product, packed whole in the order of the kernel that will read it.

use std::cell::RefCell;

use rayon::prelude::*;

use super::activation::Curve;
use super::matrix::Matrix;
use super::micro_kernels::{self, MicroKernel};
use super::packing::{BLOCK, pack_right};
use super::{Isa, isa};
use crate::precision::Precision;

/// A right operand in the order of the kernel that will read it.
#[derive(Debug, Clone)]
pub(crate) struct PackedRight {
    pub(super) words: Vec<u32>,
    pub(super) k: usize,
    pub(super) columns: usize,
    pub(super) precision: Precision,
}

impl PackedRight {
    /// Packs `b`, `[k, columns]`.
    pub(crate) fn new(precision: Precision, b: Matrix<'_>) -> Self {
        let kernel = kernel(precision);
        let len = b.columns.div_ceil(kernel.columns) * kernel.words.blocks(b.rows) * BLOCK * kernel.columns;
        Self::into_buffer(precision, b, uninitialised_words(len))
    }

    /// Packs `curve(b)` of a matrix whose rows are contiguous; the activation itself is never in memory as a whole.
    pub(crate) fn activated(precision: Precision, b: Matrix<'_>, curve: Curve) -> Self {
        assert_eq!(b.column_stride, 1, "rows are contiguous");
        let kernel = kernel(precision);
        let panel_words = kernel.words.blocks(b.rows) * BLOCK * kernel.columns;
        let mut words = uninitialised_words(b.columns.div_ceil(kernel.columns) * panel_words);
        let panels_per_task = panels_per_task(b.columns.div_ceil(kernel.columns));
        let width = kernel.columns * panels_per_task;
        let task = |(task, out): (usize, &mut [u32])| {
            let first = task * width;
            let columns = width.min(b.columns - first);
            ACTIVATED.with_borrow_mut(|activated| {
                for row in (0..b.rows).step_by(ACTIVATED_ROWS) {
                    let rows = ACTIVATED_ROWS.min(b.rows - row);
                    activated.resize(rows * columns, 0.0);
                    for (row, out) in (row..).zip(activated.chunks_exact_mut(columns)) {
                        curve.forward_serial(&b.data[row * b.row_stride + first..][..columns], out);
                    }
                    let piece = Matrix::new(activated, rows, columns);
                    let block_words = BLOCK * kernel.columns;
                    let before = row / kernel.words.block_elements() * block_words;
                    let blocks = kernel.words.blocks(rows) * block_words;
                    for (panel, out) in out.chunks_exact_mut(panel_words).enumerate() {
                        let at = panel * kernel.columns;
                        let live = kernel.columns.min(columns - at);
                        let out = &mut out[before..before + blocks];
                        pack_right(kernel.words, piece, [at, live], kernel.columns, out);
                    }
                }
            });
        };
        if panel_words > 0 {
            words.par_chunks_mut(panel_words * panels_per_task).enumerate().for_each(task);
        }
        Self { words, k: b.rows, columns: b.columns, precision }
    }

    fn into_buffer(precision: Precision, b: Matrix<'_>, mut words: Vec<u32>) -> Self {
        let kernel = kernel(precision);
        let panels = b.columns.div_ceil(kernel.columns);
        let panel_words = kernel.words.blocks(b.rows) * BLOCK * kernel.columns;
        let len = panels * panel_words;
        // A buffer that has been longer stays so: growing again would clear it again.
        if words.len() < len {
            words.resize(len, 0);
        }
        let panels_per_task = panels_per_task(panels);
        let width = kernel.columns * panels_per_task;
        let pack = |(task, out): (usize, &mut [u32])| {
            let first = task * width;
            pack_right(kernel.words, b, [first, width.min(b.columns - first)], kernel.columns, out);
        };
        if panel_words > 0 {
            let task_words = panel_words * panels_per_task;
            if b.rows * b.columns < SERIAL_PACKING {
                words[..len].chunks_mut(task_words).enumerate().for_each(pack);
            } else {
                words[..len].par_chunks_mut(task_words).enumerate().for_each(pack);
            }
        }
        Self { words, k: b.rows, columns: b.columns, precision }
    }
}

/// What `work` makes of a right operand that is packed for it alone.
pub(crate) fn with_packed<T>(precision: Precision, b: Matrix<'_>, work: impl FnOnce(&PackedRight) -> T) -> T {
    let packed = PackedRight::into_buffer(precision, b, RIGHT.take());
    let result = work(&packed);
    RIGHT.replace(packed.words);
    result
}

/// The kernel for this precision on this processor.
pub(super) fn kernel(precision: Precision) -> MicroKernel {
    kernel_of(precision, isa())
}

pub(super) fn kernel_of(precision: Precision, isa: Isa) -> MicroKernel {
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
        (Precision::Bf16, _) => float.for_rounded_words(),
    }
}

/// Elements of a right operand below which one thread packs it.
pub(super) const SERIAL_PACKING: usize = 1 << 14;

/// Rows that [`PackedRight::activated`] has at once; a multiple of every block.
const ACTIVATED_ROWS: usize = 64;

/// Tasks for each thread where columns are shared out.
pub(super) const TASKS_PER_THREAD: usize = 4;

/// Panels of columns that one task packs at most.
const MOST_PANELS_PER_TASK: usize = 8;

/// Panels of columns that one task packs: several tasks for each thread, if there are enough panels.
fn panels_per_task(panels: usize) -> usize {
    panels.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads()).clamp(1, MOST_PANELS_PER_TASK)
}

thread_local! {
    /// Rows of a matrix after an activation.
    pub(super) static ACTIVATED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// The right operand of a product that packs its own.
    static RIGHT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// A vector for packed words, all of which packing writes: clearing it first would cost a pass over its pages.
#[allow(unsafe_code, clippy::uninit_vec)]
fn uninitialised_words(len: usize) -> Vec<u32> {
    let mut words = Vec::with_capacity(len);
    // SAFETY: the capacity is there; what it holds is nobody's to read until it is written, and packing writes all of it.
    unsafe { words.set_len(len) };
    words
}
