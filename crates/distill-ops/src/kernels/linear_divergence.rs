//! Divergences over a vocabulary from the hidden states that both logits are computed of, chunk by chunk as in
//! `linear_cross_entropy`.

use super::divergence::{row_divergence, row_divergence_of_likeliest};
use super::linear_cross_entropy::rows_at_once;
use super::matrix::Matrix;
use super::packed_right::PackedRight;
use super::pieces::{each_piece, zeros};
use super::product::{Activated, Onto, add_product, product_packed};
use crate::divergence::{Divergence, LikeliestClasses};
use crate::precision::Precision;

/// Logits `[rows, classes]`, or hidden states `[rows, width]` with a table `[classes, width]`, and that packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogitRows<'a> {
    pub(crate) rows: Matrix<'a>,
    pub(crate) table: Option<(Matrix<'a>, &'a PackedRight)>,
}

/// What the teacher says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TeacherLogits<'a> {
    All(LogitRows<'a>),
    Likeliest(&'a LikeliestClasses),
}

/// What a divergence is computed of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DivergenceArgs<'a> {
    pub(crate) student: LogitRows<'a>,
    pub(crate) teacher: TeacherLogits<'a>,
    /// `[rows]`; 0 = not computed.
    pub(crate) weights: &'a [f32],
    pub(crate) divergence: Divergence,
    pub(crate) temperature: f64,
    pub(crate) precision: Precision,
}

/// The weighted sum and those of its gradients that are wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DivergenceSum {
    /// In nats.
    pub(crate) sum: f64,
    /// Of the student's rows.
    pub(crate) drows: Option<Vec<f32>>,
    /// Of the student's table.
    pub(crate) dtable: Option<Vec<f32>>,
}

/// `Σ weight · divergence` over the rows, and at once its gradients with respect to the student's rows and table, as far
/// as they are `wanted`. The same to the bit whatever the number of threads.
///
/// # Panics
/// If a slice does not fit its shape.
pub(crate) fn divergence_sum(args: &DivergenceArgs<'_>, wanted: [bool; 2]) -> DivergenceSum {
    let student = args.student;
    let (width, vocab) = (student.rows.columns, student.classes());
    assert_eq!(args.weights.len(), student.rows.rows);
    let mut loss = DivergenceSum {
        sum: 0.0,
        drows: wanted[0].then(|| zeros(student.rows.rows * width)),
        dtable: student.table.filter(|_| wanted[1]).map(|(table, _)| zeros(table.rows * width)),
    };
    let across =
        student.table.filter(|_| wanted[0]).map(|(table, _)| PackedRight::new(args.precision, table));
    let kept: Vec<usize> = (0..args.weights.len()).filter(|&row| args.weights[row] != 0.0).collect();
    for rows in kept.chunks(rows_at_once(vocab)) {
        let hidden = student.gathered(rows);
        let mut logits = student.logits(&hidden, rows.len());
        let losses = args.of_rows(rows, &mut logits, wanted.contains(&true));
        loss.sum += losses.into_iter().sum::<f64>();
        let gradient = Matrix::new(&logits, rows.len(), vocab);
        if let Some(drows) = &mut loss.drows {
            let multiplied =
                across.as_ref().map(|across| product_packed(gradient, across, Onto::Nothing, Activated::No));
            let of_chunk = multiplied.as_deref().unwrap_or(gradient.data);
            for (&row, from) in rows.iter().zip(of_chunk.chunks_exact(width.max(1))) {
                drows[row * width..(row + 1) * width].copy_from_slice(from);
            }
        }
        if let Some(dtable) = &mut loss.dtable {
            let hidden = Matrix::new(&hidden, rows.len(), width);
            add_product(dtable, gradient.transposed(), &PackedRight::new(args.precision, hidden));
        }
    }
    loss
}

impl LogitRows<'_> {
    fn classes(&self) -> usize {
        self.table.map_or(self.rows.columns, |(table, _)| table.rows)
    }

    /// These rows, side by side.
    fn gathered(&self, rows: &[usize]) -> Vec<f32> {
        let width = self.rows.columns;
        rows.iter().flat_map(|row| &self.rows.data[row * width..(row + 1) * width]).copied().collect()
    }

    /// The logits of `count` gathered rows.
    fn logits(&self, gathered: &[f32], count: usize) -> Vec<f32> {
        match self.table {
            None => gathered.to_vec(),
            Some((_, packed)) => {
                let hidden = Matrix::new(gathered, count, self.rows.columns);
                product_packed(hidden, packed, Onto::Nothing, Activated::No)
            }
        }
    }
}

impl DivergenceArgs<'_> {
    /// The weighted divergence of each of these rows; their logits become gradients where those are `wanted`.
    fn of_rows(&self, rows: &[usize], logits: &mut [f32], wanted: bool) -> Vec<f64> {
        let vocab = self.student.classes();
        let scale = |weight: f64| wanted.then_some(weight);
        let student = rows.iter().zip(logits.chunks_exact_mut(vocab));
        match self.teacher {
            TeacherLogits::All(teacher) => {
                assert_eq!([teacher.classes(), teacher.rows.rows], [vocab, self.weights.len()]);
                let teacher = teacher.logits(&teacher.gathered(rows), rows.len());
                each_piece(student.zip(teacher.chunks_exact(vocab)), |((&row, student), teacher)| {
                    let weight = f64::from(self.weights[row]);
                    let (divergence, temperature) = (self.divergence, self.temperature);
                    weight * row_divergence(student, teacher, divergence, temperature, scale(weight))
                })
            }
            TeacherLogits::Likeliest(LikeliestClasses { k, classes, log_probs, log_rest }) => {
                each_piece(student, |(&row, student)| {
                    let weight = f64::from(self.weights[row]);
                    let of_row = row * k..(row + 1) * k;
                    weight
                        * row_divergence_of_likeliest(
                            student,
                            &classes[of_row.clone()],
                            &log_probs[of_row],
                            log_rest[row],
                            self.divergence,
                            self.temperature,
                            scale(weight),
                        )
                })
            }
        }
    }
}
