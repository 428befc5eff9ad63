//! Attention of few queries, as while a text is written token by token: straight over keys and values where they lie.
//!
//! Packing keys and values for the products of [`super::attention`] would cost more than multiplying them. Here each block
//! of keys is read once for all heads that share it, and stays in the first-level cache meanwhile.

use rayon::prelude::*;

use super::attention::{AttentionArgs, AttentionShape, Head};
use super::attention_packing::Rows;
use super::attention_scratch::with_scratch;
use super::vector_math::{LANES, exp, maximum, sum_of_lanes};
use super::{for_each_isa, mul_add};

/// Queries up to which this pays.
pub(crate) const FEW_QUERIES: usize = 4;

/// Keys that are read together: 16 KiB of 64 numbers each.
const BLOCK: usize = 64;
/// Floats of keys and values below which one thread reads them.
const SERIAL: usize = 1 << 16;
/// Numbers of a head that are summed at a time, in registers: four vectors of AVX-512.
const WIDE: usize = 64;
const NARROW: usize = 16;

/// The context of [`super::attention`], `[batch, q_len, heads, head_size]`, in f32 whatever the precision.
///
/// # Panics
/// If a slice does not fit the shape, or there is dropout.
pub(crate) fn attention_decode(args: &AttentionArgs<'_>) -> Vec<f32> {
    args.check();
    assert!(args.dropout.is_none(), "whoever trains has another kernel");
    let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = args.shape;
    let paddings = args.paddings();
    let group = heads / kv_heads;
    let task = |task: usize| {
        let (row, kv_head) = (task / kv_heads, task % kv_heads);
        let of_group = (kv_head * group..(kv_head + 1) * group).map(|head| args.head([row, head], &paddings));
        let mut out = vec![0f32; group * q_len * head_size];
        shared_keys(&of_group.collect::<Vec<_>>(), args.scale, &mut out);
        out
    };
    let tasks = 0..batch * kv_heads;
    let parts: Vec<Vec<f32>> = if tasks.len() * k_len * head_size * 2 < SERIAL {
        tasks.map(task).collect()
    } else {
        tasks.into_par_iter().map(task).collect()
    };
    let mut context = vec![0f32; batch * q_len * heads * head_size];
    let width = group * head_size;
    for (task, part) in parts.iter().enumerate() {
        let (row, kv_head) = (task / kv_heads, task % kv_heads);
        for (query, part) in part.chunks_exact(width).enumerate() {
            context[((row * q_len + query) * kv_heads + kv_head) * width..][..width].copy_from_slice(part);
        }
    }
    context
}

/// The heads that share keys and values; `out` is `[q_len, heads, head_size]`, zeros.
fn shared_keys(heads: &[Head<'_>], scale: f32, out: &mut [f32]) {
    let Some(Head { q, mask, end, .. }) = heads.first().copied() else { return };
    let (q_len, head_size) = (mask.q_len, q.head_size);
    if q_len == 0 {
        return;
    }
    let keys = mask.visible(q_len - 1).min(end);
    // Padding before the text weighs nothing, unless a query sees nothing else.
    let first = if mask.visible(0) > mask.first_kept { mask.first_kept } else { 0 };
    let first = first.max(mask.first_visible(0)).min(keys);
    let rows = heads.len() * q_len;
    let columns = keys - first;
    let stride = columns.next_multiple_of(LANES);
    with_scratch(rows * (head_size + stride), |mut scratch| {
        let (queries, scores) = (scratch.take(rows * head_size), scratch.take(rows * stride));
        let work = SharedKeys { heads, scale, first, columns, stride };
        run(work, queries, scores, out);
    });
}

/// The keys of one task, and who looks at them.
#[derive(Clone, Copy)]
struct SharedKeys<'a> {
    heads: &'a [Head<'a>],
    scale: f32,
    /// The first key that counts, and how many do.
    first: usize,
    columns: usize,
    /// Of the scores: whole vectors.
    stride: usize,
}

for_each_isa! { fn run(work: SharedKeys<'_>, queries: &mut [f32], scores: &mut [f32], out: &mut [f32]) = run_body }

/// Rows are those of `out`: query by query, and of each the heads.
#[inline(always)]
fn run_body<const FMA: bool>(work: SharedKeys<'_>, queries: &mut [f32], scores: &mut [f32], out: &mut [f32]) {
    let SharedKeys { heads, scale, first, columns, stride } = work;
    let Head { k, v, .. } = heads[0];
    let head_size = k.head_size;
    for (row, query) in queries.chunks_exact_mut(head_size).enumerate() {
        let from = heads[row % heads.len()].q.row(row / heads.len());
        for (query, from) in query.iter_mut().zip(from) {
            *query = from * scale;
        }
    }
    for block in (0..columns).step_by(BLOCK) {
        let end = columns.min(block + BLOCK);
        for (query, scores) in queries.chunks_exact(head_size).zip(scores.chunks_exact_mut(stride.max(1))) {
            for (key, score) in (first + block..).zip(&mut scores[block..end]) {
                *score = dot::<FMA>(query, k.row(key));
            }
        }
    }
    for (row, scores) in scores.chunks_exact_mut(stride.max(1)).enumerate() {
        let mask = &heads[row % heads.len()].mask;
        scores[columns..].fill(f32::NEG_INFINITY);
        mask.apply(row / heads.len(), first, &mut scores[..columns]);
        softmax::<FMA>(scores);
    }
    for block in (0..columns).step_by(BLOCK) {
        let end = columns.min(block + BLOCK);
        for (out, scores) in out.chunks_exact_mut(head_size).zip(scores.chunks_exact(stride.max(1))) {
            add_values::<FMA>(v, first + block, &scores[block..end], out);
        }
    }
}

#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; NARROW];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<NARROW>(), b.as_chunks::<NARROW>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = mul_add::<FMA>(*a, *b, *lane);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = mul_add::<FMA>(*a, *b, *lane);
    }
    let mut width = NARROW / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Scores to weights; whole vectors of them. A row that sees no key has no weights.
#[inline(always)]
fn softmax<const FMA: bool>(scores: &mut [f32]) {
    let largest = maximum(scores);
    let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    let mut sums = [0f32; LANES];
    for part in scores.as_chunks_mut::<LANES>().0 {
        for (sum, score) in sums.iter_mut().zip(part) {
            *score = exp::<FMA>(*score - shift);
            *sum += *score;
        }
    }
    let sum = sum_of_lanes(sums);
    let scale = if sum == 0.0 { 0.0 } else { sum.recip() };
    for score in scores {
        *score *= scale;
    }
}

/// Adds to `out` the values of the keys from `first` on, each times its weight.
#[inline(always)]
fn add_values<const FMA: bool>(values: Rows<'_>, first: usize, weights: &[f32], out: &mut [f32]) {
    let mut at = 0;
    while at + WIDE <= out.len() {
        add_columns::<FMA, WIDE>(values, first, weights, at, out);
        at += WIDE;
    }
    while at + NARROW <= out.len() {
        add_columns::<FMA, NARROW>(values, first, weights, at, out);
        at += NARROW;
    }
    for column in at..out.len() {
        add_columns::<FMA, 1>(values, first, weights, column, out);
    }
}

#[inline(always)]
fn add_columns<const FMA: bool, const N: usize>(
    values: Rows<'_>,
    first: usize,
    weights: &[f32],
    at: usize,
    out: &mut [f32],
) {
    let Some(out) = out[at..].first_chunk_mut::<N>() else { return };
    let mut sums = *out;
    for (key, weight) in (first..).zip(weights) {
        let Some(values) = values.row(key)[at..].first_chunk::<N>() else { return };
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = mul_add::<FMA>(*weight, *value, *sum);
        }
    }
    *out = sums;
}

#[cfg(test)]
mod tests {
    use super::super::attention::tests::{Case, assert_close};
    use super::*;
    use crate::Precision;

    fn check(case: Case) {
        for precision in [Precision::F32, Precision::Bf16] {
            let data = Case { precision, ..case }.data();
            let found: Vec<f64> = attention_decode(&data.args()).into_iter().map(f64::from).collect();
            assert_close("context", &case, &found, &data.reference().context, 2e-6);
        }
    }

    #[test]
    fn few_queries_have_the_context_of_the_definition() {
        for head_size in [1, 8, 33, 64, 80, 200] {
            for (q_len, k_len) in [(1, 1), (1, 63), (2, 64), (4, 300), (4, 2)] {
                for causal in [false, true] {
                    check(Case { causal, ..Case::plain([2, 6, 2, q_len, k_len, head_size]) });
                }
            }
        }
        check(Case { causal: true, ..Case::plain([1, 9, 3, 1, 2000, 64]) });
    }

    #[test]
    fn padding_texts_and_biases() {
        for (q_len, k_len) in [(1, 100), (4, 100), (3, 3)] {
            for causal in [false, true] {
                let case = Case { causal, ..Case::plain([3, 4, 2, q_len, k_len, 16]) };
                check(Case { kept: Some(|row, keys| 0..keys / (row + 1)), ..case });
                check(Case { kept: Some(|row, keys| keys * row / 3..keys), ..case });
                check(Case { kept: Some(|row, keys| if row == 1 { 0..0 } else { 0..keys }), ..case });
                check(Case { bias: Some([1, 4]), ..case });
                check(Case { bias: Some([3, 1]), kept: Some(|row, keys| row..keys), ..case });
                check(Case { texts: Some(1), ..case });
                check(Case { texts: Some(2), bias: Some([1, 1]), ..case });
            }
        }
    }

    #[test]
    fn a_query_that_sees_no_key_has_no_context() {
        for k_len in [0, 1] {
            let data = Case { causal: true, ..Case::plain([1, 2, 1, 3, k_len, 8]) }.data();
            let context = attention_decode(&data.args());
            assert!(context[..32].iter().all(|x| *x == 0.0));
            assert_eq!(context[32..].iter().any(|x| *x != 0.0), k_len == 1);
        }
        assert!(attention_decode(&Case::plain([1, 2, 2, 0, 5, 8]).data().args()).is_empty());
    }

    #[test]
    fn what_is_not_a_number_shows() {
        for place in 0..3 {
            let mut data = Case::plain([1, 1, 1, 1, 40, 8]).data();
            [&mut data.q, &mut data.k, &mut data.v][place][5] = f32::NAN;
            assert!(attention_decode(&data.args()).iter().any(|x| x.is_nan()));
        }
    }

    #[test]
    fn threads_change_nothing() {
        let data = Case { causal: true, ..Case::plain([2, 6, 3, 2, 400, 64]) }.data();
        let with_threads = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| attention_decode(&data.args()))
        };
        assert_eq!(with_threads(1), with_threads(3));
    }
}
