//! Cross-entropy of the labels of a vocabulary, from the hidden states that its logits are computed of.
//!
//! The logits of a chunk of rows at a time are in memory. They become their own gradient in place, and that is multiplied
//! on at once, so that nothing of the vocabulary's size waits for the backward pass: a step of 2,048 tokens with 50,000
//! words would keep 400 MB of logits, and as much of their gradients. As in the fused linear cross-entropy of Liger
//! Kernel; Hsu et al. 2024, §3.2 (arXiv:2410.10989).

use std::sync::Arc;

use super::cross_entropy::{class_of, row_gradient, row_loss};
use super::matrix::Matrix;
use super::packed_right::PackedRight;
use super::pieces::{each_piece, zeros};
use super::product::{Activated, Onto, add_product, product_packed};
use super::reduce::column_sums;
use crate::cross_entropy::IGNORED_LABEL;
use crate::linear_cross_entropy::TokenLoss;
use crate::precision::Precision;

/// Logits of one chunk, if that makes [`ROWS`] rows: 64 MiB.
const LOGITS_AT_ONCE: usize = 1 << 24;
/// Rows of a chunk are these, twice these, and so on: whole tasks of a product, and whole blocks of a sum over rows.
const ROWS: usize = 96;

/// What the loss is computed of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearLossArgs<'a> {
    /// `[rows, width]`, row by row.
    pub(crate) hidden: Matrix<'a>,
    /// `[vocab, width]`, row by row.
    pub(crate) table: Matrix<'a>,
    /// `[vocab]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// `[rows]`: from 0 to `vocab − 1`, or [`IGNORED_LABEL`].
    pub(crate) labels: &'a [i64],
    pub(crate) label_smoothing: f64,
    pub(crate) precision: Precision,
}

/// The loss and those of its gradients that are wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearLoss {
    /// Over the rows that are not ignored, in nats.
    pub(crate) sum: f64,
    /// `[rows, width]`.
    pub(crate) dhidden: Option<Vec<f32>>,
    /// `[vocab, width]`.
    pub(crate) dtable: Option<Vec<f32>>,
    /// `[vocab]`.
    pub(crate) dbias: Option<Vec<f32>>,
}

/// [`super::cross_entropy`] of `hidden · tableᵀ + bias`, and at once its gradients with respect to `hidden`, `table` and
/// `bias`, as far as they are `wanted`.
///
/// `packed` is the transposed table, and `across` gives the table itself packed, where it is needed. The result is the same to the bit whatever the number of threads.
///
/// # Panics
/// If a slice does not fit its shape, or a label is neither a class nor ignored.
pub(crate) fn linear_cross_entropy(
    args: &LinearLossArgs<'_>,
    packed: &PackedRight,
    across: impl FnOnce() -> Arc<PackedRight>,
    wanted: [bool; 3],
) -> LinearLoss {
    let [hidden_wanted, table_wanted, bias_wanted] = wanted;
    let LinearLossArgs { hidden, table, precision, label_smoothing, .. } = *args;
    let width = hidden.columns;
    let mut loss = LinearLoss {
        sum: 0.0,
        dhidden: hidden_wanted.then(|| zeros(hidden.rows * width)),
        dtable: table_wanted.then(|| zeros(table.rows * width)),
        dbias: bias_wanted.then(|| vec![0.0; table.rows]),
    };
    let across = hidden_wanted.then(across);
    args.each_chunk(packed, |chunk| {
        let Chunk { rows, hidden, logits } = chunk;
        let each_row = rows.iter().zip(logits.chunks_exact_mut(table.rows));
        let losses = each_piece(each_row, |(&row, logits)| {
            let label = class_of(args.labels[row]);
            let (loss, softmax) = row_loss(logits, label, label_smoothing);
            if wanted.contains(&true) {
                row_gradient(logits, label, label_smoothing, softmax);
            }
            loss
        });
        loss.sum += losses.into_iter().sum::<f64>();
        let gradient = Matrix::new(logits, rows.len(), table.rows);
        if let (Some(dhidden), Some(across)) = (&mut loss.dhidden, &across) {
            let of_chunk = product_packed(gradient, across, Onto::Nothing, Activated::No);
            for (&row, from) in rows.iter().zip(of_chunk.chunks_exact(width.max(1))) {
                dhidden[row * width..(row + 1) * width].copy_from_slice(from);
            }
        }
        if let Some(dtable) = &mut loss.dtable {
            add_product(dtable, gradient.transposed(), &PackedRight::new(precision, hidden));
        }
        if let Some(dbias) = &mut loss.dbias {
            let sums = column_sums(gradient.data, gradient.rows, gradient.columns);
            for (sum, of_chunk) in dbias.iter_mut().zip(sums) {
                *sum += of_chunk;
            }
        }
    });
    loss
}

/// The loss of each row, and whether the model's first choice is the label; `None` of ignored rows.
///
/// # Panics
/// As [`linear_cross_entropy`].
pub(crate) fn linear_token_losses(args: &LinearLossArgs<'_>, packed: &PackedRight) -> Vec<Option<TokenLoss>> {
    let mut losses = vec![None; args.labels.len()];
    args.each_chunk(packed, |Chunk { rows, logits, .. }| {
        let each_row = rows.iter().zip(logits.chunks_exact(args.table.rows));
        let of_chunk = each_piece(each_row, |(&row, logits)| {
            let label = class_of(args.labels[row]);
            let (loss, softmax) = row_loss(logits, label, args.label_smoothing);
            let correct = logits[label] == softmax.max && !logits[..label].contains(&softmax.max);
            (row, TokenLoss { loss: loss as f32, correct })
        });
        for (row, loss) in of_chunk {
            losses[row] = Some(loss);
        }
    });
    losses
}

/// Some rows that are not ignored.
struct Chunk<'a> {
    /// Which ones they are.
    rows: &'a [usize],
    /// `[rows, width]`.
    hidden: Matrix<'a>,
    /// `[rows, vocab]`.
    logits: &'a mut [f32],
}

impl LinearLossArgs<'_> {
    fn each_chunk(&self, packed: &PackedRight, mut work: impl FnMut(Chunk<'_>)) {
        let (width, vocab) = (self.hidden.columns, self.table.rows);
        assert_eq!([self.labels.len(), self.table.columns], [self.hidden.rows, width]);
        let kept: Vec<usize> =
            (0..self.hidden.rows).filter(|&row| self.labels[row] != IGNORED_LABEL).collect();
        let mut gathered = Vec::new();
        for rows in kept.chunks(rows_at_once(vocab)) {
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let hidden = if last - first + 1 == rows.len() {
                &self.hidden.data[first * width..(last + 1) * width]
            } else {
                gathered.clear();
                for row in rows {
                    gathered.extend_from_slice(&self.hidden.data[row * width..(row + 1) * width]);
                }
                &gathered
            };
            let hidden = Matrix::new(hidden, rows.len(), width);
            let onto = self.bias.map_or(Onto::Nothing, Onto::Bias);
            let mut logits = product_packed(hidden, packed, onto, Activated::No);
            work(Chunk { rows, hidden, logits: &mut logits });
        }
    }
}

/// Rows of a chunk.
pub(super) fn rows_at_once(vocab: usize) -> usize {
    let tasks = LOGITS_AT_ONCE / vocab.max(1) / ROWS;
    if tasks == 0 { ROWS } else { ROWS << tasks.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::super::cross_entropy::{cross_entropy, cross_entropy_backward};
    use super::super::product::product;
    use super::*;

    fn wave(len: usize, scale: f32, phase: f32) -> Vec<f32> {
        (0..len).map(|i| scale * (i as f32 * 0.37 + phase).sin() + (i % 13) as f32 * 0.01).collect()
    }

    struct Case {
        hidden: Vec<f32>,
        table: Vec<f32>,
        bias: Vec<f32>,
        labels: Vec<i64>,
        width: usize,
    }

    impl Case {
        /// Every third row is ignored.
        fn new([rows, width, vocab]: [usize; 3]) -> Self {
            let label = |row: usize| if row % 3 == 1 { IGNORED_LABEL } else { (row * 7919 % vocab) as i64 };
            Self {
                hidden: wave(rows * width, 1.0, 0.2),
                table: wave(vocab * width, 0.5, 1.1),
                bias: wave(vocab, 0.3, 2.0),
                labels: (0..rows).map(label).collect(),
                width,
            }
        }

        fn args(&self, precision: Precision) -> LinearLossArgs<'_> {
            let matrix = |data| Matrix::new(data, data.len() / self.width, self.width);
            LinearLossArgs {
                hidden: matrix(&self.hidden),
                table: matrix(&self.table),
                bias: Some(&self.bias),
                labels: &self.labels,
                label_smoothing: 0.1,
                precision,
            }
        }
    }

    fn run(args: &LinearLossArgs<'_>, wanted: [bool; 3]) -> LinearLoss {
        let across = || Arc::new(PackedRight::new(args.precision, args.table));
        let packed = PackedRight::new(args.precision, args.table.transposed());
        linear_cross_entropy(args, &packed, across, wanted)
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let size = expected.iter().fold(1e-6f32, |size, x| size.max(x.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-5 * size, "{found} {expected}");
        }
    }

    /// 200 rows of 90,000 words are two chunks.
    const SHAPES: [[usize; 3]; 4] = [[1, 3, 2], [7, 33, 5], [40, 20, 1001], [200, 16, 90_000]];

    #[test]
    fn chunks_add_up_to_what_whole_logits_give() {
        for shape @ [rows, width, vocab] in SHAPES {
            let case = Case::new(shape);
            let args = case.args(Precision::F32);
            let onto = Onto::Bias(&case.bias);
            let logits = product(args.precision, args.hidden, args.table.transposed(), onto, Activated::No);
            let expected = cross_entropy(&logits, vocab, &case.labels, 0.1);
            let found = run(&args, [true; 3]);
            assert!((found.sum - expected.sum).abs() <= 1e-9 * expected.sum);
            let gradient = cross_entropy_backward(&logits, vocab, &case.labels, 0.1, &expected.rows, 1.0);
            let gradient = Matrix::new(&gradient, rows, vocab);
            let times = |a, b| product(args.precision, a, b, Onto::Nothing, Activated::No);
            close(found.dhidden.as_ref().unwrap(), &times(gradient, args.table));
            close(found.dtable.as_ref().unwrap(), &times(gradient.transposed(), args.hidden));
            close(found.dbias.as_ref().unwrap(), &column_sums(gradient.data, rows, vocab));
            assert_eq!(found.dhidden.as_ref().unwrap().len(), rows * width);
            let alone = run(&args, [false; 3]);
            assert_eq!(alone, LinearLoss { sum: found.sum, dhidden: None, dtable: None, dbias: None });
            for one in 0..3 {
                let mut wanted = [false; 3];
                wanted[one] = true;
                let alone = run(&args, wanted);
                let all = [&found.dhidden, &found.dtable, &found.dbias];
                assert_eq!([&alone.dhidden, &alone.dtable, &alone.dbias][one], all[one]);
            }
        }
    }

    #[test]
    fn losses_of_tokens_are_those_of_the_sum() {
        for shape in SHAPES {
            let case = Case::new(shape);
            for precision in [Precision::F32, Precision::Bf16] {
                let args = LinearLossArgs { label_smoothing: 0.0, ..case.args(precision) };
                let packed = PackedRight::new(precision, args.table.transposed());
                let losses = linear_token_losses(&args, &packed);
                let sum: f64 = losses.iter().flatten().map(|token| f64::from(token.loss)).sum();
                assert!((sum - run(&args, [false; 3]).sum).abs() <= 1e-6 * sum.abs());
                for (loss, label) in losses.iter().zip(&case.labels) {
                    assert_eq!(loss.is_none(), *label == IGNORED_LABEL);
                }
            }
        }
    }

    #[test]
    fn the_first_choice_is_the_first_of_the_largest() {
        let (hidden, table) = ([1.0; 4], [2.0, 3.0, 3.0, 1.0]);
        let args = LinearLossArgs {
            hidden: Matrix::new(&hidden, 4, 1),
            table: Matrix::new(&table, 4, 1),
            bias: None,
            labels: &[0, 1, 2, IGNORED_LABEL],
            label_smoothing: 0.0,
            precision: Precision::F32,
        };
        let packed = PackedRight::new(Precision::F32, args.table.transposed());
        let correct: Vec<_> = linear_token_losses(&args, &packed)
            .iter()
            .map(|token| token.map(|token| token.correct))
            .collect();
        assert_eq!(correct, [Some(false), Some(true), Some(false), None]);
    }

    #[test]
    fn ignored_rows_add_nothing() {
        let mut case = Case::new([6, 8, 20]);
        case.labels.fill(IGNORED_LABEL);
        let found = run(&case.args(Precision::F32), [true; 3]);
        let zeros = |len| Some(vec![0.0; len]);
        let nothing = LinearLoss { sum: 0.0, dhidden: zeros(48), dtable: zeros(160), dbias: zeros(20) };
        assert_eq!(found, nothing);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let case = Case::new([250, 24, 90_000]);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&case.args(Precision::Bf16), [true; 3]))
        };
        assert_eq!(run(1), run(3));
    }
}
