//! T5, versions 1.0 and 1.1; Raffel et al. 2019 (arXiv:1910.10683), Shazeer 2020 (arXiv:2002.05202).
//!
//! Follows `T5Stack`, `T5Block`, `T5Attention`, `T5LayerFF` and `T5ForConditionalGeneration` in Transformers'
//! `models/t5/modeling_t5.py`.
//!
//! Both halves are one stack of layers here: the hidden state holds the tokens of the source and behind them those of
//! the target. A layer of the encoder changes the first part, one of the decoder the second.

#![allow(non_snake_case)] // fields are named as in checkpoints: `SelfAttention`

use std::cell::RefCell;

use burn::module::Module;
use burn::tensor::Tensor;
use distill_ops::{AttentionBias, Dropout};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, TaskKind};
use crate::config::{read_keys, read_scratch};
use crate::key_value_cache::KeyValueCache;
use crate::layer_context::{DecoderContext, LayerContext};
use crate::layer_output::{Kept, LayerOutput, Tokens, Wanted};
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::logits::Logits;
use crate::model::{
    Encoder, Forward, ForwardOptions, HeadOutput, Model, ModelInput, ModelOutput, ModuleModel,
};
use crate::t5_block::{Half, T5Block, norm};
use crate::t5_config::{T5Config, T5Scratch};
use crate::weights::{Init, Weights};
use crate::{BaseModelConfig, Sizes, Task};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    model_type: "t5",
    class: "T5",
    tasks: &[TaskKind::Seq2SeqLm],
    parse: |keys| {
        let config: T5Config = read_keys(keys)?;
        config.check().finish_first()?;
        Ok(Box::new(config))
    },
    scratch: |table, vocabulary| {
        let config = read_scratch::<T5Scratch>(table)?.into_config(vocabulary);
        config.check().finish()?;
        Ok(Box::new(config))
    },
    schema: || schemars::schema_for!(T5Scratch),
};

impl BaseModelConfig for T5Config {
    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.d_model,
            embedding_size: self.d_model,
            num_hidden_layers: self.num_layers + self.decoder_layers(),
            num_attention_heads: self.num_heads,
            intermediate_size: self.d_ff,
            // Distances have no end; what memory allows is another matter.
            max_length: usize::MAX,
            reserved_positions: 0,
            pad_token_id: self.pad_token_id,
            type_vocab_size: 1,
            initializer_range: self.initializer_factor,
        }
    }

    fn approximate_parameters(&self) -> u64 {
        self.parameters()
    }

    fn decoder_start_token_id(&self) -> Option<u32> {
        Some(self.start_token())
    }

    fn to_json(&self) -> Map<String, Value> {
        T5Config::to_json(self)
    }

    fn set_dropout(&mut self, p: f64) {
        self.dropout_rate = p;
    }

    fn build(&self, _: &Task, weights: &Weights) -> Box<dyn Model> {
        let device = weights.device();
        // Of T5 1.1 and Flan-T5 the output layer is one of its own, whatever newer configurations say.
        let untied = weights.has("lm_head.weight")
            && (!self.tie_word_embeddings || self.scale_decoder_outputs == Some(false));
        for name in ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"] {
            weights.tied(name);
        }
        if !untied {
            weights.tied("lm_head.weight");
        }
        let factor = self.initializer_factor;
        let head = || {
            let init = Init::NormalOf(factor);
            Linear::without_bias_from(&weights.child("lm_head"), self.d_model, self.vocab_size, init)
        };
        let shared = weights.child("shared");
        let model = T5ForConditionalGeneration {
            shared: Embedding::with_init(&shared, self.vocab_size, self.d_model, Init::NormalOf(factor)),
            encoder: T5Stack::new(&weights.child("encoder"), self, Half::Encoder),
            decoder: T5Stack::new(&weights.child("decoder"), self, Half::Decoder),
            lm_head: untied.then(head),
            dropout_rate: self.dropout_rate,
            scale: if self.scales_outputs() { (self.d_model as f64).sqrt().recip() } else { 1.0 },
        };
        ModuleModel::boxed(model, &device)
    }

    fn clone_box(&self) -> Box<dyn BaseModelConfig> {
        Box::new(self.clone())
    }
}

#[derive(Module, Debug)]
struct T5ForConditionalGeneration {
    shared: Embedding,
    encoder: T5Stack,
    decoder: T5Stack,
    lm_head: Option<Linear>,
    #[module(skip)]
    dropout_rate: f64,
    /// What the last hidden states are multiplied by.
    #[module(skip)]
    scale: f64,
}

#[derive(Module, Debug)]
struct T5Stack {
    block: Vec<T5Block>,
    final_layer_norm: RmsNorm,
}

impl T5Stack {
    fn new(weights: &Weights, config: &T5Config, half: Half) -> Self {
        let layers = match half {
            Half::Encoder => config.num_layers,
            Half::Decoder => config.decoder_layers(),
        };
        let block = |n: usize| T5Block::new(&weights.child(&format!("block.{n}")), n, config, half);
        Self {
            block: (0..layers).map(block).collect(),
            final_layer_norm: norm(&weights.child("final_layer_norm"), config),
        }
    }
}

impl T5ForConditionalGeneration {
    /// The bias by distance that all layers of a half share, `[1, heads, q_len, k_len]`; its table is the first layer's.
    fn position_bias(&self, half: Half, [q_len, k_len]: [usize; 2], context: &LayerContext<'_>) -> Tensor<4> {
        let stack = match half {
            Half::Encoder => &self.encoder,
            Half::Decoder => &self.decoder,
        };
        let compute = || stack.block[0].attention().position_bias(half, [q_len, k_len]);
        let Some(decoder) = &context.decoder else { return compute() };
        let known = decoder.position_biases.borrow()[half as usize].clone();
        known.unwrap_or_else(|| {
            let bias = compute();
            decoder.position_biases.borrow_mut()[half as usize] = Some(bias.clone());
            bias
        })
    }

    /// Layer `n` of the encoder, and its final norm after the last.
    fn encoder_layer(
        &self,
        n: usize,
        source: Tensor<3>,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let len = source.dims()[1];
        let position_bias = self.position_bias(Half::Encoder, [len, len], context);
        let bias = context.bias.clone().with_bias(position_bias);
        let block = &self.encoder.block[n];
        let source = block.self_attention(n, source, Tokens::All, &bias, None, dropout);
        let source = block.feed_forward(source, dropout);
        if n + 1 < self.encoder.block.len() {
            return source;
        }
        dropout.apply(self.encoder.final_layer_norm.forward(source), self.dropout_rate)
    }

    /// Layer `n` of the decoder; of its last tokens alone where that is all that is wanted.
    fn decoder_layer(
        &self,
        n: usize,
        [source, target]: [Tensor<3>; 2],
        tokens: Tokens,
        bias: &AttentionBias,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let block = &self.decoder.block[n];
        let target = block.self_attention(n, target, tokens, bias, Some(context), dropout);
        let target = block.cross_attention(n, target, source, context, dropout);
        block.feed_forward(target, dropout)
    }
}

impl Encoder for T5ForConditionalGeneration {
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3> {
        let source = dropout.apply(self.shared.forward(input.input_ids.clone()), self.dropout_rate);
        match &input.decoder {
            Some(decoder) => {
                let target = self.shared.forward(decoder.input_ids.clone());
                Tensor::cat(vec![source, dropout.apply(target, self.dropout_rate)], 1)
            }
            None => source,
        }
    }

    fn context(&self, input: &ModelInput) -> LayerContext<'static> {
        LayerContext {
            bias: input.attention_bias.clone(),
            decoder: Some(DecoderContext {
                source_len: input.shape[1],
                bias: AttentionBias::none().causal(),
                position_biases: RefCell::default(),
            }),
            ..LayerContext::default()
        }
    }

    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        _: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput {
        let len = hidden.dims()[1];
        let source_len = context.decoder.as_ref().map_or(len, |decoder| decoder.source_len);
        let part = |from, count| hidden.clone().narrow(1, from, count);
        let layers = self.encoder.block.len();
        let hidden = if n < layers {
            let source = self.encoder_layer(n, part(0, source_len), context, dropout);
            if source_len == len {
                source
            } else {
                Tensor::cat(vec![source, part(source_len, len - source_len)], 1)
            }
        } else {
            let (source, target) = (part(0, source_len), part(source_len, len - source_len));
            let position_bias = self.position_bias(Half::Decoder, [len - source_len; 2], context);
            let of_decoder = context.decoder.as_ref().map(|decoder| decoder.bias.clone()).unwrap_or_default();
            let bias = of_decoder.with_bias(position_bias);
            let both = [source.clone(), target];
            let target = self.decoder_layer(n - layers, both, Tokens::All, &bias, context, dropout);
            Tensor::cat(vec![source, target], 1)
        };
        LayerOutput { hidden, kept: Kept::default() }
    }

    fn num_hidden_layers(&self) -> usize {
        self.encoder.block.len() + self.decoder.block.len()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        self.uses_of(name).map(|[_, last]| last)
    }

    fn first_layer_of(&self, name: &str) -> Option<usize> {
        self.uses_of(name).map(|[first, _]| first)
    }
}

impl T5ForConditionalGeneration {
    /// The first and the last depth at which a parameter is used: the tables of distances are used by all layers of
    /// their half.
    fn uses_of(&self, name: &str) -> Option<[usize; 2]> {
        let layers = self.encoder.block.len();
        if name.starts_with("shared.") {
            return Some([0, 0]);
        }
        let (before, rest, last) = match name.split_once('.')? {
            ("encoder", rest) => (0, rest, layers),
            ("decoder", rest) => (layers, rest, self.num_hidden_layers()),
            _ => return None,
        };
        let Some(rest) = rest.strip_prefix("block.") else {
            // The encoder's norm is part of its last layer, the decoder's belongs to the head.
            return (before == 0).then_some([last, last]);
        };
        let depth = before + rest.split('.').next()?.parse::<usize>().ok()? + 1;
        Some([depth, if rest.contains("relative_attention_bias") { last } else { depth }])
    }
}

impl T5ForConditionalGeneration {
    fn logits(&self, target: Tensor<3>, dropout: &mut Dropout) -> Logits {
        let normed = self.decoder.final_layer_norm.forward(target);
        let last = dropout.apply(normed, self.dropout_rate);
        let last = if self.scale == 1.0 { last } else { last * self.scale };
        match &self.lm_head {
            Some(head) => head.logits(last, dropout),
            None => Logits::of_hidden(last, self.shared.table(), None),
        }
    }
}

impl Forward for T5ForConditionalGeneration {
    fn encoder(&self) -> &dyn Encoder {
        self
    }

    fn reads(&self) -> Tokens {
        Tokens::All
    }

    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput {
        HeadOutput { logits: self.logits(last.clone(), dropout), pooler_output: None }
    }

    fn finish(
        &self,
        last: Tensor<3>,
        hidden_states: Option<Vec<Tensor<3>>>,
        _: Vec<Kept>,
        options: ForwardOptions,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> ModelOutput {
        let len = last.dims()[1];
        let source_len = context.decoder.as_ref().map_or(len, |decoder| decoder.source_len);
        let source = last.clone().narrow(1, 0, source_len);
        let logits = self.logits(last.narrow(1, source_len, len - source_len), dropout);
        let of_encoder = |states: Vec<Tensor<3>>| {
            let states = states.into_iter().take(self.encoder.block.len() + 1);
            states.map(|state| state.narrow(1, 0, source_len)).collect()
        };
        ModelOutput {
            logits,
            last_hidden_state: options.keeps_last().then_some(source),
            pooler_output: None,
            hidden_states: hidden_states.map(of_encoder),
            attention_scores: Vec::new(),
            queries_keys_values: Vec::new(),
        }
    }

    fn next_logits(&self, input: &ModelInput, cache: &mut KeyValueCache) -> Option<Tensor<2>> {
        let mut dropout = Dropout::off();
        let (source, target) = match &input.decoder {
            Some(decoder) => {
                cache.set_source_mask(&input.host_attention_mask);
                let context = self.context(input);
                let mut source = self.shared.forward(input.input_ids.clone());
                for n in 0..self.encoder.block.len() {
                    source = self.encoder_layer(n, source, &context, &mut dropout);
                }
                (Some(source), decoder.input_ids.clone())
            }
            None => (None, input.input_ids.clone()),
        };
        let [rows, new] = target.dims();
        cache.extend_mask(&vec![1; rows * new]);
        let seen = cache.len() + new;
        let source_mask = cache.source_mask();
        let source_shape = [rows, source_mask.len() / rows.max(1)];
        let held = RefCell::new(std::mem::replace(cache, KeyValueCache::new(0, 0)));
        let context = LayerContext {
            bias: AttentionBias::from_padding_mask(&source_mask, source_shape),
            cache: Some(&held),
            ..LayerContext::default()
        };
        let position_bias = self.position_bias(Half::Decoder, [new, seen], &context);
        let bias = AttentionBias::none().causal().with_bias(position_bias);
        let mut hidden = self.shared.forward(target);
        for n in 0..self.decoder.block.len() {
            // The encoder's states are read at the first call alone; their keys and values are kept.
            let source = source.clone().unwrap_or_else(|| hidden.clone());
            hidden = self.decoder_layer(n, [source, hidden], Tokens::All, &bias, &context, &mut dropout);
        }
        drop(context);
        *cache = held.into_inner();
        cache.advance(new);
        Some(self.logits(Tokens::Last.of(&hidden), &mut dropout).tensor())
    }
}
