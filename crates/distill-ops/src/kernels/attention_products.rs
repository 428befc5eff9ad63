//! Products of small matrices that lie in the cache: what attention is made of.
//!
//! An operand is a matrix of 32-bit words. A word is one float, or a pair of bf16 numbers that stand next to each other
//! along the summed index and that one instruction multiplies and sums. So one kernel serves both, and only packing
//! knows which it is ([`super::attention_packing`]). The left operand's words are broadcast, the right operand's are
//! read by vectors from panels of [`PANEL`] columns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{Isa, isa};
use crate::Precision;

/// Columns of a panel; the last panel of a matrix may have half of them.
pub(super) const PANEL: usize = 32;
/// What the columns of a right operand are filled up to.
pub(super) const COLUMNS: usize = 16;

/// What the words of the operands are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// Floats.
    Floats,
    /// Floats rounded to bf16, for processors that cannot multiply bf16.
    Rounded,
    /// Two bf16 numbers, neighbours along the summed index, the first one in the low half.
    Pairs,
}

impl Words {
    /// The words that mean `precision` on this processor.
    pub(super) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Floats,
            Precision::Bf16 if isa().has_bf16() => Self::Pairs,
            Precision::Bf16 => Self::Rounded,
        }
    }

    /// How many words hold `values` numbers along the summed index.
    pub(super) fn depth(self, values: usize) -> usize {
        match self {
            Self::Floats | Self::Rounded => values,
            Self::Pairs => values.div_ceil(2),
        }
    }
}

/// Where a left operand's word `(row, depth)` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// At `row · stride + depth`.
    Rows,
    /// At `depth · stride + row`: the operand is the transpose of what is stored.
    Columns,
}

/// A left operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) words: &'a [f32],
    pub(super) stride: usize,
    pub(super) order: Order,
}

/// A right operand in panels: word `(depth, column)` of the panel that starts at column `c` lies at
/// `c · total_depth + depth · width + (column − c)`, where `width` is the number of columns of that panel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) words: &'a [f32],
    /// Columns and words along the summed index as they were packed.
    pub(super) columns: usize,
    pub(super) total_depth: usize,
    /// The first word along the summed index that counts.
    pub(super) first: usize,
}

/// What becomes of the numbers that the output holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    /// They are written over.
    Nothing,
    /// They are added to.
    Sum,
}

/// The extent of a product: `rows × columns` sums of `depth` words each. `columns` is a multiple of [`COLUMNS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
}

/// `out = left · right`, or `out += left · right`.
#[allow(unsafe_code)]
pub(super) fn product(
    words: Words,
    extent: Extent,
    left: Left<'_>,
    right: Right<'_>,
    onto: Onto,
    out: &mut [f32],
    out_stride: usize,
) {
    let Extent { rows, columns, depth } = extent;
    if rows == 0 || columns == 0 {
        return;
    }
    let (last_row, last_depth) = (rows - 1, depth.max(1) - 1);
    let last_left = match left.order {
        Order::Rows => last_row * left.stride + last_depth,
        Order::Columns => last_depth * left.stride + last_row,
    };
    // What makes the pointers below safe to follow.
    assert!(depth == 0 || last_left < left.words.len(), "the left operand ends early");
    assert!(right.columns.is_multiple_of(COLUMNS), "columns come by the vector");
    assert!(columns == right.columns || columns.is_multiple_of(PANEL), "part of a panel");
    assert!(right.first + depth <= right.total_depth, "the right operand is less deep");
    assert!(columns <= right.columns, "the right operand has fewer columns");
    assert!(right.columns * right.total_depth <= right.words.len(), "the right operand ends early");
    assert!(columns <= out_stride || rows == 1, "rows of the output overlap");
    assert!(last_row * out_stride + columns <= out.len(), "the output ends early");
    let call = Call { extent, left, right, onto, out: out.as_mut_ptr(), out_stride };
    #[cfg(target_arch = "x86_64")]
    {
        let isa = isa();
        // SAFETY: the bounds were checked above, the processor's features when `isa` was chosen.
        unsafe {
            if words == Words::Pairs {
                return avx512_pairs(&call);
            }
            if isa >= Isa::Avx512 {
                return avx512(&call);
            }
            if isa >= Isa::Avx2 {
                return avx2(&call);
            }
        }
    }
    assert!(words != Words::Pairs, "pairs need an instruction of their own");
    // SAFETY: the bounds were checked above.
    unsafe { panels::<Portable>(&call) }
}

struct Call<'a> {
    extent: Extent,
    left: Left<'a>,
    right: Right<'a>,
    onto: Onto,
    out: *mut f32,
    out_stride: usize,
}

/// The vectors of an instruction set, and the tile whose sums fit its registers.
#[allow(unsafe_code)]
trait Vectors {
    type Vector: Copy;
    const LANES: usize;
    /// Rows of the tallest tile; two vectors wide, its sums fill most of the registers.
    const ROWS: usize;
    unsafe fn zero() -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    unsafe fn broadcast(from: *const f32) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `sum + a · b`, lane by lane.
    unsafe fn multiply_add(sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
}

/// Panel by panel: a panel stays in the first-level cache while all rows pass by.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn panels<V: Vectors>(call: &Call<'_>) {
    let Call { extent, right, out, .. } = *call;
    for first in (0..extent.columns).step_by(PANEL) {
        let width = PANEL.min(extent.columns - first);
        // SAFETY: `product` checked that the panel lies inside the operand, and its columns inside the output.
        let panel = unsafe { right.words.as_ptr().add(first * right.total_depth + right.first * width) };
        let mut column = 0;
        while column < width {
            let wide = width - column >= 2 * V::LANES;
            // SAFETY: as above.
            unsafe {
                let (panel, out) = (panel.add(column), out.add(first + column));
                match (wide, call.left.order) {
                    (true, Order::Rows) => strips::<V, 2, false>(call, panel, width, out),
                    (true, Order::Columns) => strips::<V, 2, true>(call, panel, width, out),
                    (false, Order::Rows) => strips::<V, 1, false>(call, panel, width, out),
                    (false, Order::Columns) => strips::<V, 1, true>(call, panel, width, out),
                }
            }
            column += if wide { 2 * V::LANES } else { V::LANES };
        }
    }
}

/// All rows against the first `VECTORS` vectors of `panel`: the tallest tiles first, then what is left.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn strips<V: Vectors, const VECTORS: usize, const COLUMNS: bool>(
    call: &Call<'_>,
    panel: *const f32,
    width: usize,
    out: *mut f32,
) {
    let rows = call.extent.rows;
    let mut row = 0;
    macro_rules! tiles {
        ($height:literal) => {
            while V::ROWS >= $height && rows - row >= $height {
                // SAFETY: `row + height` rows lie inside the operands, as the caller's caller checked.
                unsafe { tile::<V, $height, VECTORS, COLUMNS>(call, row, panel, width, out) };
                row += $height;
            }
        };
    }
    tiles!(12);
    tiles!(8);
    tiles!(6);
    tiles!(4);
    tiles!(2);
    tiles!(1);
}

/// `ROWS × VECTORS` sums, held in registers from the first word to the last.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn tile<V: Vectors, const ROWS: usize, const VECTORS: usize, const COLUMNS: bool>(
    call: &Call<'_>,
    row: usize,
    panel: *const f32,
    width: usize,
    out: *mut f32,
) {
    let Call { extent, left, onto, out_stride, .. } = *call;
    // SAFETY: `product` checked that `rows × depth` words of the left operand, `depth` rows of the panel and
    // `rows` rows of the output are there.
    unsafe {
        let left_words = left.words.as_ptr().add(if COLUMNS { row } else { row * left.stride });
        let out = out.add(row * out_stride);
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        for depth in 0..extent.depth {
            let mut right = [V::zero(); VECTORS];
            for (vector, right) in right.iter_mut().enumerate() {
                *right = V::load(panel.add(depth * width + vector * V::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let offset = if COLUMNS { depth * left.stride + row } else { row * left.stride + depth };
                let left = V::broadcast(left_words.add(offset));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = V::multiply_add(*sum, left, right);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                let to = out.add(row * out_stride + vector * V::LANES);
                V::store(to, if onto == Onto::Sum { V::add(V::load(to), *sum) } else { *sum });
            }
        }
    }
}

/// Vectors of four: what every processor has, and the compiler knows how to reach.
struct Portable;

#[allow(unsafe_code)]
impl Vectors for Portable {
    type Vector = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's pointer has four floats behind it.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; 4]) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(vector) }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's pointer has a float behind it.
        [unsafe { *from }; 4]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn multiply_add(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [sum[0] + a[0] * b[0], sum[1] + a[1] * b[1], sum[2] + a[2] * b[2], sum[3] + a[3] * b[3]]
    }
}

/// [`Vectors`] by the processor's own instructions, and `$run`, which is [`panels`] compiled for them.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    (
        $(#[$meta:meta])*
        $name:ident, $run:ident: $features:literal, $vector:ident, $lanes:literal, $rows:literal,
        $zero:ident, $load:ident, $store:ident, $broadcast:ident, $add:ident,
        |$sum:ident, $a:ident, $b:ident| $multiply_add:expr
    ) => {
        $(#[$meta])*
        struct $name;

        // SAFETY, for the whole of it: only `$run` calls these, which has the features; pointers are the caller's.
        #[allow(unsafe_code)]
        impl Vectors for $name {
            type Vector = $vector;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            #[inline(always)]
            unsafe fn zero() -> $vector {
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> $vector {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, vector: $vector) {
                unsafe { $store(to, vector) }
            }
            #[inline(always)]
            unsafe fn broadcast(from: *const f32) -> $vector {
                unsafe { $broadcast(*from) }
            }
            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn multiply_add($sum: $vector, $a: $vector, $b: $vector) -> $vector {
                unsafe { $multiply_add }
            }
        }

        #[allow(unsafe_code)]
        #[target_feature(enable = $features)]
        unsafe fn $run(call: &Call<'_>) {
            // SAFETY: the caller's.
            unsafe { panels::<$name>(call) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors! {
    /// 16 floats.
    Avx512, avx512: "avx512f,avx2,fma", __m512, 16, 12,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_add_ps,
    |sum, a, b| _mm512_fmadd_ps(a, b, sum)
}

#[cfg(target_arch = "x86_64")]
vectors! {
    /// 16 pairs of bf16, and their sums.
    Avx512Pairs, avx512_pairs: "avx512f,avx512bf16,avx2,fma", __m512, 16, 12,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_add_ps,
    |sum, a, b| _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
}

#[cfg(target_arch = "x86_64")]
vectors! {
    /// 8 floats.
    Avx2, avx2: "avx2,fma", __m256, 8, 6,
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_add_ps,
    |sum, a, b| _mm256_fmadd_ps(a, b, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn products_of_floats() {
        for (rows, columns, depth) in [(1, 16, 1), (12, 32, 5), (37, 80, 33), (128, 128, 32), (7, 48, 129)] {
            for order in [Order::Rows, Order::Columns] {
                for onto in [Onto::Nothing, Onto::Sum] {
                    let (first, total_depth) = (3, depth + 5);
                    let stride = rows.max(depth) + 1;
                    let left = numbers(stride * rows.max(depth), 1);
                    let right = numbers(columns * total_depth, 2);
                    let out_stride = columns + 3;
                    let before = numbers(rows * out_stride, 3);
                    let mut out = before.clone();
                    product(
                        Words::Floats,
                        Extent { rows, columns, depth },
                        Left { words: &left, stride, order },
                        Right { words: &right, columns, total_depth, first },
                        onto,
                        &mut out,
                        out_stride,
                    );
                    for row in 0..rows {
                        for column in 0..columns {
                            let panel = column / PANEL * PANEL;
                            let width = PANEL.min(columns - panel);
                            let sum: f64 = (0..depth)
                                .map(|depth| {
                                    let a = match order {
                                        Order::Rows => left[row * stride + depth],
                                        Order::Columns => left[depth * stride + row],
                                    };
                                    let at = panel * total_depth + (first + depth) * width + column - panel;
                                    f64::from(a) * f64::from(right[at])
                                })
                                .sum();
                            let at = row * out_stride + column;
                            let start = if onto == Onto::Sum { f64::from(before[at]) } else { 0.0 };
                            assert!((f64::from(out[at]) - sum - start).abs() < 1e-5 * depth as f64);
                        }
                    }
                }
            }
        }
    }
}
