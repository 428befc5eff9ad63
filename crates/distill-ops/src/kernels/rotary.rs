//! Rotation of queries and keys by their positions; Su et al. 2021 (arXiv:2104.09864).

use std::sync::Arc;

use super::isa::{for_each_isa, mul_add};
use super::pieces::{each_piece, rows_per_piece};

/// Cosine and sine of each token's angles.
#[derive(Debug, Clone)]
pub(crate) struct RotaryAngles {
    /// `[tokens, head_size / 2]`; token `t` of the rows that are rotated has entry `t mod tokens`.
    pub(crate) cos: Arc<[f32]>,
    /// Like `cos`.
    pub(crate) sin: Arc<[f32]>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Forwards,
    /// The inverse, which is also the gradient.
    Backwards,
}

/// Rotates each head of each token, in place: the first half of its numbers are one coordinate of the planes, the second
/// half the other.
///
/// `values` is `[rows of tokens, heads, head_size]`.
pub(crate) fn rotate(values: &mut [f32], heads: usize, head_size: usize, angles: &RotaryAngles, turn: Turn) {
    let (half, width) = (head_size / 2, heads * head_size);
    if width == 0 || values.is_empty() {
        return;
    }
    let tokens = angles.cos.len() / half.max(1);
    assert!(half * 2 == head_size && tokens > 0, "angles are `[tokens, head_size / 2]`");
    assert_eq!(angles.cos.len(), angles.sin.len());
    let rows = rows_per_piece(width);
    each_piece(values.chunks_mut(rows * width).enumerate(), |(piece, values)| {
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            let from = (piece * rows + row) % tokens * half;
            let (cos, sin) = (&angles.cos[from..][..half], &angles.sin[from..][..half]);
            match turn {
                Turn::Forwards => rotate_forwards(values, cos, sin),
                Turn::Backwards => rotate_backwards(values, cos, sin),
            }
        }
    });
}

for_each_isa!(fn rotate_forwards(values: &mut [f32], cos: &[f32], sin: &[f32]) = forwards);
for_each_isa!(fn rotate_backwards(values: &mut [f32], cos: &[f32], sin: &[f32]) = backwards);

#[inline(always)]
fn forwards<const FMA: bool>(values: &mut [f32], cos: &[f32], sin: &[f32]) {
    heads::<FMA, false>(values, cos, sin);
}

#[inline(always)]
fn backwards<const FMA: bool>(values: &mut [f32], cos: &[f32], sin: &[f32]) {
    heads::<FMA, true>(values, cos, sin);
}

#[inline(always)]
fn heads<const FMA: bool, const BACK: bool>(values: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in values.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b, c) = (first[i], second[i], cos[i]);
            let s = if BACK { -sin[i] } else { sin[i] };
            first[i] = mul_add::<FMA>(a, c, -(b * s));
            second[i] = mul_add::<FMA>(b, c, a * s);
        }
    }
}
