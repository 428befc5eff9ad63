//! Operands of a product in the order in which the micro-kernels read them.
//!
//! The unit is a *word* of 32 bits: one f32, or two neighbours along the summed dimension `k` as a pair of bf16. The
//! summed dimension is padded with zeros to whole blocks of [`BLOCK`] words, rows and columns to whole panels:
//!
//! - left operand: `[panel][block][row of the panel][BLOCK words]`, 64 bytes a row and block (an AMX tile as it is);
//! - right operand: `[panel][block][BLOCK words][column of the panel]`.

use super::for_each_isa;
use super::matrix::Matrix;
#[cfg(target_arch = "x86_64")]
use super::packing_avx512;
use super::{Isa, isa};

/// Words along `k` of one block.
pub(crate) const BLOCK: usize = 16;

/// What a word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// One f32.
    F32,
    /// One f32 that has been rounded to bf16: what processors without bf16 products multiply.
    Rounded,
    /// Two bf16, the first in the lower half.
    Pairs,
}

impl Words {
    /// Elements along `k` of one block.
    pub(crate) fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::Rounded => BLOCK,
            Self::Pairs => 2 * BLOCK,
        }
    }

    /// How many words `k` elements fill.
    pub(crate) fn words(self, k: usize) -> usize {
        match self {
            Self::F32 | Self::Rounded => k,
            Self::Pairs => k.div_ceil(2),
        }
    }

    /// How many blocks `k` elements fill.
    pub(crate) fn blocks(self, k: usize) -> usize {
        k.div_ceil(self.block_elements())
    }
}

/// 16 rows or columns of one block: `[row][word]` of a left operand, `[word][column]` of a right one.
pub(super) type Square = [[u32; BLOCK]; BLOCK];

/// Packs `rows` rows of the left operand `a`, from row `first` on, into panels of `panel` rows.
///
/// `out` holds as many panels as the rows need, of `blocks · panel · BLOCK` words each.
pub(super) fn pack_left(
    words: Words,
    a: Matrix<'_>,
    [first, rows]: [usize; 2],
    panel: usize,
    out: &mut [u32],
) {
    let panel_words = words.blocks(a.columns) * panel * BLOCK;
    if panel_words == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    match words {
        Words::Pairs if isa() >= Isa::Avx512Bf16 => {
            return packing_avx512::pairs::left(a, first, rows, panel, out);
        }
        Words::F32 if isa() >= Isa::Avx512 => {
            return packing_avx512::floats::left(a, first, rows, panel, out);
        }
        _ => {}
    }
    for (index, out) in out.chunks_exact_mut(panel_words).enumerate() {
        let first = first + index * panel;
        match words {
            Words::F32 => pack_left_f32(a, first, panel, out),
            Words::Rounded => pack_left_rounded(a, first, panel, out),
            Words::Pairs => pack_left_pairs(a, first, panel, out),
        }
    }
}

/// Packs `columns` columns of the right operand `b`, from column `first` on, into panels of `panel` columns.
///
/// `out` holds as many panels as the columns need, of `blocks · BLOCK · panel` words each.
pub(super) fn pack_right(
    words: Words,
    b: Matrix<'_>,
    [first, columns]: [usize; 2],
    panel: usize,
    out: &mut [u32],
) {
    let panel_words = words.blocks(b.rows) * panel * BLOCK;
    if panel_words == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    match words {
        Words::Pairs if isa() >= Isa::Avx512Bf16 => {
            return packing_avx512::pairs::right(b, first, columns, panel, out);
        }
        Words::F32 if isa() >= Isa::Avx512 => {
            return packing_avx512::floats::right(b, first, columns, panel, out);
        }
        _ => {}
    }
    for (index, out) in out.chunks_exact_mut(panel_words).enumerate() {
        let first = first + index * panel;
        match words {
            Words::F32 => pack_right_f32(b, first, panel, out),
            Words::Rounded => pack_right_rounded(b, first, panel, out),
            Words::Pairs => pack_right_pairs(b, first, panel, out),
        }
    }
}

const F32: u8 = 0;
const ROUNDED: u8 = 1;
const PAIRS: u8 = 2;

for_each_isa!(fn pack_left_f32(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = left_f32);
for_each_isa!(fn pack_left_rounded(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = left_rounded);
for_each_isa!(fn pack_left_pairs(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = left_pairs);
for_each_isa!(fn pack_right_f32(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = right_f32);
for_each_isa!(fn pack_right_rounded(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = right_rounded);
for_each_isa!(fn pack_right_pairs(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) = right_pairs);

#[inline(always)]
fn left_f32<const FMA: bool>(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    left::<F32>(a, first, panel, out);
}

#[inline(always)]
fn left_rounded<const FMA: bool>(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    left::<ROUNDED>(a, first, panel, out);
}

#[inline(always)]
fn left_pairs<const FMA: bool>(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    left::<PAIRS>(a, first, panel, out);
}

#[inline(always)]
fn right_f32<const FMA: bool>(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    right::<F32>(b, first, panel, out);
}

#[inline(always)]
fn right_rounded<const FMA: bool>(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    right::<ROUNDED>(b, first, panel, out);
}

#[inline(always)]
fn right_pairs<const FMA: bool>(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    right::<PAIRS>(b, first, panel, out);
}

#[inline(always)]
fn left<const WORDS: u8>(a: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    let rows = panel.min(a.rows - first);
    let elements = if WORDS == PAIRS { 2 * BLOCK } else { BLOCK };
    if a.column_stride == 1 {
        for (block, out) in out.chunks_exact_mut(panel * BLOCK).enumerate() {
            let k = block * elements;
            let count = elements.min(a.columns - k);
            let (filled, empty) = out.split_at_mut(rows * BLOCK);
            for (row, out) in filled.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                let start = (first + row) * a.row_stride + k;
                *out = along::<WORDS>(&a.data[start..start + count]);
            }
            empty.fill(0);
        }
    } else {
        for (block, out) in out.chunks_exact_mut(panel * BLOCK).enumerate() {
            let (filled, empty) = out.split_at_mut(rows * BLOCK);
            for (group, out) in filled.chunks_mut(BLOCK * BLOCK).enumerate() {
                let row = group * BLOCK;
                let square = across::<WORDS>(a, block * elements, first + row, BLOCK.min(rows - row));
                for (row, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    for (out, line) in out.iter_mut().zip(&square) {
                        *out = line[row];
                    }
                }
            }
            empty.fill(0);
        }
    }
}

#[inline(always)]
fn right<const WORDS: u8>(b: Matrix<'_>, first: usize, panel: usize, out: &mut [u32]) {
    // The right operand seen with its columns as rows, so that both operands are walked alike.
    let b = b.transposed();
    let columns = panel.min(b.rows - first);
    let elements = if WORDS == PAIRS { 2 * BLOCK } else { BLOCK };
    for (block, out) in out.chunks_exact_mut(panel * BLOCK).enumerate() {
        let k = block * elements;
        let count = elements.min(b.columns - k);
        for group in 0..panel / BLOCK {
            let column = group * BLOCK;
            let live = columns.saturating_sub(column).min(BLOCK);
            let mut square: Square = [[0; BLOCK]; BLOCK];
            // Nothing lives beyond the last column: zeros.
            if live > 0 && b.column_stride == 1 {
                let mut lines: Square = [[0; BLOCK]; BLOCK];
                for (row, line) in lines[..live].iter_mut().enumerate() {
                    let start = (first + column + row) * b.row_stride + k;
                    *line = along::<WORDS>(&b.data[start..start + count]);
                }
                for (word, line) in square.iter_mut().enumerate() {
                    for (out, row) in line.iter_mut().zip(&lines) {
                        *out = row[word];
                    }
                }
            } else if live > 0 {
                square = across::<WORDS>(b, k, first + column, live);
            }
            for (out, line) in out.chunks_exact_mut(panel).zip(&square) {
                out[column..column + BLOCK].copy_from_slice(line);
            }
        }
    }
}

/// The words of neighbours along `k`; what is missing is zero.
#[inline(always)]
fn along<const WORDS: u8>(x: &[f32]) -> [u32; BLOCK] {
    let mut out = [0; BLOCK];
    if WORDS == PAIRS {
        match x.as_chunks::<{ 2 * BLOCK }>().0.first() {
            Some(x) => {
                for (out, pair) in out.iter_mut().zip(x.as_chunks::<2>().0) {
                    *out = pair_of(pair[0], pair[1]);
                }
            }
            None => {
                for (out, pair) in out.iter_mut().zip(x.chunks(2)) {
                    *out = pair_of(pair[0], pair.get(1).copied().unwrap_or(0.0));
                }
            }
        }
    } else {
        for (out, x) in out.iter_mut().zip(x) {
            *out = if WORDS == ROUNDED { bf16_bits(*x) << 16 } else { x.to_bits() };
        }
    }
    out
}

/// The words `[word][row]` of up to 16 rows that are neighbours in memory, from `k` on; what is missing is zero.
#[inline(always)]
fn across<const WORDS: u8>(a: Matrix<'_>, k: usize, first: usize, rows: usize) -> Square {
    let mut square: Square = [[0; BLOCK]; BLOCK];
    let line = |k: usize| {
        let start = k * a.column_stride + first;
        &a.data[start..start + rows]
    };
    for (word, out) in square.iter_mut().enumerate() {
        if WORDS == PAIRS {
            let k = k + 2 * word;
            if k + 1 < a.columns {
                for (out, (low, high)) in out.iter_mut().zip(line(k).iter().zip(line(k + 1))) {
                    *out = pair_of(*low, *high);
                }
            } else if k < a.columns {
                for (out, low) in out.iter_mut().zip(line(k)) {
                    *out = pair_of(*low, 0.0);
                }
            }
        } else if k + word < a.columns {
            for (out, x) in out.iter_mut().zip(line(k + word)) {
                *out = if WORDS == ROUNDED { bf16_bits(*x) << 16 } else { x.to_bits() };
            }
        }
    }
    square
}

#[inline(always)]
fn pair_of(low: f32, high: f32) -> u32 {
    bf16_bits(low) | bf16_bits(high) << 16
}

/// Rounded to the nearest bf16, ties to even; a number that is none stays none.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_the_nearest_and_ties_to_even() {
        for (x, expected) in [
            (1.0f32, 0x3F80),
            (-2.0, 0xC000),
            (f32::from_bits(0x3F80_8000), 0x3F80),
            (f32::from_bits(0x3F81_8000), 0x3F82),
            (f32::from_bits(0x3F80_8001), 0x3F81),
            (f32::MAX, 0x7F80),
            (f32::INFINITY, 0x7F80),
            (f32::NEG_INFINITY, 0xFF80),
            (0.0, 0),
        ] {
            assert_eq!(bf16_bits(x), expected, "{x}");
        }
        for bits in [0x7FFF_FFFF, 0x7F80_0001, 0xFFFF_FFFF] {
            let rounded = f32::from_bits(bf16_bits(f32::from_bits(bits)) << 16);
            assert!(rounded.is_nan());
        }
    }

    fn value(row: usize, column: usize) -> f32 {
        (row * 100 + column) as f32
    }

    /// Both storage orders of the same matrix.
    fn stored(rows: usize, columns: usize) -> [(Vec<f32>, [usize; 2]); 2] {
        let by_rows = (0..rows * columns).map(|i| value(i / columns, i % columns)).collect();
        let by_columns = (0..rows * columns).map(|i| value(i % rows, i / rows)).collect();
        [(by_rows, [columns, 1]), (by_columns, [1, rows])]
    }

    /// The element at `k` of a line of words.
    fn element(words: Words, k: usize, word: impl Fn(usize, usize) -> u32) -> f32 {
        let per_block = words.block_elements();
        let (block, inside) = (k / per_block, k % per_block);
        match words {
            Words::F32 | Words::Rounded => f32::from_bits(word(block, inside)),
            Words::Pairs => {
                let pair = word(block, inside / 2);
                f32::from_bits(if inside % 2 == 0 { pair << 16 } else { pair & 0xFFFF_0000 })
            }
        }
    }

    fn rounded(words: Words, x: f32) -> f32 {
        if words == Words::F32 { x } else { f32::from_bits(bf16_bits(x) << 16) }
    }

    #[test]
    fn every_element_is_where_the_kernels_look_for_it() {
        for words in [Words::F32, Words::Rounded, Words::Pairs] {
            for (lines, k) in [(1, 1), (5, 33), (12, 16), (20, 47), (32, 64)] {
                let panel = 32;
                let blocks = words.blocks(k);
                for (data, [row_stride, column_stride]) in stored(lines, k) {
                    let a = Matrix { data: &data, rows: lines, columns: k, row_stride, column_stride };
                    let mut left = vec![u32::MAX; blocks * panel * BLOCK];
                    pack_left(words, a, [0, lines], panel, &mut left);
                    let mut right = vec![u32::MAX; blocks * panel * BLOCK];
                    pack_right(words, a.transposed(), [0, lines], panel, &mut right);
                    for line in 0..panel {
                        for k_index in 0..blocks * words.block_elements() {
                            let expected = if line < lines && k_index < k {
                                rounded(words, value(line, k_index))
                            } else {
                                0.0
                            };
                            let at_left = |block, word| left[(block * panel + line) * BLOCK + word];
                            let at_right = |block, word| right[(block * BLOCK + word) * panel + line];
                            assert_eq!(element(words, k_index, at_left), expected);
                            assert_eq!(element(words, k_index, at_right), expected);
                        }
                    }
                }
            }
        }
    }
}
