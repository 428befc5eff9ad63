//! Cross-entropy of integer labels and Kullback-Leibler divergence of softened logits, straight from logits.
//!
//! The forward pass keeps the largest logit and the sum of exponentials of each row; the backward pass computes the
//! probabilities from them again, so nothing of the logits' size is stored in between, and the forward pass only reads.

use std::mem::MaybeUninit;

use super::isa::{for_each_isa, mul_add};
use super::pieces::{each_piece, filled, rows_per_piece};
use super::vector_math::{LANES, exp, maximum, sum_by_lanes, sum_of_lanes};
use crate::cross_entropy::IGNORED_LABEL;

/// Elements that are summed in f32 before the sum is added up in f64.
const BLOCK: usize = 4096;

/// `softmax(logits · scale) = exp(scale · (logits − max)) / sum` of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SoftmaxRow {
    pub(super) max: f32,
    pub(super) sum: f64,
}

/// A summed loss, and what its backward needs.
#[derive(Debug)]
pub(crate) struct LossSum<Row> {
    /// In nats.
    pub(crate) sum: f64,
    /// How many rows are in it.
    pub(crate) count: usize,
    /// One for each row.
    pub(crate) rows: Vec<Row>,
}

/// `Σ (1 − s)(−log p[label]) + s · mean(−log p)` over the rows whose label is not [`IGNORED_LABEL`], `s` the
/// `label_smoothing`; Szegedy et al. 2016, §7 (arXiv:1512.00567).
///
/// # Shapes
/// - `logits`: `[labels, classes]`
///
/// # Panics
/// If a label is neither a class nor ignored.
pub(crate) fn cross_entropy(
    logits: &[f32],
    classes: usize,
    labels: &[i64],
    label_smoothing: f64,
) -> LossSum<SoftmaxRow> {
    assert_eq!(logits.len(), labels.len() * classes);
    let rows = rows_per_piece(classes);
    let pieces = logits.chunks(rows * classes).zip(labels.chunks(rows));
    LossSum::join(each_piece(pieces, |(logits, labels)| {
        let mut piece = LossSum { sum: 0.0, count: 0, rows: Vec::with_capacity(labels.len()) };
        for (logits, label) in logits.chunks_exact(classes).zip(labels) {
            if *label == IGNORED_LABEL {
                piece.rows.push(SoftmaxRow::default());
                continue;
            }
            let (loss, row) = row_loss(logits, class_of(*label), label_smoothing);
            piece.sum += loss;
            piece.count += 1;
            piece.rows.push(row);
        }
        piece
    }))
}

/// The loss of one row, and its softmax in short.
pub(super) fn row_loss(logits: &[f32], label: usize, label_smoothing: f64) -> (f64, SoftmaxRow) {
    let row = softmax_row(logits, 1.0);
    let log_sum = row.sum.ln();
    let mut loss = log_sum - f64::from(logits[label] - row.max);
    if label_smoothing != 0.0 {
        let mean = sum_of_differences(logits, row.max) / logits.len() as f64;
        loss = (1.0 - label_smoothing) * loss + label_smoothing * (log_sum - mean);
    }
    (loss, row)
}

/// Makes of a row's logits the gradient of its loss with respect to them.
pub(super) fn row_gradient(logits: &mut [f32], label: usize, label_smoothing: f64, row: SoftmaxRow) {
    let everywhere = (label_smoothing / logits.len() as f64) as f32;
    let at_label = (1.0 - label_smoothing) as f32;
    let share = row.sum.recip() as f32;
    let mut of_label = [logits[label]];
    shift_exponentials(logits, row.max, share, everywhere);
    shift_exponentials(&mut of_label, row.max, share, everywhere + at_label);
    [logits[label]] = of_label;
}

/// The gradient of [`cross_entropy`]'s sum with respect to the logits, times `scale`; ignored rows are 0.
///
/// `rows` and the other arguments are those of the forward pass.
#[allow(unsafe_code)]
pub(crate) fn cross_entropy_backward(
    logits: &[f32],
    classes: usize,
    labels: &[i64],
    label_smoothing: f64,
    rows: &[SoftmaxRow],
    scale: f64,
) -> Vec<f32> {
    assert_eq!([logits.len(), rows.len()], [labels.len() * classes, labels.len()]);
    let everywhere = (scale * label_smoothing / classes as f64) as f32;
    let at_label = (scale * (1.0 - label_smoothing)) as f32;
    let gradient_of_row = |logits: &[f32], label: i64, row: &SoftmaxRow, out: &mut [MaybeUninit<f32>]| {
        if label == IGNORED_LABEL {
            out.fill(MaybeUninit::new(0.0));
            return;
        }
        let share = (scale / row.sum) as f32;
        shifted_exponentials(logits, row.max, share, everywhere, out);
        let label = class_of(label);
        let mut probability = [MaybeUninit::uninit()];
        shifted_exponentials(&logits[label..=label], row.max, share, everywhere + at_label, &mut probability);
        out[label] = probability[0];
    };
    let per_piece = rows_per_piece(classes);
    // SAFETY: the pieces cover `out`, and `gradient_of_row` writes each element of a row.
    unsafe {
        filled(logits.len(), |out| {
            let inputs = logits.chunks(per_piece * classes).zip(labels.chunks(per_piece));
            let outputs = rows.chunks(per_piece).zip(out.chunks_mut(per_piece * classes));
            each_piece(inputs.zip(outputs), |((logits, labels), (rows, out))| {
                let inputs = logits.chunks_exact(classes).zip(labels);
                for ((logits, label), (row, out)) in
                    inputs.zip(rows.iter().zip(out.chunks_exact_mut(classes)))
                {
                    gradient_of_row(logits, *label, row, out);
                }
            });
        })
    }
}

/// `Σ KL(softmax(teacher / T) ‖ softmax(student / T))` over all rows, `T` the `temperature`; Hinton et al. 2015, §2
/// (arXiv:1503.02531), without its factor `T²`.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, classes]`
pub(crate) fn forward_kl(
    student: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f64,
) -> LossSum<[SoftmaxRow; 2]> {
    assert_eq!(student.len(), teacher.len());
    assert!(student.len().is_multiple_of(classes));
    let piece = rows_per_piece(classes) * classes;
    LossSum::join(each_piece(student.chunks(piece).zip(teacher.chunks(piece)), |(student, teacher)| {
        let mut piece = LossSum { sum: 0.0, count: 0, rows: Vec::with_capacity(student.len() / classes) };
        for (student, teacher) in student.chunks_exact(classes).zip(teacher.chunks_exact(classes)) {
            let inverse = (1.0 / temperature) as f32;
            let (row, product) = softmax_rows_and_product(student, teacher, inverse);
            let [student_sum, teacher_sum] = row.map(|row| row.sum);
            piece.sum += product / temperature / teacher_sum + (student_sum / teacher_sum).ln();
            piece.count += 1;
            piece.rows.push(row);
        }
        piece
    }))
}

/// The gradient of [`forward_kl`]'s sum with respect to the student's logits, times `scale`:
/// `(softmax(student / T) − softmax(teacher / T)) / T`.
///
/// `rows` and the other arguments are those of the forward pass.
#[allow(unsafe_code)]
pub(crate) fn forward_kl_backward(
    student: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f64,
    rows: &[[SoftmaxRow; 2]],
    scale: f64,
) -> Vec<f32> {
    assert_eq!([teacher.len(), rows.len() * classes], [student.len(); 2]);
    let per_piece = rows_per_piece(classes);
    let piece = per_piece * classes;
    // SAFETY: the pieces cover `out`, and `probability_differences` writes each element of a row.
    unsafe {
        filled(student.len(), |out| {
            let inputs = student.chunks(piece).zip(teacher.chunks(piece));
            let outputs = rows.chunks(per_piece).zip(out.chunks_mut(piece));
            each_piece(inputs.zip(outputs), |((student, teacher), (rows, out))| {
                let inputs = student.chunks_exact(classes).zip(teacher.chunks_exact(classes));
                let outputs = rows.iter().zip(out.chunks_exact_mut(classes));
                for ((student, teacher), (row, out)) in inputs.zip(outputs) {
                    probability_differences(student, teacher, *row, temperature, scale, out);
                }
            });
        })
    }
}

impl<Row> LossSum<Row> {
    /// The pieces of one sum, first to last.
    fn join(pieces: Vec<Self>) -> Self {
        let mut all = Self { sum: 0.0, count: 0, rows: Vec::new() };
        for piece in pieces {
            all.sum += piece.sum;
            all.count += piece.count;
            all.rows.extend(piece.rows);
        }
        all
    }
}

pub(super) fn class_of(label: i64) -> usize {
    usize::try_from(label).unwrap_or_else(|_| panic!("`{label}` is not a class"))
}

for_each_isa! { pub(super) fn softmax_row(logits: &[f32], scale: f32) -> SoftmaxRow = softmax_row_body }
for_each_isa! { fn sum_of_differences(logits: &[f32], max: f32) -> f64 = sum_of_differences_body }
for_each_isa! {
    /// `share · exp(logits − max) − less`
    fn shifted_exponentials(logits: &[f32], max: f32, share: f32, less: f32, out: &mut [MaybeUninit<f32>])
        = shifted_exponentials_body
}
for_each_isa! {
    /// [`shifted_exponentials`] in place.
    fn shift_exponentials(logits: &mut [f32], max: f32, share: f32, less: f32) = shift_exponentials_body
}
for_each_isa! {
    /// Both rows, and `Σ exp((teacher − its max) · inverse) · ((teacher − its max) − (student − its max))`.
    fn softmax_rows_and_product(student: &[f32], teacher: &[f32], inverse: f32) -> ([SoftmaxRow; 2], f64)
        = softmax_rows_and_product_body
}
for_each_isa! {
    fn probability_differences(
        student: &[f32],
        teacher: &[f32],
        rows: [SoftmaxRow; 2],
        temperature: f64,
        scale: f64,
        out: &mut [MaybeUninit<f32>],
    ) = probability_differences_body
}

#[inline(always)]
fn softmax_row_body<const FMA: bool>(logits: &[f32], scale: f32) -> SoftmaxRow {
    let max = maximum(logits);
    let mut sum = 0.0;
    for block in logits.chunks(BLOCK) {
        sum += f64::from(sum_by_lanes(block, |x| exp::<FMA>((x - max) * scale)));
    }
    SoftmaxRow { max, sum }
}

#[inline(always)]
fn sum_of_differences_body<const FMA: bool>(logits: &[f32], max: f32) -> f64 {
    let mut sum = 0.0;
    for block in logits.chunks(BLOCK) {
        sum += f64::from(sum_by_lanes(block, |x| x - max));
    }
    sum
}

#[inline(always)]
fn shifted_exponentials_body<const FMA: bool>(
    logits: &[f32],
    max: f32,
    share: f32,
    less: f32,
    out: &mut [MaybeUninit<f32>],
) {
    for (out, x) in out.iter_mut().zip(logits) {
        out.write(mul_add::<FMA>(exp::<FMA>(x - max), share, -less));
    }
}

#[inline(always)]
fn shift_exponentials_body<const FMA: bool>(logits: &mut [f32], max: f32, share: f32, less: f32) {
    for x in logits {
        *x = mul_add::<FMA>(exp::<FMA>(*x - max), share, -less);
    }
}

#[inline(always)]
fn softmax_rows_and_product_body<const FMA: bool>(
    student: &[f32],
    teacher: &[f32],
    inverse: f32,
) -> ([SoftmaxRow; 2], f64) {
    let student_row = softmax_row_body::<FMA>(student, inverse);
    let teacher_max = maximum(teacher);
    let (mut sum, mut product) = (0.0, 0.0);
    for (student, teacher) in student.chunks(BLOCK).zip(teacher.chunks(BLOCK)) {
        let (mut sums, mut products) = ([0f32; LANES], [0f32; LANES]);
        let mut add = |student: &[f32], teacher: &[f32]| {
            let lanes = sums.iter_mut().zip(&mut products);
            for (((sum, product), student), teacher) in lanes.zip(student).zip(teacher) {
                let above = teacher - teacher_max;
                let weight = exp::<FMA>(above * inverse);
                let term = weight * (above - (student - student_row.max));
                *sum += weight;
                // A class that the teacher rules out adds nothing, however far the logits are.
                *product += if weight == 0.0 { 0.0 } else { term };
            }
        };
        let (student, student_rest) = student.as_chunks::<LANES>();
        let (teacher, teacher_rest) = teacher.as_chunks::<LANES>();
        for (student, teacher) in student.iter().zip(teacher) {
            add(student, teacher);
        }
        add(student_rest, teacher_rest);
        sum += f64::from(sum_of_lanes(sums));
        product += f64::from(sum_of_lanes(products));
    }
    ([student_row, SoftmaxRow { max: teacher_max, sum }], product)
}

#[inline(always)]
fn probability_differences_body<const FMA: bool>(
    student: &[f32],
    teacher: &[f32],
    rows: [SoftmaxRow; 2],
    temperature: f64,
    scale: f64,
    out: &mut [MaybeUninit<f32>],
) {
    let inverse = (1.0 / temperature) as f32;
    let [student_max, teacher_max] = rows.map(|row| row.max);
    let [student_share, teacher_share] = rows.map(|row| (scale / temperature / row.sum) as f32);
    for ((out, student), teacher) in out.iter_mut().zip(student).zip(teacher) {
        let student = student_share * exp::<FMA>((student - student_max) * inverse);
        let teacher = exp::<FMA>((teacher - teacher_max) * inverse);
        out.write(mul_add::<FMA>(-teacher_share, teacher, student));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [[usize; 2]; 8] =
        [[0, 3], [1, 1], [1, 2], [5, 3], [7, 33], [9000, 4], [3, 30_522], [65, 1000]];

    fn wave(len: usize, scale: f32, phase: f32) -> Vec<f32> {
        (0..len).map(|i| scale * (i as f32 * 0.37 + phase).sin() + (i % 13) as f32 * 0.1).collect()
    }

    fn labels(rows: usize, classes: usize) -> Vec<i64> {
        (0..rows)
            .map(|row| if row % 3 == 1 { IGNORED_LABEL } else { (row * 7919 % classes) as i64 })
            .collect()
    }

    fn log_softmax(row: &[f32], temperature: f64) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x) / temperature).collect();
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max;
        row.iter().map(|x| x - log_sum).collect()
    }

    /// `expected` are pairs: what to find, and the size of the numbers that it is a difference of.
    fn close(found: &[f32], expected: &[(f64, f64)]) {
        assert_eq!(found.len(), expected.len());
        for (found, (expected, size)) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * size + 1e-30, "{found} {expected}");
        }
    }

    #[test]
    fn labels_follow_the_formula() {
        for [rows, classes] in SHAPES {
            for smoothing in [0.0, 0.1] {
                let (logits, labels) = (wave(rows * classes, 4.0, 0.2), labels(rows, classes));
                let (mut sum, mut count, mut grad) = (0.0, 0, vec![]);
                for (row, label) in logits.chunks(classes).zip(&labels) {
                    let log_probs = log_softmax(row, 1.0);
                    if *label == IGNORED_LABEL {
                        grad.extend(vec![(0.0, 0.0); classes]);
                        continue;
                    }
                    let mean = log_probs.iter().sum::<f64>() / classes as f64;
                    sum -= (1.0 - smoothing) * log_probs[*label as usize] + smoothing * mean;
                    count += 1;
                    grad.extend(log_probs.iter().zip(0..).map(|(log_prob, class)| {
                        let hit = if class == *label { 1.0 - smoothing } else { 0.0 };
                        let (p, target) = (log_prob.exp(), hit + smoothing / classes as f64);
                        (0.5 * (p - target), 0.5 * (p + target))
                    }));
                }
                let found = cross_entropy(&logits, classes, &labels, smoothing);
                assert!((found.sum - sum).abs() <= 1e-6 * sum.abs() + 1e-6, "{} {sum}", found.sum);
                assert_eq!((found.count, found.rows.len()), (count, rows));
                close(&cross_entropy_backward(&logits, classes, &labels, smoothing, &found.rows, 0.5), &grad);
            }
        }
    }

    #[test]
    fn soft_labels_follow_the_formula() {
        for [rows, classes] in SHAPES {
            for temperature in [1.0, 2.5] {
                let (student, teacher) = (wave(rows * classes, 4.0, 0.2), wave(rows * classes, 3.0, 1.7));
                let (mut sum, mut grad) = (0.0, vec![]);
                for (student, teacher) in student.chunks(classes).zip(teacher.chunks(classes)) {
                    let (student, teacher) =
                        (log_softmax(student, temperature), log_softmax(teacher, temperature));
                    for (s, t) in student.iter().zip(&teacher) {
                        sum += t.exp() * (t - s);
                        let [s, t] = [s, t].map(|log_prob| 3.0 * log_prob.exp() / temperature);
                        grad.push((s - t, s + t));
                    }
                }
                let found = forward_kl(&student, &teacher, classes, temperature);
                assert!((found.sum - sum).abs() <= 1e-5 * sum.abs() + 1e-6, "{} {sum}", found.sum);
                assert_eq!(found.count, rows);
                let found = forward_kl_backward(&student, &teacher, classes, temperature, &found.rows, 3.0);
                close(&found, &grad);
                let same = forward_kl(&student, &student, classes, temperature);
                assert!(same.sum.abs() <= 1e-12 * (rows * classes) as f64);
            }
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let logits = [1e30, 0.0, -1e30, f32::NEG_INFINITY];
        let found = cross_entropy(&logits, 4, &[0], 0.0);
        assert_eq!(found.sum, 0.0);
        assert_eq!(cross_entropy_backward(&logits, 4, &[0], 0.0, &found.rows, 1.0), [0.0; 4]);
        let teacher = [1.0, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let found = forward_kl(&[0.0, 0.0, 0.0, f32::NEG_INFINITY], &teacher, 4, 1.0);
        assert!((found.sum - 1.5f64.ln()).abs() < 1e-6);
        assert!(cross_entropy(&[f32::NAN, 1.0], 2, &[1], 0.0).sum.is_nan());
    }

    #[test]
    #[should_panic(expected = "`-1` is not a class")]
    fn a_negative_label_is_refused() {
        cross_entropy(&[1.0, 2.0], 2, &[-1], 0.0);
    }
}
