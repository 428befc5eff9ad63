//! The innermost loops of a product: one tile of the result, kept in registers over the whole sum.

use super::packing::{BLOCK, Words};

/// What a tile starts from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What is in the result already.
    Result,
    /// The same row of biases in every row of the tile: `[columns]`, as many as the tile has.
    Bias(&'a [f32]),
}

/// One tile's operands, packed (see [`super::packing`]).
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands<'a> {
    /// One panel: `[blocks][rows][BLOCK]`.
    pub(super) left: &'a [u32],
    /// One panel: `[blocks][BLOCK][columns]`.
    pub(super) right: &'a [u32],
}

/// A kernel: the size of its tile, what it multiplies, and its code.
#[derive(Clone, Copy)]
pub(super) struct MicroKernel {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) words: Words,
    /// Computes a whole tile into `result`, row by row with this stride.
    pub(super) tile: fn(Operands<'_>, Start<'_>, result: &mut [f32], stride: usize),
}

/// The slow, obvious kernel; the one of processors without vectors that we know.
pub(super) const PORTABLE: MicroKernel = MicroKernel {
    rows: 4,
    columns: 16,
    words: Words::F32,
    tile: |operands, start, result, stride| {
        let mut sums = [[0f32; 16]; 4];
        begin(&mut sums, start, result, stride);
        for (left, right) in operands
            .left
            .as_chunks::<{ 4 * BLOCK }>()
            .0
            .iter()
            .zip(operands.right.as_chunks::<{ 16 * BLOCK }>().0)
        {
            for word in 0..BLOCK {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = f32::from_bits(left[row * BLOCK + word]);
                    for (column, sum) in sums.iter_mut().enumerate() {
                        *sum += a * f32::from_bits(right[word * 16 + column]);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            result[row * stride..row * stride + 16].copy_from_slice(sums);
        }
    },
};

fn begin<const COLUMNS: usize>(sums: &mut [[f32; COLUMNS]], start: Start<'_>, result: &[f32], stride: usize) {
    for (row, sums) in sums.iter_mut().enumerate() {
        match start {
            Start::Zero => {}
            Start::Result => sums.copy_from_slice(&result[row * stride..row * stride + COLUMNS]),
            Start::Bias(bias) => sums.copy_from_slice(&bias[..COLUMNS]),
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{AMX, AVX2, AVX512, AVX512_BF16};

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::{BLOCK, MicroKernel, Operands, Start, Words};
    use crate::kernels::amx;

    /// 12 x 32: 24 sums, 2 loads and a broadcast fill the 32 registers.
    const ROWS: usize = 12;
    const COLUMNS: usize = 32;
    const ROWS_AVX2: usize = 6;
    const COLUMNS_AVX2: usize = 16;

    /// 16 floats at a time.
    pub(in super::super) const AVX512: MicroKernel = MicroKernel {
        rows: ROWS,
        columns: COLUMNS,
        words: Words::F32,
        tile: |operands, start, result, stride| {
            check::<ROWS, COLUMNS>(operands, start, result, stride);
            // SAFETY: chosen only where the processor has AVX-512; `check` has seen that every access is inside.
            unsafe { avx512_f32_tile(operands, start, result.as_mut_ptr(), stride) }
        },
    };

    /// 16 pairs of bf16 at a time.
    pub(in super::super) const AVX512_BF16: MicroKernel = MicroKernel {
        rows: ROWS,
        columns: COLUMNS,
        words: Words::Pairs,
        tile: |operands, start, result, stride| {
            check::<ROWS, COLUMNS>(operands, start, result, stride);
            // SAFETY: chosen only where the processor has AVX512-BF16; `check` has seen that every access is inside.
            unsafe { avx512_bf16_tile(operands, start, result.as_mut_ptr(), stride) }
        },
    };

    /// 8 floats at a time.
    pub(in super::super) const AVX2: MicroKernel = MicroKernel {
        rows: ROWS_AVX2,
        columns: COLUMNS_AVX2,
        words: Words::F32,
        tile: |operands, start, result, stride| {
            check::<ROWS_AVX2, COLUMNS_AVX2>(operands, start, result, stride);
            // SAFETY: chosen only where the processor has AVX2 and FMA; `check` has seen that every access is inside.
            unsafe { avx2_tile(operands, start, result.as_mut_ptr(), stride) }
        },
    };

    /// Four tiles of 16 x 16, two of either operand.
    pub(in super::super) const AMX: MicroKernel = MicroKernel {
        rows: 32,
        columns: 32,
        words: Words::Pairs,
        tile: |operands, start, result, stride| {
            check::<32, 32>(operands, start, result, stride);
            let rows = result.chunks_mut(stride).take(32);
            match start {
                Start::Result => {}
                Start::Zero => rows.for_each(|row| row[..32].fill(0.0)),
                Start::Bias(bias) => rows.for_each(|row| row[..32].copy_from_slice(&bias[..32])),
            }
            let blocks = operands.left.len() / (32 * BLOCK);
            // SAFETY: chosen only where AMX may be used; `check` has seen that every access is inside.
            unsafe {
                amx::add_tile(
                    blocks,
                    operands.left.as_ptr(),
                    operands.right.as_ptr(),
                    result.as_mut_ptr(),
                    stride,
                )
            }
        },
    };

    /// Refuses operands and results that a tile of this size would overrun.
    #[inline(always)]
    fn check<const ROWS: usize, const COLUMNS: usize>(
        operands: Operands<'_>,
        start: Start<'_>,
        result: &[f32],
        stride: usize,
    ) {
        assert!(operands.left.len() / (ROWS * BLOCK) <= operands.right.len() / (COLUMNS * BLOCK));
        assert!(stride >= COLUMNS && result.len() >= (ROWS - 1) * stride + COLUMNS);
        if let Start::Bias(bias) = start {
            assert!(bias.len() >= COLUMNS);
        }
    }

    macro_rules! avx512_tile {
        ($name:ident, $features:literal, |$sum:ident, $a:ident, $b:ident| $multiply:expr) => {
            /// # Safety
            /// The processor has the features, and [`check`] has passed.
            #[target_feature(enable = $features)]
            unsafe fn $name(operands: Operands<'_>, start: Start<'_>, result: *mut f32, stride: usize) {
                let blocks = operands.left.len() / (ROWS * BLOCK);
                let (mut a, mut b) = (operands.left.as_ptr(), operands.right.as_ptr());
                // SAFETY: `check` has seen that `blocks` blocks of either operand, the bias and the tile of the
                // result are inside their slices; loads and stores need no alignment.
                unsafe {
                    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                    match start {
                        Start::Zero => {}
                        Start::Result => {
                            for (row, sums) in sums.iter_mut().enumerate() {
                                *sums =
                                    [0, 16].map(|column| _mm512_loadu_ps(result.add(row * stride + column)));
                            }
                        }
                        Start::Bias(bias) => {
                            let bias = [0, 16].map(|column| _mm512_loadu_ps(bias.as_ptr().add(column)));
                            sums = [bias; ROWS];
                        }
                    }
                    for _ in 0..blocks {
                        for word in 0..BLOCK {
                            let right = [0, 16].map(|c| _mm512_loadu_si512(b.add(word * COLUMNS + c).cast()));
                            for (row, sums) in sums.iter_mut().enumerate() {
                                let left = _mm512_set1_epi32(a.add(row * BLOCK + word).cast::<i32>().read());
                                for (sum, right) in sums.iter_mut().zip(right) {
                                    let ($sum, $a, $b) = (*sum, left, right);
                                    *sum = $multiply;
                                }
                            }
                        }
                        a = a.add(ROWS * BLOCK);
                        b = b.add(COLUMNS * BLOCK);
                    }
                    for (row, sums) in sums.iter().enumerate() {
                        for (column, sum) in [0, 16].into_iter().zip(sums) {
                            _mm512_storeu_ps(result.add(row * stride + column), *sum);
                        }
                    }
                }
            }
        };
    }
    avx512_tile!(avx512_f32_tile, "avx512f,avx512bw", |sum, a, b| {
        _mm512_fmadd_ps(transmute::<__m512i, __m512>(a), transmute::<__m512i, __m512>(b), sum)
    });
    avx512_tile!(avx512_bf16_tile, "avx512f,avx512bw,avx512bf16", |sum, a, b| {
        _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b))
    });

    /// # Safety
    /// The processor has AVX2 and FMA, and [`check`] has passed.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_tile(operands: Operands<'_>, start: Start<'_>, result: *mut f32, stride: usize) {
        let blocks = operands.left.len() / (ROWS_AVX2 * BLOCK);
        let (mut a, mut b) = (operands.left.as_ptr().cast::<f32>(), operands.right.as_ptr().cast::<f32>());
        // SAFETY: `check` has seen that `blocks` blocks of either operand, the bias and the tile of the result are
        // inside their slices; loads and stores need no alignment; any 32 bits are an f32.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS_AVX2];
            match start {
                Start::Zero => {}
                Start::Result => {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        *sums = [0, 8].map(|column| _mm256_loadu_ps(result.add(row * stride + column)));
                    }
                }
                Start::Bias(bias) => {
                    sums = [[0, 8].map(|column| _mm256_loadu_ps(bias.as_ptr().add(column))); ROWS_AVX2];
                }
            }
            for _ in 0..blocks {
                for word in 0..BLOCK {
                    let right = [0, 8].map(|column| _mm256_loadu_ps(b.add(word * COLUMNS_AVX2 + column)));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = _mm256_set1_ps(*a.add(row * BLOCK + word));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = _mm256_fmadd_ps(left, right, *sum);
                        }
                    }
                }
                a = a.add(ROWS_AVX2 * BLOCK);
                b = b.add(COLUMNS_AVX2 * BLOCK);
            }
            for (row, sums) in sums.iter().enumerate() {
                for (column, sum) in [0, 8].into_iter().zip(sums) {
                    _mm256_storeu_ps(result.add(row * stride + column), *sum);
                }
            }
        }
    }
}
