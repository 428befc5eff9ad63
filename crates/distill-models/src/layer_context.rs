//! What the layers of one pass share.

use std::cell::RefCell;

use burn::tensor::Tensor;
use distill_ops::{AttentionBias, RotaryTable};

use crate::key_value_cache::KeyValueCache;

/// Masks and positions of a batch, and what earlier passes left behind.
#[derive(Debug, Default)]
pub(crate) struct LayerContext<'a> {
    /// Of attention within the sequence.
    pub(crate) bias: AttentionBias,
    /// Angles of the tokens, of architectures that rotate queries and keys.
    pub(crate) rotary: Option<RotaryTable>,
    /// Keys and values of the tokens before these, while generating.
    pub(crate) cache: Option<&'a RefCell<KeyValueCache>>,
    /// Of an encoder-decoder.
    pub(crate) decoder: Option<DecoderContext>,
}

/// What the second half of an encoder-decoder needs besides.
#[derive(Debug)]
pub(crate) struct DecoderContext {
    /// Tokens of the encoder, which stand before those of the decoder in the hidden states.
    pub(crate) source_len: usize,
    /// Of the decoder's attention within its own sequence.
    pub(crate) bias: AttentionBias,
    /// Biases by relative position of encoder and decoder, once a layer has computed them.
    pub(crate) position_biases: RefCell<[Option<Tensor<4>>; 2]>,
}

impl LayerContext<'static> {
    pub(crate) fn of(bias: AttentionBias) -> Self {
        Self { bias, ..Self::default() }
    }

    /// The same without anything that a layer has left in it: for layers whose graphs are not to be joined.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            bias: self.bias.clone(),
            rotary: self.rotary.clone(),
            cache: None,
            decoder: self.decoder.as_ref().map(|decoder| DecoderContext {
                source_len: decoder.source_len,
                bias: decoder.bias.clone(),
                position_biases: RefCell::default(),
            }),
        }
    }
}
