//! Dropout masks that are computed wherever they are needed, and stored nowhere.
//!
//! Word `w` of Philox block `16·g + l` decides element `64·g + 16·w + l` of an operation's tensor: 16 blocks at a time
//! give four vectors of 16 neighbours.

use crate::philox::philox_lanes;

/// Elements that one call of [`RandomMask::multipliers`] decides.
pub(crate) const GROUP: usize = 64;

/// The mask of one operation: each element is dropped with probability `p`, the others are divided by `1 − p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RandomMask {
    key: [u32; 2],
    operation: u64,
    /// A word below it drops its element.
    threshold: u32,
    /// What a kept element is multiplied by.
    scale: f32,
}

impl RandomMask {
    /// The mask of `operation` in the pass with this `key`.
    pub(crate) fn new(key: [u32; 2], operation: u64, p: f64) -> Self {
        let threshold = (p * 2f64.powi(32)).min(f64::from(u32::MAX)) as u32;
        // `p = 1` drops all, the one word that no threshold catches too.
        let scale = if p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
        Self { key, operation, threshold, scale }
    }

    /// 0 or `1 / (1 − p)` for the elements from `64 · group` on.
    #[inline(always)]
    pub(crate) fn multipliers(&self, group: u64) -> [f32; GROUP] {
        let words = philox_lanes(group * 16, self.operation, self.key);
        let mut out = [0f32; GROUP];
        for (out, words) in out.chunks_exact_mut(16).zip(&words) {
            for (out, word) in out.iter_mut().zip(words) {
                *out = if *word < self.threshold { 0.0 } else { self.scale };
            }
        }
        out
    }

    /// The multipliers of the first `len` elements.
    pub(crate) fn values(&self, len: usize) -> Vec<f32> {
        let mut out = vec![0f32; len];
        self.fill(0, &mut out);
        out
    }

    /// The multipliers of `rows` rows, which are numbered as by [`row_start`].
    pub(crate) fn values_by_rows(&self, rows: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0f32; rows * columns];
        for (row, out) in (0..).zip(out.chunks_mut(columns.max(1))) {
            self.fill(row_start(row, columns), out);
        }
        out
    }

    /// The multipliers of the elements from `first` on, which must be a multiple of [`GROUP`].
    #[inline(always)]
    pub(crate) fn fill(&self, first: u64, out: &mut [f32]) {
        for (group, out) in (first / GROUP as u64..).zip(out.chunks_mut(GROUP)) {
            out.copy_from_slice(&self.multipliers(group)[..out.len()]);
        }
    }
}

/// Where row `row` of a tensor of rows begins in the numbering of a mask whose rows start on a group each.
#[inline(always)]
pub(crate) fn row_start(row: u64, columns: usize) -> u64 {
    row * columns.next_multiple_of(GROUP) as u64
}
