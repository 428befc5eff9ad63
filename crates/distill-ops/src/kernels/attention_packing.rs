//! Operands of [`super::attention_products`]: rows of queries, keys and values, laid out as words.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::attention_products::{COLUMNS, PANEL, Words};
use super::{Isa, attention_pairs, for_each_isa, isa};

/// Floats packed at a time.
pub(super) const VECTOR: usize = 16;

/// Rows of one head: `row_stride` apart, `head_size` long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// From the first row's first value on.
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) head_size: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.row_stride..][..self.head_size]
    }

    /// Has these rows fetched into the second-level cache while other work goes on. Rows of a head lie far apart, which
    /// the processor's own prefetching does not follow.
    pub(super) fn prefetch(&self, rows: Range<usize>) {
        for row in rows {
            prefetch(self.values.get(row * self.row_stride..).unwrap_or_default().as_ptr(), self.head_size);
        }
    }
}

/// Has these floats fetched into the second-level cache. Any address will do.
#[allow(unsafe_code)]
#[inline(always)]
pub(super) fn prefetch(from: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len).step_by(VECTOR) {
        // SAFETY: prefetching reads nothing, and never fails.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(at).cast()) };
    }
}

/// `value` rounded to bf16; ties to even.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

/// The columns that `head_size` numbers are filled up to in a right operand.
pub(super) fn padded_columns(head_size: usize) -> usize {
    head_size.next_multiple_of(COLUMNS)
}

/// The stride of a left operand whose rows have `head_size` numbers.
pub(super) fn left_stride(words: Words, head_size: usize) -> usize {
    words.depth(head_size).next_multiple_of(VECTOR)
}

/// Writes 16 numbers of `row` from `from` on, times `scale`; zeros behind its end.
#[inline(always)]
fn copy(words: Words, row: &[f32], from: usize, scale: f32, out: &mut [f32; VECTOR]) {
    let rest = row.get(from..).unwrap_or_default();
    let mut padded = [0.0; VECTOR];
    let part = rest.first_chunk().unwrap_or_else(|| {
        padded[..rest.len()].copy_from_slice(rest);
        &padded
    });
    for (out, value) in out.iter_mut().zip(part) {
        *out = value * scale;
    }
    if words == Words::Rounded {
        for out in out {
            *out = round(*out);
        }
    }
}

#[inline(always)]
fn pack_left_body<const FMA: bool>(
    words: Words,
    source: Rows<'_>,
    rows: Range<usize>,
    scale: f32,
    out: &mut [f32],
) {
    for (row, out) in rows.zip(out.chunks_exact_mut(left_stride(words, source.head_size))) {
        let row = source.row(row);
        for (at, out) in out.as_chunks_mut::<VECTOR>().0.iter_mut().enumerate() {
            copy(words, row, at * VECTOR, scale, out);
        }
    }
}

for_each_isa! {
    fn pack_left_floats(
        words: Words,
        source: Rows<'_>,
        rows: Range<usize>,
        scale: f32,
        out: &mut [f32],
    ) = pack_left_body
}

/// `rows` of `source`, times `scale`, as a left operand in [`Order::Rows`](super::attention_products::Order) with
/// [`left_stride`].
pub(super) fn pack_left(words: Words, source: Rows<'_>, rows: Range<usize>, scale: f32, out: &mut [f32]) {
    match words {
        Words::Floats | Words::Rounded => pack_left_floats(words, source, rows, scale, out),
        Words::Pairs => {
            attention_pairs::pack_left(source, rows, scale, left_stride(words, source.head_size), out)
        }
    }
}

#[inline(always)]
fn pack_transposed_body<const FMA: bool>(
    words: Words,
    source: Rows<'_>,
    rows: Range<usize>,
    out: &mut [f32],
) {
    for (panel, out) in out.chunks_exact_mut(PANEL * source.head_size).enumerate() {
        for half in 0..PANEL / VECTOR {
            let first = rows.start + panel * PANEL + half * VECTOR;
            for (at, out) in out.chunks_mut(VECTOR * PANEL).enumerate() {
                let mut block = [[0.0; VECTOR]; VECTOR];
                for (row, block) in (first..rows.end).zip(&mut block) {
                    copy(words, source.row(row), at * VECTOR, 1.0, block);
                }
                transpose(&mut block);
                for (out, block) in out.chunks_exact_mut(PANEL).zip(&block) {
                    out[half * VECTOR..][..VECTOR].copy_from_slice(block);
                }
            }
        }
    }
}

for_each_isa! {
    fn pack_transposed_floats(words: Words, source: Rows<'_>, rows: Range<usize>, out: &mut [f32])
        = pack_transposed_body
}

/// `rows` of `source` as the columns of a right operand, summed over the head's numbers; filled up to whole panels with
/// zeros.
pub(super) fn pack_transposed(words: Words, source: Rows<'_>, rows: Range<usize>, out: &mut [f32]) {
    match words {
        Words::Floats | Words::Rounded => pack_transposed_floats(words, source, rows, out),
        Words::Pairs => attention_pairs::pack_transposed(source, rows, words.depth(source.head_size), out),
    }
}

#[inline(always)]
fn pack_across_body<const FMA: bool>(
    words: Words,
    source: Rows<'_>,
    rows: Range<usize>,
    scale: f32,
    out: &mut [f32],
) {
    let columns = padded_columns(source.head_size);
    for first in (0..columns).step_by(PANEL) {
        let width = PANEL.min(columns - first);
        let panel = &mut out[first * rows.len()..][..width * rows.len()];
        for (row, out) in rows.clone().zip(panel.chunks_exact_mut(width)) {
            for (part, out) in out.as_chunks_mut::<VECTOR>().0.iter_mut().enumerate() {
                copy(words, source.row(row), first + part * VECTOR, scale, out);
            }
        }
    }
}

for_each_isa! {
    fn pack_across_floats(
        words: Words,
        source: Rows<'_>,
        rows: Range<usize>,
        scale: f32,
        out: &mut [f32],
    ) = pack_across_body
}

/// `rows` of `source`, times `scale`, as a right operand that is summed over the rows.
pub(super) fn pack_across(words: Words, source: Rows<'_>, rows: Range<usize>, scale: f32, out: &mut [f32]) {
    match words {
        Words::Floats | Words::Rounded => pack_across_floats(words, source, rows, scale, out),
        Words::Pairs => attention_pairs::pack_across(source, rows, scale, out),
    }
}

/// Rows become columns.
#[allow(unsafe_code)]
pub(super) fn transpose(block: &mut [[f32; VECTOR]; VECTOR]) {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 {
        // SAFETY: the processor was asked for AVX-512 before `Isa::Avx512` was chosen.
        return unsafe { transpose_avx512(block) };
    }
    let rows = *block;
    for (column, out) in block.iter_mut().enumerate() {
        for (out, row) in out.iter_mut().zip(&rows) {
            *out = row[column];
        }
    }
}

/// [`transpose`] in four rounds: pairs of numbers, fours, and twice the fours' places.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_avx512(block: &mut [[f32; VECTOR]; VECTOR]) {
    let mut c = [_mm512_setzero_ps(); VECTOR];
    for four in 0..VECTOR / 4 {
        let row = 4 * four;
        // SAFETY: each load covers one row of 16.
        let [p, q, r, s] = unsafe {
            [
                _mm512_loadu_ps(block[row].as_ptr()),
                _mm512_loadu_ps(block[row + 1].as_ptr()),
                _mm512_loadu_ps(block[row + 2].as_ptr()),
                _mm512_loadu_ps(block[row + 3].as_ptr()),
            ]
        };
        let (low, low_2) = (_mm512_unpacklo_ps(p, q), _mm512_unpacklo_ps(r, s));
        let (high, high_2) = (_mm512_unpackhi_ps(p, q), _mm512_unpackhi_ps(r, s));
        let (low, low_2) = (_mm512_castps_pd(low), _mm512_castps_pd(low_2));
        let (high, high_2) = (_mm512_castps_pd(high), _mm512_castps_pd(high_2));
        c[row] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low_2));
        c[row + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low_2));
        c[row + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high_2));
        c[row + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high_2));
    }
    // Now row `4g + j` holds column `4l + j` of rows `4g .. 4g + 4` as its `l`-th four.
    for j in 0..4 {
        let even =
            [_mm512_shuffle_f32x4::<0x88>(c[j], c[4 + j]), _mm512_shuffle_f32x4::<0x88>(c[8 + j], c[12 + j])];
        let odd =
            [_mm512_shuffle_f32x4::<0xDD>(c[j], c[4 + j]), _mm512_shuffle_f32x4::<0xDD>(c[8 + j], c[12 + j])];
        let columns = [
            _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
            _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
            _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]),
            _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]),
        ];
        for (l, column) in columns.into_iter().enumerate() {
            // SAFETY: the store covers one row of 16.
            unsafe { _mm512_storeu_ps(block[4 * l + j].as_mut_ptr(), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;

    /// The numbers along the summed index that a word holds.
    fn numbers(words: Words, word: f32) -> Vec<f32> {
        match words {
            Words::Floats | Words::Rounded => vec![word],
            Words::Pairs => {
                vec![f32::from_bits(word.to_bits() << 16), f32::from_bits(word.to_bits() & 0xFFFF_0000)]
            }
        }
    }

    #[test]
    fn each_number_has_its_place() {
        for precision in [Precision::F32, Precision::Bf16] {
            let words = Words::of(precision);
            for (len, head_size) in [(1, 1), (5, 8), (33, 33), (64, 32), (50, 80), (17, 128)] {
                let row_stride = head_size + 2;
                let values: Vec<f32> = (0..len * row_stride).map(|x| 1.0 + x as f32 / 777.0).collect();
                let source = Rows { values: &values, row_stride, head_size };
                let skipped = len / 3;
                let rows = skipped..len;
                let expected = |row: usize, column: usize, scale: f32| {
                    let value = if row < rows.len() && column < head_size {
                        values[(skipped + row) * row_stride + column] * scale
                    } else {
                        0.0
                    };
                    if precision == Precision::Bf16 { round(value) } else { value }
                };
                let per_word = if words == Words::Pairs { 2 } else { 1 };

                let stride = left_stride(words, head_size);
                let mut left = vec![f32::NAN; rows.len() * stride];
                pack_left(words, source, rows.clone(), 0.3, &mut left);
                for (at, word) in left.iter().enumerate() {
                    for (part, number) in numbers(words, *word).into_iter().enumerate() {
                        assert_eq!(number, expected(at / stride, at % stride * per_word + part, 0.3));
                    }
                }

                let depth = words.depth(head_size);
                let mut transposed = vec![f32::NAN; rows.len().next_multiple_of(PANEL) * depth];
                pack_transposed(words, source, rows.clone(), &mut transposed);
                for (at, word) in transposed.iter().enumerate() {
                    let (panel, at) = (at / (PANEL * depth), at % (PANEL * depth));
                    for (part, number) in numbers(words, *word).into_iter().enumerate() {
                        assert_eq!(
                            number,
                            expected(panel * PANEL + at % PANEL, at / PANEL * per_word + part, 1.0)
                        );
                    }
                }

                let (columns, depth) = (padded_columns(head_size), words.depth(rows.len()));
                let mut across = vec![f32::NAN; columns * depth];
                pack_across(words, source, rows.clone(), 0.3, &mut across);
                for (at, word) in across.iter().enumerate() {
                    let first = at / (PANEL * depth) * PANEL;
                    let (width, at) = (PANEL.min(columns - first), at - first * depth);
                    for (part, number) in numbers(words, *word).into_iter().enumerate() {
                        assert_eq!(number, expected(at / width * per_word + part, first + at % width, 0.3));
                    }
                }
            }
        }
    }
}
