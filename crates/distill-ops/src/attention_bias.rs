//! What is added to attention scores: padding, order, texts in one sequence, distances.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

/// Added to the score of a padded key: its weight after softmax is exactly zero, and a row whose keys are all padded
/// still has finite weights.
const MASKED: f32 = -1e9;

/// What happens to the scores before the softmax: which keys a query may see, and what is added.
#[derive(Debug, Clone, Default)]
pub struct AttentionBias {
    pub(crate) padding: Option<Padding>,
    pub(crate) segments: Option<Segments>,
    pub(crate) causal: bool,
    pub(crate) bias: Option<Tensor<4>>,
}

/// Several texts in a row.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    /// For each token the first one of its text, and the one after the last: `[batch, seq]`.
    pub(crate) ranges: Arc<[[u32; 2]]>,
    shape: [usize; 2],
}

/// The padding of a batch that has any.
#[derive(Debug, Clone)]
pub(crate) struct Padding {
    /// 1 for a token, 0 for padding: `[batch, k_len]`.
    pub(crate) attention_mask: Arc<[u8]>,
    shape: [usize; 2],
}

impl AttentionBias {
    /// From Hugging Face's `attention_mask`: 1 for a token, 0 for padding; `[batch, seq]` row by row.
    ///
    /// A batch without padding carries no mask at all, which saves a pass over the scores.
    pub fn from_padding_mask(attention_mask: &[u8], shape: [usize; 2]) -> Self {
        let padded = attention_mask.contains(&0);
        let padding = padded.then(|| Padding { attention_mask: attention_mask.into(), shape });
        Self { padding, ..Self::default() }
    }

    /// Several texts in a row: a query sees the keys of its own segment alone.
    ///
    /// # Shapes
    /// - `segments`: a number for each token, the same throughout a text; `[batch, seq]` row by row
    pub fn from_segments(segments: &[u32], shape: [usize; 2], device: &Device) -> Self {
        let [batch, seq] = shape;
        let rows = || segments.chunks(seq.max(1));
        if rows().all(|row| row.windows(2).all(|pair| pair[0] == pair[1])) {
            return Self::default();
        }
        if rows().all(each_text_is_in_one_piece) {
            let ranges = rows().flat_map(ranges).collect();
            return Self { segments: Some(Segments { ranges, shape }), ..Self::default() };
        }
        let added: Vec<f32> = rows()
            .flat_map(|row| row.iter().flat_map(|of_query| row.iter().map(move |of_key| of_query == of_key)))
            .map(|same| if same { 0.0 } else { MASKED })
            .collect();
        Self::default().with_bias(Tensor::from_data(TensorData::new(added, [batch, 1, seq, seq]), device))
    }

    /// Nothing is masked, nothing is added.
    pub fn none() -> Self {
        Self::default()
    }

    /// A query sees no later key: of `k_len` keys, query `i` of `q_len` sees the first `i + 1 + k_len − q_len`.
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// Adds `bias` to the scores, which T5's relative positions need; it may learn.
    ///
    /// # Shapes
    /// - `bias`: `[batch or 1, heads or 1, q_len, k_len]`
    pub fn with_bias(self, bias: Tensor<4>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// All of it added to the scores, `[batch, heads, q_len, k_len]`, in burn's own operations.
    pub(crate) fn add_to(&self, scores: Tensor<4>) -> Tensor<4> {
        let [_, _, q_len, k_len] = scores.dims();
        let device = scores.device();
        let scores = match &self.bias {
            Some(bias) => scores + bias.clone(),
            None => scores,
        };
        let scores = match &self.padding {
            Some(Padding { attention_mask, shape: [batch, k_len] }) => {
                let added: Vec<f32> =
                    attention_mask.iter().map(|&kept| if kept != 0 { 0.0 } else { MASKED }).collect();
                scores + Tensor::from_data(TensorData::new(added, [*batch, 1, 1, *k_len]), &device)
            }
            None => scores,
        };
        let scores = match &self.segments {
            Some(Segments { ranges, shape: [batch, seq] }) => {
                let seen = |range: &[u32; 2], key: usize| (range[0]..range[1]).contains(&(key as u32));
                let added: Vec<f32> = ranges
                    .iter()
                    .flat_map(|range| (0..*seq).map(move |key| if seen(range, key) { 0.0 } else { MASKED }))
                    .collect();
                scores + Tensor::from_data(TensorData::new(added, [*batch, 1, *seq, *seq]), &device)
            }
            None => scores,
        };
        if !self.causal {
            return scores;
        }
        let hidden = |cell: usize| cell % k_len + q_len > cell / k_len + k_len;
        let added: Vec<f32> =
            (0..q_len * k_len).map(|cell| if hidden(cell) { f32::NEG_INFINITY } else { 0.0 }).collect();
        scores + Tensor::from_data(TensorData::new(added, [1, 1, q_len, k_len]), &device)
    }
}

/// Whether no number comes back after another one.
fn each_text_is_in_one_piece(segments: &[u32]) -> bool {
    let mut seen: Vec<u32> = segments.chunk_by(|a, b| a == b).map(|text| text[0]).collect();
    let texts = seen.len();
    seen.sort_unstable();
    seen.dedup();
    seen.len() == texts
}

/// For each token the first one of its text, and the one after the last.
fn ranges(segments: &[u32]) -> Vec<[u32; 2]> {
    let mut all = Vec::with_capacity(segments.len());
    for text in segments.chunk_by(|a, b| a == b) {
        let first = all.len();
        all.resize(first + text.len(), [first as u32, (first + text.len()) as u32]);
    }
    all
}
