//! What attention does to its scores between the products: mask, softmax, dropout and their gradient, row by row.

use std::ops::Range;

use super::attention_packing::{Rows, round};
use super::attention_pairs::{pairs_across, pairs_along};
use super::attention_products::{PANEL, Words};
use super::random_mask::{GROUP, RandomMask, row_start};
use super::vector_math::{LANES, exp, sum_of_lanes};
use super::{for_each_isa, mul_add};

/// Added to the score of a padded key, whose weight then is exactly zero beside any other key's.
pub(super) const MASKED: f32 = -1e9;

/// What one head's scores are changed by before the softmax.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadMask<'a> {
    pub(super) q_len: usize,
    pub(super) k_len: usize,
    /// 0 or [`MASKED`] for each key, if any key is padding.
    pub(super) key_bias: Option<&'a [f32]>,
    /// The first key that is no padding, or `k_len`.
    pub(super) first_kept: usize,
    pub(super) causal: bool,
    /// For each query the first key that it sees, and the one after the last; neither falls from query to query.
    pub(super) key_ranges: Option<&'a [[u32; 2]]>,
    /// `[q_len, k_len]`.
    pub(super) bias: Option<&'a [f32]>,
}

impl HeadMask<'_> {
    /// The key after the last one that query `row` sees, padding included.
    #[inline(always)]
    pub(super) fn visible(&self, row: usize) -> usize {
        let end = self.key_ranges.map_or(self.k_len, |ranges| ranges[row][1] as usize);
        if self.causal { end.min((row + 1 + self.k_len).saturating_sub(self.q_len)) } else { end }
    }

    /// The first key that query `row` sees.
    #[inline(always)]
    pub(super) fn first_visible(&self, row: usize) -> usize {
        self.key_ranges.map_or(0, |ranges| ranges[row][0] as usize)
    }

    /// A multiple of [`GROUP`] with no key before it that query `row`, or a later one, sees.
    pub(super) fn first_group(&self, row: usize) -> usize {
        self.first_visible(row).min(self.visible(row)) / GROUP * GROUP
    }

    /// Makes of the scores of query `row` with the keys from `first_key` on what the softmax takes.
    #[inline(always)]
    pub(super) fn apply(&self, row: usize, first_key: usize, scores: &mut [f32]) {
        let visible = self.visible(row);
        let (seen, hidden) = scores.split_at_mut(visible.saturating_sub(first_key).min(scores.len()));
        hidden.fill(f32::NEG_INFINITY);
        let before = self.first_visible(row).saturating_sub(first_key).min(seen.len());
        seen[..before].fill(f32::NEG_INFINITY);
        if self.key_bias.is_some() && visible <= self.first_kept {
            // Beside −10⁹ nothing is left of a score: all keys weigh the same. Without that number, the log-sum-exp
            // keeps its digits.
            seen.fill(0.0);
            return;
        }
        if let Some(bias) = self.key_bias {
            for (score, bias) in seen.iter_mut().zip(&bias[first_key..]) {
                *score += bias;
            }
        }
        if let Some(bias) = self.bias {
            for (score, bias) in seen.iter_mut().zip(&bias[row * self.k_len + first_key..]) {
                *score += bias;
            }
        }
    }
}

/// Dropout of one head's weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadDropout {
    pub(super) mask: RandomMask,
    /// The number of the head's first row among all rows.
    pub(super) first_row: u64,
    pub(super) k_len: usize,
}

impl HeadDropout {
    /// The group that decides on the weights of query `row` from `key` on.
    #[inline(always)]
    fn group(&self, row: usize, key: usize) -> u64 {
        (row_start(self.first_row + row as u64, self.k_len) + key as u64) / GROUP as u64
    }

    /// Multiplies the weights of query `row` with the keys from `first_key` on by the mask's factors.
    #[inline(always)]
    fn apply(&self, row: usize, first_key: usize, weights: &mut [f32]) {
        let (groups, rest) = weights.as_chunks_mut::<GROUP>();
        for (group, weights) in (self.group(row, first_key)..).zip(&mut *groups) {
            multiply(weights, &self.mask.multipliers(group));
        }
        if let Some(weights) = rest.first_chunk_mut::<PANEL>() {
            multiply(weights, &self.mask.multipliers(self.group(row, first_key + groups.len() * GROUP)));
        }
    }
}

#[inline(always)]
fn multiply<const N: usize>(weights: &mut [f32; N], factors: &[f32; GROUP]) {
    for (weight, factor) in weights.iter_mut().zip(factors) {
        *weight *= factor;
    }
}

#[inline(always)]
fn round_all(row: &mut [f32]) {
    for value in row {
        *value = round(*value);
    }
}

/// The largest of a row's numbers, in no matter what order.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for part in row.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane = larger(*value, *lane);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = larger(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The natural logarithm of 0 or of a number that is not below 1, as sums of exponentials are; NaN of NaN.
///
/// `ln(m · 2^e) = e · ln 2 + 2 artanh((m − 1) / (m + 1))`, `m` between √½ and √2; the series is cut where less than a
/// rounding is left.
#[inline(always)]
fn ln<const FMA: bool>(x: f32) -> f32 {
    // The exponent of x / √½, so that the rest lies around 1.
    let bits = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let exponent = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x7F_FFFF) + std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    let mut series = 1.0 / 9.0;
    for divisor in [7.0, 5.0, 3.0] {
        series = mul_add::<FMA>(series, t, 1.0 / divisor);
    }
    let rest = mul_add::<FMA>(2.0 * s * t, series, 2.0 * s);
    let value = mul_add::<FMA>(exponent, std::f32::consts::LN_2, rest);
    if x >= 1.0 { value } else { x - f32::INFINITY }
}

/// A block of rows of scores on the way to a left operand. `columns` is a multiple of [`PANEL`].
pub(super) struct SoftmaxBlock<'a> {
    pub(super) words: Words,
    pub(super) mask: HeadMask<'a>,
    pub(super) dropout: Option<HeadDropout>,
    pub(super) rows: Range<usize>,
    /// The key of the first column, a multiple of [`GROUP`].
    pub(super) first_key: usize,
    pub(super) columns: usize,
    /// Rows of `stride`; words other than pairs are left here.
    pub(super) scores: &'a mut [f32],
    pub(super) stride: usize,
    /// For pairs: rows of half the `stride`.
    pub(super) pairs: &'a mut [f32],
    /// For each row the logarithm of the sum of the scores' exponentials.
    pub(super) lse: &'a mut [f32],
    /// For each row what its weights are still to be multiplied by.
    pub(super) scales: &'a mut [f32],
}

#[inline(always)]
fn softmax_block_body<const FMA: bool>(block: SoftmaxBlock<'_>) {
    let outputs = block.lse.iter_mut().zip(block.scales.iter_mut());
    let rows = block.rows.clone().zip(block.scores.chunks_mut(block.stride));
    for (index, ((row, scores), (lse, scale))) in rows.zip(outputs).enumerate() {
        let scores = &mut scores[..block.columns];
        block.mask.apply(row, block.first_key, scores);
        let largest = largest(scores);
        // A row that sees no key has the sum 0, and so has its context.
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let mut sums = [0f32; LANES];
        for part in scores.as_chunks_mut::<LANES>().0 {
            for (sum, score) in sums.iter_mut().zip(part) {
                *score = exp::<FMA>(*score - shift);
                *sum += *score;
            }
        }
        (*lse, *scale) = (shift, sum_of_lanes(sums));
        if let Some(dropout) = block.dropout {
            dropout.apply(row, block.first_key, scores);
        }
        match block.words {
            Words::Floats => {}
            Words::Rounded => round_all(scores),
            Words::Pairs => {
                pairs_along(scores, &mut block.pairs[index * (block.stride / 2)..][..block.columns / 2])
            }
        }
    }
    for (lse, scale) in block.lse.iter_mut().zip(block.scales.iter_mut()) {
        *lse += ln::<FMA>(*scale);
        *scale = if *scale == 0.0 { 0.0 } else { scale.recip() };
    }
}

for_each_isa! {
    /// From scores to weights; each row's are to be multiplied by its `scales`.
    pub(super) fn softmax_block(block: SoftmaxBlock<'_>) = softmax_block_body
}

/// A block of rows of scores and of the weights' gradients, on the way to the operands of the last three products.
pub(super) struct GradientBlock<'a> {
    pub(super) words: Words,
    pub(super) mask: HeadMask<'a>,
    pub(super) dropout: Option<HeadDropout>,
    pub(super) rows: Range<usize>,
    /// The key of the first column, a multiple of [`GROUP`].
    pub(super) first_key: usize,
    /// A multiple of [`PANEL`].
    pub(super) columns: usize,
    pub(super) stride: usize,
    /// Scores; then weights after dropout.
    pub(super) scores: &'a mut [f32],
    /// Gradients with respect to weights after dropout; then with respect to scores.
    pub(super) gradients: &'a mut [f32],
    /// Those as pairs of neighbouring keys, in rows of half the `stride`; empty for other words.
    pub(super) along: &'a mut [f32],
    /// The same as pairs of neighbouring queries, a row of `stride` for two of them.
    pub(super) across: &'a mut [f32],
    /// The weights as pairs of neighbouring queries.
    pub(super) weights_across: &'a mut [f32],
    /// Of each query of the head, as the forward pass left it.
    pub(super) lse: &'a [f32],
    /// Of each query of the head, `Σ dcontext · context`.
    pub(super) deltas: &'a [f32],
    /// `[q_len, k_len]`: added to the gradients with respect to scores.
    pub(super) score_gradients: Option<&'a [f32]>,
    /// `[q_len, k_len]`: the gradients with respect to biased scores are added to it.
    pub(super) bias_gradients: Option<&'a mut [f32]>,
}

#[inline(always)]
fn gradient_block_body<const FMA: bool>(mut block: GradientBlock<'_>) {
    let (stride, columns) = (block.stride, block.columns);
    let two_rows = |buffer| <[f32]>::chunks_mut(buffer, 2 * stride);
    let weights = two_rows(std::mem::take(&mut block.scores));
    let gradients = two_rows(std::mem::take(&mut block.gradients));
    for (at, (weights, gradients)) in (0..block.rows.len()).step_by(2).zip(weights.zip(gradients)) {
        let count = 2.min(block.rows.len() - at);
        for index in 0..count {
            let cells = index * stride..index * stride + columns;
            let (weights, gradients) = (&mut weights[cells.clone()], &mut gradients[cells]);
            gradient_row::<FMA>(&mut block, at + index, weights, gradients);
            match block.words {
                Words::Floats => {}
                Words::Rounded => {
                    round_all(weights);
                    round_all(gradients);
                }
                Words::Pairs => {
                    pairs_along(gradients, &mut block.along[(at + index) * (stride / 2)..][..columns / 2]);
                }
            }
        }
        if block.words == Words::Pairs {
            let second = if count == 2 { stride..stride + columns } else { 0..0 };
            let out = at / 2 * stride..at / 2 * stride + columns;
            let weights_out = &mut block.weights_across[out.clone()];
            pairs_across(&weights[..columns], &weights[second.clone()], weights_out);
            pairs_across(&gradients[..columns], &gradients[second], &mut block.across[out]);
        }
    }
}

/// One row of a [`GradientBlock`], in f32.
#[inline(always)]
fn gradient_row<const FMA: bool>(
    block: &mut GradientBlock<'_>,
    index: usize,
    weights: &mut [f32],
    gradients: &mut [f32],
) {
    let row = block.rows.start + index;
    block.mask.apply(row, block.first_key, weights);
    // A row that sees no key has no log-sum-exp; all its weights are 0.
    let lse = if block.lse[row] == f32::NEG_INFINITY { 0.0 } else { block.lse[row] };
    let delta = block.deltas[row];
    if let Some(dropout) = block.dropout {
        let first = dropout.group(row, block.first_key);
        let (weights, last_weights) = weights.as_chunks_mut::<GROUP>();
        let (gradients, last_gradients) = gradients.as_chunks_mut::<GROUP>();
        let last = first + weights.len() as u64;
        for (group, (weights, gradients)) in (first..).zip(weights.iter_mut().zip(gradients.iter_mut())) {
            through_dropout::<FMA, GROUP>(weights, gradients, &dropout.mask.multipliers(group), lse, delta);
        }
        let rest = last_weights.first_chunk_mut().zip(last_gradients.first_chunk_mut());
        if let Some((weights, gradients)) = rest {
            through_dropout::<FMA, PANEL>(weights, gradients, &dropout.mask.multipliers(last), lse, delta);
        }
    } else {
        let parts = weights.as_chunks_mut::<PANEL>().0.iter_mut().zip(gradients.as_chunks_mut::<PANEL>().0);
        for (weights, gradients) in parts {
            for (weight, gradient) in weights.iter_mut().zip(gradients) {
                *weight = exp::<FMA>(*weight - lse);
                *gradient = *weight * (*gradient - delta);
            }
        }
    }
    let keys = block.first_key..block.mask.k_len.min(block.first_key + block.columns);
    let cells = row * block.mask.k_len + keys.start..row * block.mask.k_len + keys.end;
    if let Some(bias_gradients) = &mut block.bias_gradients {
        for (sum, gradient) in bias_gradients[cells.clone()].iter_mut().zip(gradients.iter()) {
            *sum += gradient;
        }
    }
    if let Some(more) = block.score_gradients {
        for (gradient, more) in gradients.iter_mut().zip(&more[cells]) {
            *gradient += more;
        }
    }
}

#[inline(always)]
fn through_dropout<const FMA: bool, const N: usize>(
    weights: &mut [f32; N],
    gradients: &mut [f32; N],
    factors: &[f32; GROUP],
    lse: f32,
    delta: f32,
) {
    for ((weight, gradient), factor) in weights.iter_mut().zip(gradients).zip(factors) {
        let kept = exp::<FMA>(*weight - lse);
        *gradient = kept * mul_add::<FMA>(*gradient, *factor, -delta);
        *weight = kept * factor;
    }
}

for_each_isa! {
    /// From scores and the weights' gradients to weights and the scores' gradients, and those as left operands.
    pub(super) fn gradient_block(block: GradientBlock<'_>) = gradient_block_body
}

#[inline(always)]
fn row_products_body<const FMA: bool>(a: Rows<'_>, b: Rows<'_>, out: &mut [f32]) {
    for (row, out) in out.iter_mut().enumerate() {
        let (a, b) = (a.row(row), b.row(row));
        let mut sums = [0f32; LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = mul_add::<FMA>(*a, *b, *sum);
            }
        }
        for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum = mul_add::<FMA>(*a, *b, *sum);
        }
        *out = sum_of_lanes(sums);
    }
}

for_each_isa! {
    /// The inner product of each row of `a` with that of `b`.
    pub(super) fn row_products(a: Rows<'_>, b: Rows<'_>, out: &mut [f32]) = row_products_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_sums() {
        for x in (0..4000)
            .map(|step| 1.01f32.powi(step / 4) * (1.0 + 1e-3 * (step % 4) as f32))
            .take_while(|x| *x < 1e30)
        {
            for found in [ln::<false>(x), ln::<true>(x)] {
                let expected = f64::from(x).ln();
                assert!(
                    (f64::from(found) - expected).abs() <= 2e-7 * expected.max(0.5),
                    "{x}: {found} {expected}"
                );
            }
        }
        assert_eq!(ln::<false>(1.0), 0.0);
        assert_eq!(ln::<false>(0.0), f32::NEG_INFINITY);
        assert!(ln::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn the_largest_of_a_row() {
        let mut row: Vec<f32> = (0..96).map(|x| (x * 37 % 96) as f32 - 200.0).collect();
        assert_eq!(largest(&row), -105.0);
        row[40] = 3.0;
        assert_eq!(largest(&row), 3.0);
    }
}
