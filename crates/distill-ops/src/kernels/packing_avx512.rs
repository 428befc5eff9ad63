//! [`super::packing`] with AVX-512: 16 words at a time, bf16 by `vcvtne2ps2bf16`, squares of 16 x 16 words transposed in
//! registers.

#![allow(unsafe_code)] // intrinsics, and loads of a row's end by mask

use std::arch::x86_64::{
    __m512bh, __m512i, __mmask16, _mm512_castps_si512, _mm512_cvtne2ps_pbh, _mm512_loadu_epi16,
    _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::matrix::Matrix;
use super::packing::BLOCK;

/// 16 rows or columns of one block.
type Square = [__m512i; BLOCK];

/// The lower halves' words and the upper halves' in turn: pairs out of two rows of 16.
const INTERLEAVE: [u16; 32] = {
    let mut order = [0; 32];
    let mut pair = 0;
    while pair < 16 {
        order[2 * pair] = pair as u16;
        order[2 * pair + 1] = 16 + pair as u16;
        pair += 1;
    }
    order
};

/// A mask of the first `count` lanes, at most 16.
fn first_lanes(count: usize) -> __mmask16 {
    if count >= 16 { __mmask16::MAX } else { (1 << count) - 1 }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: Square) -> Square {
    let mut pairs = rows;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Element `4i + j`: in each of its quarters `q`, column `4q + j` of the rows `4i` to `4i + 3`.
    let mut fours = pairs;
    for i in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n: usize| pairs[4 * i + n]);
        fours[4 * i] = _mm512_unpacklo_epi64(a, c);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut columns = fours;
    for j in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i: usize| fours[4 * i + j]);
        let (upper, lower) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<EVEN>(upper, lower);
        columns[8 + j] = _mm512_shuffle_i32x4::<ODD>(upper, lower);
        let (upper, lower) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        columns[4 + j] = _mm512_shuffle_i32x4::<EVEN>(upper, lower);
        columns[12 + j] = _mm512_shuffle_i32x4::<ODD>(upper, lower);
    }
    columns
}

macro_rules! packing {
    ($module:ident, $features:literal, $elements:expr, $along:expr, $across:expr) => {
        pub(super) mod $module {
            use super::*;

            /// Elements along `k` of one block.
            const ELEMENTS: usize = $elements;

            /// See [`super::super::packing::pack_left`].
            pub(in super::super) fn left(
                a: Matrix<'_>,
                first: usize,
                rows: usize,
                panel: usize,
                out: &mut [u32],
            ) {
                check(a, first, rows);
                let panel_words = a.columns.div_ceil(ELEMENTS) * panel * BLOCK;
                assert!(rows.div_ceil(panel) * panel_words <= out.len());
                // SAFETY: chosen only where the processor has the features; all of the rows are inside `a.data`, and
                // the panels inside `out`.
                unsafe { left_unchecked(a, first, rows, panel, out) }
            }

            /// See [`super::super::packing::pack_right`].
            pub(in super::super) fn right(
                b: Matrix<'_>,
                first: usize,
                columns: usize,
                panel: usize,
                out: &mut [u32],
            ) {
                let b = b.transposed();
                check(b, first, columns);
                let panel_words = b.columns.div_ceil(ELEMENTS) * panel * BLOCK;
                assert!(columns.div_ceil(panel) * panel_words <= out.len() && panel % BLOCK == 0);
                // SAFETY: as in `left`.
                unsafe { right_unchecked(b, first, columns, panel, out) }
            }

            /// # Safety
            /// The processor has the features, and the callers above have checked their arguments.
            #[target_feature(enable = $features)]
            unsafe fn left_unchecked(
                a: Matrix<'_>,
                first: usize,
                rows: usize,
                panel: usize,
                out: &mut [u32],
            ) {
                let blocks = a.columns.div_ceil(ELEMENTS);
                let panel_words = blocks * panel * BLOCK;
                let size = |index: usize| panel.min(rows - index * panel);
                if a.column_stride == 1 {
                    for (index, out) in out.chunks_exact_mut(panel_words).enumerate() {
                        for row in 0..size(index) {
                            // Along the row: the processor fetches ahead.
                            for (block, out) in out.chunks_exact_mut(panel * BLOCK).enumerate() {
                                // SAFETY: the caller's promises.
                                let words =
                                    unsafe { along(a, first + index * panel + row, block * ELEMENTS) };
                                // SAFETY: `out` has 16 words from there on.
                                unsafe { store(words, &mut out[row * BLOCK..]) };
                            }
                        }
                        for out in out.chunks_exact_mut(panel * BLOCK) {
                            out[size(index) * BLOCK..].fill(0);
                        }
                    }
                    return;
                }
                // Blocks outside: rows that are neighbours in memory are read together, whatever their panels.
                for block in 0..blocks {
                    let k = block * ELEMENTS;
                    for (index, out) in out.chunks_exact_mut(panel_words).enumerate() {
                        let out = &mut out[block * panel * BLOCK..][..panel * BLOCK];
                        let (filled, empty) = out.split_at_mut(size(index) * BLOCK);
                        empty.fill(0);
                        for (group, out) in filled.chunks_mut(BLOCK * BLOCK).enumerate() {
                            let row = index * panel + group * BLOCK;
                            let live = BLOCK.min(size(index) - group * BLOCK);
                            // SAFETY: the caller's promises.
                            let square = unsafe { across_square(a, first + row, live, k) };
                            for (out, row) in out.chunks_exact_mut(BLOCK).zip(transpose(square)) {
                                // SAFETY: `out` has 16 words.
                                unsafe { store(row, out) };
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// As [`left_unchecked`]; `b` with its columns as rows.
            #[target_feature(enable = $features)]
            unsafe fn right_unchecked(
                b: Matrix<'_>,
                first: usize,
                columns: usize,
                panel: usize,
                out: &mut [u32],
            ) {
                let blocks = b.columns.div_ceil(ELEMENTS);
                let panel_words = blocks * panel * BLOCK;
                for block in 0..blocks {
                    let k = block * ELEMENTS;
                    for (index, out) in out.chunks_exact_mut(panel_words).enumerate() {
                        let (first, columns) = (first + index * panel, panel.min(columns - index * panel));
                        let out = &mut out[block * panel * BLOCK..][..panel * BLOCK];
                        for at in (0..panel).step_by(BLOCK) {
                            let live = columns.saturating_sub(at).min(BLOCK);
                            let square = if live == 0 {
                                [_mm512_setzero_si512(); BLOCK]
                            } else if b.column_stride == 1 {
                                let mut lines = [_mm512_setzero_si512(); BLOCK];
                                for (row, line) in lines[..live].iter_mut().enumerate() {
                                    // SAFETY: the caller's promises.
                                    *line = unsafe { along(b, first + at + row, k) };
                                }
                                transpose(lines)
                            } else {
                                // SAFETY: the caller's promises.
                                unsafe { across_square(b, first + at, live, k) }
                            };
                            for (out, line) in out.chunks_exact_mut(panel).zip(square) {
                                // SAFETY: a line of the panel has 16 words from `at` on.
                                unsafe { store(line, &mut out[at..]) };
                            }
                        }
                    }
                }
            }

            /// The words of row `row` from `k` on.
            ///
            /// # Safety
            /// The processor has the features; the row is inside the matrix, whose rows are contiguous.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn along(a: Matrix<'_>, row: usize, k: usize) -> __m512i {
                let left = a.columns.saturating_sub(k);
                // SAFETY: lanes beyond the row's end are masked.
                unsafe { $along(a.data.as_ptr().wrapping_add(row * a.row_stride + k), left) }
            }

            /// The words `[word][row]` of rows that are neighbours in memory.
            ///
            /// # Safety
            /// The processor has the features; the rows are inside the matrix, whose columns are contiguous.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn across_square(a: Matrix<'_>, row: usize, rows: usize, k: usize) -> Square {
                let mut square = [_mm512_setzero_si512(); BLOCK];
                let lanes = first_lanes(rows);
                for (word, line) in square.iter_mut().enumerate() {
                    let k = k + word * (ELEMENTS / BLOCK);
                    let at = |k: usize| a.data.as_ptr().wrapping_add(k * a.column_stride + row);
                    let lanes = |k: usize| if k < a.columns { lanes } else { 0 };
                    // SAFETY: lanes beyond the last row and lines beyond the last column are masked.
                    *line = unsafe { $across([at(k), at(k + 1)], [lanes(k), lanes(k + 1)]) };
                }
                square
            }
        }
    };
}

/// Panics unless rows `first` to `first + rows` are inside.
fn check(a: Matrix<'_>, first: usize, rows: usize) {
    assert!(first + rows <= a.rows && (a.column_stride == 1 || a.row_stride == 1));
    let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
    let end = last(first + rows, a.row_stride) + last(a.columns, a.column_stride);
    assert!(rows == 0 || a.columns == 0 || end < a.data.len(), "the matrix hangs over its slice");
}

/// # Safety
/// `out` has 16 words, and the processor AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(words: __m512i, out: &mut [u32]) {
    debug_assert!(out.len() >= BLOCK);
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
}

packing!(
    floats,
    "avx512f,avx512bw",
    BLOCK,
    |at: *const f32, left: usize| _mm512_castps_si512(_mm512_maskz_loadu_ps(first_lanes(left), at)),
    |[at, _]: [*const f32; 2], [lanes, _]: [__mmask16; 2]| _mm512_castps_si512(_mm512_maskz_loadu_ps(
        lanes, at
    ))
);

packing!(
    pairs,
    "avx512f,avx512bw,avx512bf16",
    2 * BLOCK,
    |at: *const f32, left: usize| {
        let low = _mm512_maskz_loadu_ps(first_lanes(left), at);
        let high = _mm512_maskz_loadu_ps(first_lanes(left.saturating_sub(BLOCK)), at.wrapping_add(BLOCK));
        transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    },
    |[low, high]: [*const f32; 2], [low_lanes, high_lanes]: [__mmask16; 2]| {
        let low = _mm512_maskz_loadu_ps(low_lanes, low);
        let high = _mm512_maskz_loadu_ps(high_lanes, high);
        let words = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_permutexvar_epi16(_mm512_loadu_epi16(INTERLEAVE.as_ptr().cast()), words)
    }
);
