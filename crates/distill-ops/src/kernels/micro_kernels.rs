//! The innermost loops of a product: one tile of the result, kept in registers over the whole sum.

#[cfg(target_arch = "x86_64")]
use super::amx;
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
    /// Words along the sum; those after them, up to a whole block, are zeros.
    pub(super) words: usize,
}

/// A kernel: the size of its tile, what it multiplies, and its code.
#[derive(Clone, Copy)]
pub(super) struct MicroKernel {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) words: Words,
    code: Code,
    /// The same for a tile of which only the first half of the columns is wanted, if that is faster.
    half: Option<Code>,
    /// By rows and neighbouring panels of columns, each counted from one: smaller and wider tiles.
    few_rows: &'static [&'static [Code]],
    /// Whether the code uses AMX tiles.
    tiles: bool,
}

/// What the thread at hand holds while it computes tiles (see [`MicroKernel::units`]).
#[derive(Debug)]
pub(super) struct Units {
    #[cfg(target_arch = "x86_64")]
    tiles: Option<amx::Tiles>,
}

/// Computes a whole tile: so many words of the left and the right operand, what the tile starts from, the bias if it is
/// that, the result and its stride.
///
/// All of them travel in registers: a structure would be read back while the stores of the tile before are still on their
/// way, and wait for them.
type Code = unsafe fn(usize, *const u32, *const u32, StartKind, *const f32, *mut f32, usize);

/// [`Start`] without its slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartKind {
    Zero,
    Result,
    Bias,
}

impl MicroKernel {
    /// The kernel for a left operand that has `rows` rows in all, as in decoding, where most of a whole tile would be
    /// zeros. It computes the same sums.
    pub(super) fn for_rows(self, rows: usize) -> Self {
        match rows.checked_sub(1).and_then(|index| self.few_rows.get(index)) {
            Some(codes) => Self { rows, code: codes[0], half: None, ..self },
            None => self,
        }
    }

    /// How many neighbouring panels of columns one tile may have.
    ///
    /// With few rows a tile waits for memory, which answers several streams faster than one.
    pub(super) fn most_panels(&self) -> usize {
        self.few_rows.get(self.rows.wrapping_sub(1)).map_or(1, |codes| codes.len())
    }

    /// The kernel for tiles of so many panels, at most [`most_panels`](Self::most_panels); the right operand has all
    /// blocks of the first panel, then those of the next.
    pub(super) fn for_panels(self, panels: usize) -> Self {
        match self.few_rows.get(self.rows.wrapping_sub(1)) {
            Some(codes) => {
                Self { columns: panels * self.columns, code: codes[panels - 1], half: None, ..self }
            }
            None => self,
        }
    }

    /// The kernel for a tile whose second half of columns nobody reads; it need not write it.
    pub(super) fn for_half(self) -> Self {
        Self { code: self.half.unwrap_or(self.code), ..self }
    }

    /// The same code for words that were rounded to bf16 before.
    pub(super) fn for_rounded_words(self) -> Self {
        Self { words: Words::Rounded, ..self }
    }

    /// What a thread needs while it computes tiles: once for as many of them as come one after the other, for AMX takes
    /// as long to get ready as a tenth of a tile. Nothing that may run other tasks belongs in between.
    #[allow(unsafe_code)]
    pub(super) fn units(&self) -> Units {
        Units {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a kernel with tiles is chosen only where they are usable.
            tiles: self.tiles.then(|| unsafe { amx::Tiles::configure() }),
        }
    }

    /// Computes a whole tile into `result`, row by row with this stride.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn tile(
        &self,
        units: &Units,
        operands: Operands<'_>,
        start: Start<'_>,
        result: &mut [f32],
        stride: usize,
    ) {
        #[cfg(target_arch = "x86_64")]
        assert!(!self.tiles || units.tiles.is_some());
        #[cfg(not(target_arch = "x86_64"))]
        let Units {} = units;
        let blocks = operands.words.div_ceil(BLOCK);
        assert!(operands.left.len() >= blocks * self.rows * BLOCK);
        assert!(operands.right.len() >= blocks * self.columns * BLOCK);
        assert!(stride >= self.columns && result.len() >= (self.rows - 1) * stride + self.columns);
        let (kind, bias) = match start {
            Start::Zero => (StartKind::Zero, std::ptr::null()),
            Start::Result => (StartKind::Result, std::ptr::null()),
            Start::Bias(bias) => {
                assert!(bias.len() >= self.columns);
                (StartKind::Bias, bias.as_ptr())
            }
        };
        let (left, right) = (operands.left.as_ptr(), operands.right.as_ptr());
        // SAFETY: a kernel is chosen only where the processor has its instructions, and `units` are those of this thread
        // (they cannot go to another); all that it reads and writes has just been seen to be inside the slices.
        unsafe { (self.code)(operands.words, left, right, kind, bias, result.as_mut_ptr(), stride) }
    }
}

/// The slow, obvious kernel; the one of processors without vectors that we know.
pub(super) const PORTABLE: MicroKernel = MicroKernel {
    rows: 4,
    columns: 16,
    words: Words::F32,
    code: portable_tile,
    half: None,
    few_rows: &[],
    tiles: false,
};

/// # Safety
/// As [`MicroKernel::tile`] promises.
#[allow(unsafe_code)]
unsafe fn portable_tile(
    words: usize,
    left: *const u32,
    right: *const u32,
    start: StartKind,
    bias: *const f32,
    result: *mut f32,
    stride: usize,
) {
    let blocks = words.div_ceil(BLOCK);
    // SAFETY: the caller's promises; a null bias is not looked at.
    let (left, right, result) = unsafe {
        (
            std::slice::from_raw_parts(left, blocks * 4 * BLOCK),
            std::slice::from_raw_parts(right, blocks * 16 * BLOCK),
            std::slice::from_raw_parts_mut(result, 3 * stride + 16),
        )
    };
    let mut sums = [[0f32; 16]; 4];
    for (row, sums) in sums.iter_mut().enumerate() {
        match start {
            StartKind::Zero => {}
            StartKind::Result => sums.copy_from_slice(&result[row * stride..row * stride + 16]),
            // SAFETY: the caller's promises.
            StartKind::Bias => sums.copy_from_slice(unsafe { std::slice::from_raw_parts(bias, 16) }),
        }
    }
    let both = left.as_chunks::<{ 4 * BLOCK }>().0.iter().zip(right.as_chunks::<{ 16 * BLOCK }>().0);
    for ((left, right), before) in both.zip((0..words).step_by(BLOCK)) {
        for word in 0..BLOCK.min(words - before) {
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
    use std::array;
    use std::mem::transmute;

    use super::{BLOCK, MicroKernel, StartKind, Words};
    use crate::kernels::amx;

    /// 12 x 32: 24 sums, 2 loads and a broadcast fill the 32 registers.
    const ROWS: usize = 12;
    const COLUMNS: usize = 32;
    const ROWS_AVX2: usize = 6;
    const COLUMNS_AVX2: usize = 16;

    /// The tiles of few rows that fit into the registers.
    macro_rules! few_rows {
        ($tile:ident) => {
            &[
                &[
                    $tile::<1, 1, 2>,
                    $tile::<1, 2, 2>,
                    $tile::<1, 3, 2>,
                    $tile::<1, 4, 2>,
                    $tile::<1, 5, 2>,
                    $tile::<1, 6, 2>,
                    $tile::<1, 7, 2>,
                    $tile::<1, 8, 2>,
                ],
                &[$tile::<2, 1, 2>, $tile::<2, 2, 2>, $tile::<2, 3, 2>, $tile::<2, 4, 2>],
                &[$tile::<3, 1, 2>, $tile::<3, 2, 2>, $tile::<3, 3, 2>, $tile::<3, 4, 2>],
                &[$tile::<4, 1, 2>, $tile::<4, 2, 2>, $tile::<4, 3, 2>],
            ]
        };
    }

    /// 16 floats at a time.
    pub(in super::super) const AVX512: MicroKernel = MicroKernel {
        rows: ROWS,
        columns: COLUMNS,
        words: Words::F32,
        code: avx512_f32_tile::<ROWS, 1, 2>,
        half: Some(avx512_f32_tile::<ROWS, 1, 1>),
        few_rows: few_rows!(avx512_f32_tile),
        tiles: false,
    };

    /// 16 pairs of bf16 at a time.
    pub(in super::super) const AVX512_BF16: MicroKernel = MicroKernel {
        rows: ROWS,
        columns: COLUMNS,
        words: Words::Pairs,
        code: avx512_bf16_tile::<ROWS, 1, 2>,
        half: Some(avx512_bf16_tile::<ROWS, 1, 1>),
        few_rows: few_rows!(avx512_bf16_tile),
        tiles: false,
    };

    /// 8 floats at a time.
    pub(in super::super) const AVX2: MicroKernel = MicroKernel {
        rows: ROWS_AVX2,
        columns: COLUMNS_AVX2,
        words: Words::F32,
        code: avx2_tile::<ROWS_AVX2>,
        half: None,
        few_rows: &[&[avx2_tile::<1>], &[avx2_tile::<2>], &[avx2_tile::<3>], &[avx2_tile::<4>]],
        tiles: false,
    };

    /// Four tiles of 16 x 16, two of either operand.
    pub(in super::super) const AMX: MicroKernel = MicroKernel {
        rows: 32,
        columns: 32,
        words: Words::Pairs,
        code: amx_tile,
        half: None,
        few_rows: &[],
        tiles: true,
    };

    /// # Safety
    /// The thread has its tiles, and as [`MicroKernel::tile`] promises.
    unsafe fn amx_tile(
        words: usize,
        left: *const u32,
        right: *const u32,
        start: StartKind,
        bias: *const f32,
        result: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's promises: 32 rows of 32 floats, and as many biases.
        unsafe {
            let from = match start {
                StartKind::Zero => amx::From::Zero,
                StartKind::Result => amx::From::Rows(result, stride),
                StartKind::Bias => amx::From::Rows(bias, 0),
            };
            amx::tile(words.div_ceil(BLOCK), left, right, from, result, stride);
        }
    }

    macro_rules! avx512_tile {
        ($name:ident, $features:literal, |$sum:ident, $a:ident, $b:ident| $multiply:expr) => {
            /// # Safety
            /// The processor has the features, and as [`MicroKernel::tile`] promises.
            #[target_feature(enable = $features)]
            unsafe fn $name<const ROWS: usize, const PANELS: usize, const VECTORS: usize>(
                words: usize,
                mut a: *const u32,
                mut b: *const u32,
                start: StartKind,
                bias: *const f32,
                result: *mut f32,
                stride: usize,
            ) {
                // SAFETY: the caller promises that whole blocks of `words` words of either operand, the bias and the
                // tile of the result are there; loads and stores need no alignment.
                unsafe {
                    let mut sums = [[[_mm512_setzero_ps(); VECTORS]; PANELS]; ROWS];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        for (panel, sums) in sums.iter_mut().enumerate() {
                            let from = match start {
                                StartKind::Zero => continue,
                                StartKind::Result => result.add(row * stride + panel * COLUMNS),
                                StartKind::Bias => bias.add(panel * COLUMNS),
                            };
                            *sums = array::from_fn(|vector| _mm512_loadu_ps(from.add(16 * vector)));
                        }
                    }
                    let panel_words = words.next_multiple_of(BLOCK) * COLUMNS;
                    for before in (0..words).step_by(BLOCK) {
                        for word in 0..BLOCK.min(words - before) {
                            for panel in 0..PANELS {
                                let b = b.add(panel * panel_words + word * COLUMNS);
                                let right: [__m512i; VECTORS] =
                                    array::from_fn(|vector| _mm512_loadu_si512(b.add(16 * vector).cast()));
                                for (row, sums) in sums.iter_mut().enumerate() {
                                    let left =
                                        _mm512_set1_epi32(a.add(row * BLOCK + word).cast::<i32>().read());
                                    for (sum, right) in sums[panel].iter_mut().zip(right) {
                                        let ($sum, $a, $b) = (*sum, left, right);
                                        *sum = $multiply;
                                    }
                                }
                            }
                        }
                        a = a.add(ROWS * BLOCK);
                        b = b.add(COLUMNS * BLOCK);
                    }
                    for (row, sums) in sums.iter().enumerate() {
                        for (panel, sums) in sums.iter().enumerate() {
                            let to = result.add(row * stride + panel * COLUMNS);
                            for (vector, sum) in sums.iter().enumerate() {
                                _mm512_storeu_ps(to.add(16 * vector), *sum);
                            }
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
    /// The processor has AVX2 and FMA, and as [`MicroKernel::tile`] promises.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_tile<const ROWS: usize>(
        words: usize,
        left: *const u32,
        right: *const u32,
        start: StartKind,
        bias: *const f32,
        result: *mut f32,
        stride: usize,
    ) {
        let (mut a, mut b) = (left.cast::<f32>(), right.cast::<f32>());
        // SAFETY: the caller promises that whole blocks of `words` words of either operand, the bias and the tile of the
        // result are there; loads and stores need no alignment; any 32 bits are an f32.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            match start {
                StartKind::Zero => {}
                StartKind::Result => {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        *sums = [0, 8].map(|column| _mm256_loadu_ps(result.add(row * stride + column)));
                    }
                }
                StartKind::Bias => {
                    sums = [[0, 8].map(|column| _mm256_loadu_ps(bias.add(column))); ROWS];
                }
            }
            for before in (0..words).step_by(BLOCK) {
                for word in 0..BLOCK.min(words - before) {
                    let right = [0, 8].map(|column| _mm256_loadu_ps(b.add(word * COLUMNS_AVX2 + column)));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = _mm256_set1_ps(*a.add(row * BLOCK + word));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = _mm256_fmadd_ps(left, right, *sum);
                        }
                    }
                }
                a = a.add(ROWS * BLOCK);
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
