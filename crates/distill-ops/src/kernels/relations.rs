//! MiniLM v2's loss on the relations among the vectors of a text; Wang et al. 2021, §3 (arXiv:2012.15828).
//!
//! A relation head's scores, `X Xᵗ / √d`, are small enough to stay in the cache: they are computed, turned into
//! probabilities and dropped, text by text, and once more in the backward pass.

use super::isa::{for_each_isa, mul_add};
use super::pieces::{each_piece, filled};
use super::vector_math::{LANES, exp, maximum, sum_by_lanes, sum_of_lanes};
use std::mem::MaybeUninit;

/// Sizes of both sides.
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
}

/// `Σ KL(softmax(teacher relations) ‖ softmax(student relations))` over heads and tokens; `kept` has 0 for padding,
/// which is neither a query nor a key.
///
/// `student` and `teacher` are `[batch, seq, width]`.
pub(crate) fn relation_kl(student: &[f32], teacher: &[f32], kept: &[u8], shape: &RelationShape) -> f64 {
    let sums = each_piece(texts(student, teacher, kept, shape), |(s, t, kept)| {
        let mut work = Work::new(kept, shape);
        (0..shape.heads).map(|head| work.divergence(s, t, head)).sum::<f64>()
    });
    sums.into_iter().sum()
}

/// The student's gradient of `scale` times [`relation_kl`].
pub(crate) fn relation_kl_backward(
    student: &[f32],
    teacher: &[f32],
    kept: &[u8],
    shape: &RelationShape,
    scale: f32,
) -> Vec<f32> {
    let text = (shape.seq * shape.student).max(1);
    fill(student.len(), |out| {
        let pieces = out.chunks_mut(text).zip(texts(student, teacher, kept, shape));
        each_piece(pieces, |(out, (s, t, kept))| {
            out.fill(MaybeUninit::new(0.0));
            let mut work = Work::new(kept, shape);
            for head in 0..shape.heads {
                work.gradient(s, t, head, scale);
                work.hand_out(out, head);
            }
        });
    })
}

#[allow(unsafe_code)]
fn fill(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the pieces are texts and cover all of it; each is filled with zeros first.
    unsafe { filled(len, fill) }
}

type Text<'a> = (&'a [f32], &'a [f32], &'a [u8]);

fn texts<'a>(
    student: &'a [f32],
    teacher: &'a [f32],
    kept: &'a [u8],
    shape: &RelationShape,
) -> impl Iterator<Item = Text<'a>> {
    let seq = shape.seq.max(1);
    let both = student.chunks(seq * shape.student.max(1)).zip(teacher.chunks(seq * shape.teacher.max(1)));
    both.zip(kept.chunks(seq)).map(|((s, t), kept)| (s, t, kept))
}

/// Buffers for one text; its padding is left out of all of them.
struct Work<'a> {
    shape: &'a RelationShape,
    /// The tokens that are no padding.
    tokens: Vec<usize>,
    /// Vectors of a head, `[tokens, size]`, and the same turned round, `[size, tokens]`.
    rows: Vec<f32>,
    turned: Vec<f32>,
    /// `[tokens, tokens]`.
    of_student: Vec<f32>,
    of_teacher: Vec<f32>,
    /// `[tokens, size]`.
    gradient: Vec<f32>,
}

impl<'a> Work<'a> {
    fn new(kept: &[u8], shape: &'a RelationShape) -> Self {
        let tokens: Vec<usize> = (0..kept.len()).filter(|&token| kept[token] != 0).collect();
        let cells = tokens.len() * tokens.len();
        Self {
            shape,
            tokens,
            rows: Vec::new(),
            turned: Vec::new(),
            of_student: vec![0.0; cells],
            of_teacher: vec![0.0; cells],
            gradient: Vec::new(),
        }
    }

    fn gather(&mut self, x: &[f32], width: usize, head: usize) -> usize {
        let (size, count) = (width / self.shape.heads, self.tokens.len());
        self.rows.clear();
        self.turned.clear();
        self.turned.resize(size * count, 0.0);
        for (row, token) in self.tokens.iter().enumerate() {
            let vector = &x[token * width + head * size..][..size];
            self.rows.extend_from_slice(vector);
            for (k, value) in vector.iter().enumerate() {
                self.turned[k * count + row] = *value;
            }
        }
        size
    }

    /// Log-probabilities of both sides' relations.
    fn relations(&mut self, s: &[f32], t: &[f32], head: usize) {
        let count = self.tokens.len();
        let size = self.gather(t, self.shape.teacher, head);
        scores(&self.rows, &self.turned, size, count, &mut self.of_teacher);
        let size = self.gather(s, self.shape.student, head);
        scores(&self.rows, &self.turned, size, count, &mut self.of_student);
        log_softmax(&mut self.of_teacher, count);
        log_softmax(&mut self.of_student, count);
    }

    fn divergence(&mut self, s: &[f32], t: &[f32], head: usize) -> f64 {
        self.relations(s, t, head);
        divergence(&self.of_teacher, &self.of_student)
    }

    fn gradient(&mut self, s: &[f32], t: &[f32], head: usize, scale: f32) {
        self.relations(s, t, head);
        let (count, size) = (self.tokens.len(), self.shape.student / self.shape.heads);
        let scale = scale / (size as f32).sqrt();
        difference(&mut self.of_student, &self.of_teacher, scale);
        // A vector is a query of its row and a key of its column.
        for row in 0..count {
            for column in 0..row {
                let sum = self.of_student[row * count + column] + self.of_student[column * count + row];
                self.of_student[row * count + column] = sum;
                self.of_student[column * count + row] = sum;
            }
            self.of_student[row * count + row] *= 2.0;
        }
        self.gradient.clear();
        self.gradient.resize(count * size, 0.0);
        products(&self.of_student, &self.rows, count, size, &mut self.gradient);
    }

    fn hand_out(&self, out: &mut [MaybeUninit<f32>], head: usize) {
        let (width, size) = (self.shape.student, self.shape.student / self.shape.heads);
        for (token, gradient) in self.tokens.iter().zip(self.gradient.chunks(size.max(1))) {
            for (out, value) in out[token * width + head * size..][..size].iter_mut().zip(gradient) {
                out.write(*value);
            }
        }
    }
}

for_each_isa! { fn scores(rows: &[f32], turned: &[f32], size: usize, count: usize, out: &mut [f32]) = scores_body }
for_each_isa! { fn log_softmax(x: &mut [f32], width: usize) = log_softmax_body }
for_each_isa! { fn divergence(teacher: &[f32], student: &[f32]) -> f64 = divergence_body }
for_each_isa! { fn difference(student: &mut [f32], teacher: &[f32], scale: f32) = difference_body }
for_each_isa! { fn products(a: &[f32], b: &[f32], count: usize, size: usize, out: &mut [f32]) = products_body }

/// Columns that are summed at once.
const COLUMNS: usize = 32;
/// Rows that share them.
const ROWS: usize = 4;

/// `rows · turned / √size`.
#[inline(always)]
fn scores_body<const FMA: bool>(rows: &[f32], turned: &[f32], size: usize, count: usize, out: &mut [f32]) {
    multiply::<FMA>(rows, turned, count, size, count, out);
    let scale = (size as f32).sqrt().recip();
    for value in out {
        *value *= scale;
    }
}

/// `a · b`, `[count, count]` by `[count, size]`.
#[inline(always)]
fn products_body<const FMA: bool>(a: &[f32], b: &[f32], count: usize, size: usize, out: &mut [f32]) {
    multiply::<FMA>(a, b, count, count, size, out);
}

/// `[rows, inner]` by `[inner, columns]`.
#[inline(always)]
fn multiply<const FMA: bool>(
    a: &[f32],
    b: &[f32],
    rows: usize,
    inner: usize,
    columns: usize,
    out: &mut [f32],
) {
    let mut column = 0;
    while column < columns {
        let wide = COLUMNS.min(columns - column);
        let mut row = 0;
        while row < rows {
            let high = ROWS.min(rows - row);
            let mut sums = [[0f32; COLUMNS]; ROWS];
            for k in 0..inner {
                let b = &b[k * columns + column..][..wide];
                if wide == COLUMNS {
                    // Of known length: whole vectors.
                    let b: &[f32; COLUMNS] = b.first_chunk().unwrap_or(&[0.0; COLUMNS]);
                    for (r, sums) in sums.iter_mut().enumerate().take(high) {
                        let a = a[(row + r) * inner + k];
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = mul_add::<FMA>(a, *b, *sum);
                        }
                    }
                } else {
                    for (r, sums) in sums.iter_mut().enumerate().take(high) {
                        let a = a[(row + r) * inner + k];
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = mul_add::<FMA>(a, *b, *sum);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate().take(high) {
                out[(row + r) * columns + column..][..wide].copy_from_slice(&sums[..wide]);
            }
            row += high;
        }
        column += wide;
    }
}

#[inline(always)]
fn log_softmax_body<const FMA: bool>(x: &mut [f32], width: usize) {
    for row in x.chunks_mut(width.max(1)) {
        let largest = maximum(row);
        let log = sum_by_lanes(row, |value| exp::<FMA>(value - largest)).ln() + largest;
        for value in row.iter_mut() {
            *value -= log;
        }
    }
}

#[inline(always)]
fn divergence_body<const FMA: bool>(teacher: &[f32], student: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (teacher, student) in teacher.chunks(LANES).zip(student.chunks(LANES)) {
        let mut lanes = [0f32; LANES];
        for ((lane, t), s) in lanes.iter_mut().zip(teacher).zip(student) {
            *lane = exp::<FMA>(*t) * (t - s);
        }
        sum += f64::from(sum_of_lanes(lanes));
    }
    sum
}

/// `scale · (p_student − p_teacher)` in place of the student's log-probabilities.
#[inline(always)]
fn difference_body<const FMA: bool>(student: &mut [f32], teacher: &[f32], scale: f32) {
    for (s, t) in student.iter_mut().zip(teacher) {
        *s = scale * (exp::<FMA>(*s) - exp::<FMA>(*t));
    }
}

#[cfg(test)]
mod tests {
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
            let shape = RelationShape { seq, heads, student, teacher };
            let (s, t) = (wave(batch * seq * student, 0.0), wave(batch * seq * teacher, 1.0));
            let kept: Vec<u8> = (0..batch * seq).map(|i| u8::from(i % seq <= seq - i / seq / 2)).collect();
            let f64s = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let (exact, teacher_exact) = (f64s(&s), f64s(&t));
            let expected = plain(&exact, &teacher_exact, &kept, &shape);
            let found = relation_kl(&s, &t, &kept, &shape);
            assert!(
                (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                "{found}, expected {expected}"
            );
            let gradient = relation_kl_backward(&s, &t, &kept, &shape, 0.5);
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
        let shape = RelationShape { seq: 4, heads: 2, student: 6, teacher: 6 };
        let x = wave(24, 0.3);
        assert!(relation_kl(&x, &x, &[1, 1, 1, 0], &shape).abs() < 1e-6);
        let gradient = relation_kl_backward(&x, &wave(24, 2.0), &[1, 1, 1, 0], &shape, 1.0);
        assert!(gradient[18..].iter().all(|value| *value == 0.0));
        assert!(gradient[..18].iter().any(|value| value.abs() > 1e-3));
    }
}
