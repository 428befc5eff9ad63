//! Sums of squared differences of student and teacher, and the student's gradient.

use super::isa::for_each_isa;
use super::pieces::{PIECE, each_piece, filled, rows_per_piece};
use std::mem::MaybeUninit;

/// Which scores count: all others are taken as 0 on both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountedScores<'a> {
    /// 1 for a key that counts, 0 for padding: `[batch, keys]`.
    pub(crate) keys: &'a [f32],
    /// Rows of scores of one text: heads by queries.
    pub(crate) rows_of_text: usize,
    /// Keys of a row.
    pub(crate) width: usize,
    /// Scores up to here count as 0.
    pub(crate) lowest: f32,
}

impl CountedScores<'_> {
    /// The keys of row `row`, counted over all texts.
    fn keys_of(&self, row: usize) -> &[f32] {
        let text = row / self.rows_of_text;
        &self.keys[text * self.width..(text + 1) * self.width]
    }
}

/// `Σ (student − teacher)²`.
pub(crate) fn squared_error(student: &[f32], teacher: &[f32]) -> f64 {
    assert_eq!(student.len(), teacher.len());
    each_piece(student.chunks(PIECE).zip(teacher.chunks(PIECE)), |(s, t)| sum(s, t)).into_iter().sum()
}

/// `2 · scale · (student − teacher)`.
pub(crate) fn squared_error_backward(student: &[f32], teacher: &[f32], scale: f32) -> Vec<f32> {
    assert_eq!(student.len(), teacher.len());
    fill(student.len(), |out| {
        let pieces = pieces_of(out, student, teacher, PIECE);
        each_piece(pieces, |(out, s, t)| difference(out, s, t, 2.0 * scale));
    })
}

/// [`squared_error`] of scores of which only some count: `[batch, heads, queries, keys]`.
pub(crate) fn score_error(student: &[f32], teacher: &[f32], counted: &CountedScores<'_>) -> f64 {
    assert_eq!(student.len(), teacher.len());
    let (rows, width) = (rows_per_piece(counted.width), counted.width);
    let pieces = student.chunks(rows * width).zip(teacher.chunks(rows * width)).enumerate();
    let sums = each_piece(pieces, |(piece, (s, t))| {
        let mut total = 0.0;
        for (row, (s, t)) in s.chunks(width).zip(t.chunks(width)).enumerate() {
            total += counted_sum(s, t, counted.keys_of(piece * rows + row), counted.lowest);
        }
        total
    });
    sums.into_iter().sum()
}

/// The gradient of `scale` times [`score_error`].
pub(crate) fn score_error_backward(
    student: &[f32],
    teacher: &[f32],
    counted: &CountedScores<'_>,
    scale: f32,
) -> Vec<f32> {
    assert_eq!(student.len(), teacher.len());
    let (rows, width) = (rows_per_piece(counted.width), counted.width);
    fill(student.len(), |out| {
        let pieces = pieces_of(out, student, teacher, rows * width).enumerate();
        each_piece(pieces, |(piece, (out, s, t))| {
            let all = out.chunks_mut(width).zip(s.chunks(width)).zip(t.chunks(width));
            for (row, ((out, s), t)) in all.enumerate() {
                let keys = counted.keys_of(piece * rows + row);
                counted_difference(out, s, t, keys, counted.lowest, 2.0 * scale);
            }
        });
    })
}

#[allow(unsafe_code)]
fn fill(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the callers' pieces cover all of it, and each piece is written whole.
    unsafe { filled(len, fill) }
}

type Piece<'a> = (&'a mut [MaybeUninit<f32>], &'a [f32], &'a [f32]);

fn pieces_of<'a>(
    out: &'a mut [MaybeUninit<f32>],
    student: &'a [f32],
    teacher: &'a [f32],
    len: usize,
) -> impl Iterator<Item = Piece<'a>> {
    let len = len.max(1);
    out.chunks_mut(len).zip(student.chunks(len)).zip(teacher.chunks(len)).map(|((out, s), t)| (out, s, t))
}

for_each_isa! { fn sum(s: &[f32], t: &[f32]) -> f64 = sum_body }
for_each_isa! { fn difference(out: &mut [MaybeUninit<f32>], s: &[f32], t: &[f32], scale: f32) = difference_body }
for_each_isa! { fn counted_sum(s: &[f32], t: &[f32], keys: &[f32], lowest: f32) -> f64 = counted_sum_body }
for_each_isa! {
    fn counted_difference(
        out: &mut [MaybeUninit<f32>], s: &[f32], t: &[f32], keys: &[f32], lowest: f32, scale: f32
    ) = counted_difference_body
}

const LANES: usize = 32;

#[inline(always)]
fn sum_body<const FMA: bool>(s: &[f32], t: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let ((s, s_rest), (t, t_rest)) = (s.as_chunks::<LANES>(), t.as_chunks::<LANES>());
    for (s, t) in s.iter().zip(t) {
        for ((lane, s), t) in lanes.iter_mut().zip(s).zip(t) {
            let difference = f64::from(s - t);
            *lane += difference * difference;
        }
    }
    for ((lane, s), t) in lanes.iter_mut().zip(s_rest).zip(t_rest) {
        let difference = f64::from(s - t);
        *lane += difference * difference;
    }
    lanes.into_iter().sum()
}

#[inline(always)]
fn difference_body<const FMA: bool>(out: &mut [MaybeUninit<f32>], s: &[f32], t: &[f32], scale: f32) {
    for ((out, s), t) in out.iter_mut().zip(s).zip(t) {
        out.write(scale * (s - t));
    }
}

/// What a score counts as; one that is not a number stays so.
#[inline(always)]
fn counted(score: f32, key: f32, lowest: f32) -> f32 {
    if score <= lowest { 0.0 } else { score * key }
}

#[inline(always)]
fn counted_sum_body<const FMA: bool>(s: &[f32], t: &[f32], keys: &[f32], lowest: f32) -> f64 {
    let mut lanes = [0f64; LANES];
    let mut s = s.chunks(LANES);
    let (mut t, mut keys) = (t.chunks(LANES), keys.chunks(LANES));
    while let (Some(s), Some(t), Some(keys)) = (s.next(), t.next(), keys.next()) {
        for (((lane, s), t), key) in lanes.iter_mut().zip(s).zip(t).zip(keys) {
            let difference = f64::from(counted(*s, *key, lowest) - counted(*t, *key, lowest));
            *lane += difference * difference;
        }
    }
    lanes.into_iter().sum()
}

#[inline(always)]
fn counted_difference_body<const FMA: bool>(
    out: &mut [MaybeUninit<f32>],
    s: &[f32],
    t: &[f32],
    keys: &[f32],
    lowest: f32,
    scale: f32,
) {
    for (((out, s), t), key) in out.iter_mut().zip(s).zip(t).zip(keys) {
        let gradient = scale * (counted(*s, *key, lowest) - counted(*t, *key, lowest)) * key;
        out.write(if *s <= lowest { 0.0 } else { gradient });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, phase: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37 + phase).sin() * 3.0).collect()
    }

    #[test]
    fn squares_of_differences_add_up() {
        for len in [0, 1, 31, 1000, 3 * PIECE + 11] {
            let (s, t) = (wave(len, 0.0), wave(len, 1.0));
            let expected: f64 = s.iter().zip(&t).map(|(s, t)| f64::from(s - t).powi(2)).sum();
            assert!((squared_error(&s, &t) - expected).abs() <= 1e-9 * expected.max(1.0));
            let gradient = squared_error_backward(&s, &t, 0.5);
            assert!(gradient.iter().zip(s.iter().zip(&t)).all(|(g, (s, t))| (g - (s - t)).abs() < 1e-6));
        }
    }

    #[test]
    fn padded_and_low_scores_count_as_zero() {
        let (batch, rows_of_text, width) = (3, 2 * 37, 37);
        let len = batch * rows_of_text * width;
        let (mut s, mut t) = (wave(len, 0.0), wave(len, 2.0));
        (s[5], t[9], s[2000]) = (-150.0, -100.0, -3e4);
        let keys: Vec<f32> =
            (0..batch * width).map(|i| f32::from(u8::from(i % width < 30 - i / width))).collect();
        let counted = CountedScores { keys: &keys, rows_of_text, width, lowest: -100.0 };
        let value = |x: f32, i: usize| {
            let key = keys[i / width / rows_of_text * width + i % width];
            if x <= -100.0 { 0.0 } else { x * key }
        };
        let expected: f64 = (0..len).map(|i| f64::from(value(s[i], i) - value(t[i], i)).powi(2)).sum();
        assert!((score_error(&s, &t, &counted) - expected).abs() <= 1e-9 * expected);
        let gradient = score_error_backward(&s, &t, &counted, 1.5);
        for i in 0..len {
            let key = keys[i / width / rows_of_text * width + i % width];
            let wanted = if s[i] <= -100.0 { 0.0 } else { 3.0 * (value(s[i], i) - value(t[i], i)) * key };
            assert!((gradient[i] - wanted).abs() < 1e-5, "{i}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_seen() {
        let counted = CountedScores { keys: &[1.0, 1.0], rows_of_text: 1, width: 2, lowest: -100.0 };
        assert!(score_error(&[f32::NAN, 0.0], &[0.0, 0.0], &counted).is_nan());
        assert!(squared_error(&[f32::NAN], &[0.0]).is_nan());
    }
}
