//! Cross-entropy of integer labels.

use burn::tensor::{Int, Tensor, TensorData, activation};

/// The label that takes no part in the loss, as in Hugging Face.
pub const IGNORED_LABEL: i64 = -100;

/// A summed loss and how many rows are in it: the caller divides by the count of the whole step.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// The sum over kept rows, in nats: `[1]`.
    pub sum: Tensor<1>,
    /// How many rows were kept.
    pub count: usize,
}

/// `Σ (1 − s)(−log p[label]) + s · mean(−log p)` over the rows whose label is not [`IGNORED_LABEL`], `s` the
/// `label_smoothing`; Szegedy et al. 2016, §7 (arXiv:1512.00567).
///
/// # Shapes
/// - `logits`: `[rows, classes]`
/// - `labels`: `[rows]`, from 0 to `classes − 1`, or −100
///
/// A batch whose labels are all ignored gives a sum of 0 that can still be differentiated.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, label_smoothing: f64) -> CrossEntropy {
    let device = logits.device();
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&device) {
        let labels: Vec<i64> = labels.into_data().iter::<i64>().collect();
        let count = labels.iter().filter(|&&label| label != IGNORED_LABEL).count();
        let op = fused::CrossEntropyOp { labels, label_smoothing };
        return CrossEntropy { sum: crate::flex_op::apply1(op, logits), count };
    }
    plain(logits, labels, label_smoothing)
}

/// [`cross_entropy`] in burn's own operations.
fn plain(logits: Tensor<2>, labels: Tensor<1, Int>, label_smoothing: f64) -> CrossEntropy {
    let [rows, classes] = logits.dims();
    let device = logits.device();
    let labels: Vec<i64> = labels.into_data().iter::<i64>().collect();
    let kept: Vec<i64> = (0..rows as i64).filter(|&row| labels[row as usize] != IGNORED_LABEL).collect();
    let count = kept.len();
    if count == 0 {
        return CrossEntropy { sum: (logits * 0.0).sum(), count };
    }
    let targets: Vec<i64> = kept.iter().map(|&row| labels[row as usize]).collect();
    // The softmax of an ignored row would be thrown away: masked language models keep about one row in seven.
    let logits = if count == rows {
        logits
    } else {
        logits.select(0, Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), &device))
    };
    let log_probs = activation::log_softmax(logits, 1);
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [count, 1]), &device);
    let picked = log_probs.clone().gather(1, targets).sum().neg();
    let sum = if label_smoothing == 0.0 {
        picked
    } else {
        picked * (1.0 - label_smoothing) + log_probs.sum().neg() * (label_smoothing / classes as f64)
    };
    CrossEntropy { sum, count }
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;

    use crate::flex_op::{FlexOp, dims, in_order, like, tensor_of, values};
    use crate::kernels::{SoftmaxRow, cross_entropy, cross_entropy_backward};

    #[derive(Debug, Clone)]
    pub(super) struct CrossEntropyOp {
        pub(super) labels: Vec<i64>,
        pub(super) label_smoothing: f64,
    }

    impl FlexOp<1> for CrossEntropyOp {
        /// The logits, and each row's softmax in short.
        type Saved = (FlexTensor, Vec<SoftmaxRow>);

        fn forward(&self, [logits]: [FlexTensor; 1]) -> (FlexTensor, Self::Saved) {
            let logits = in_order(logits);
            let classes = dims(&logits)[1];
            let loss = cross_entropy(values(&logits), classes, &self.labels, self.label_smoothing);
            (tensor_of(vec![loss.sum as f32], [1]), (logits, loss.rows))
        }

        fn backward(
            &self,
            (logits, rows): Self::Saved,
            grad: FlexTensor,
            _: [bool; 1],
        ) -> [Option<FlexTensor>; 1] {
            let scale = f64::from(values(&in_order(grad))[0]);
            let classes = dims(&logits)[1];
            let smoothing = self.label_smoothing;
            let found =
                cross_entropy_backward(values(&logits), classes, &self.labels, smoothing, &rows, scale);
            [Some(like(&logits, found))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const LOGITS: [[f32; 3]; 3] = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [-1.0, 3.0, 2.0]];

    fn log_softmax(row: [f32; 3]) -> [f64; 3] {
        let row = row.map(f64::from);
        let log_sum = row.iter().map(|v| v.exp()).sum::<f64>().ln();
        row.map(|v| v - log_sum)
    }

    #[test]
    fn ignored_rows_count_neither_in_the_sum_nor_in_the_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data(LOGITS, &device).require_grad();
        let labels = Tensor::<1, Int>::from_data([2i64, -100, 0], &device);
        let loss = cross_entropy(logits.clone(), labels, 0.0);
        assert_eq!(loss.count, 2);
        let expected = -log_softmax(LOGITS[0])[2] - log_softmax(LOGITS[2])[0];
        assert!((loss.sum.clone().into_scalar::<f64>() - expected).abs() < 1e-5);
        let grad = logits.grad(&loss.sum.backward()).unwrap().into_data();
        let grad = grad.as_slice::<f32>().unwrap();
        for (row, label) in [(0, 2), (2, 0)] {
            for class in 0..3 {
                let p = log_softmax(LOGITS[row])[class].exp() - f64::from(u8::from(class == label));
                assert!((f64::from(grad[row * 3 + class]) - p).abs() < 1e-6);
            }
        }
        assert_eq!(grad[3..6], [0.0; 3]);
    }

    #[test]
    fn smoothing_mixes_in_the_mean_over_classes() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data(LOGITS, &device);
        let labels = Tensor::<1, Int>::from_data([2i64, 1, 0], &device);
        let expected: f64 = LOGITS
            .iter()
            .zip([2, 1, 0])
            .map(|(row, label)| {
                let log_probs = log_softmax(*row);
                -0.9 * log_probs[label] - 0.1 * log_probs.iter().sum::<f64>() / 3.0
            })
            .sum();
        let loss = cross_entropy(logits, labels, 0.1);
        assert!((loss.sum.into_scalar::<f64>() - expected).abs() < 1e-5);
    }

    #[test]
    fn nothing_kept_is_zero_and_differentiable() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data(LOGITS, &device).require_grad();
        let loss = cross_entropy(logits.clone(), Tensor::<1, Int>::from_data([-100i64; 3], &device), 0.0);
        assert_eq!((loss.count, loss.sum.clone().into_scalar::<f32>()), (0, 0.0));
        let grad = logits.grad(&loss.sum.backward()).unwrap().into_data();
        assert_eq!(grad.as_slice::<f32>().unwrap(), [0.0; 9]);
    }

    #[test]
    fn fused_and_plain_agree() {
        use crate::test_support::{compare, numbers};
        for [rows, classes] in [[1, 2], [9, 4], [40, 3001]] {
            let logits = (numbers(rows * classes, 1, 4.0), vec![rows, classes]);
            let labels: Vec<i64> =
                (0..rows).map(|row| if row % 3 == 1 { -100 } else { (row * 7 % classes) as i64 }).collect();
            for smoothing in [0.0, 0.1] {
                compare(2e-5, std::slice::from_ref(&logits), &mut |x| {
                    let labels = || {
                        let data = TensorData::new(labels.clone(), [rows]);
                        Tensor::<1, Int>::from_data(data, &x[0].device())
                    };
                    [
                        cross_entropy(x[0].matrix(), labels(), smoothing).sum,
                        plain(x[0].matrix(), labels(), smoothing).sum,
                    ]
                });
            }
        }
    }
}
