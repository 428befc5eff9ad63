//! Fused multi-head attention; Vaswani et al. 2017, §3.2 (arXiv:1706.03762).
//!
//! Of the weights only the logarithm of each row's sum is kept, from which the backward pass computes them again
//! (FlashAttention; Dao et al. 2022, §3.1 and algorithm 4, arXiv:2205.14135). A head's rows of scores live in the
//! second-level cache, block by block, so the softmax needs no second thought as it does there.

use std::ops::Range;

use rayon::prelude::*;

use super::attention_packing::{Rows, left_stride, pack_across, pack_left, pack_transposed, padded_columns};
use super::attention_products::{Extent, Left, Onto, Order, PANEL, Right, Words, product};
use super::attention_rows::{HeadDropout, HeadMask, MASKED, SoftmaxBlock, softmax_block};
use super::attention_scratch::{Output, with_scratch};
use super::pieces::PIECE;
use super::random_mask::RandomMask;
use crate::{Precision, Scores};

/// Scores that a block of queries may have.
const BLOCK_SCORES: usize = 1 << 13;
/// With as many heads as this there is work for all threads; with fewer, a head's queries are shared out too.
const MANY_HEADS: usize = 16;
/// Queries of a task where heads are few.
const TASK_QUERIES: usize = 256;

/// The sizes of queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    /// Heads of the queries, a multiple of `kv_heads`.
    pub(crate) heads: usize,
    /// Heads of keys and values, each of which serves `heads / kv_heads` neighbours.
    pub(crate) kv_heads: usize,
    pub(crate) q_len: usize,
    pub(crate) k_len: usize,
    pub(crate) head_size: usize,
}

/// A tensor `[batch, heads, rows, head_size]` as it lies in memory. The last dimension is contiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRows<'a> {
    pub(crate) values: &'a [f32],
    /// Elements from one batch, head and row to the next.
    pub(crate) strides: [usize; 3],
}

impl AttentionShape {
    /// The head whose task most likely comes next.
    pub(super) fn next(&self, [batch, head]: [usize; 2]) -> Option<[usize; 2]> {
        let next = if head + 1 < self.heads { [batch, head + 1] } else { [batch + 1, 0] };
        (next[0] < self.batch).then_some(next)
    }
}

impl<'a> HeadRows<'a> {
    pub(super) fn head(&self, [batch, head]: [usize; 2], head_size: usize) -> Rows<'a> {
        let [batch_stride, head_stride, row_stride] = self.strides;
        let start = (batch * batch_stride + head * head_stride).min(self.values.len());
        Rows { values: &self.values[start..], row_stride, head_size }
    }
}

/// Numbers added to the scores, `[batch or 1, heads or 1, q_len, k_len]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoreBias<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) heads: usize,
}

/// What attention is computed of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionArgs<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) q: HeadRows<'a>,
    pub(crate) k: HeadRows<'a>,
    pub(crate) v: HeadRows<'a>,
    /// What `q · kᵀ` is multiplied by.
    pub(crate) scale: f32,
    /// `[batch, k_len]`: 1 for a token, 0 for padding, which adds −10⁹ to the scores.
    pub(crate) attention_mask: Option<&'a [u8]>,
    /// Query `i` sees keys up to `i + k_len − q_len` only. One that sees none has the context 0.
    pub(crate) causal: bool,
    /// `[batch, q_len]`: the first key that a query sees, and the one after the last. Neither falls from one query of a
    /// batch row to the next.
    pub(crate) key_ranges: Option<&'a [[u32; 2]]>,
    pub(crate) bias: Option<ScoreBias<'a>>,
    /// Of the weights; rows are numbered through `[batch, heads, q_len]`.
    pub(crate) dropout: Option<RandomMask>,
    pub(crate) precision: Precision,
}

/// What the forward pass leaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionForward {
    /// `[batch, q_len, heads, head_size]`.
    pub(crate) context: Vec<f32>,
    /// The logarithm of the sum of the exponentials of each row of biased scores, `[batch, heads, q_len]`.
    pub(crate) lse: Vec<f32>,
    /// `scale · q · kᵀ`, `[batch, heads, q_len, k_len]`, where asked for.
    pub(crate) scores: Option<Vec<f32>>,
}

/// The padding of one batch row.
#[derive(Debug, Clone)]
pub(super) struct Padding {
    key_bias: Option<Vec<f32>>,
    first_kept: usize,
    /// Keys from here on are all padding; `k_len` where all keys are, since then all of them count.
    end: usize,
}

impl AttentionArgs<'_> {
    /// The padding of each batch row.
    pub(super) fn paddings(&self) -> Vec<Padding> {
        let AttentionShape { batch, k_len, .. } = self.shape;
        let of_row = |row: usize| {
            let kept = self.attention_mask.map(|mask| &mask[row * k_len..][..k_len]);
            let Some(kept) = kept.filter(|kept| kept.contains(&0)) else {
                return Padding { key_bias: None, first_kept: 0, end: k_len };
            };
            Padding {
                key_bias: Some(kept.iter().map(|kept| if *kept == 0 { MASKED } else { 0.0 }).collect()),
                first_kept: kept.iter().position(|kept| *kept != 0).unwrap_or(k_len),
                end: kept.iter().rposition(|kept| *kept != 0).map_or(k_len, |last| last + 1),
            }
        };
        (0..batch).map(of_row).collect()
    }

    /// Panics unless the slices fit the shape.
    pub(super) fn check(&self) {
        let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = self.shape;
        assert!(head_size > 0, "`head_size` is 0");
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "`heads` is no multiple of `kv_heads`");
        if let Some(mask) = self.attention_mask {
            assert_eq!(mask.len(), batch * k_len, "`attention_mask` is `[batch, k_len]`");
        }
        if let Some(ranges) = self.key_ranges {
            assert_eq!(ranges.len(), batch * q_len, "`key_ranges` is `[batch, q_len]`");
            let fall = |pair: &[[u32; 2]]| pair[1][0] < pair[0][0] || pair[1][1] < pair[0][1];
            let rows = ranges.chunks(q_len.max(1));
            assert!(rows.into_iter().all(|row| !row.windows(2).any(fall)), "a range of keys falls back");
            assert!(ranges.iter().all(|range| range[1] as usize <= k_len), "a range of keys ends too late");
        }
        if let Some(bias) = self.bias {
            assert!(bias.batch == batch || bias.batch == 1, "the bias has another batch size");
            assert!(bias.heads == heads || bias.heads == 1, "the bias has other heads");
            assert_eq!(bias.values.len(), bias.batch * bias.heads * q_len * k_len, "`[.., q_len, k_len]`");
        }
    }

    /// One head's queries, keys and values.
    pub(super) fn rows(&self, at @ [batch, head]: [usize; 2]) -> [Rows<'_>; 3] {
        let AttentionShape { heads, kv_heads, head_size, .. } = self.shape;
        let kv_at = [batch, head / (heads / kv_heads)];
        [self.q.head(at, head_size), self.k.head(kv_at, head_size), self.v.head(kv_at, head_size)]
    }

    /// One head's part, of which `paddings` has that of each batch row.
    pub(super) fn head<'a>(&'a self, at @ [batch, head]: [usize; 2], paddings: &'a [Padding]) -> Head<'a> {
        let AttentionShape { heads, q_len, k_len, .. } = self.shape;
        let ([q, k, v], padding) = (self.rows(at), &paddings[batch]);
        let cells = q_len * k_len;
        Head {
            q,
            k,
            v,
            mask: HeadMask {
                q_len,
                k_len,
                key_bias: padding.key_bias.as_deref(),
                first_kept: padding.first_kept,
                causal: self.causal,
                key_ranges: self.key_ranges.map(|ranges| &ranges[batch * q_len..][..q_len]),
                bias: self.bias.map(|bias| &bias.values[bias.place(at) * cells..][..cells]),
            },
            dropout: self.dropout.map(|mask| HeadDropout {
                mask,
                first_row: ((batch * heads + head) * q_len) as u64,
                k_len,
            }),
            end: padding.end,
        }
    }

    /// Whether the work is worth waking other threads.
    pub(super) fn is_small(&self) -> bool {
        let AttentionShape { batch, heads, q_len, k_len, .. } = self.shape;
        batch * heads * q_len * k_len <= PIECE
    }
}

impl ScoreBias<'_> {
    /// Which of its `[q_len, k_len]` matrices this head has.
    pub(super) fn place(&self, [batch, head]: [usize; 2]) -> usize {
        batch % self.batch * self.heads + head % self.heads
    }
}

/// One head of one batch row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) q: Rows<'a>,
    pub(super) k: Rows<'a>,
    pub(super) v: Rows<'a>,
    pub(super) mask: HeadMask<'a>,
    pub(super) dropout: Option<HeadDropout>,
    /// Keys from here on are padding that weighs nothing.
    pub(super) end: usize,
}

/// The stride of rows of `columns` words: no multiple of a kilobyte, since rows a page apart would fight for the same
/// lines of the first-level cache.
pub(super) fn score_stride(columns: usize) -> usize {
    if columns.is_multiple_of(256) { columns + PANEL } else { columns }
}

/// `dropout(softmax(scale · q · kᵀ + masks + bias)) · v`.
///
/// # Panics
/// If a slice does not fit the shape.
#[allow(unsafe_code)]
pub(crate) fn attention(args: &AttentionArgs<'_>, scores: Scores) -> AttentionForward {
    args.check();
    let AttentionShape { batch, heads, q_len, k_len, head_size, .. } = args.shape;
    let outputs = Outputs {
        context: Output::new(batch * q_len * heads * head_size),
        lse: Output::new(batch * heads * q_len),
        scores: (scores == Scores::Keep).then(|| Output::new(batch * heads * q_len * k_len)),
    };
    let paddings = args.paddings();
    let queries = if batch * heads < MANY_HEADS { TASK_QUERIES } else { q_len.max(1) };
    let parts = q_len.div_ceil(queries);
    let task = |task: usize| {
        let (index, part) = (task / parts, task % parts);
        let rows = part * queries..q_len.min((part + 1) * queries);
        forward_head(args, [index / heads, index % heads], &paddings, rows, &outputs);
    };
    let tasks = batch * heads * parts;
    if args.is_small() {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
    // SAFETY: the tasks have written each row of each head.
    unsafe {
        AttentionForward {
            context: outputs.context.into_vec(),
            lse: outputs.lse.into_vec(),
            scores: outputs.scores.map(|scores| scores.into_vec()),
        }
    }
}

struct Outputs {
    context: Output,
    lse: Output,
    scores: Option<Output>,
}

/// These rows of one head's context, log-sum-exp and scores.
#[allow(unsafe_code)]
fn forward_head(
    args: &AttentionArgs<'_>,
    at @ [batch, head_index]: [usize; 2],
    paddings: &[Padding],
    rows: Range<usize>,
    outputs: &Outputs,
) {
    let AttentionShape { heads, q_len, k_len, head_size, .. } = args.shape;
    let head = args.head(at, paddings);
    let next = args.shape.next(at).map(|next| args.rows(next));
    let words = Words::of(args.precision);
    // Scores that are handed out are those of all keys.
    let keys_of =
        |last: usize| if outputs.scores.is_some() { k_len } else { head.mask.visible(last).min(head.end) };
    let keys = keys_of(rows.end - 1);
    let (columns, context_columns) = (keys.next_multiple_of(PANEL), padded_columns(head_size));
    let (depth, value_depth) = (words.depth(head_size), words.depth(keys));
    let (q_stride, stride) = (left_stride(words, head_size), score_stride(columns));
    let block = (BLOCK_SCORES / columns.max(1)).clamp(24, 96).min(rows.len());
    let [k_size, v_size] = [columns * depth, context_columns * value_depth];
    let pairs = if words == Words::Pairs { block * stride / 2 } else { 0 };
    let total = k_size + v_size + block * (q_stride + stride + context_columns + 2) + pairs;
    with_scratch(total, |mut scratch| {
        let (k_words, v_words) = (scratch.take(k_size), scratch.take(v_size));
        let (q_words, scores, pairs) =
            (scratch.take(block * q_stride), scratch.take(block * stride), scratch.take(pairs));
        let (context, lse, scales) =
            (scratch.take(block * context_columns), scratch.take(block), scratch.take(block));
        pack_transposed(words, head.k, 0..keys, k_words);
        pack_across(words, head.v, 0..keys, 1.0, v_words);
        let k_words = &*k_words;
        let v_words = Right { words: v_words, columns: context_columns, total_depth: value_depth, first: 0 };
        for first in rows.clone().step_by(block) {
            let part = first..rows.end.min(first + block);
            let keys = keys_of(part.end - 1);
            let first_key = if outputs.scores.is_some() { 0 } else { head.mask.first_group(part.start) };
            let columns = keys.next_multiple_of(PANEL) - first_key;
            let first_row = (batch * heads + head_index) * q_len + first;
            // SAFETY: no other task writes these rows of this head.
            let (context_out, lse_out, scores_out) = unsafe {
                let from = ((batch * q_len + first) * heads + head_index) * head_size;
                (
                    outputs.context.rows(from, heads * head_size, head_size, part.len()),
                    outputs.lse.rows(first_row, 1, 1, part.len()),
                    outputs
                        .scores
                        .as_ref()
                        .map(|scores| scores.rows(first_row * k_len, k_len, k_len, part.len())),
                )
            };
            pack_left(words, head.q, part.clone(), args.scale, q_words);
            context_out.prefetch();
            for next in next.iter().flatten() {
                next.prefetch(part.clone());
            }
            let q_words = Left { words: q_words, stride: q_stride, order: Order::Rows };
            let extent = Extent { rows: part.len(), columns, depth };
            let (words_from, all) = (&k_words[first_key * depth..], k_words.len() / depth - first_key);
            let k_words = Right { words: words_from, columns: all, total_depth: depth, first: 0 };
            product(words, extent, q_words, k_words, Onto::Nothing, scores, stride);
            if let Some(scores_out) = scores_out {
                scores_out.write(scores, stride, &[1.0]);
            }
            softmax_block(SoftmaxBlock {
                words,
                mask: head.mask,
                dropout: head.dropout,
                rows: part.clone(),
                first_key,
                columns,
                scores: &mut *scores,
                stride,
                pairs: &mut *pairs,
                lse: &mut *lse,
                scales: &mut *scales,
            });
            lse_out.write(lse, 1, &[1.0]);
            let weights = match words {
                Words::Pairs => Left { words: pairs, stride: stride / 2, order: Order::Rows },
                Words::Floats | Words::Rounded => Left { words: scores, stride, order: Order::Rows },
            };
            let first = words.depth(first_key);
            let depth = words.depth(keys) - first;
            let extent = Extent { rows: part.len(), columns: context_columns, depth };
            product(
                words,
                extent,
                weights,
                Right { first, ..v_words },
                Onto::Nothing,
                context,
                context_columns,
            );
            context_out.write(context, context_columns, scales);
        }
    });
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::attention_backward::{AttentionGradientArgs, AttentionGradients};
    use super::super::random_mask::row_start;
    use super::*;

    /// Numbers between −1 and 1.
    pub(in super::super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761);
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// One way to use attention.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Case {
        pub(in super::super) shape: AttentionShape,
        pub(in super::super) causal: bool,
        /// Texts in a row, so many in the first batch row, one more in the next.
        pub(in super::super) texts: Option<usize>,
        /// The kept keys of a batch row, given its number and the number of keys.
        pub(in super::super) kept: Option<fn(usize, usize) -> std::ops::Range<usize>>,
        pub(in super::super) bias: Option<[usize; 2]>,
        pub(in super::super) dropout: bool,
        pub(in super::super) scores: bool,
        pub(in super::super) precision: Precision,
    }

    /// A case's numbers: what its arguments borrow.
    pub(in super::super) struct Data {
        case: Case,
        pub(in super::super) q: Vec<f32>,
        pub(in super::super) k: Vec<f32>,
        pub(in super::super) v: Vec<f32>,
        mask: Option<Vec<u8>>,
        ranges: Option<Vec<[u32; 2]>>,
        pub(in super::super) bias: Option<Vec<f32>>,
        dcontext: Vec<f32>,
        dscores: Option<Vec<f32>>,
    }

    impl Case {
        pub(in super::super) fn plain([batch, heads, kv_heads, q_len, k_len, head_size]: [usize; 6]) -> Self {
            Self {
                shape: AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size },
                causal: false,
                texts: None,
                kept: None,
                bias: None,
                dropout: false,
                scores: false,
                precision: Precision::F32,
            }
        }

        pub(in super::super) fn data(self) -> Data {
            let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = self.shape;
            let cells = q_len * k_len;
            Data {
                case: self,
                q: numbers(batch * heads * q_len * head_size, 1).iter().map(|x| 3.0 * x).collect(),
                k: numbers(batch * kv_heads * k_len * head_size, 2),
                v: numbers(batch * kv_heads * k_len * (head_size + 3), 3),
                mask: self.kept.map(|kept| {
                    let keys = (0..batch).flat_map(|row| (0..k_len).map(move |key| (row, key)));
                    keys.map(|(row, key)| u8::from(kept(row, k_len).contains(&key))).collect()
                }),
                ranges: self.texts.map(|texts| {
                    let queries = (0..batch).flat_map(|row| (0..q_len).map(move |query| (row, query)));
                    let range = |(row, query): (usize, usize)| {
                        let (texts, q_len) = (texts + row, q_len);
                        let text = query * texts / q_len;
                        [text, text + 1].map(|text| ((text * q_len).div_ceil(texts) * k_len / q_len) as u32)
                    };
                    queries.map(range).collect()
                }),
                bias: self.bias.map(|[batch, heads]| numbers(batch * heads * cells, 4)),
                dcontext: numbers(batch * heads * q_len * head_size, 5),
                dscores: self
                    .scores
                    .then(|| numbers(batch * heads * cells, 6).iter().map(|x| x / 8.0).collect()),
            }
        }
    }

    /// All that is to be found.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Found {
        pub(in super::super) context: Vec<f64>,
        pub(in super::super) lse: Vec<f64>,
        pub(in super::super) scores: Vec<f64>,
        pub(in super::super) dq: Vec<f64>,
        pub(in super::super) dk: Vec<f64>,
        pub(in super::super) dv: Vec<f64>,
        pub(in super::super) dbias: Vec<f64>,
    }

    impl Found {
        pub(in super::super) fn of(forward: &AttentionForward, gradients: &AttentionGradients) -> Self {
            let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect();
            Self {
                context: wide(&forward.context),
                lse: wide(&forward.lse),
                scores: forward.scores.as_deref().map(wide).unwrap_or_default(),
                dq: wide(&gradients.dq),
                dk: wide(&gradients.dk),
                dv: wide(&gradients.dv),
                dbias: gradients.dbias.as_deref().map(wide).unwrap_or_default(),
            }
        }
    }

    impl Data {
        /// Queries lie as a linear layer leaves them, keys head by head, values with gaps between their rows.
        pub(in super::super) fn args(&self) -> AttentionArgs<'_> {
            let Case { shape, causal, bias, dropout, precision, .. } = self.case;
            let AttentionShape { heads, kv_heads, q_len, k_len, head_size, .. } = shape;
            let gap = head_size + 3;
            AttentionArgs {
                shape,
                q: HeadRows {
                    values: &self.q,
                    strides: [q_len * heads * head_size, head_size, heads * head_size],
                },
                k: HeadRows {
                    values: &self.k,
                    strides: [k_len * kv_heads * head_size, k_len * head_size, head_size],
                },
                v: HeadRows { values: &self.v, strides: [k_len * kv_heads * gap, k_len * gap, gap] },
                scale: 0.7 / (head_size as f32).sqrt(),
                attention_mask: self.mask.as_deref(),
                causal,
                key_ranges: self.ranges.as_deref(),
                bias: bias.map(|[batch, heads]| ScoreBias {
                    values: self.bias.as_deref().unwrap_or_default(),
                    batch,
                    heads,
                }),
                dropout: dropout.then(|| RandomMask::new([3, 5], 7, 0.3)),
                precision,
            }
        }

        pub(in super::super) fn gradient_args<'a>(
            &'a self,
            forward: &'a AttentionForward,
        ) -> AttentionGradientArgs<'a> {
            let AttentionShape { heads, q_len, head_size, .. } = self.case.shape;
            AttentionGradientArgs {
                dcontext: HeadRows {
                    values: &self.dcontext,
                    strides: [heads * q_len * head_size, q_len * head_size, head_size],
                },
                context: &forward.context,
                lse: &forward.lse,
                dscores: self.dscores.as_deref(),
                bias_gradient: self.bias.is_some(),
            }
        }

        /// The gradient with respect to the context, laid out as the context is.
        pub(in super::super) fn dcontext_by_rows(&self) -> Vec<f64> {
            let AttentionShape { batch, heads, q_len, head_size, .. } = self.case.shape;
            let places =
                (0..batch).flat_map(|b| (0..q_len).flat_map(move |i| (0..heads).map(move |h| (b, i, h))));
            let rows = places.map(|(b, i, h)| ((b * heads + h) * q_len + i) * head_size);
            rows.flat_map(|at| &self.dcontext[at..at + head_size]).map(|x| f64::from(*x)).collect()
        }

        /// The definition and its derivatives, number by number.
        pub(in super::super) fn reference(&self) -> Found {
            let args = self.args();
            let AttentionShape { batch, heads, kv_heads, q_len, k_len, head_size } = args.shape;
            let dcontext_strides = [heads * q_len * head_size, q_len * head_size, head_size];
            let at =
                |[batch_stride, head_stride, row_stride]: [usize; 3],
                 batch: usize,
                 head: usize,
                 row: usize| { batch * batch_stride + head * head_stride + row * row_stride };
            let (q_rows, k_rows) = (batch * q_len * heads, batch * k_len * kv_heads);
            let mut found = Found {
                context: vec![0.0; q_rows * head_size],
                dq: vec![0.0; q_rows * head_size],
                dk: vec![0.0; k_rows * head_size],
                dv: vec![0.0; k_rows * head_size],
                dbias: vec![0.0; args.bias.map_or(0, |bias| bias.values.len())],
                ..Found::default()
            };
            let scale = f64::from(args.scale);
            for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
                let kv = h / (heads / kv_heads);
                for i in 0..q_len {
                    let row = |values: &[f32], from: usize| -> Vec<f64> {
                        values[from..from + head_size].iter().map(|value| f64::from(*value)).collect()
                    };
                    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    let q = row(args.q.values, at(args.q.strides, b, h, i));
                    let dcontext = row(&self.dcontext, at(dcontext_strides, b, h, i));
                    let head_row = (b * heads + h) * q_len + i;
                    let first = row_start(head_row as u64, k_len);
                    let mut factors = vec![1.0; k_len];
                    if let Some(mask) = args.dropout {
                        let mut drawn = vec![0f32; k_len];
                        mask.fill(first, &mut drawn);
                        factors = drawn.into_iter().map(f64::from).collect();
                    }
                    let keys: Vec<_> =
                        (0..k_len).map(|j| row(args.k.values, at(args.k.strides, b, kv, j))).collect();
                    let values: Vec<_> =
                        (0..k_len).map(|j| row(args.v.values, at(args.v.strides, b, kv, j))).collect();
                    let raw: Vec<f64> = keys.iter().map(|k| scale * dot(&q, k)).collect();
                    let bias_at = |j: usize| {
                        args.bias.map(|bias| {
                            (b % bias.batch * bias.heads + h % bias.heads) * q_len * k_len + i * k_len + j
                        })
                    };
                    let biased: Vec<f64> = (0..k_len)
                        .map(|j| {
                            let bias =
                                bias_at(j).map_or(0.0, |at| f64::from(self.bias.as_ref().unwrap()[at]));
                            let kept = args.attention_mask.is_none_or(|mask| mask[b * k_len + j] != 0);
                            let other_text = args.key_ranges.is_some_and(|ranges| {
                                let [first, end] = ranges[b * q_len + i];
                                !(first as usize..end as usize).contains(&j)
                            });
                            if other_text || args.causal && j + q_len > i + k_len {
                                f64::NEG_INFINITY
                            } else if kept {
                                raw[j] + bias
                            } else {
                                // As f32 has it: nothing is left of the score.
                                f64::from((raw[j] + bias) as f32 + MASKED)
                            }
                        })
                        .collect();
                    let largest = biased.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = biased
                        .iter()
                        .map(|s| if largest.is_finite() { (s - largest).exp() } else { 0.0 })
                        .sum();
                    let p: Vec<f64> = biased
                        .iter()
                        .map(|s| if largest.is_finite() { (s - largest).exp() / sum } else { 0.0 })
                        .collect();
                    let blind = largest < -1e8;
                    found.lse.push(if largest.is_finite() && blind { sum.ln() } else { largest + sum.ln() });
                    if self.case.scores {
                        found.scores.extend(&raw);
                    }
                    let out = ((b * q_len + i) * heads + h) * head_size;
                    let dp: Vec<f64> = (0..k_len).map(|j| factors[j] * dot(&dcontext, &values[j])).collect();
                    let delta = dot(&p, &dp);
                    for j in 0..k_len {
                        let ds = p[j] * (dp[j] - delta);
                        if let Some(at) = bias_at(j) {
                            found.dbias[at] += ds;
                        }
                        let more =
                            self.dscores.as_ref().map_or(0.0, |more| f64::from(more[head_row * k_len + j]));
                        let key = ((b * k_len + j) * kv_heads + kv) * head_size;
                        for c in 0..head_size {
                            found.context[out + c] += factors[j] * p[j] * values[j][c];
                            found.dq[out + c] += scale * (ds + more) * keys[j][c];
                            found.dk[key + c] += scale * (ds + more) * q[c];
                            found.dv[key + c] += factors[j] * p[j] * dcontext[c];
                        }
                    }
                }
            }
            found
        }
    }

    /// The error is at most `tolerance` of the largest number, or of 0.25 where gradients cancel out.
    pub(in super::super) fn assert_close(
        what: &str,
        case: &Case,
        found: &[f64],
        expected: &[f64],
        tolerance: f64,
    ) {
        assert_eq!(found.len(), expected.len(), "{what} of {case:?}");
        let largest = expected.iter().filter(|x| x.is_finite()).fold(0.25f64, |most, x| most.max(x.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let close = found == expected || (found - expected).abs() <= tolerance * largest;
            assert!(close, "{what}[{index}] is {found}, not {expected}, in {case:?}");
        }
    }

    #[test]
    fn a_query_that_sees_no_key_has_no_context() {
        let case = Case { causal: true, ..Case::plain([1, 1, 1, 3, 1, 8]) };
        let forward = attention(&case.data().args(), Scores::Discard);
        assert!(
            forward.context[..16].iter().all(|x| *x == 0.0) && forward.lse[..2] == [f32::NEG_INFINITY; 2]
        );
        assert!(forward.context[16..].iter().any(|x| *x != 0.0));
    }

    #[test]
    fn what_is_not_a_number_shows() {
        for place in 0..3 {
            let mut data = Case::plain([1, 1, 1, 4, 40, 8]).data();
            [&mut data.q, &mut data.k, &mut data.v][place][5] = f32::NAN;
            assert!(attention(&data.args(), Scores::Discard).context[..8].iter().any(|x| x.is_nan()));
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let forward = attention(&Case::plain([1, 2, 2, 0, 5, 8]).data().args(), Scores::Keep);
        assert_eq!(forward, AttentionForward { context: vec![], lse: vec![], scores: Some(vec![]) });
        let forward = attention(&Case::plain([1, 2, 2, 5, 0, 8]).data().args(), Scores::Discard);
        assert_eq!(forward.context, vec![0.0; 80]);
    }
}
