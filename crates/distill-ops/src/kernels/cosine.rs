//! How far the rows of a student point away from those of its teacher.

use super::isa::for_each_isa;
use super::pieces::{each_piece, filled, rows_per_piece};
use super::vector_math::{LANES, sum_of_lanes};
use std::mem::MaybeUninit;

/// Keeps the length of a zero vector from being divided by; PyTorch's, added to each squared length.
const EPSILON: f32 = 1e-12;

/// `Σ 1 − cos(student, teacher)` over the rows of `width` that are kept.
pub(crate) fn cosine_distance(student: &[f32], teacher: &[f32], kept: &[u8], width: usize) -> f64 {
    assert_eq!(student.len(), teacher.len());
    assert_eq!(student.len(), kept.len() * width);
    let rows = rows_per_piece(width);
    let len = (rows * width).max(1);
    let pieces = student.chunks(len).zip(teacher.chunks(len)).zip(kept.chunks(rows));
    let sums = each_piece(pieces, |((s, t), kept)| {
        let rows = s.chunks(width).zip(t.chunks(width)).zip(kept).filter(|(_, kept)| **kept != 0);
        rows.map(|((s, t), _)| 1.0 - f64::from(Angle::between(s, t).cosine())).sum::<f64>()
    });
    sums.into_iter().sum()
}

/// The student's gradient of `scale` times [`cosine_distance`].
pub(crate) fn cosine_distance_backward(
    student: &[f32],
    teacher: &[f32],
    kept: &[u8],
    width: usize,
    scale: f32,
) -> Vec<f32> {
    assert_eq!(student.len(), teacher.len());
    assert_eq!(student.len(), kept.len() * width);
    let rows = rows_per_piece(width);
    let len = (rows * width).max(1);
    fill(student.len(), |out| {
        let pieces =
            out.chunks_mut(len).zip(student.chunks(len)).zip(teacher.chunks(len)).zip(kept.chunks(rows));
        each_piece(pieces, |(((out, s), t), kept)| {
            let all = out.chunks_mut(width).zip(s.chunks(width)).zip(t.chunks(width)).zip(kept);
            for (((out, s), t), kept) in all {
                if *kept == 0 {
                    out.fill(MaybeUninit::new(0.0));
                    continue;
                }
                let angle = Angle::between(s, t);
                let of_teacher = -scale / angle.lengths();
                let of_student = scale * angle.dot / (angle.lengths() * angle.student);
                combine(out, t, of_teacher, s, of_student);
            }
        });
    })
}

#[allow(unsafe_code)]
fn fill(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the caller's pieces cover all of it, and each row is written whole.
    unsafe { filled(len, fill) }
}

/// What the cosine of two vectors is made of.
struct Angle {
    dot: f32,
    /// Squared length, never zero.
    student: f32,
    teacher: f32,
}

impl Angle {
    fn between(s: &[f32], t: &[f32]) -> Self {
        Self { dot: dot(s, t), student: dot(s, s) + EPSILON, teacher: dot(t, t) + EPSILON }
    }

    fn lengths(&self) -> f32 {
        self.student.sqrt() * self.teacher.sqrt()
    }

    fn cosine(&self) -> f32 {
        self.dot / self.lengths()
    }
}

for_each_isa! { fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body }
for_each_isa! {
    fn combine(out: &mut [MaybeUninit<f32>], a: &[f32], of_a: f32, b: &[f32], of_b: f32) = combine_body
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    sum_of_lanes(lanes)
}

#[inline(always)]
fn combine_body<const FMA: bool>(out: &mut [MaybeUninit<f32>], a: &[f32], of_a: f32, b: &[f32], of_b: f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        out.write(of_a * a + of_b * b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, phase: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.37 + phase).sin() * 3.0).collect()
    }

    fn plain(s: &[f64], t: &[f32], kept: &[u8], width: usize) -> f64 {
        let row = |row: usize| {
            let (s, t) = (&s[row * width..][..width], &t[row * width..][..width]);
            let dot: f64 = s.iter().zip(t).map(|(s, t)| s * f64::from(*t)).sum();
            let lengths =
                s.iter().map(|s| s * s).sum::<f64>() * t.iter().map(|t| f64::from(t * t)).sum::<f64>();
            1.0 - dot / lengths.sqrt()
        };
        (0..kept.len()).filter(|&i| kept[i] != 0).map(row).sum()
    }

    #[test]
    fn values_and_gradients_are_those_of_the_formula() {
        for [rows, width] in [[1, 2], [5, 33], [300, 96]] {
            let (s, t) = (wave(rows * width, 0.0), wave(rows * width, 1.0));
            let kept: Vec<u8> = (0..rows).map(|row| u8::from(row % 3 != 1)).collect();
            let exact: Vec<f64> = s.iter().map(|&s| f64::from(s)).collect();
            let expected = plain(&exact, &t, &kept, width);
            let found = cosine_distance(&s, &t, &kept, width);
            assert!(
                (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                "{found}, expected {expected}"
            );
            let gradient = cosine_distance_backward(&s, &t, &kept, width, 2.0);
            for i in (0..rows * width).step_by(rows * width / 20 + 1) {
                let moved = |by: f64| {
                    let mut exact = exact.clone();
                    exact[i] += by;
                    plain(&exact, &t, &kept, width)
                };
                let slope = 2.0 * (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((f64::from(gradient[i]) - slope).abs() < 1e-5, "{i}: {} for {slope}", gradient[i]);
            }
        }
    }
}
