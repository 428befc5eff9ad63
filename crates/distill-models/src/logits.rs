//! The logits of a head, which need not be computed to be learnt from.

use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_ops::{
    CrossEntropy, TokenLoss, VocabularyRows, cross_entropy, linear_cross_entropy, linear_token_losses,
};

/// What a head says of each row: numbers, or the hidden states that they would be computed of.
///
/// A vocabulary makes logits by the hundred for each number of a hidden state. Losses and measures that look at some rows
/// alone, or at one row after the other, take them from the hidden states.
#[derive(Debug, Clone)]
pub struct Logits {
    /// `[rows, classes]`, or `[rows, width]` before an output layer.
    rows: Tensor<2>,
    output: Option<Box<OutputLayer>>,
}

/// The last layer over a vocabulary.
#[derive(Debug, Clone)]
struct OutputLayer {
    /// `[vocab, width]`.
    table: Tensor<2>,
    /// `[vocab]`.
    bias: Option<Tensor<1>>,
}

impl Logits {
    /// These numbers, `[rows, classes]`.
    pub fn computed(rows: Tensor<2>) -> Self {
        Self { rows, output: None }
    }

    /// `hidden · tableᵀ + bias` of hidden states `[batch, seq, width]`, token by token.
    pub(crate) fn of_hidden(hidden: Tensor<3>, table: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        let [batch, seq, width] = hidden.dims();
        Self {
            rows: hidden.reshape([batch * seq, width]),
            output: Some(Box::new(OutputLayer { table, bias })),
        }
    }

    /// The same where a graph is; nothing flows back.
    pub(crate) fn lifted(self) -> Self {
        let lifted = |output: OutputLayer| OutputLayer {
            table: output.table.autodiff(),
            bias: output.bias.map(Tensor::autodiff),
        };
        Self { rows: self.rows.autodiff(), output: self.output.map(|output| Box::new(lifted(*output))) }
    }

    /// The same for operations that look at some rows, or at some after the others.
    pub fn rows(&self) -> VocabularyRows {
        let rows = self.rows.clone();
        match &self.output {
            None => VocabularyRows::Logits(rows),
            Some(output) => {
                let OutputLayer { table, bias } = output.as_ref().clone();
                VocabularyRows::Hidden { rows, table, bias }
            }
        }
    }

    /// Those of some rows, `[rows.len(), classes]`.
    pub fn of_rows(&self, rows: &[usize]) -> Tensor<2> {
        let numbers: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let device = self.rows.device().without_autodiff();
        let numbers = Tensor::<1, Int>::from_data(TensorData::new(numbers, [rows.len()]), &device);
        Self { rows: self.rows.clone().select(0, numbers), output: self.output.clone() }.tensor()
    }

    /// All of them, `[rows, classes]`; those of a vocabulary are computed at every call.
    pub fn tensor(&self) -> Tensor<2> {
        match &self.output {
            None => self.rows.clone(),
            Some(output) => distill_ops::linear(self.rows.clone(), output.table.clone(), output.bias.clone()),
        }
    }

    /// As [`crate::ModelOutput::cross_entropy`].
    pub(crate) fn cross_entropy(&self, labels: &[i64], label_smoothing: f64) -> CrossEntropy {
        let rows = self.rows.clone();
        match &self.output {
            None => {
                let labels = on_device(labels, &rows.device());
                cross_entropy(rows, labels, label_smoothing)
            }
            Some(output) => {
                let OutputLayer { table, bias } = output.as_ref();
                linear_cross_entropy(rows, table.clone(), bias.clone(), labels, label_smoothing)
            }
        }
    }

    /// As [`crate::ModelOutput::token_losses`].
    pub(crate) fn token_losses(&self, labels: &[i64]) -> Vec<Option<TokenLoss>> {
        let rows = self.rows.clone();
        match &self.output {
            Some(output) => {
                let OutputLayer { table, bias } = output.as_ref();
                linear_token_losses(rows, table.clone(), bias.clone(), labels)
            }
            None => {
                // Logits as they are: those of an identity.
                let identity = Tensor::<2>::eye(rows.dims()[1], &rows.device());
                linear_token_losses(rows, identity, None, labels)
            }
        }
    }
}

fn on_device(labels: &[i64], device: &Device) -> Tensor<1, Int> {
    let device = device.clone().without_autodiff();
    Tensor::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &device)
}
