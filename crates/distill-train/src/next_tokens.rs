//! A model as generation sees it: rows of tokens, and the logits of what comes next.

use burn::tensor::Device;
use distill_generate::NextToken;
use distill_models::{KeyValueCache, Model, ModelInput};
use distill_ops::{Precision, autocast};
use std::convert::Infallible;

/// A model that continues rows of tokens, with the keys and values of what it has read.
pub(crate) struct NextTokens<'a> {
    pub(crate) model: &'a dyn Model,
    pub(crate) precision: Precision,
    /// Longest text, prompt and all; `None` without a limit.
    pub(crate) max_length: Option<usize>,
    /// The token that the target of an encoder-decoder begins with; `None` for decoders.
    pub(crate) decoder_start_token_id: Option<u32>,
    /// Any token that the model knows.
    pub(crate) pad_token_id: u32,
    cache: KeyValueCache,
}

impl<'a> NextTokens<'a> {
    pub(crate) fn new(
        model: &'a dyn Model,
        precision: Precision,
        max_length: Option<usize>,
        decoder_start_token_id: Option<u32>,
        pad_token_id: u32,
    ) -> Self {
        let cache = KeyValueCache::new(0, 0);
        Self { model, precision, max_length, decoder_start_token_id, pad_token_id, cache }
    }

    fn read(&mut self, input: &ModelInput) -> Vec<f32> {
        let logits = autocast(self.precision, || self.model.next_logits(input, &mut self.cache));
        // The task was looked at when the model was loaded.
        logits.map(|logits| logits.into_data().iter::<f32>().collect()).unwrap_or_default()
    }

    fn device(&self) -> Device {
        self.model.device()
    }
}

impl NextToken for NextTokens<'_> {
    type Error = Infallible;

    fn start(&mut self, prompts: &[Vec<u32>], max_new_tokens: usize) -> Result<Vec<f32>, Infallible> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        let decodes = self.decoder_start_token_id;
        for prompt in prompts {
            let padding = longest - prompt.len();
            let (pads, tokens) = (vec![self.pad_token_id; padding], vec![1; prompt.len()]);
            // A decoder goes on at the end of its prompt; where an encoder's tokens stand matters to the encoder.
            match decodes {
                None => {
                    ids.extend(pads.iter().chain(prompt));
                    mask.extend(vec![0; padding].into_iter().chain(tokens));
                }
                Some(_) => {
                    ids.extend(prompt.iter().chain(&pads));
                    mask.extend(tokens.into_iter().chain(vec![0; padding]));
                }
            }
        }
        let written = if decodes.is_some() { 1 } else { longest };
        self.cache = KeyValueCache::new(prompts.len(), written + max_new_tokens);
        let input = ModelInput::new(&ids, &mask, None, [prompts.len(), longest], &self.device());
        let input = match decodes {
            Some(start) => input.with_decoder(&vec![start; prompts.len()], [prompts.len(), 1]),
            None => input,
        };
        Ok(self.read(&input))
    }

    fn next(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Infallible> {
        let input = ModelInput::new(tokens, &vec![1; tokens.len()], None, [tokens.len(), 1], &self.device());
        Ok(self.read(&input))
    }

    fn select(&mut self, rows: &[usize]) -> Result<(), Infallible> {
        self.cache.select(rows);
        Ok(())
    }

    fn written(&self, prompt: &[u32]) -> Vec<u32> {
        match self.decoder_start_token_id {
            Some(start) => vec![start],
            None => prompt.to_vec(),
        }
    }

    fn max_length(&self) -> Option<usize> {
        self.max_length
    }
}
