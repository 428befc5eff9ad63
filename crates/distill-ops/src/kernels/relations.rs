//! MiniLM v2's loss on the relations among the vectors of a text; Wang et al. 2021, §3 (arXiv:2012.15828).
//!
//! A relation head's scores, `X Xᵗ / √d`, are small enough to stay in the cache: they are computed, turned into
//! probabilities and dropped, text by text. The gradient is found in the same go, from the same probabilities.

use super::attention::score_stride;
use super::attention_packing::{
    Rows, VECTOR, left_stride, pack_across, pack_left, pack_transposed, padded_columns, round, transpose,
};
use super::attention_pairs::pairs_along;
use super::attention_products::{Extent, Left, Onto, Order, PANEL, Right, Words, product};
use super::attention_scratch::{Scratch, with_scratch};
use super::isa::for_each_isa;
use super::pieces::{each_piece, filled};
use super::vector_math::{LANES, exp, maximum, sum_of_lanes};
use crate::Precision;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// Stands for the scores of columns that are none: its probability is zero, and it times a scale is still a number.
const NO_SCORE: f32 = -1e30;

/// Sizes of both sides, and what their products multiply in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelationShape {
    /// Tokens of a text, padding counted.
    pub(crate) seq: usize,
    /// Relation heads; they divide both widths.
    pub(crate) heads: usize,
    /// Width of the student's vectors.
    pub(crate) student: usize,
    /// Width of the teacher's.
    pub(crate) teacher: usize,
    pub(crate) precision: Precision,
}

/// `Σ KL(softmax(teacher relations) ‖ softmax(student relations))` over heads and tokens; `kept` has 0 for padding,
/// which is neither a query nor a key.
///
/// `student` and `teacher` are `[batch, seq, width]`.
pub(crate) fn relation_kl(student: &[f32], teacher: &[f32], kept: &[u8], shape: &RelationShape) -> f64 {
    let sums = each_piece(texts(student, teacher, kept, shape), |(s, t, kept)| {
        let text = Text::new(s, t, kept, shape);
        text.with_buffers(|buffers| (0..shape.heads).map(|head| text.divergence(head, buffers)).sum::<f64>())
    });
    sums.into_iter().sum()
}

/// [`relation_kl`], and its gradient with respect to the student.
pub(crate) fn relation_kl_and_gradient(
    student: &[f32],
    teacher: &[f32],
    kept: &[u8],
    shape: &RelationShape,
) -> (f64, Vec<f32>) {
    let len_of_text = (shape.seq * shape.student).max(1);
    let mut sum = 0.0;
    let gradient = fill(student.len(), |out| {
        let pieces = out.chunks_mut(len_of_text).zip(texts(student, teacher, kept, shape));
        let sums = each_piece(pieces, |(out, (s, t, kept))| {
            out.fill(MaybeUninit::new(0.0));
            let text = Text::new(s, t, kept, shape);
            let of_head = |head, buffers: &mut Buffers<'_>| {
                let divergence = text.divergence_and_gradient(head, buffers);
                text.hand_out(head, buffers, out);
                divergence
            };
            text.with_buffers(|buffers| sum_of_heads(shape.heads, buffers, of_head))
        });
        sum = sums.into_iter().sum();
    });
    (sum, gradient)
}

fn sum_of_heads(
    heads: usize,
    buffers: &mut Buffers<'_>,
    mut of_head: impl FnMut(usize, &mut Buffers<'_>) -> f64,
) -> f64 {
    (0..heads).map(|head| of_head(head, buffers)).sum()
}

#[allow(unsafe_code)]
fn fill(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the pieces are texts and cover all of it; each is filled with zeros first.
    unsafe { filled(len, fill) }
}

fn texts<'a>(
    student: &'a [f32],
    teacher: &'a [f32],
    kept: &'a [u8],
    shape: &RelationShape,
) -> impl Iterator<Item = (&'a [f32], &'a [f32], &'a [u8])> {
    let seq = shape.seq.max(1);
    let both = student.chunks(seq * shape.student.max(1)).zip(teacher.chunks(seq * shape.teacher.max(1)));
    both.zip(kept.chunks(seq)).map(|((s, t), kept)| (s, t, kept))
}

/// One text without its padding.
struct Text<'a> {
    words: Words,
    /// Where its tokens stand.
    tokens: Vec<usize>,
    student: Side<'a>,
    teacher: Side<'a>,
}

/// The vectors of a text on one side, `[tokens, width]`.
struct Side<'a> {
    vectors: Cow<'a, [f32]>,
    width: usize,
    /// Width of a relation head.
    size: usize,
}

/// Memory for one relation head.
struct Buffers<'a> {
    left: &'a mut [f32],
    right: &'a mut [f32],
    student: Relations<'a>,
    teacher: Relations<'a>,
    /// The gradient of the student's scores in pairs.
    pairs: &'a mut [f32],
    /// That of the vectors, `[tokens, padded size]`.
    gradient: &'a mut [f32],
}

/// One side's relations in a head.
struct Relations<'a> {
    /// Before their scale, `[tokens, stride]` with room for whole blocks of rows; the student's become their gradient.
    scores: &'a mut [f32],
    /// Probabilities before they are divided by the sum of their row, likewise.
    weights: &'a mut [f32],
    /// The reciprocals of those sums, a number a row.
    inverses: &'a mut [f32],
    /// What is taken from scores to make them log-probabilities, a number a row.
    logs: &'a mut [f32],
}

impl<'a> Relations<'a> {
    fn new(scratch: &mut Scratch<'a>, cells: usize, count: usize) -> Self {
        Self {
            scores: scratch.take(cells),
            weights: scratch.take(cells),
            inverses: scratch.take(count),
            logs: scratch.take(count),
        }
    }

    fn row(&self, row: usize, scale: f32) -> RowSums {
        RowSums { scale, log: self.logs[row], inverse: self.inverses[row] }
    }
}

impl<'a> Side<'a> {
    fn new(x: &'a [f32], tokens: &[usize], width: usize, heads: usize) -> Self {
        let vectors = match tokens {
            // Padding stands on one side as a rule.
            [first, .., last] if last - first + 1 == tokens.len() => Cow::Borrowed(&x[first * width..]),
            _ => tokens.iter().flat_map(|token| &x[token * width..][..width]).copied().collect(),
        };
        Self { vectors, width, size: width / heads }
    }

    fn head(&self, head: usize) -> Rows<'_> {
        let values = self.vectors.get(head * self.size..).unwrap_or_default();
        Rows { values, row_stride: self.width, head_size: self.size }
    }

    /// What products are multiplied by.
    fn scale(&self) -> f32 {
        (self.size as f32).sqrt().recip()
    }
}

impl<'a> Text<'a> {
    fn new(student: &'a [f32], teacher: &'a [f32], kept: &[u8], shape: &RelationShape) -> Self {
        let tokens: Vec<usize> = (0..kept.len()).filter(|&token| kept[token] != 0).collect();
        Self {
            words: Words::of(shape.precision),
            student: Side::new(student, &tokens, shape.student, shape.heads),
            teacher: Side::new(teacher, &tokens, shape.teacher, shape.heads),
            tokens,
        }
    }

    fn columns(&self) -> usize {
        self.tokens.len().next_multiple_of(PANEL)
    }

    fn stride(&self) -> usize {
        score_stride(self.columns())
    }

    fn with_buffers<T>(&self, work: impl FnOnce(&mut Buffers<'_>) -> T) -> T {
        let (words, count, stride) = (self.words, self.tokens.len(), self.stride());
        let size = self.student.size.max(self.teacher.size);
        let left = count * left_stride(words, size);
        let across = padded_columns(self.student.size) * words.depth(count);
        let right = (self.columns() * words.depth(size)).max(across);
        let pairs = if words == Words::Pairs { count * stride / 2 } else { 0 };
        let gradient = count * padded_columns(self.student.size);
        let cells = count.next_multiple_of(VECTOR) * stride;
        let total = left + right + 4 * cells + 4 * count + pairs + gradient;
        with_scratch(total, |mut scratch| {
            work(&mut Buffers {
                left: scratch.take(left),
                right: scratch.take(right),
                student: Relations::new(&mut scratch, cells, count),
                teacher: Relations::new(&mut scratch, cells, count),
                pairs: scratch.take(pairs),
                gradient: scratch.take(gradient),
            })
        })
    }

    /// The relations of both sides.
    fn relations(&self, head: usize, buffers: &mut Buffers<'_>) {
        let Buffers { left, right, .. } = buffers;
        for (side, relations) in
            [(&self.teacher, &mut buffers.teacher), (&self.student, &mut buffers.student)]
        {
            let (rows, count) = (side.head(head), self.tokens.len());
            let (depth, columns) = (self.words.depth(side.size), self.columns());
            let stride = left_stride(self.words, side.size);
            pack_left(self.words, rows, 0..count, 1.0, &mut left[..count * stride]);
            pack_transposed(self.words, rows, 0..count, &mut right[..columns * depth]);
            let left = Left { words: left, stride, order: Order::Rows };
            let right = Right { words: right, columns, total_depth: depth, first: 0 };
            let extent = Extent { rows: count, columns, depth };
            product(self.words, extent, left, right, Onto::Nothing, relations.scores, self.stride());
            let Relations { scores, weights, inverses, logs } = relations;
            softmax(scores, weights, self.stride(), columns, side.scale(), inverses, logs);
        }
    }

    fn divergence(&self, head: usize, buffers: &mut Buffers<'_>) -> f64 {
        self.relations(head, buffers);
        let of_row = |row: usize| {
            let cells = row * self.stride()..row * self.stride() + self.columns();
            let Buffers { student, teacher, .. } = &*buffers;
            f64::from(row_divergence(
                &student.scores[cells.clone()],
                &teacher.scores[cells.clone()],
                &teacher.weights[cells],
                student.row(row, self.student.scale()),
                teacher.row(row, self.teacher.scale()),
            ))
        };
        (0..self.tokens.len()).map(of_row).sum()
    }

    /// The divergence; the gradient is left in `buffers`, to be multiplied by the student's scale.
    fn divergence_and_gradient(&self, head: usize, buffers: &mut Buffers<'_>) -> f64 {
        let sum = self.divergence(head, buffers);
        let (count, columns, stride) = (self.tokens.len(), self.columns(), self.stride());
        let Buffers { student, teacher, .. } = buffers;
        for row in 0..count {
            let cells = row * stride..row * stride + columns;
            row_difference(
                &mut student.scores[cells.clone()],
                &student.weights[cells.clone()],
                student.inverses[row],
                &teacher.weights[cells],
                teacher.inverses[row],
            );
        }
        // A vector is the query of its row and the key of its column.
        student.scores[count * stride..].fill(0.0);
        add_transposed(student.scores, stride, count.next_multiple_of(VECTOR));
        for row in 0..count {
            let gradients = &mut student.scores[row * stride..][..columns];
            match self.words {
                Words::Floats => {}
                Words::Rounded => round_all(gradients),
                Words::Pairs => {
                    pairs_along(gradients, &mut buffers.pairs[row * (stride / 2)..][..columns / 2]);
                }
            }
        }
        let width = padded_columns(self.student.size);
        let depth = self.words.depth(count);
        pack_across(self.words, self.student.head(head), 0..count, 1.0, &mut buffers.right[..width * depth]);
        let left = match self.words {
            Words::Pairs => Left { words: buffers.pairs, stride: stride / 2, order: Order::Rows },
            Words::Floats | Words::Rounded => Left { words: student.scores, stride, order: Order::Rows },
        };
        let right = Right { words: buffers.right, columns: width, total_depth: depth, first: 0 };
        let extent = Extent { rows: count, columns: width, depth };
        product(self.words, extent, left, right, Onto::Nothing, buffers.gradient, width);
        sum
    }

    fn hand_out(&self, head: usize, buffers: &Buffers<'_>, out: &mut [MaybeUninit<f32>]) {
        let Side { width, size, .. } = self.student;
        let scale = self.student.scale();
        let rows = buffers.gradient.chunks(padded_columns(size).max(1));
        for (token, gradient) in self.tokens.iter().zip(rows) {
            for (out, value) in out[token * width + head * size..][..size].iter_mut().zip(gradient) {
                out.write(scale * value);
            }
        }
    }
}

/// What turns a row of scores into log-probabilities, `score · scale − log`, and its weights into probabilities.
///
/// The product is rounded as it was when the logarithm was taken of it: a token whose one relation is that to itself has a
/// log-probability of exactly 0.
#[derive(Debug, Clone, Copy)]
struct RowSums {
    scale: f32,
    log: f32,
    inverse: f32,
}

for_each_isa! { fn round_all(x: &mut [f32]) = round_all_body }
for_each_isa! {
    fn softmax(
        scores: &mut [f32], weights: &mut [f32], stride: usize, columns: usize, scale: f32, inverses: &mut [f32],
        logs: &mut [f32]
    ) = softmax_body
}
for_each_isa! {
    fn row_divergence(
        student: &[f32], teacher: &[f32], teacher_weights: &[f32], of_student: RowSums, of_teacher: RowSums
    ) -> f32 = row_divergence_body
}
for_each_isa! {
    fn row_difference(out: &mut [f32], a: &[f32], of_a: f32, b: &[f32], of_b: f32) = row_difference_body
}
for_each_isa! { fn add_transposed(x: &mut [f32], stride: usize, size: usize) = add_transposed_body }

#[inline(always)]
fn round_all_body<const FMA: bool>(x: &mut [f32]) {
    for value in x {
        *value = round(*value);
    }
}

/// Of as many rows and columns as there are logarithms; up to `columns`, scores behind them are made [`NO_SCORE`].
#[inline(always)]
fn softmax_body<const FMA: bool>(
    scores: &mut [f32],
    weights: &mut [f32],
    stride: usize,
    columns: usize,
    scale: f32,
    inverses: &mut [f32],
    logs: &mut [f32],
) {
    let count = logs.len();
    let rows = scores.chunks_exact_mut(stride.max(1)).zip(weights.chunks_exact_mut(stride.max(1)));
    for ((scores, weights), (inverse, log)) in rows.zip(inverses.iter_mut().zip(logs)) {
        let (scores, weights) = (&mut scores[..columns], &mut weights[..columns]);
        scores[count..].fill(NO_SCORE);
        let largest = maximum(scores) * scale;
        let mut lanes = [0f32; LANES];
        for (scores, weights) in scores.as_chunks::<LANES>().0.iter().zip(weights.as_chunks_mut::<LANES>().0)
        {
            for ((lane, score), weight) in lanes.iter_mut().zip(scores).zip(weights) {
                *weight = exp::<FMA>(*score * scale - largest);
                *lane += *weight;
            }
        }
        let sum = sum_of_lanes(lanes);
        *inverse = 1.0 / sum;
        *log = sum.ln() + largest;
    }
}

/// `Σ p_teacher (log p_teacher − log p_student)` of a row of whole panels.
#[inline(always)]
fn row_divergence_body<const FMA: bool>(
    student: &[f32],
    teacher: &[f32],
    teacher_weights: &[f32],
    of_student: RowSums,
    of_teacher: RowSums,
) -> f32 {
    let mut lanes = [0f32; LANES];
    let scores = student.as_chunks::<LANES>().0.iter().zip(teacher.as_chunks::<LANES>().0);
    for ((s, t), weights) in scores.zip(teacher_weights.as_chunks::<LANES>().0) {
        for (((lane, s), t), weight) in lanes.iter_mut().zip(s).zip(t).zip(weights) {
            let s = *s * of_student.scale - of_student.log;
            let t = *t * of_teacher.scale - of_teacher.log;
            *lane += weight * (t - s);
        }
    }
    sum_of_lanes(lanes) * of_teacher.inverse
}

/// `of_a · a − of_b · b`.
#[inline(always)]
fn row_difference_body<const FMA: bool>(out: &mut [f32], a: &[f32], of_a: f32, b: &[f32], of_b: f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = of_a * a - of_b * b;
    }
}

/// `x + xᵗ` of the first `size` rows and columns, whole blocks of them.
#[inline(always)]
fn add_transposed_body<const FMA: bool>(x: &mut [f32], stride: usize, size: usize) {
    for first in (0..size).step_by(VECTOR) {
        for second in (first..size).step_by(VECTOR) {
            let (above, below) = (block(x, stride, first, second), block(x, stride, second, first));
            add_block(x, stride, first, second, below);
            if first != second {
                add_block(x, stride, second, first, above);
            }
        }
    }
}

/// The block at this row and column, transposed.
#[inline(always)]
fn block(x: &[f32], stride: usize, row: usize, column: usize) -> [[f32; VECTOR]; VECTOR] {
    let mut block = [[0.0; VECTOR]; VECTOR];
    for (at, block) in block.iter_mut().enumerate() {
        block.copy_from_slice(&x[(row + at) * stride + column..][..VECTOR]);
    }
    transpose(&mut block);
    block
}

#[inline(always)]
fn add_block(x: &mut [f32], stride: usize, row: usize, column: usize, block: [[f32; VECTOR]; VECTOR]) {
    for (at, block) in block.iter().enumerate() {
        let out = &mut x[(row + at) * stride + column..][..VECTOR];
        for (out, value) in out.iter_mut().zip(block) {
            *out += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reduce::scale_all;
    use super::*;

    fn wave(len: usize, phase: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.737 + phase).sin() * 1.5).collect()
    }

    /// Row by row, in f64.
    fn plain(s: &[f64], t: &[f64], kept: &[u8], shape: &RelationShape) -> f64 {
        let log_probs = |x: &[f64], width: usize, text: usize, head: usize, query: usize| {
            let size = width / shape.heads;
            let vector = |token: usize| &x[(text * shape.seq + token) * width + head * size..][..size];
            let keys = (0..shape.seq).filter(|&key| kept[text * shape.seq + key] != 0);
            let scores: Vec<f64> = keys
                .map(|key| {
                    let dot: f64 = vector(query).iter().zip(vector(key)).map(|(a, b)| a * b).sum();
                    dot / (size as f64).sqrt()
                })
                .collect();
            let log_sum = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
            scores.into_iter().map(|score| score - log_sum).collect::<Vec<_>>()
        };
        let mut sum = 0.0;
        for text in 0..kept.len() / shape.seq {
            for head in 0..shape.heads {
                for query in (0..shape.seq).filter(|&query| kept[text * shape.seq + query] != 0) {
                    let of_teacher = log_probs(t, shape.teacher, text, head, query);
                    let of_student = log_probs(s, shape.student, text, head, query);
                    sum += of_teacher.iter().zip(of_student).map(|(t, s)| t.exp() * (t - s)).sum::<f64>();
                }
            }
        }
        sum
    }

    #[test]
    fn values_and_gradients_are_those_of_the_formula() {
        for (batch, seq, heads, student, teacher) in [(1, 1, 1, 1, 1), (2, 5, 2, 6, 10), (3, 37, 3, 12, 99)] {
            let shape = RelationShape { seq, heads, student, teacher, precision: Precision::F32 };
            let (s, t) = (wave(batch * seq * student, 0.0), wave(batch * seq * teacher, 1.0));
            let kept: Vec<u8> = (0..batch * seq).map(|i| u8::from(i % seq <= seq - i / seq / 2)).collect();
            let f64s = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (exact, teacher_exact) = (f64s(&s), f64s(&t));
            let expected = plain(&exact, &teacher_exact, &kept, &shape);
            let (also_found, mut gradient) = relation_kl_and_gradient(&s, &t, &kept, &shape);
            for found in [relation_kl(&s, &t, &kept, &shape), also_found] {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                    "{found}, expected {expected}"
                );
            }
            scale_all(&mut gradient, 0.5);
            for i in (0..s.len()).step_by(s.len() / 25 + 1) {
                let moved = |by: f64| {
                    let mut exact = exact.clone();
                    exact[i] += by;
                    plain(&exact, &teacher_exact, &kept, &shape)
                };
                let slope = 0.5 * (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(gradient[i]) - slope).abs() < 2e-5, "{i}: {} for {slope}", gradient[i]);
            }
        }
    }

    #[test]
    fn padding_has_no_gradient_and_equals_lose_nothing() {
        for precision in [Precision::F32, Precision::Bf16] {
            let shape = RelationShape { seq: 4, heads: 2, student: 6, teacher: 6, precision };
            let x = wave(24, 0.3);
            assert!(relation_kl(&x, &x, &[1, 1, 1, 0], &shape).abs() < 1e-6);
            let (_, gradient) = relation_kl_and_gradient(&x, &wave(24, 2.0), &[1, 1, 1, 0], &shape);
            assert!(gradient[18..].iter().all(|value| *value == 0.0));
            assert!(gradient[..18].iter().any(|value| value.abs() > 1e-3));
        }
    }

    #[test]
    fn padding_anywhere_and_texts_of_padding_are_left_out() {
        let shape = RelationShape { seq: 5, heads: 2, student: 4, teacher: 6, precision: Precision::F32 };
        let (s, t) = (wave(60, 0.0), wave(90, 1.0));
        let kept = [1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        let (found, gradient) = relation_kl_and_gradient(&s, &t, &kept, &shape);
        let f64s = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        assert!((found - plain(&f64s(&s), &f64s(&t), &kept, &shape)).abs() < 1e-5);
        for (token, gradient) in gradient.chunks(4).enumerate() {
            // A token alone has one relation, whose probability is 1 whatever its vector is.
            let moves = [0, 2, 3].contains(&token);
            assert_eq!(gradient.iter().any(|value| value.abs() > 1e-6), moves, "token {token}");
        }
    }

    #[test]
    fn vectors_of_very_different_lengths_keep_their_gradients() {
        // Rows whose scores differ by more than an exponential can bear: no common largest score would do.
        let shape = RelationShape { seq: 3, heads: 1, student: 2, teacher: 2, precision: Precision::F32 };
        let (s, t) = (vec![30.0, 1.0, 0.5, 0.2, -0.3, 0.4], wave(6, 0.5));
        let (exact, teacher): (Vec<f64>, Vec<f64>) =
            (s.iter().map(|&x| f64::from(x)).collect(), t.iter().map(|&x| f64::from(x)).collect());
        let (_, gradient) = relation_kl_and_gradient(&s, &t, &[1; 3], &shape);
        for i in 0..6 {
            let moved = |by: f64| {
                let mut exact = exact.clone();
                exact[i] += by;
                plain(&exact, &teacher, &[1; 3], &shape)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((f64::from(gradient[i]) - slope).abs() < 1e-4 * slope.abs().max(1.0), "{i}");
        }
    }

    #[test]
    fn bf16_is_off_by_its_rounding_alone() {
        let (seq, heads, student, teacher) = (50, 3, 96, 48);
        let shape = |precision| RelationShape { seq, heads, student, teacher, precision };
        let (s, t) = (wave(2 * seq * student, 0.0), wave(2 * seq * teacher, 1.0));
        let kept: Vec<u8> = (0..2 * seq).map(|i| u8::from(i % seq < 45)).collect();
        let run = |precision| relation_kl_and_gradient(&s, &t, &kept, &shape(precision));
        let ((exact, exact_gradient), (found, gradient)) = (run(Precision::F32), run(Precision::Bf16));
        assert!((found - exact).abs() < 1e-2 * exact, "{found}, in f32 {exact}");
        let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let apart: Vec<f32> = gradient.iter().zip(&exact_gradient).map(|(a, b)| a - b).collect();
        let share = length(&apart) / length(&exact_gradient);
        assert!(share < 0.02, "the gradient is off by {share} of its length");
    }
}
