//! Divergences of two distributions over a vocabulary, straight from the hidden states before the output layers.
//!
//! As in `linear_cross_entropy` the logits of some rows at a time are in memory, those of student and teacher,
//! and the gradients are computed along with the loss.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::linear;

/// How far a student's distribution S is from its teacher's T, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// `KL(T ‖ S) = Σ T (log T − log S)`.
    ForwardKl,
    /// `KL(S ‖ T) = Σ S (log S − log T)`.
    ReverseKl,
    /// `β KL(T ‖ M) + (1 − β) KL(S ‖ M)`, `M = β T + (1 − β) S`; Agarwal et al. 2023, eq. 1 (arXiv:2306.13649).
    JensenShannon {
        /// The teacher's part, above 0 and below 1.
        beta: f64,
    },
}

/// A distribution over a vocabulary for each row.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "handed over once a pass, never held by the many")]
pub enum VocabularyRows {
    /// `[rows, vocab]`.
    Logits(Tensor<2>),
    /// Logits that are never in memory as a whole.
    Hidden {
        /// `[rows, width]`.
        rows: Tensor<2>,
        /// `[vocab, width]`.
        table: Tensor<2>,
        /// `[vocab]`.
        bias: Option<Tensor<1>>,
    },
}

/// What a teacher says of each row.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "handed over once a pass, never held by the many")]
pub enum TeacherRows {
    /// Of all classes.
    All(VocabularyRows),
    /// Of the likeliest ones.
    Likeliest(Arc<LikeliestClasses>),
}

/// The likeliest classes of each row; all others are one class more, and so are a student's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LikeliestClasses {
    /// How many classes of each row.
    pub k: usize,
    /// Their numbers, `[rows, k]`, each of a row another one.
    pub classes: Vec<u32>,
    /// Logarithms of their probabilities at the temperature of the loss, `[rows, k]`, in nats.
    pub log_probs: Vec<f32>,
    /// Logarithm of what all others have together, `[rows]`; −∞ where there are none.
    pub log_rest: Vec<f32>,
}

/// `Σ_rows weight · divergence(softmax(student / T), softmax(teacher / T))`, `T` the `temperature`, without a factor T².
///
/// Rows of weight 0 are not computed at all. The teacher receives no gradient. On flex the gradients are computed along
/// with the loss, those of a table that does not learn not at all.
///
/// # Shapes
/// - `student`, `teacher`: as many rows, and classes, as each other
/// - `weights`: `[rows]`
/// - returns `[1]`: the sum over rows, in nats
pub fn divergence_sum(
    student: VocabularyRows,
    teacher: TeacherRows,
    weights: &[f32],
    divergence: Divergence,
    temperature: f64,
) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&student.rows().device()) && student.has_no_bias() && teacher.has_no_bias() {
        return fused::divergence_sum(student, teacher, weights, divergence, temperature);
    }
    plain(student, teacher, weights, divergence, temperature)
}

impl VocabularyRows {
    fn rows(&self) -> &Tensor<2> {
        match self {
            Self::Logits(rows) | Self::Hidden { rows, .. } => rows,
        }
    }

    #[cfg(feature = "flex")]
    fn has_no_bias(&self) -> bool {
        !matches!(self, Self::Hidden { bias: Some(_), .. })
    }

    /// The logits of these rows, `[kept, vocab]`.
    fn select(self, kept: &Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Logits(rows) => rows.select(0, kept.clone()),
            Self::Hidden { rows, table, bias } => linear(rows.select(0, kept.clone()), table, bias),
        }
    }
}

impl TeacherRows {
    #[cfg(feature = "flex")]
    fn has_no_bias(&self) -> bool {
        match self {
            Self::All(rows) => rows.has_no_bias(),
            Self::Likeliest(_) => true,
        }
    }
}

/// [`divergence_sum`] in burn's own operations.
fn plain(
    student: VocabularyRows,
    teacher: TeacherRows,
    weights: &[f32],
    divergence: Divergence,
    temperature: f64,
) -> Tensor<1> {
    let device = student.rows().device();
    let kept: Vec<i64> = (0i64..).zip(weights).filter(|(_, weight)| **weight != 0.0).map(|it| it.0).collect();
    if kept.is_empty() {
        return (student.rows().clone() * 0.0).sum();
    }
    let count = kept.len();
    let weights: Vec<f32> = kept.iter().map(|&row| weights[row as usize]).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [count, 1]), &device);
    let rows = Tensor::<1, Int>::from_data(TensorData::new(kept.clone(), [count]), &device);
    let student = activation::log_softmax(student.select(&rows) / temperature, 1);
    let (student, teacher) = match teacher {
        TeacherRows::All(teacher) => {
            (student, activation::log_softmax(teacher.select(&rows).detach() / temperature, 1))
        }
        TeacherRows::Likeliest(teacher) => teacher.with_rest(&kept, student),
    };
    // 0 · log 0 = 0: a class that one of both rules out adds nothing of its own.
    let kl = |from: &Tensor<2>, to: &Tensor<2>| {
        let term = from.clone().exp() * (from.clone() - to.clone());
        let nothing = from.clone().lower_equal_elem(LOG_OF_NOTHING);
        term.mask_fill(nothing, 0.0)
    };
    let terms = match divergence {
        Divergence::ForwardKl => kl(&teacher, &student),
        Divergence::ReverseKl => kl(&student, &teacher),
        Divergence::JensenShannon { beta } => {
            let (of_teacher, of_student) = (teacher.clone() + beta.ln(), student.clone() + (1.0 - beta).ln());
            let larger = of_teacher.clone().max_pair(of_student.clone()).detach();
            let sum = (of_teacher - larger.clone()).exp() + (of_student - larger.clone()).exp();
            let mixture = sum.log() + larger;
            kl(&teacher, &mixture) * beta + kl(&student, &mixture) * (1.0 - beta)
        }
    };
    (terms.sum_dim(1) * weights).sum()
}

/// Below it an f32 has no logarithm: the probability is nothing.
const LOG_OF_NOTHING: f64 = -103.0;

impl LikeliestClasses {
    /// Log-probabilities of a row's classes and the rest: the student's, gathered from `log_probs`, and the teacher's;
    /// `[kept, k + 1]`.
    fn with_rest(&self, kept: &[i64], log_probs: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let (k, device, [count, vocab]) = (self.k, log_probs.device(), log_probs.dims());
        let rows = || kept.iter().map(|&row| row as usize);
        let classes: Vec<i64> =
            rows().flat_map(|row| &self.classes[row * k..(row + 1) * k]).map(|&class| class.into()).collect();
        // Where nothing is left out there is no rest.
        let rest = usize::from(k < vocab);
        let teacher: Vec<f32> = rows()
            .flat_map(|row| {
                self.log_probs[row * k..(row + 1) * k].iter().chain(&self.log_rest[row..row + rest])
            })
            .map(|log_prob| log_prob.max(LOG_OF_NOTHING as f32))
            .collect();
        let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [count, k]), &device);
        let teacher = Tensor::from_data(TensorData::new(teacher, [count, k + rest]), &device);
        let student = log_probs.gather(1, classes);
        if rest == 0 {
            return (student, teacher);
        }
        let of_rest = (-student.clone().exp().sum_dim(1) + 1.0).clamp_min(SMALLEST_REST).log();
        (Tensor::cat(vec![student, of_rest], 1), teacher)
    }
}

/// What a student's other classes have at least: one minus their sum is rounded.
pub(crate) const SMALLEST_REST: f64 = 1e-7;

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::{Tensor, TensorData};

    use super::{Divergence, LikeliestClasses, TeacherRows, VocabularyRows};
    use crate::flex_op::{
        FlexOp, Role, apply1, apply2, apply3, apply4, in_order, into_values, like, matrix, tensor_of, values,
    };
    use crate::kernels::{
        DivergenceArgs, DivergenceSum, LogitRows, PackedRight, TeacherLogits, divergence_sum as kernel,
        scale_all,
    };
    use crate::packed::packed_weight;
    use crate::precision::{Precision, precision};

    pub(super) fn divergence_sum(
        student: VocabularyRows,
        teacher: TeacherRows,
        weights: &[f32],
        divergence: Divergence,
        temperature: f64,
    ) -> Tensor<1> {
        let of = |student, teacher| DivergenceOp {
            student,
            teacher,
            weights: weights.to_vec(),
            divergence,
            temperature,
            precision: precision(),
        };
        use VocabularyRows::{Hidden, Logits};
        match (student, teacher) {
            (Logits(s), TeacherRows::Likeliest(classes)) => {
                apply1(of(Form::Logits, TeacherForm::Likeliest(classes)), s)
            }
            (Hidden { rows, table, .. }, TeacherRows::Likeliest(classes)) => {
                apply2(of(Form::Hidden, TeacherForm::Likeliest(classes)), rows, table)
            }
            (Logits(s), TeacherRows::All(Logits(t))) => {
                apply2(of(Form::Logits, TeacherForm::All), s, t.detach())
            }
            (Hidden { rows, table, .. }, TeacherRows::All(Logits(t))) => {
                apply3(of(Form::Hidden, TeacherForm::All), rows, table, t.detach())
            }
            (Logits(s), TeacherRows::All(Hidden { rows, table, .. })) => {
                apply3(of(Form::Logits, TeacherForm::All), s, rows.detach(), table.detach())
            }
            (Hidden { rows: a, table: b, .. }, TeacherRows::All(Hidden { rows, table, .. })) => {
                let op = of(Form::Hidden, TeacherForm::All);
                apply4(op, a, b, rows.detach(), table.detach()).reshape([1])
            }
        }
    }

    /// Whether a side is one tensor of logits, or hidden states and a table.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Form {
        Logits,
        Hidden,
    }

    #[derive(Debug, Clone)]
    enum TeacherForm {
        All,
        Likeliest(Arc<LikeliestClasses>),
    }

    /// The student's tensors first, then the teacher's.
    #[derive(Debug, Clone)]
    struct DivergenceOp {
        student: Form,
        teacher: TeacherForm,
        weights: Vec<f32>,
        divergence: Divergence,
        temperature: f64,
        precision: Precision,
    }

    /// Whether a table is packed for this pass alone, or once for as long as it lives.
    #[derive(Clone, Copy)]
    enum Packing {
        Now,
        Kept,
    }

    impl DivergenceOp {
        fn run<const N: usize>(
            &self,
            inputs: [FlexTensor; N],
            wanted: [bool; 2],
            packing: Packing,
        ) -> (FlexTensor, Vec<Option<FlexTensor>>) {
            let inputs = inputs.map(in_order);
            let (student, teacher) = inputs.split_at(if self.student == Form::Hidden { 2 } else { 1 });
            let packed_student = student.get(1).map(|table| match packing {
                Packing::Now => Arc::new(PackedRight::new(self.precision, matrix(table).transposed())),
                Packing::Kept => packed_weight(self.precision, table, matrix(table).transposed()),
            });
            // A teacher's table is the same in every step.
            let of_teacher =
                teacher.get(1).map(|table| packed_weight(self.precision, table, matrix(table).transposed()));
            let args = DivergenceArgs {
                student: LogitRows {
                    rows: matrix(&student[0]),
                    table: student.get(1).map(matrix).zip(packed_student.as_deref()),
                },
                teacher: match &self.teacher {
                    TeacherForm::All => TeacherLogits::All(LogitRows {
                        rows: matrix(&teacher[0]),
                        table: teacher.get(1).map(matrix).zip(of_teacher.as_deref()),
                    }),
                    TeacherForm::Likeliest(classes) => TeacherLogits::Likeliest(classes),
                },
                weights: &self.weights,
                divergence: self.divergence,
                temperature: self.temperature,
                precision: self.precision,
            };
            let DivergenceSum { sum, drows, dtable } = kernel(&args, wanted);
            let mut gradients = vec![drows.map(|values| like(&student[0], values))];
            gradients.extend(student.get(1).map(|table| dtable.map(|values| like(table, values))));
            let shape = if N == 4 { vec![1, 1] } else { vec![1] };
            let sum = tensor_of(vec![sum as f32], [1]).reshape(shape.into());
            (sum, gradients)
        }

        fn learns<const N: usize>(&self, roles: [Role; N]) -> [bool; 2] {
            let learns = |at: usize| roles.get(at).is_some_and(|role| *role != Role::Constant);
            [learns(0), self.student == Form::Hidden && learns(1)]
        }
    }

    impl<const N: usize> FlexOp<N> for DivergenceOp {
        /// The gradients of the student's tensors, those that will be asked for.
        type Saved = Vec<Option<FlexTensor>>;

        fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved) {
            self.run(inputs, [false; 2], Packing::Now)
        }

        fn record(&self, inputs: [FlexTensor; N], roles: [Role; N]) -> (FlexTensor, Self::Saved) {
            let wanted = self.learns(roles);
            self.run(inputs, wanted, Packing::Now)
        }

        fn predict(&self, inputs: [FlexTensor; N]) -> FlexTensor {
            self.run(inputs, [false; 2], Packing::Kept).0
        }

        fn backward(&self, saved: Self::Saved, grad: FlexTensor, _: [bool; N]) -> [Option<FlexTensor>; N] {
            let scale = values(&in_order(grad))[0];
            let mut saved = saved.into_iter();
            std::array::from_fn(|_| {
                let gradient = saved.next().flatten()?;
                let shape = gradient.layout().shape().clone();
                let mut all = into_values(gradient);
                scale_all(&mut all, scale);
                Some(FlexTensor::from_data(TensorData::new(all, shape)))
            })
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, compare, numbers};
    use crate::{Precision, autocast};
    use burn::tensor::Device;

    const KINDS: [Divergence; 4] = [
        Divergence::ForwardKl,
        Divergence::ReverseKl,
        Divergence::JensenShannon { beta: 0.5 },
        Divergence::JensenShannon { beta: 0.1 },
    ];
    const SHAPES: [[usize; 3]; 3] = [[1, 3, 2], [9, 33, 5], [40, 24, 3001]];

    /// Every third row is left out, the others count differently.
    fn weights(rows: usize) -> Vec<f32> {
        (0..rows).map(|row| if row % 3 == 1 { 0.0 } else { 0.5 + row as f32 * 0.1 }).collect()
    }

    fn hidden(rows: Tensor<2>, table: Tensor<2>) -> VocabularyRows {
        VocabularyRows::Hidden { rows, table, bias: None }
    }

    #[test]
    fn fused_and_plain_agree() {
        for [rows, width, vocab] in SHAPES {
            let inputs = [
                (numbers(rows * width, 1, 1.0), vec![rows, width]),
                (numbers(vocab * width, 2, 1.0), vec![vocab, width]),
                (numbers(rows * (width + 1), 3, 1.0), vec![rows, width + 1]),
                (numbers(vocab * (width + 1), 4, 1.0), vec![vocab, width + 1]),
                (numbers(rows * vocab, 5, 3.0), vec![rows, vocab]),
                (numbers(rows * vocab, 6, 3.0), vec![rows, vocab]),
            ];
            let weights = weights(rows);
            for kind in KINDS {
                for (precision, tolerance) in [(Precision::F32, 5e-5), (Precision::Bf16, 4e-2)] {
                    for which in 0..4 {
                        compare(tolerance, &inputs, &mut |x| {
                            let x = |at: usize| x[at].matrix();
                            let student = || match which {
                                0 | 1 => hidden(x(0), x(1)),
                                _ => VocabularyRows::Logits(x(4)),
                            };
                            let teacher = || {
                                TeacherRows::All(match which {
                                    0 | 2 => hidden(x(2), x(3)),
                                    _ => VocabularyRows::Logits(x(5)),
                                })
                            };
                            let fused = autocast(precision, || {
                                divergence_sum(student(), teacher(), &weights, kind, 1.5)
                            });
                            [fused, plain(student(), teacher(), &weights, kind, 1.5)]
                        });
                    }
                }
            }
        }
    }

    fn tensor<const D: usize>(shape: [usize; D], seed: u64, scale: f32) -> Tensor<D> {
        let values = numbers(shape.iter().product(), seed, scale);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    /// The `k` largest of each row of logits, at a temperature.
    fn likeliest(logits: &Tensor<2>, k: usize, temperature: f64) -> LikeliestClasses {
        let [_, vocab] = logits.dims();
        let log_probs = activation::log_softmax(logits.clone() / temperature, 1).into_data();
        let log_probs: Vec<f32> = log_probs.iter::<f32>().collect();
        let mut found = LikeliestClasses { k, ..LikeliestClasses::default() };
        for row in log_probs.chunks(vocab) {
            let mut order: Vec<usize> = (0..vocab).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            found.classes.extend(order[..k].iter().map(|&class| class as u32));
            found.log_probs.extend(order[..k].iter().map(|&class| row[class]));
            let rest: f64 = order[k..].iter().map(|&class| f64::from(row[class]).exp()).sum();
            found.log_rest.push(rest.ln() as f32);
        }
        found
    }

    #[test]
    fn the_likeliest_classes_fused_and_plain_agree() {
        for [rows, width, vocab] in SHAPES {
            let inputs = [
                (numbers(rows * width, 1, 1.0), vec![rows, width]),
                (numbers(vocab * width, 2, 0.3), vec![vocab, width]),
                (numbers(rows * vocab, 5, 2.0), vec![rows, vocab]),
            ];
            let weights = weights(rows);
            for k in [1, vocab / 2, vocab.min(64)] {
                let teacher = Arc::new(likeliest(&tensor([rows, vocab], 9, 3.0), k, 1.5));
                let teacher = || TeacherRows::Likeliest(teacher.clone());
                for kind in KINDS {
                    for which in 0..2 {
                        compare(1e-4, &inputs, &mut |x| {
                            let student = || match which {
                                0 => hidden(x[0].matrix(), x[1].matrix()),
                                _ => VocabularyRows::Logits(x[2].matrix()),
                            };
                            let fused = divergence_sum(student(), teacher(), &weights, kind, 1.5);
                            [fused, plain(student(), teacher(), &weights, kind, 1.5)]
                        });
                    }
                }
            }
        }
    }

    fn number(sum: Tensor<1>) -> f32 {
        sum.into_scalar::<f32>()
    }

    #[test]
    fn all_classes_as_the_likeliest_ones_are_the_whole_distribution() {
        let (student, teacher) = (tensor([7, 20], 1, 2.0), tensor([7, 20], 2, 2.0));
        for kind in KINDS {
            let sum = |teacher, student: &Tensor<2>| {
                let student = student.clone().autodiff().require_grad();
                let sum =
                    divergence_sum(VocabularyRows::Logits(student.clone()), teacher, &[1.0; 7], kind, 2.0);
                let gradient = student.grad(&sum.clone().backward()).expect("a gradient").into_data();
                (vec![number(sum)], gradient.iter::<f32>().collect::<Vec<_>>())
            };
            let whole = TeacherRows::All(VocabularyRows::Logits(teacher.clone().autodiff()));
            let classes = TeacherRows::Likeliest(Arc::new(likeliest(&teacher, 20, 2.0)));
            let (whole, classes) = (sum(whole, &student), sum(classes, &student));
            assert_close(&classes.0, &whole.0, 1e-5, "sum");
            assert_close(&classes.1, &whole.1, 1e-4, "gradient");
        }
    }

    #[test]
    fn a_distribution_does_not_diverge_from_itself_and_extremes_stay_finite() {
        let logits = tensor([5, 400], 1, 20.0);
        let rows = |logits: &Tensor<2>| VocabularyRows::Logits(logits.clone());
        for kind in KINDS {
            let same = divergence_sum(rows(&logits), TeacherRows::All(rows(&logits)), &[1.0; 5], kind, 1.0);
            assert!(number(same).abs() < 1e-5);
            let far = |scale: f64| {
                let student = (logits.clone() * scale).autodiff().require_grad();
                let teacher = TeacherRows::All(VocabularyRows::Logits((logits.clone() * -scale).autodiff()));
                let sum = divergence_sum(rows(&student), teacher, &[1.0; 5], kind, 1.0);
                let gradient = student.grad(&sum.clone().backward()).expect("a gradient").into_data();
                (number(sum), gradient.iter::<f32>().all(f32::is_finite))
            };
            let (sum, finite) = far(100.0);
            assert!(sum.is_finite() && sum > 0.0 && finite, "{kind:?}: {sum}");
        }
    }

    #[test]
    fn no_row_at_all_gives_zero_that_can_be_differentiated() {
        for sum in [divergence_sum, plain] {
            let student = tensor([3, 8], 1, 1.0).autodiff().require_grad();
            let teacher = TeacherRows::All(VocabularyRows::Logits(tensor([3, 8], 2, 1.0).autodiff()));
            let rows = VocabularyRows::Logits(student.clone());
            let sum = sum(rows, teacher, &[0.0; 3], Divergence::ForwardKl, 1.0);
            assert_eq!(number(sum.clone()), 0.0);
            let gradient = student.grad(&sum.backward()).expect("a gradient").into_data();
            assert!(gradient.iter::<f32>().all(|x| x == 0.0));
        }
    }

    #[test]
    fn a_table_that_does_not_learn_passes_gradients_on() {
        let (states, table) = (tensor([12, 8], 1, 1.0), tensor([30, 8], 2, 1.0));
        let teacher = tensor([12, 30], 3, 1.0);
        let gradients = |table: Tensor<2>| {
            let states = states.clone().autodiff().require_grad();
            let teacher = TeacherRows::All(VocabularyRows::Logits(teacher.clone().autodiff()));
            let student = hidden(states.clone(), table.clone());
            let sum = divergence_sum(student, teacher, &weights(12), Divergence::ReverseKl, 1.0);
            let grads = (sum * 0.25).backward();
            (states.grad(&grads).expect("learns").into_data(), table.grad(&grads))
        };
        let frozen = gradients(table.clone().autodiff());
        let learned = gradients(table.autodiff().require_grad());
        assert_eq!(frozen.0, learned.0);
        assert!(frozen.1.is_none() && learned.1.is_some());
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let sum = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let student = tensor([50, 4000], 1, 3.0).autodiff().require_grad();
                let teacher = TeacherRows::All(VocabularyRows::Logits(tensor([50, 4000], 2, 3.0).autodiff()));
                let kind = Divergence::JensenShannon { beta: 0.5 };
                let rows = VocabularyRows::Logits(student.clone());
                let sum = divergence_sum(rows, teacher, &weights(50), kind, 1.0);
                let gradient = student.grad(&sum.clone().backward()).expect("a gradient").into_data();
                (number(sum), gradient)
            })
        };
        assert_eq!(sum(1), sum(3));
    }
}
