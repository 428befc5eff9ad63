//! The gradients of [`super::attention`]; Dao et al. 2022, algorithm 4 (arXiv:2205.14135).
//!
//! With `P` the weights, `D` their dropout factors and `dS` the gradient with respect to biased scores:
//! `dP = dcontext · vᵀ`, `dS = P ∘ (D ∘ dP − Σ dcontext · context)`, `dq = scale · dS · k`, `dk = scale · dSᵀ · q`,
//! `dv = (D ∘ P)ᵀ · dcontext`. A head's scores are computed again, block by block, and never leave the second-level
//! cache.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::{AttentionArgs, AttentionShape, Head, HeadRows, score_stride};
use super::attention_packing::{Rows, left_stride, pack_across, pack_left, pack_transposed, padded_columns};
use super::attention_products::{Extent, Left, Onto, Order, PANEL, Right, Words, product};
use super::attention_rows::{GradientBlock, gradient_block, row_products};
use super::attention_scratch::{Output, OutputRows, with_scratch};
use super::pieces::rows_per_piece;

/// Keys of a block: their gradients stay in the cache while the queries pass by.
const BLOCK_KEYS: usize = 256;
/// Scores of a block of queries and keys.
const BLOCK_SCORES: usize = 1 << 13;

/// What the gradients are computed of, beside the arguments of the forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionGradientArgs<'a> {
    /// The gradient with respect to the context, `[batch, heads, q_len, head_size]`.
    pub(crate) dcontext: HeadRows<'a>,
    /// What [`super::attention::attention`] returned, `[batch, q_len, heads, head_size]` and `[batch, heads, q_len]`.
    pub(crate) context: &'a [f32],
    pub(crate) lse: &'a [f32],
    /// The gradient with respect to the scores that were handed out, `[batch, heads, q_len, k_len]`.
    pub(crate) dscores: Option<&'a [f32]>,
    /// Whether the bias learns.
    pub(crate) bias_gradient: bool,
}

/// The gradients with respect to the arguments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionGradients {
    /// `[batch, q_len, heads, head_size]`.
    pub(crate) dq: Vec<f32>,
    /// `[batch, k_len, kv_heads, head_size]`.
    pub(crate) dk: Vec<f32>,
    /// Like `dk`.
    pub(crate) dv: Vec<f32>,
    /// Like the bias, where asked for; summed over what it was broadcast to.
    pub(crate) dbias: Option<Vec<f32>>,
}

/// The gradients of [`super::attention::attention`].
///
/// # Panics
/// If a slice does not fit the shape.
#[allow(unsafe_code)]
pub(crate) fn attention_backward(
    args: &AttentionArgs<'_>,
    gradient: &AttentionGradientArgs<'_>,
) -> AttentionGradients {
    args.check();
    let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = args.shape;
    let rows = batch * heads * q_len;
    assert_eq!(gradient.context.len(), rows * head_size, "`context` is `[batch, q_len, heads, head_size]`");
    assert_eq!(gradient.lse.len(), rows, "`lse` is `[batch, heads, q_len]`");
    let scores = gradient.dscores.map_or(rows * k_len, <[f32]>::len);
    assert_eq!(scores, rows * k_len, "`dscores` is `[batch, heads, q_len, k_len]`");
    let outputs = Outputs {
        dq: Output::new(rows * head_size),
        dk: Output::new(batch * k_len * heads * head_size),
        dv: Output::new(batch * k_len * heads * head_size),
    };
    let paddings = args.paddings();
    let task = |index: usize, dbias: Option<&mut [f32]>| {
        let at = [index / heads, index % heads];
        backward_head(&Task { args, gradient, at }, &args.head(at, &paddings), dbias, &outputs);
    };
    let tasks = 0..batch * heads;
    let bias = args.bias.filter(|_| gradient.bias_gradient);
    let mut dbias = bias.map(|bias| vec![0f32; bias.values.len()]);
    match (bias, dbias.as_deref_mut().filter(|dbias| !dbias.is_empty())) {
        // Heads that share a bias follow each other on one thread, so that its gradient is summed in order.
        (Some(bias), Some(dbias)) => {
            dbias.par_chunks_mut(q_len * k_len).enumerate().for_each(|(place, dbias)| {
                for index in tasks.clone().filter(|index| bias.place([index / heads, index % heads]) == place)
                {
                    task(index, Some(&mut *dbias));
                }
            });
        }
        _ if args.is_small() => tasks.for_each(|index| task(index, None)),
        _ => tasks.into_par_iter().for_each(|index| task(index, None)),
    }
    // SAFETY: the tasks have written each row of each head.
    let [dq, dk, dv] = unsafe { [outputs.dq.into_vec(), outputs.dk.into_vec(), outputs.dv.into_vec()] };
    let [dk, dv] = [dk, dv].map(|all| sum_of_groups(all, heads / kv_heads, head_size));
    AttentionGradients { dq, dk, dv, dbias }
}

/// Sums over each `members` neighbours among rows of `width`.
fn sum_of_groups(values: Vec<f32>, members: usize, width: usize) -> Vec<f32> {
    if members == 1 {
        return values;
    }
    let mut out = vec![0f32; values.len() / members];
    let rows = rows_per_piece(members * width);
    out.par_chunks_mut(rows * width).zip(values.par_chunks(rows * members * width)).for_each(
        |(out, values)| {
            for (out, values) in out.chunks_mut(width).zip(values.chunks(members * width)) {
                for values in values.chunks(width) {
                    for (sum, value) in out.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            }
        },
    );
    out
}

/// Keys and values have a row for each head here, shared or not.
struct Outputs {
    dq: Output,
    dk: Output,
    dv: Output,
}

/// The work on one head.
#[derive(Clone, Copy)]
struct Task<'a> {
    args: &'a AttentionArgs<'a>,
    gradient: &'a AttentionGradientArgs<'a>,
    /// Batch row and head.
    at: [usize; 2],
}

impl<'a> Task<'a> {
    /// The rows of a head's context and of its gradient.
    fn contexts(&self, at: [usize; 2]) -> [Rows<'a>; 2] {
        let AttentionShape { heads, q_len, head_size, .. } = self.args.shape;
        let strides = [q_len * heads * head_size, head_size, heads * head_size];
        let context = HeadRows { values: self.gradient.context, strides };
        [context.head(at, head_size), self.gradient.dcontext.head(at, head_size)]
    }

    /// This head's `rows` of an output `[batch, len, heads, head_size]`.
    ///
    /// # Safety
    /// No one else uses them at the time.
    #[allow(unsafe_code)]
    unsafe fn rows<'o>(&self, output: &'o Output, rows: Range<usize>, len: usize) -> OutputRows<'o> {
        let AttentionShape { heads, head_size, .. } = self.args.shape;
        let [batch, head] = self.at;
        let start = ((batch * len + rows.start) * heads + head) * head_size;
        // SAFETY: the caller's.
        unsafe { output.rows(start, heads * head_size, head_size, rows.len()) }
    }
}

/// How one head is cut, and what it is cut from.
struct Plan<'a> {
    head: &'a Head<'a>,
    words: Words,
    q_len: usize,
    /// Keys that have any gradient.
    keys: usize,
    /// Whether hidden keys have one too, by way of the scores.
    unmasked: bool,
    /// Queries of a block: an even number, or all.
    queries: usize,
    /// The stride of a block's scores.
    stride: usize,
    /// Words of a query or key, and the stride of queries.
    depth: usize,
    q_stride: usize,
    /// Words of a column of all queries.
    q_depth: usize,
    /// Columns of the sums.
    columns: usize,
    lse: &'a [f32],
    dscores: Option<&'a [f32]>,
    /// What the next task reads.
    next: Vec<Rows<'a>>,
}

/// The buffers of one head.
struct Buffers<'a> {
    /// All queries, and the gradients of their context: as left operands, and as right operands summed over queries.
    q: &'a mut [f32],
    dcontext: &'a mut [f32],
    q_across: &'a mut [f32],
    dcontext_across: &'a mut [f32],
    deltas: &'a mut [f32],
    /// A block of keys and values: summed over the head's numbers, and over keys.
    k: &'a mut [f32],
    v: &'a mut [f32],
    k_across: &'a mut [f32],
    /// A block of scores; see [`GradientBlock`].
    scores: &'a mut [f32],
    gradients: &'a mut [f32],
    along: &'a mut [f32],
    across: &'a mut [f32],
    weights_across: &'a mut [f32],
    /// Sums: of all queries, and of a block of keys.
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl<'a> Plan<'a> {
    fn new(task: &Task<'a>, head: &'a Head<'a>) -> Self {
        let AttentionShape { heads, q_len, k_len, head_size, .. } = task.args.shape;
        let Task { args, gradient, at: [batch, head_index] } = *task;
        let words = Words::of(args.precision);
        let unmasked = gradient.dscores.is_some();
        let keys = if unmasked || q_len == 0 { k_len } else { head.mask.visible(q_len - 1).min(head.end) };
        let columns = keys.min(BLOCK_KEYS).next_multiple_of(PANEL);
        let first_row = (batch * heads + head_index) * q_len;
        let next = args.shape.next(task.at);
        Self {
            head,
            words,
            q_len,
            keys,
            unmasked,
            queries: (BLOCK_SCORES / columns.max(1)).next_multiple_of(PANEL).min(q_len).max(1),
            stride: score_stride(columns),
            depth: words.depth(head_size),
            q_stride: left_stride(words, head_size),
            q_depth: words.depth(q_len),
            columns: padded_columns(head_size),
            lse: &gradient.lse[first_row..][..q_len],
            dscores: gradient.dscores.map(|dscores| &dscores[first_row * k_len..][..q_len * k_len]),
            next: next.map_or(Vec::new(), |at| [&task.contexts(at)[..], &args.rows(at)].concat()),
        }
    }

    /// Calls `work` with the buffers.
    fn with_buffers(&self, work: impl FnOnce(Buffers<'_>)) {
        let keys = self.head.mask.k_len.min(BLOCK_KEYS).next_multiple_of(PANEL);
        let (left, right) = (self.q_len * self.q_stride, self.columns * self.q_depth);
        let (k, k_across) = (keys * self.depth, self.columns * self.words.depth(keys));
        let (dq, dk) = (self.q_len * self.columns, keys * self.columns);
        let scores = self.queries * self.stride;
        let pairs = match self.words {
            Words::Pairs => self.queries.div_ceil(2) * self.stride,
            Words::Floats | Words::Rounded => 0,
        };
        let total = self.q_len + 2 * (left + right + k + scores + dk) + k_across + 3 * pairs + dq;
        with_scratch(total, |mut scratch| {
            work(Buffers {
                q: scratch.take(left),
                dcontext: scratch.take(left),
                q_across: scratch.take(right),
                dcontext_across: scratch.take(right),
                deltas: scratch.take(self.q_len),
                k: scratch.take(k),
                v: scratch.take(k),
                k_across: scratch.take(k_across),
                scores: scratch.take(scores),
                gradients: scratch.take(scores),
                along: scratch.take(pairs),
                across: scratch.take(pairs),
                weights_across: scratch.take(pairs),
                dq: scratch.take(dq),
                dk: scratch.take(dk),
                dv: scratch.take(dk),
            });
        });
    }

    /// The queries whose block starts at `first`, and how many keys of the block from `first_key` on are to be looked at:
    /// none if they see none of it.
    fn block(&self, first: usize, first_key: usize) -> (Range<usize>, usize) {
        let rows = first..self.q_len.min(first + self.queries);
        let end = self.keys.min(first_key + BLOCK_KEYS);
        if self.unmasked {
            return (rows, end.saturating_sub(first_key));
        }
        let mask = &self.head.mask;
        let end = if mask.first_visible(rows.start) >= end { 0 } else { end.min(mask.visible(rows.end - 1)) };
        (rows, end.saturating_sub(first_key))
    }

    /// Lays out the queries.
    fn pack_queries(&self, buffers: &mut Buffers<'_>, scale: f32, [context, dcontext]: [Rows<'_>; 2]) {
        let rows = 0..self.q_len;
        pack_left(self.words, self.head.q, rows.clone(), scale, buffers.q);
        pack_left(self.words, dcontext, rows.clone(), 1.0, buffers.dcontext);
        pack_across(self.words, self.head.q, rows.clone(), scale, buffers.q_across);
        pack_across(self.words, dcontext, rows, 1.0, buffers.dcontext_across);
        row_products(dcontext, context, buffers.deltas);
    }

    /// What the keys from `first_key` on contribute to `dq`, and their `dk` and `dv`; returns how many those are.
    fn key_block(&self, buffers: &mut Buffers<'_>, first_key: usize, mut dbias: Option<&mut [f32]>) -> usize {
        let Self { words, stride, depth, columns, .. } = *self;
        let keys = first_key..self.keys.min(first_key + BLOCK_KEYS);
        let padded = keys.len().next_multiple_of(PANEL);
        let key_depth = words.depth(keys.len());
        pack_transposed(words, self.head.k, keys.clone(), &mut buffers.k[..padded * depth]);
        pack_transposed(words, self.head.v, keys.clone(), &mut buffers.v[..padded * depth]);
        pack_across(words, self.head.k, keys, 1.0, &mut buffers.k_across[..columns * key_depth]);
        let across_head = |words| Right { words, columns: padded, total_depth: depth, first: 0 };
        let mut seen = 0;
        // The last queries see the most keys, so they come first, and the others add to what those have written.
        for first in (0..self.q_len).step_by(self.queries).rev() {
            let (rows, keys) = self.block(first, first_key);
            let dq = &mut buffers.dq[rows.start * columns..rows.end * columns];
            let dq_onto = if first_key == 0 { Onto::Nothing } else { Onto::Sum };
            if first_key == 0 {
                self.next.iter().for_each(|next| next.prefetch(rows.clone()));
            }
            if keys == 0 {
                if dq_onto == Onto::Nothing {
                    dq.fill(0.0);
                }
                continue;
            }
            let extent = Extent { rows: rows.len(), columns: keys.next_multiple_of(PANEL), depth };
            for (left, right, out) in [
                (&*buffers.q, &*buffers.k, &mut *buffers.scores),
                (&*buffers.dcontext, &*buffers.v, &mut *buffers.gradients),
            ] {
                let left = &left[rows.start * self.q_stride..];
                let left = Left { words: left, stride: self.q_stride, order: Order::Rows };
                product(words, extent, left, across_head(right), Onto::Nothing, out, stride);
            }
            gradient_block(GradientBlock {
                words,
                mask: self.head.mask,
                dropout: self.head.dropout,
                rows: rows.clone(),
                first_key,
                columns: extent.columns,
                stride,
                scores: &mut *buffers.scores,
                gradients: &mut *buffers.gradients,
                along: &mut *buffers.along,
                across: &mut *buffers.across,
                weights_across: &mut *buffers.weights_across,
                lse: self.lse,
                deltas: &*buffers.deltas,
                score_gradients: self.dscores,
                bias_gradients: dbias.as_deref_mut(),
            });
            let gradients = &*buffers.gradients;
            let (along, along_stride, across, weights) = match words {
                Words::Pairs => (&*buffers.along, stride / 2, &*buffers.across, &*buffers.weights_across),
                Words::Floats | Words::Rounded => (gradients, stride, gradients, &*buffers.scores),
            };
            let left = Left { words: along, stride: along_stride, order: Order::Rows };
            let right = Right { words: buffers.k_across, columns, total_depth: key_depth, first: 0 };
            let extent = Extent { rows: rows.len(), columns, depth: words.depth(keys) };
            product(words, extent, left, right, dq_onto, dq, columns);
            let onto = if seen == 0 { Onto::Nothing } else { Onto::Sum };
            seen = seen.max(keys);
            let extent = Extent { rows: keys, columns, depth: words.depth(rows.len()) };
            for (left, right, out) in [
                (across, &*buffers.q_across, &mut *buffers.dk),
                (weights, &*buffers.dcontext_across, &mut *buffers.dv),
            ] {
                let left = Left { words: left, stride, order: Order::Columns };
                let first = words.depth(rows.start);
                let right = Right { words: right, columns, total_depth: self.q_depth, first };
                product(words, extent, left, right, onto, out, columns);
            }
        }
        seen
    }
}

/// All gradients of one head.
#[allow(unsafe_code)]
fn backward_head(task: &Task<'_>, head: &Head<'_>, mut dbias: Option<&mut [f32]>, outputs: &Outputs) {
    let AttentionShape { q_len, k_len, .. } = task.args.shape;
    let plan = Plan::new(task, head);
    plan.with_buffers(|mut buffers| {
        plan.pack_queries(&mut buffers, task.args.scale, task.contexts(task.at));
        if plan.keys == 0 {
            buffers.dq.fill(0.0);
        }
        for first_key in (0..k_len).step_by(BLOCK_KEYS) {
            let keys = first_key..k_len.min(first_key + BLOCK_KEYS);
            // SAFETY: no other task writes these rows of this head.
            let [dk_out, dv_out] =
                unsafe { [&outputs.dk, &outputs.dv].map(|output| task.rows(output, keys.clone(), k_len)) };
            dk_out.prefetch();
            dv_out.prefetch();
            let seen = if first_key < plan.keys {
                plan.key_block(&mut buffers, first_key, dbias.as_deref_mut())
            } else {
                0
            };
            for (out, sums) in [(dk_out, &mut *buffers.dk), (dv_out, &mut *buffers.dv)] {
                sums[seen * plan.columns..keys.len() * plan.columns].fill(0.0);
                out.write(sums, plan.columns, &[1.0]);
            }
        }
        // SAFETY: no other task writes these rows of this head.
        let dq_out = unsafe { task.rows(&outputs.dq, 0..q_len, q_len) };
        dq_out.write(buffers.dq, plan.columns, &[task.args.scale]);
    });
}

#[cfg(test)]
mod tests {
    use super::super::attention::attention;
    use super::super::attention::tests::{Case, Found, assert_close};
    use super::*;
    use crate::{Precision, Scores};

    fn check(case: Case) {
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
            let case = Case { precision, ..case };
            let data = case.data();
            let forward = attention(&data.args(), if case.scores { Scores::Keep } else { Scores::Discard });
            let found = Found::of(&forward, &attention_backward(&data.args(), &data.gradient_args(&forward)));
            let expected = data.reference();
            for (what, found, expected) in [
                ("context", &found.context, &expected.context),
                ("lse", &found.lse, &expected.lse),
                ("scores", &found.scores, &expected.scores),
                ("dq", &found.dq, &expected.dq),
                ("dk", &found.dk, &expected.dk),
                ("dv", &found.dv, &expected.dv),
                ("dbias", &found.dbias, &expected.dbias),
            ] {
                assert_close(what, &case, found, expected, tolerance);
            }
        }
    }

    #[test]
    fn sizes() {
        for head_size in [1, 8, 32, 33, 64, 80, 128] {
            for (q_len, k_len) in [(1, 1), (7, 7), (128, 128), (7, 200), (200, 7), (1, 128), (200, 200)] {
                check(Case::plain([1, 2, 2, q_len, k_len, head_size]));
            }
        }
        check(Case::plain([2, 1, 1, 70, 600, 16]));
        check(Case::plain([3, 4, 4, 129, 33, 48]));
    }

    #[test]
    fn padding() {
        for causal in [false, true] {
            for (q_len, k_len) in [(7, 7), (50, 130), (200, 300), (130, 50)] {
                let case = Case { causal, ..Case::plain([3, 2, 2, q_len, k_len, 32]) };
                check(Case { kept: Some(|row, keys| 0..keys / (row + 1)), ..case });
                check(Case { kept: Some(|row, keys| keys * row / 3..keys), ..case });
                check(Case { kept: Some(|row, keys| if row == 1 { 0..0 } else { 0..keys }), ..case });
            }
        }
    }

    #[test]
    fn causal() {
        for (q_len, k_len) in [(1, 1), (7, 7), (33, 128), (128, 33), (200, 200), (300, 600)] {
            check(Case { causal: true, ..Case::plain([2, 2, 2, q_len, k_len, 33]) });
        }
    }

    #[test]
    fn grouped_heads() {
        for kv_heads in [1, 2, 6] {
            check(Case { causal: true, dropout: true, ..Case::plain([2, 6, kv_heads, 65, 65, 32]) });
        }
    }

    #[test]
    fn biases() {
        for bias in [[1, 1], [1, 4], [2, 1], [2, 4]] {
            for causal in [false, true] {
                let case = Case { bias: Some(bias), causal, ..Case::plain([2, 4, 2, 50, 70, 16]) };
                check(case);
                check(Case { kept: Some(|row, keys| row..keys - 5), dropout: true, scores: true, ..case });
            }
        }
        check(Case { bias: Some([1, 2]), ..Case::plain([2, 2, 2, 20, 300, 16]) });
    }

    #[test]
    fn texts_in_a_row() {
        for causal in [false, true] {
            for (len, texts) in [(7, 1), (7, 2), (64, 2), (150, 1), (150, 5)] {
                let case = Case { causal, texts: Some(texts), ..Case::plain([2, 4, 2, len, len, 16]) };
                check(case);
                check(Case { dropout: true, bias: Some([1, 4]), ..case });
                check(Case { scores: true, ..case });
            }
            // Whole blocks of keys that some queries do not see.
            check(Case { causal, texts: Some(3), dropout: true, ..Case::plain([1, 2, 1, 700, 700, 16]) });
        }
    }

    #[test]
    fn dropped_weights() {
        for (q_len, k_len) in [(7, 7), (128, 128), (50, 70), (20, 300)] {
            check(Case { dropout: true, ..Case::plain([2, 2, 2, q_len, k_len, 32]) });
        }
    }

    #[test]
    fn scores_and_their_gradient() {
        for causal in [false, true] {
            for (q_len, k_len) in [(7, 7), (128, 128), (50, 70), (20, 300)] {
                let case = Case { scores: true, causal, ..Case::plain([2, 2, 1, q_len, k_len, 32]) };
                check(case);
                check(Case { kept: Some(|row, keys| 0..keys / (row + 1)), dropout: true, ..case });
            }
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for (q_len, k_len) in [(0, 5), (5, 0), (0, 0)] {
            for bias in [None, Some([1, 1])] {
                check(Case { bias, ..Case::plain([2, 2, 1, q_len, k_len, 8]) });
            }
        }
    }

    #[test]
    fn the_reference_has_the_right_derivatives() {
        let case =
            Case { bias: Some([1, 2]), dropout: true, causal: true, ..Case::plain([1, 2, 1, 3, 4, 5]) };
        let data = case.data();
        let expected = data.reference();
        let dcontext = data.dcontext_by_rows();
        let loss = |data: &super::super::attention::tests::Data| -> f64 {
            let context = data.reference().context;
            context.iter().zip(&dcontext).map(|(a, b)| a * b).sum()
        };
        type Pick = fn(&mut super::super::attention::tests::Data) -> &mut Vec<f32>;
        // The storage of `k` and `v` is by heads, that of gradients by rows: one shared head makes them alike.
        let picks: [(Pick, &[f64], usize, usize); 4] = [
            (|data| &mut data.q, &expected.dq, 5, 5),
            (|data| &mut data.k, &expected.dk, 5, 5),
            (|data| &mut data.v, &expected.dv, 8, 5),
            (|data| data.bias.as_mut().unwrap(), &expected.dbias, 4, 4),
        ];
        for (pick, expected, stride, width) in picks {
            for (index, expected) in expected.iter().enumerate() {
                let at = index / width * stride + index % width;
                let loss_at = |step: f32| {
                    let mut data = case.data();
                    pick(&mut data)[at] += step;
                    (f64::from(pick(&mut data)[at]), loss(&data))
                };
                let ((above, high), (below, low)) = (loss_at(1e-3), loss_at(-1e-3));
                let slope = (high - low) / (above - below);
                assert!((slope - expected).abs() < 1e-5, "{index}: {slope} {expected}");
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let bias = Some([1, 2]);
        let case = Case { causal: true, dropout: true, bias, ..Case::plain([5, 2, 1, 300, 300, 32]) };
        for precision in [Precision::F32, Precision::Bf16] {
            let data = Case { precision, ..case }.data();
            let with_threads = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let forward = attention(&data.args(), Scores::Discard);
                    let gradients = attention_backward(&data.args(), &data.gradient_args(&forward));
                    (forward, gradients)
                })
            };
            let one = with_threads(1);
            assert!(one == with_threads(2) && one == with_threads(5));
        }
    }
}
