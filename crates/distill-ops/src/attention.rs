//! Scaled dot-product attention; Vaswani et al. 2017, §3.2.1 (arXiv:1706.03762).

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::Dropout;

/// Added to the score of a padded key: its weight after softmax is exactly zero, and a row whose keys are all padded
/// still has finite weights.
const MASKED: f32 = -1e9;

/// What is added to the scores before the softmax: 0 for a token, a large negative number for padding.
#[derive(Debug, Clone)]
pub struct AttentionBias {
    bias: Option<Tensor<4>>,
}

impl AttentionBias {
    /// From Hugging Face's `attention_mask`: 1 for a token, 0 for padding; `[batch, seq]` row by row.
    ///
    /// A batch without padding carries no bias at all, which saves a pass over the scores.
    pub fn from_padding_mask(attention_mask: &[u8], shape: [usize; 2], device: &Device) -> Self {
        if attention_mask.iter().all(|&kept| kept != 0) {
            return Self { bias: None };
        }
        let values: Vec<f32> =
            attention_mask.iter().map(|&kept| if kept != 0 { 0.0 } else { MASKED }).collect();
        let [batch, seq] = shape;
        Self { bias: Some(Tensor::from_data(TensorData::new(values, [batch, 1, 1, seq]), device)) }
    }

    /// Nothing is masked.
    pub fn none() -> Self {
        Self { bias: None }
    }
}

/// Whether [`attention`] hands its scores back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Not needed; a fused implementation never writes them.
    Discard,
    /// Wanted, for losses that compare attention maps.
    Keep,
}

/// What [`attention`] returns.
#[derive(Debug, Clone)]
pub struct AttentionOutput {
    /// The weighted values: `[batch, heads, seq, head_size]`.
    pub context: Tensor<4>,
    /// `q · kᵀ / √head_size` before bias and softmax, `[batch, heads, seq, seq]`, where asked for.
    pub scores: Option<Tensor<4>>,
}

/// `dropout(softmax(q · kᵀ / √head_size + bias)) · v`.
///
/// # Shapes
/// - `q`, `k`, `v` and the context: `[batch, heads, seq, head_size]`
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: &AttentionBias,
    dropout_p: f64,
    dropout: &mut Dropout,
    scores: Scores,
) -> AttentionOutput {
    let [_, _, _, head_size] = q.dims();
    // Scaling the queries touches fewer numbers than scaling the scores.
    let raw = (q * (head_size as f64).sqrt().recip()).matmul(k.transpose());
    let kept = (scores == Scores::Keep).then(|| raw.clone());
    let biased = match &bias.bias {
        Some(bias) => raw + bias.clone(),
        None => raw,
    };
    let weights = dropout.apply(activation::softmax(biased, 3), dropout_p);
    AttentionOutput { context: weights.matmul(v), scores: kept }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn weights_follow_the_definition_and_padding_gets_none() {
        let shape = [1, 1, 3, 2];
        let q = tensor(&[1.0, 0.0, 0.5, -1.0, 2.0, 2.0], shape);
        let k = tensor(&[1.0, 1.0, -1.0, 0.5, 9.0, 9.0], shape);
        let v = tensor(&[1.0, 2.0, 3.0, 4.0, 100.0, 100.0], shape);
        let bias = AttentionBias::from_padding_mask(&[1, 1, 0], [1, 3], &Device::flex());
        let out = attention(q, k, v, &bias, 0.0, &mut Dropout::off(), Scores::Keep);
        let root = 2f32.sqrt();
        let mut expected = Vec::new();
        for (a, b) in [(1.0, -1.0), (-0.5, -1.0), (4.0, -1.0f32)] {
            let (a, b) = ((a / root).exp(), (b / root).exp());
            expected.extend([(a + 3.0 * b) / (a + b), (2.0 * a + 4.0 * b) / (a + b)]);
        }
        let found = out.context.into_data();
        for (found, expected) in found.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!(out.scores.unwrap().dims(), [1, 1, 3, 3]);
    }

    #[test]
    fn a_row_of_padding_only_stays_finite() {
        let x = tensor(&[1.0, -1.0, 0.5, 2.0], [1, 1, 2, 2]);
        let bias = AttentionBias::from_padding_mask(&[0, 0], [1, 2], &Device::flex());
        let out = attention(x.clone(), x.clone(), x, &bias, 0.0, &mut Dropout::off(), Scores::Discard);
        assert!(out.context.into_data().as_slice::<f32>().unwrap().iter().all(|v| v.is_finite()));
        assert!(out.scores.is_none());
    }
}
