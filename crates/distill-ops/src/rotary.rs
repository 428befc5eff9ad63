//! Rotary position embeddings, halves rotated against each other as in GPT-NeoX and Llama; Su et al. 2021
//! (arXiv:2104.09864).

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use crate::kernels::RotaryAngles;

/// The angles of a batch's tokens.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    angles: RotaryAngles,
    /// Rows that differ: 1, or the batch.
    rows: usize,
}

impl RotaryTable {
    /// Angles `position · inv_freq`, scaled by `scale` (`attention_factor` of YaRN, 1 otherwise).
    ///
    /// # Shapes
    /// - `position_ids`: `[rows, seq]` row by row; `rows` is 1 where all rows of the batch have the same
    /// - `inv_freq`: `[head_size / 2]`
    pub fn new(position_ids: &[u32], rows: usize, inv_freq: &[f32], scale: f64) -> Self {
        let mut cos = Vec::with_capacity(position_ids.len() * inv_freq.len());
        let mut sin = Vec::with_capacity(cos.capacity());
        for &position in position_ids {
            for &frequency in inv_freq {
                // In f32, as the reference has it; the functions themselves in f64.
                let angle = f64::from(position as f32 * frequency);
                cos.push((angle.cos() * scale) as f32);
                sin.push((angle.sin() * scale) as f32);
            }
        }
        let angles = RotaryAngles { cos: Arc::from(cos), sin: Arc::from(sin) };
        Self { angles, rows: rows.max(1) }
    }
}

/// `x` rotated: with the two halves `a`, `b` of a head, `(a cos − b sin, b cos + a sin)`.
///
/// # Shapes
/// - `x` and the result: `[batch, seq, heads, head_size]`, `head_size` even
pub fn rotary(x: Tensor<4>, table: &RotaryTable) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if crate::flex_op::is_flex(&x.device()) {
        return crate::flex_op::apply1(fused::Rotary { angles: table.angles.clone() }, x);
    }
    plain(x, table)
}

/// [`rotary`] in burn's own operations.
fn plain(x: Tensor<4>, table: &RotaryTable) -> Tensor<4> {
    let [_, seq, _, head_size] = x.dims();
    let (device, half) = (x.device(), head_size / 2);
    let factors = |values: &Arc<[f32]>| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [table.rows, seq, 1, half]), &device)
    };
    let (cos, sin) = (factors(&table.angles.cos), factors(&table.angles.sin));
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    Tensor::cat(vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin], 3)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;
    use burn::tensor::TensorData;

    use crate::flex_op::{FlexOp, dims, in_order, into_values};
    use crate::kernels::{RotaryAngles, Turn, rotate};

    /// Nothing is saved: the gradient is rotated back.
    #[derive(Debug, Clone)]
    pub(super) struct Rotary {
        pub(super) angles: RotaryAngles,
    }

    impl Rotary {
        fn turned(&self, x: FlexTensor, turn: Turn) -> FlexTensor {
            let x = in_order(x);
            let (shape, [heads, head_size]) = (x.layout().shape().clone(), [2, 3].map(|axis| dims(&x)[axis]));
            let mut values = into_values(x);
            rotate(&mut values, heads, head_size, &self.angles, turn);
            FlexTensor::from_data(TensorData::new(values, shape))
        }
    }

    impl FlexOp<1> for Rotary {
        type Saved = ();

        fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
            (self.turned(x, Turn::Forwards), ())
        }

        fn backward(&self, (): (), grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            [Some(self.turned(grad, Turn::Backwards))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{compare, numbers};

    #[test]
    fn fused_and_plain_agree() {
        let inv_freq = [1.0f32, 0.1, 0.01, 0.3];
        for [batch, seq, heads, rows] in [[1, 1, 1, 1], [2, 5, 3, 1], [3, 70, 9, 3]] {
            let positions: Vec<u32> = (0..rows * seq).map(|i| (i * 7 % 90) as u32).collect();
            let table = RotaryTable::new(&positions, rows, &inv_freq, 1.1);
            let x = (numbers(batch * seq * heads * 8, 1, 1.0), vec![batch, seq, heads, 8]);
            compare(1e-5, &[x], &mut |x| {
                let x = || x[0].flat().reshape([batch, seq, heads, 8]);
                [rotary(x(), &table), plain(x(), &table)]
            });
        }
    }

    #[test]
    fn distances_alone_matter() {
        let inv_freq = [0.7f32, 0.05];
        let device = burn::tensor::Device::flex();
        let at = |position: u32, values: [f32; 4]| {
            let x = Tensor::<4>::from_data([[[values]]], &device);
            let turned = rotary(x, &RotaryTable::new(&[position], 1, &inv_freq, 1.0)).into_data();
            turned.iter::<f32>().collect::<Vec<_>>()
        };
        let dot = |a: u32, b: u32| -> f32 {
            let (q, k) = (at(a, [0.3, -1.0, 0.5, 2.0]), at(b, [1.0, 0.2, -0.4, 0.6]));
            q.iter().zip(&k).map(|(q, k)| q * k).sum()
        };
        assert!((dot(9, 4) - dot(105, 100)).abs() < 1e-5);
        assert!((dot(9, 4) - dot(9, 5)).abs() > 1e-3);
    }
}
