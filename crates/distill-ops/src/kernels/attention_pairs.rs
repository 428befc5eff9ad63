//! Pairs of bf16 numbers, by the instruction that makes 32 of them at once.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::attention_packing::Rows;
#[cfg(target_arch = "x86_64")]
use super::{
    attention_packing::{padded_columns, transpose_avx512},
    attention_products::PANEL,
};

/// Words of a vector.
#[cfg(target_arch = "x86_64")]
const VECTOR: usize = 16;

/// Declares functions for processors that have `vdpbf16ps`; others never come to have pairs.
macro_rules! with_bf16 {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx2,fma")]
                fn compiled($($arg: $ty),*) $body
                assert!(super::isa().has_bf16(), "pairs need an instruction of their own");
                // SAFETY: the processor was asked for these features before the instruction set was chosen.
                unsafe { compiled($($arg),*) }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = ($($arg,)*);
                unreachable!("pairs need an instruction of their own");
            }
        }
    )*};
}

/// 16 numbers of `row` from `from` on, zeros behind its end.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f")]
fn read(row: &[f32], from: usize) -> __m512 {
    let rest = row.get(from..).unwrap_or_default();
    let mask = if rest.len() < VECTOR { (1u16 << rest.len()) - 1 } else { u16::MAX };
    // SAFETY: only as many numbers are read as there are.
    unsafe { _mm512_maskz_loadu_ps(mask, rest.as_ptr()) }
}

/// Word `l` holds number `2l` and `2l + 1` of two vectors.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn neighbours(first: __m512, second: __m512) -> __m512i {
    // SAFETY: both are 512 bits, and any bits are a number.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Word `l` holds number `l` of each vector.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn interleaved(low: __m512, high: __m512) -> __m512i {
    let order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18,
        2, 17, 1, 16, 0,
    );
    _mm512_permutexvar_epi16(order, neighbours(low, high))
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f")]
fn write(out: &mut [f32; VECTOR], words: __m512i) {
    // SAFETY: the store covers the array.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn along(row: &[f32], scale: __m512, out: &mut [f32]) {
    for (at, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        let [first, second] = [read(row, 2 * at * VECTOR), read(row, (2 * at + 1) * VECTOR)];
        write(out, neighbours(_mm512_mul_ps(first, scale), _mm512_mul_ps(second, scale)));
    }
}

with_bf16! {
    /// Pairs of neighbours of a row; `out` may be longer, and is filled up with zeros.
    pub(super) fn pairs_along(row: &[f32], out: &mut [f32]) {
        along(row, _mm512_set1_ps(1.0), out);
    }

    /// Pairs of two rows' numbers, column by column; a missing row counts as zeros.
    pub(super) fn pairs_across(low: &[f32], high: &[f32], out: &mut [f32]) {
        for (at, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            write(out, interleaved(read(low, at * VECTOR), read(high, at * VECTOR)));
        }
    }

    /// See [`pack_left`](super::attention_packing::pack_left).
    pub(super) fn pack_left(source: Rows<'_>, rows: Range<usize>, scale: f32, stride: usize, out: &mut [f32]) {
        let scale = _mm512_set1_ps(scale);
        for (row, out) in rows.zip(out.chunks_exact_mut(stride)) {
            along(source.row(row), scale, out);
        }
    }

    /// See [`pack_transposed`](super::attention_packing::pack_transposed).
    pub(super) fn pack_transposed(source: Rows<'_>, rows: Range<usize>, depth: usize, out: &mut [f32]) {
        let one = _mm512_set1_ps(1.0);
        for (panel, out) in out.chunks_exact_mut(PANEL * depth).enumerate() {
            for half in 0..PANEL / VECTOR {
                let first = rows.start + panel * PANEL + half * VECTOR;
                for (at, out) in out.chunks_mut(VECTOR * PANEL).enumerate() {
                    let mut block = [[0.0; VECTOR]; VECTOR];
                    for (row, block) in (first..rows.end).zip(&mut block) {
                        along(source.row(row).get(2 * at * VECTOR..).unwrap_or_default(), one, block);
                    }
                    transpose_avx512(&mut block);
                    for (out, block) in out.chunks_exact_mut(PANEL).zip(&block) {
                        out[half * VECTOR..][..VECTOR].copy_from_slice(block);
                    }
                }
            }
        }
    }

    /// See [`pack_across`](super::attention_packing::pack_across).
    pub(super) fn pack_across(source: Rows<'_>, rows: Range<usize>, scale: f32, out: &mut [f32]) {
        let depth = rows.len().div_ceil(2);
        let columns = padded_columns(source.head_size);
        let scale = _mm512_set1_ps(scale);
        for first in (0..columns).step_by(PANEL) {
            let width = PANEL.min(columns - first);
            let panel = &mut out[first * depth..][..width * depth];
            for (low, out) in rows.clone().step_by(2).zip(panel.chunks_exact_mut(width)) {
                let high = if low + 1 < rows.end { source.row(low + 1) } else { &[] };
                let low = source.row(low);
                for (part, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                    let [low, high] = [read(low, first + part * VECTOR), read(high, first + part * VECTOR)];
                    write(out, interleaved(_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale)));
                }
            }
        }
    }
}
