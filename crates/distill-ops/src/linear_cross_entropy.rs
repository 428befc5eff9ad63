//! Cross-entropy over a vocabulary, straight from the hidden states before the output layer.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::{CrossEntropy, IGNORED_LABEL, cross_entropy, linear};

/// One row's loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// `−log p[label]`, in nats.
    pub loss: f32,
    /// Whether the label is the model's first choice: the first of the largest logits.
    pub correct: bool,
}

/// [`cross_entropy`] of the logits `hidden · tableᵀ + bias`, which are never in memory as a whole.
///
/// Rows whose label is [`IGNORED_LABEL`] are not multiplied at all. On flex the gradients are computed along with the
/// loss, those of a table or bias that does not learn not at all; the backward pass only scales them.
///
/// # Shapes
/// - `hidden`: `[rows, width]`
/// - `table`: `[vocab, width]`, of an output layer or of tied word embeddings
/// - `bias`: `[vocab]`
/// - `labels`: `[rows]`, from 0 to `vocab − 1`, or −100
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    labels: &[i64],
    label_smoothing: f64,
) -> CrossEntropy {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&hidden.device()) {
        let count = labels.iter().filter(|&&label| label != IGNORED_LABEL).count();
        return CrossEntropy { sum: fused::loss(hidden, table, bias, labels, label_smoothing), count };
    }
    plain(hidden, table, bias, labels, label_smoothing)
}

/// [`linear_cross_entropy`] row by row and without gradients, for perplexity and accuracy; `None` of ignored rows.
///
/// # Shapes
/// As [`linear_cross_entropy`].
pub fn linear_token_losses(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    labels: &[i64],
) -> Vec<Option<TokenLoss>> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&hidden.device()) {
        return fused::token_losses(hidden, table, bias, labels);
    }
    plain_token_losses(hidden, table, bias, labels)
}

/// [`linear_cross_entropy`] in burn's own operations.
fn plain(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    labels: &[i64],
    label_smoothing: f64,
) -> CrossEntropy {
    let device = hidden.device().without_autodiff();
    let labels = Tensor::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &device);
    cross_entropy(linear(hidden, table, bias), labels, label_smoothing)
}

/// [`linear_token_losses`] in burn's own operations.
fn plain_token_losses(
    hidden: Tensor<2>,
    table: Tensor<2>,
    bias: Option<Tensor<1>>,
    labels: &[i64],
) -> Vec<Option<TokenLoss>> {
    let logits = linear(hidden, table, bias);
    let classes = labels.iter().map(|label| (*label).max(0)).collect();
    let classes = TensorData::new::<i64, _>(classes, [labels.len(), 1]);
    let classes = Tensor::<2, Int>::from_data(classes, &logits.device().without_autodiff());
    let choices = logits.clone().argmax(1).into_data();
    let losses = activation::log_softmax(logits, 1).gather(1, classes).neg().into_data();
    let found = losses.iter::<f32>().zip(choices.iter::<i64>());
    let of_row = |(&label, (loss, choice)): (&i64, (f32, i64))| {
        (label != IGNORED_LABEL).then_some(TokenLoss { loss, correct: choice == label })
    };
    labels.iter().zip(found).map(of_row).collect()
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::flex::FlexTensor;
    use burn::tensor::{Tensor, TensorData};

    use super::TokenLoss;
    use crate::IGNORED_LABEL;
    use crate::flex_op::{
        FlexOp, Role, apply2, apply3, in_order, into_values, like, matrix, tensor_of, values,
    };
    use crate::kernels::{LinearLossArgs, PackedRight, linear_cross_entropy, linear_token_losses, scale_all};
    use crate::packed::packed_weight;
    use crate::precision::{Precision, precision};

    pub(super) fn loss(
        hidden: Tensor<2>,
        table: Tensor<2>,
        bias: Option<Tensor<1>>,
        labels: &[i64],
        label_smoothing: f64,
    ) -> Tensor<1> {
        let op = LinearCrossEntropy { labels: labels.to_vec(), label_smoothing, precision: precision() };
        match bias {
            Some(bias) => apply3(op, hidden, table, bias),
            None => apply2(op, hidden, table),
        }
    }

    pub(super) fn token_losses(
        hidden: Tensor<2>,
        table: Tensor<2>,
        bias: Option<Tensor<1>>,
        labels: &[i64],
    ) -> Vec<Option<TokenLoss>> {
        let op = TokenLosses { labels: labels.to_vec(), precision: precision() };
        let (hidden, table) = (hidden.detach(), table.detach());
        let found: Tensor<2> = match bias {
            Some(bias) => apply3(op, hidden, table, bias.detach()),
            None => apply2(op, hidden, table),
        };
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        let of_row = |(&label, row): (&i64, &[f32; 2])| {
            (label != IGNORED_LABEL).then_some(TokenLoss { loss: row[0], correct: row[1] == 1.0 })
        };
        labels.iter().zip(found.as_chunks::<2>().0).map(of_row).collect()
    }

    #[derive(Debug, Clone)]
    struct LinearCrossEntropy {
        labels: Vec<i64>,
        label_smoothing: f64,
        precision: Precision,
    }

    /// The gradients of `hidden`, table and bias that will be asked for.
    type Gradients = [Option<FlexTensor>; 3];

    impl LinearCrossEntropy {
        fn arguments<'a>(
            &'a self,
            hidden: &'a FlexTensor,
            table: &'a FlexTensor,
            bias: Option<&'a FlexTensor>,
        ) -> LinearLossArgs<'a> {
            LinearLossArgs {
                hidden: matrix(hidden),
                table: matrix(table),
                bias: bias.map(values),
                labels: &self.labels,
                label_smoothing: self.label_smoothing,
                precision: self.precision,
            }
        }

        fn run(
            &self,
            [hidden, table]: [FlexTensor; 2],
            bias: Option<FlexTensor>,
            learns: [bool; 3],
        ) -> (FlexTensor, Gradients) {
            let (hidden, table, bias) = (in_order(hidden), in_order(table), bias.map(in_order));
            let args = self.arguments(&hidden, &table, bias.as_ref());
            // In bf16 a table that does not learn stays packed, as the weights of dense layers do.
            let stays = !learns[1] && self.precision == Precision::Bf16;
            let pack = |b| match stays {
                true => packed_weight(self.precision, &table, b),
                false => Arc::new(PackedRight::new(self.precision, b)),
            };
            let packed = pack(args.table.transposed());
            let found = linear_cross_entropy(&args, &packed, || pack(args.table), learns);
            let gradients = [
                found.dhidden.map(|values| like(&hidden, values)),
                found.dtable.map(|values| like(&table, values)),
                found.dbias.zip(bias.as_ref()).map(|(values, bias)| like(bias, values)),
            ];
            (tensor_of(vec![found.sum as f32], [1]), gradients)
        }

        /// The loss alone, of a model whose table stays as it is.
        fn prediction(&self, [hidden, table]: [FlexTensor; 2], bias: Option<FlexTensor>) -> FlexTensor {
            let (hidden, table, bias) = (in_order(hidden), in_order(table), bias.map(in_order));
            let args = self.arguments(&hidden, &table, bias.as_ref());
            let packed = packed_weight(self.precision, &table, args.table.transposed());
            tensor_of(
                vec![
                    linear_cross_entropy(&args, &packed, || unreachable!("no gradient"), [false; 3]).sum
                        as f32,
                ],
                [1],
            )
        }
    }

    fn scaled(gradients: Gradients, grad: FlexTensor) -> Gradients {
        let scale = values(&in_order(grad))[0];
        gradients.map(|gradient| {
            gradient.map(|gradient| {
                let shape = gradient.layout().shape().clone();
                let mut all = into_values(gradient);
                scale_all(&mut all, scale);
                FlexTensor::from_data(TensorData::new(all, shape))
            })
        })
    }

    fn learns(role: Role) -> bool {
        role != Role::Constant
    }

    impl FlexOp<2> for LinearCrossEntropy {
        type Saved = Gradients;

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Gradients) {
            self.run(inputs, None, [false; 3])
        }

        fn record(&self, inputs: [FlexTensor; 2], roles: [Role; 2]) -> (FlexTensor, Gradients) {
            self.run(inputs, None, [learns(roles[0]), learns(roles[1]), false])
        }

        fn predict(&self, inputs: [FlexTensor; 2]) -> FlexTensor {
            self.prediction(inputs, None)
        }

        fn backward(&self, saved: Gradients, grad: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            let [dhidden, dtable, _] = scaled(saved, grad);
            [dhidden, dtable]
        }
    }

    impl FlexOp<3> for LinearCrossEntropy {
        type Saved = Gradients;

        fn forward(&self, [hidden, table, bias]: [FlexTensor; 3]) -> (FlexTensor, Gradients) {
            self.run([hidden, table], Some(bias), [false; 3])
        }

        fn record(
            &self,
            [hidden, table, bias]: [FlexTensor; 3],
            roles: [Role; 3],
        ) -> (FlexTensor, Gradients) {
            self.run([hidden, table], Some(bias), roles.map(learns))
        }

        fn predict(&self, [hidden, table, bias]: [FlexTensor; 3]) -> FlexTensor {
            self.prediction([hidden, table], Some(bias))
        }

        fn backward(&self, saved: Gradients, grad: FlexTensor, _: [bool; 3]) -> Gradients {
            scaled(saved, grad)
        }
    }

    /// `[rows, 2]`: the loss, and 1 where the label is the first choice.
    #[derive(Debug, Clone)]
    struct TokenLosses {
        labels: Vec<i64>,
        precision: Precision,
    }

    impl TokenLosses {
        fn run(&self, [hidden, table]: [FlexTensor; 2], bias: Option<FlexTensor>) -> FlexTensor {
            let (hidden, table, bias) = (in_order(hidden), in_order(table), bias.map(in_order));
            let loss = LinearCrossEntropy {
                labels: self.labels.clone(),
                label_smoothing: 0.0,
                precision: self.precision,
            };
            let args = loss.arguments(&hidden, &table, bias.as_ref());
            let packed = packed_weight(self.precision, &table, args.table.transposed());
            let found = linear_token_losses(&args, &packed).into_iter().flat_map(|token| {
                token.map_or([0.0; 2], |token| [token.loss, f32::from(u8::from(token.correct))])
            });
            tensor_of(found.collect(), [self.labels.len(), 2])
        }
    }

    impl FlexOp<2> for TokenLosses {
        type Saved = ();

        fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, ()) {
            (self.run(inputs, None), ())
        }

        fn backward(&self, (): (), _: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
            unreachable!("its inputs are detached")
        }
    }

    impl FlexOp<3> for TokenLosses {
        type Saved = ();

        fn forward(&self, [hidden, table, bias]: [FlexTensor; 3]) -> (FlexTensor, ()) {
            (self.run([hidden, table], Some(bias)), ())
        }

        fn backward(&self, (): (), _: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
            unreachable!("its inputs are detached")
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, compare, numbers};
    use crate::{Precision, autocast};
    use burn::tensor::Device;

    fn labels(rows: usize, vocab: usize) -> Vec<i64> {
        (0..rows).map(|row| if row % 3 == 1 { IGNORED_LABEL } else { (row * 7 % vocab) as i64 }).collect()
    }

    const SHAPES: [[usize; 3]; 3] = [[1, 3, 2], [9, 33, 5], [40, 24, 3001]];

    #[test]
    fn fused_and_plain_agree() {
        for [rows, width, vocab] in SHAPES {
            let hidden = (numbers(rows * width, 1, 1.0), vec![rows, width]);
            let table = (numbers(vocab * width, 2, 1.0), vec![vocab, width]);
            let bias = (numbers(vocab, 3, 1.0), vec![vocab]);
            let labels = labels(rows, vocab);
            for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Bf16, 2e-2)] {
                for smoothing in [0.0, 0.1] {
                    compare(tolerance, &[hidden.clone(), table.clone(), bias.clone()], &mut |x| {
                        let arguments = || (x[0].matrix(), x[1].matrix(), Some(x[2].flat()));
                        let (a, b, c) = arguments();
                        let fused =
                            autocast(precision, || linear_cross_entropy(a, b, c, &labels, smoothing).sum);
                        let (a, b, c) = arguments();
                        [fused, plain(a, b, c, &labels, smoothing).sum]
                    });
                    compare(tolerance, &[hidden.clone(), table.clone()], &mut |x| {
                        let arguments = || (x[0].matrix(), x[1].matrix());
                        let (a, b) = arguments();
                        let fused =
                            autocast(precision, || linear_cross_entropy(a, b, None, &labels, smoothing).sum);
                        let (a, b) = arguments();
                        [fused, plain(a, b, None, &labels, smoothing).sum]
                    });
                }
            }
        }
    }

    fn tensor<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let values = numbers(shape.iter().product(), seed, 1.0);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_table_that_does_not_learn_passes_gradients_on() {
        let (hidden, table) = (tensor([12, 8], 1), tensor([30, 8], 2));
        let labels = labels(12, 30);
        let gradients = |table: Tensor<2>| {
            let hidden = hidden.clone().autodiff().require_grad();
            let loss = linear_cross_entropy(hidden.clone(), table.clone(), None, &labels, 0.0);
            let grads = (loss.sum * 0.25).backward();
            (values(hidden.grad(&grads).unwrap()), table.grad(&grads))
        };
        let frozen = gradients(table.clone().autodiff());
        let learned = gradients(table.autodiff().require_grad());
        assert_eq!(frozen.0, learned.0);
        assert!(frozen.1.is_none() && learned.1.is_some());
    }

    #[test]
    fn predictions_have_the_loss_of_training() {
        let (hidden, table) = (tensor([12, 8], 1), tensor([30, 8], 2));
        let labels = labels(12, 30);
        let predicted = linear_cross_entropy(hidden.clone(), table.clone(), None, &labels, 0.1);
        let trained =
            linear_cross_entropy(hidden.autodiff().require_grad(), table.autodiff(), None, &labels, 0.1);
        assert_eq!(values(predicted.sum), values(trained.sum));
        assert_eq!((predicted.count, trained.count), (8, 8));
    }

    #[test]
    fn losses_of_tokens_are_those_of_the_plain_body() {
        for [rows, width, vocab] in SHAPES {
            let (hidden, table, bias) =
                (tensor([rows, width], 1), tensor([vocab, width], 2), tensor([vocab], 3));
            let labels = labels(rows, vocab);
            let found = linear_token_losses(hidden.clone(), table.clone(), Some(bias.clone()), &labels);
            let expected = plain_token_losses(hidden.clone(), table.clone(), Some(bias.clone()), &labels);
            let losses = |tokens: &[Option<TokenLoss>]| {
                tokens.iter().flatten().map(|token| token.loss).collect::<Vec<_>>()
            };
            assert_close(&losses(&found), &losses(&expected), 2e-5, "losses");
            let correct = |tokens: &[Option<TokenLoss>]| {
                tokens.iter().map(|token| token.map(|token| token.correct)).collect::<Vec<_>>()
            };
            assert_eq!(correct(&found), correct(&expected));
            let sum = linear_cross_entropy(hidden, table, Some(bias), &labels, 0.0).sum;
            assert_close(&[losses(&found).iter().sum()], &values(sum), 1e-5, "sum");
        }
    }
}
