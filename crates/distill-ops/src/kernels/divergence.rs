//! Divergences of one row's two distributions, and their gradients, in place.
//!
//! With `S = softmax(x / T)` the gradient of each divergence with respect to the logits x is `S (g − Σ S g) / T`, `g` its
//! derivative with respect to S: `−T/S` of the forward KL, `log S − log T` of the reverse one, `(1 − β)(log S − log M)` of
//! the one by Jensen and Shannon (up to constants, which drop out).

use super::cross_entropy::{SoftmaxRow, softmax_row};
use super::isa::{for_each_isa, mul_add};
use super::vector_math::{LANES, exp, ln, sum_of_lanes};
use crate::divergence::{Divergence, SMALLEST_REST};

/// Elements that are summed in f32 before the sum is added up in f64.
const BLOCK: usize = 4096;

/// The divergence of one row in nats; makes of the student's logits its gradient with respect to them, times `scale`,
/// where there is one.
pub(super) fn row_divergence(
    student: &mut [f32],
    teacher: &[f32],
    divergence: Divergence,
    temperature: f64,
    scale: Option<f64>,
) -> f64 {
    let inverse = (1.0 / temperature) as f32;
    let rows = [softmax_row(student, inverse), softmax_row(teacher, inverse)];
    let pair = Pair::new(rows, inverse);
    let (loss, mean) = match divergence {
        Divergence::ForwardKl => {
            let loss = forward_kl(student, teacher, pair);
            (loss, 0.0)
        }
        Divergence::ReverseKl => {
            let loss = reverse_kl(student, teacher, pair);
            (loss, loss)
        }
        Divergence::JensenShannon { beta } => {
            let [of_teacher, of_student] = jensen_shannon(student, teacher, pair, beta as f32);
            (beta * of_teacher + (1.0 - beta) * of_student, of_student)
        }
    };
    if let Some(scale) = scale {
        let scale = scale / temperature;
        match divergence {
            Divergence::ForwardKl => forward_kl_gradient(student, teacher, pair, scale as f32),
            Divergence::ReverseKl => reverse_kl_gradient(student, teacher, pair, mean as f32, scale as f32),
            Divergence::JensenShannon { beta } => {
                let scale = (scale * (1.0 - beta)) as f32;
                jensen_shannon_gradient(student, teacher, pair, beta as f32, mean as f32, scale);
            }
        }
    }
    loss
}

/// [`row_divergence`] of the likeliest classes and all others as one more.
pub(super) fn row_divergence_of_likeliest(
    student: &mut [f32],
    classes: &[u32],
    log_probs: &[f32],
    log_rest: f32,
    divergence: Divergence,
    temperature: f64,
    scale: Option<f64>,
) -> f64 {
    let inverse = (1.0 / temperature) as f32;
    let row = softmax_row(student, inverse);
    let log_sum = row.sum.ln();
    let log_prob = |class: u32| f64::from((student[class as usize] - row.max) * inverse) - log_sum;
    let mut pairs: Vec<[f64; 2]> =
        classes.iter().zip(log_probs).map(|(&class, &teacher)| [log_prob(class), teacher.into()]).collect();
    let has_rest = classes.len() < student.len();
    if has_rest {
        let rest = 1.0 - pairs.iter().map(|[student, _]| student.exp()).sum::<f64>();
        pairs.push([rest.max(SMALLEST_REST).ln(), log_rest.into()]);
    }
    let terms: Vec<[f64; 2]> = pairs.iter().map(|pair| class_term(*pair, divergence)).collect();
    if let Some(scale) = scale {
        let scale = scale / temperature;
        let mean: f64 =
            pairs.iter().zip(&terms).map(|([student, _], [_, slope])| student.exp() * slope).sum();
        let of_rest = if has_rest { terms[classes.len()][1] - mean } else { 0.0 };
        scaled_probabilities(student, row, inverse, (scale * of_rest) as f32);
        for ((&class, [log_prob, _]), [_, slope]) in classes.iter().zip(&pairs).zip(&terms) {
            student[class as usize] = (scale * log_prob.exp() * (slope - mean)) as f32;
        }
    }
    terms.iter().map(|[term, _]| term).sum()
}

/// What a class adds to a divergence, and the derivative with respect to the student's probability.
fn class_term([student, teacher]: [f64; 2], divergence: Divergence) -> [f64; 2] {
    let (s, t) = (student.exp(), teacher.exp());
    let times = |p: f64, log: f64| if p == 0.0 { 0.0 } else { p * log };
    match divergence {
        Divergence::ForwardKl => [times(t, teacher - student), -t / s.max(f64::MIN_POSITIVE)],
        // Nothing at all would cost infinitely much.
        Divergence::ReverseKl => {
            let above = student - teacher.max(LOG_OF_NOTHING);
            [times(s, above), above]
        }
        Divergence::JensenShannon { beta } => {
            let mixture = (beta * t + (1.0 - beta) * s).max(f64::MIN_POSITIVE).ln();
            let above = student - mixture;
            [beta * times(t, teacher - mixture) + (1.0 - beta) * times(s, above), (1.0 - beta) * above]
        }
    }
}

/// The logarithm of the smallest f32 there is.
const LOG_OF_NOTHING: f64 = -103.0;

/// What turns logits into probabilities.
#[derive(Debug, Clone, Copy)]
struct Pair {
    student_max: f32,
    student_share: f32,
    teacher_max: f32,
    teacher_share: f32,
    inverse: f32,
    /// `log Σ` of the student less that of the teacher.
    log_sums: f32,
}

impl Pair {
    fn new([student, teacher]: [SoftmaxRow; 2], inverse: f32) -> Self {
        Self {
            student_max: student.max,
            student_share: student.sum.recip() as f32,
            teacher_max: teacher.max,
            teacher_share: teacher.sum.recip() as f32,
            inverse,
            log_sums: (student.sum / teacher.sum).ln() as f32,
        }
    }

    /// Both probabilities, and `log T − log S`.
    #[inline(always)]
    fn of<const FMA: bool>(self, student: f32, teacher: f32) -> [f32; 3] {
        let student = (student - self.student_max) * self.inverse;
        let teacher = (teacher - self.teacher_max) * self.inverse;
        [
            exp::<FMA>(student) * self.student_share,
            exp::<FMA>(teacher) * self.teacher_share,
            teacher - student + self.log_sums,
        ]
    }
}

/// `log T − log M` and `log S − log M` of `apart = log T − log S`, without a difference of like numbers' logarithms.
#[inline(always)]
fn above_mixture<const FMA: bool>(apart: f32, beta: f32) -> [f32; 2] {
    let small = exp::<FMA>(-apart.abs());
    let (near, far) = if apart > 0.0 { (beta, 1.0 - beta) } else { (1.0 - beta, beta) };
    let larger = -ln::<FMA>(mul_add::<FMA>(far, small, near));
    let smaller = larger - apart.abs();
    if apart > 0.0 { [larger, smaller] } else { [smaller, larger] }
}

/// `p · x`; nothing has no logarithm and adds nothing.
#[inline(always)]
fn part(p: f32, x: f32) -> f32 {
    if p == 0.0 { 0.0 } else { p * x }
}

/// The sums of two terms over all classes.
#[inline(always)]
fn sums(student: &[f32], teacher: &[f32], term: impl Fn(f32, f32) -> [f32; 2]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for (student, teacher) in student.chunks(BLOCK).zip(teacher.chunks(BLOCK)) {
        let (mut first, mut second) = ([0f32; LANES], [0f32; LANES]);
        let (student, student_rest) = student.as_chunks::<LANES>();
        let (teacher, teacher_rest) = teacher.as_chunks::<LANES>();
        for (student, teacher) in student.iter().zip(teacher) {
            for lane in 0..LANES {
                let [a, b] = term(student[lane], teacher[lane]);
                first[lane] += a;
                second[lane] += b;
            }
        }
        for (lane, (student, teacher)) in student_rest.iter().zip(teacher_rest).enumerate() {
            let [a, b] = term(*student, *teacher);
            first[lane] += a;
            second[lane] += b;
        }
        sums[0] += f64::from(sum_of_lanes(first));
        sums[1] += f64::from(sum_of_lanes(second));
    }
    sums
}

for_each_isa! { fn forward_kl(student: &[f32], teacher: &[f32], pair: Pair) -> f64 = forward_kl_body }
for_each_isa! { fn reverse_kl(student: &[f32], teacher: &[f32], pair: Pair) -> f64 = reverse_kl_body }
for_each_isa! {
    /// `KL(T ‖ M)` and `KL(S ‖ M)`.
    fn jensen_shannon(student: &[f32], teacher: &[f32], pair: Pair, beta: f32) -> [f64; 2] = jensen_shannon_body
}
for_each_isa! {
    fn forward_kl_gradient(student: &mut [f32], teacher: &[f32], pair: Pair, scale: f32)
        = forward_kl_gradient_body
}
for_each_isa! {
    fn reverse_kl_gradient(student: &mut [f32], teacher: &[f32], pair: Pair, mean: f32, scale: f32)
        = reverse_kl_gradient_body
}
for_each_isa! {
    fn jensen_shannon_gradient(
        student: &mut [f32],
        teacher: &[f32],
        pair: Pair,
        beta: f32,
        mean: f32,
        scale: f32,
    ) = jensen_shannon_gradient_body
}
for_each_isa! {
    /// Probabilities times `scale`, in place of the logits.
    fn scaled_probabilities(logits: &mut [f32], row: SoftmaxRow, inverse: f32, scale: f32)
        = scaled_probabilities_body
}

#[inline(always)]
fn forward_kl_body<const FMA: bool>(student: &[f32], teacher: &[f32], pair: Pair) -> f64 {
    let term = |student, teacher| {
        let [_, t, apart] = pair.of::<FMA>(student, teacher);
        [part(t, apart), 0.0]
    };
    sums(student, teacher, term)[0]
}

#[inline(always)]
fn reverse_kl_body<const FMA: bool>(student: &[f32], teacher: &[f32], pair: Pair) -> f64 {
    let term = |student, teacher| {
        let [s, _, apart] = pair.of::<FMA>(student, teacher);
        [part(s, -apart), 0.0]
    };
    sums(student, teacher, term)[0]
}

#[inline(always)]
fn jensen_shannon_body<const FMA: bool>(student: &[f32], teacher: &[f32], pair: Pair, beta: f32) -> [f64; 2] {
    sums(student, teacher, |student, teacher| {
        let [s, t, apart] = pair.of::<FMA>(student, teacher);
        let [of_teacher, of_student] = above_mixture::<FMA>(apart, beta);
        [part(t, of_teacher), part(s, of_student)]
    })
}

#[inline(always)]
fn forward_kl_gradient_body<const FMA: bool>(student: &mut [f32], teacher: &[f32], pair: Pair, scale: f32) {
    for (student, teacher) in student.iter_mut().zip(teacher) {
        let [s, t, _] = pair.of::<FMA>(*student, *teacher);
        *student = (s - t) * scale;
    }
}

#[inline(always)]
fn reverse_kl_gradient_body<const FMA: bool>(
    student: &mut [f32],
    teacher: &[f32],
    pair: Pair,
    mean: f32,
    scale: f32,
) {
    for (student, teacher) in student.iter_mut().zip(teacher) {
        let [s, _, apart] = pair.of::<FMA>(*student, *teacher);
        *student = part(s * scale, -apart - mean);
    }
}

#[inline(always)]
fn jensen_shannon_gradient_body<const FMA: bool>(
    student: &mut [f32],
    teacher: &[f32],
    pair: Pair,
    beta: f32,
    mean: f32,
    scale: f32,
) {
    for (student, teacher) in student.iter_mut().zip(teacher) {
        let [s, _, apart] = pair.of::<FMA>(*student, *teacher);
        let [_, above] = above_mixture::<FMA>(apart, beta);
        *student = part(s * scale, above - mean);
    }
}

#[inline(always)]
fn scaled_probabilities_body<const FMA: bool>(logits: &mut [f32], row: SoftmaxRow, inverse: f32, scale: f32) {
    let share = row.sum.recip() as f32 * scale;
    for x in logits {
        *x = exp::<FMA>((*x - row.max) * inverse) * share;
    }
}
