//! A model for tests: logits that are a function of the tokens of a row.

use crate::NextToken;
use std::convert::Infallible;

type Logits = Box<dyn Fn(&[u32]) -> Vec<f32>>;

/// Looks its logits up and counts the rows that it is asked for.
pub(crate) struct ToyModel {
    logits: Logits,
    rows: Vec<Vec<u32>>,
    /// Rows of every call of `start` and `next`.
    pub calls: Vec<usize>,
    pub max_length: Option<usize>,
    /// The decoder's start token, if it is an encoder-decoder.
    pub decoder_start_token_id: Option<u32>,
}

impl ToyModel {
    pub fn new(logits: impl Fn(&[u32]) -> Vec<f32> + 'static) -> Self {
        Self {
            logits: Box::new(logits),
            rows: Vec::new(),
            calls: Vec::new(),
            max_length: None,
            decoder_start_token_id: None,
        }
    }

    /// Logits that depend on all tokens of the row, in a way that nobody can foresee.
    pub fn chaotic(vocab: u32, spread: f32) -> Self {
        Self::new(move |tokens| {
            let state =
                tokens.iter().fold(0x9e37_79b9_u32, |state, &token| mix(state ^ token.wrapping_mul(0x85eb)));
            (0..vocab).map(|token| spread * mix(state ^ mix(token)) as f32 / u32::MAX as f32).collect()
        })
    }

    fn answer(&mut self) -> Vec<f32> {
        self.calls.push(self.rows.len());
        self.rows.iter().flat_map(|row| (self.logits)(row)).collect()
    }
}

fn mix(mut state: u32) -> u32 {
    state ^= state >> 16;
    state = state.wrapping_mul(0x7feb_352d);
    state ^= state >> 15;
    state = state.wrapping_mul(0x846c_a68b);
    state ^ (state >> 16)
}

impl NextToken for ToyModel {
    type Error = Infallible;

    fn start(&mut self, prompts: &[Vec<u32>], _: usize) -> Result<Vec<f32>, Infallible> {
        self.rows = prompts.to_vec();
        Ok(self.answer())
    }

    fn next(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Infallible> {
        assert_eq!(tokens.len(), self.rows.len());
        for (row, &token) in self.rows.iter_mut().zip(tokens) {
            row.push(token);
        }
        Ok(self.answer())
    }

    fn select(&mut self, rows: &[usize]) -> Result<(), Infallible> {
        self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        Ok(())
    }

    fn written(&self, prompt: &[u32]) -> Vec<u32> {
        self.decoder_start_token_id.map_or_else(|| prompt.to_vec(), |token| vec![token])
    }

    fn max_length(&self) -> Option<usize> {
        self.max_length
    }
}
