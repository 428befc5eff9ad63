//! What decoders share: continuing texts token by token.

use std::cell::RefCell;

use burn::tensor::Tensor;
use distill_ops::{AttentionBias, Dropout, Scores};

use crate::key_value_cache::KeyValueCache;
use crate::layer_context::LayerContext;
use crate::layer_output::{Tokens, Wanted};
use crate::model::{Forward, ModelInput};

/// [`crate::Model::next_logits`] of a model whose head reads the last hidden state.
pub(crate) fn next_logits(model: &impl Forward, input: &ModelInput, cache: &mut KeyValueCache) -> Tensor<2> {
    let encoder = model.encoder();
    let [rows, new] = input.shape;
    let before = cache.next_positions();
    let seen = [rows, cache.len() + new];
    let mask = cache.extend_mask(&input.host_attention_mask);
    let input = match &input.position_ids {
        Some(_) => input.clone(),
        None => input.clone().with_positions(positions(&input.host_attention_mask, &before, new)),
    };
    let held = RefCell::new(std::mem::replace(cache, KeyValueCache::new(0, 0)));
    let context = LayerContext {
        bias: AttentionBias::from_padding_mask(&mask, seen).causal(),
        cache: Some(&held),
        ..encoder.context(&input)
    };
    let mut dropout = Dropout::off();
    let mut hidden = encoder.embed(&input, &mut dropout);
    let layers = encoder.num_hidden_layers();
    for n in 0..layers {
        let tokens = if n + 1 == layers { Tokens::Last } else { Tokens::All };
        let wanted = Wanted { tokens, scores: Scores::Discard, queries_keys_values: false };
        hidden = encoder.layer(n, hidden, wanted, &context, &mut dropout).hidden;
    }
    let last = encoder.finish(hidden, &context, &mut dropout);
    drop(context);
    *cache = held.into_inner();
    cache.advance(new);
    model.head(&last, &mut dropout).logits.tensor()
}

/// The place of each token of rows that are padded on the left, after `before` tokens; padding stands at 0.
fn positions(mask: &[u8], before: &[u32], new: usize) -> Vec<u32> {
    let rows = mask.chunks(new.max(1)).zip(before);
    rows.flat_map(|(row, &before)| {
        row.iter().scan(before, |next, &kept| {
            let place = *next;
            *next += u32::from(kept);
            Some(if kept == 0 { 0 } else { place })
        })
    })
    .collect()
}

/// Keys and values, `[batch, seq, kv_heads, head_size]`, with those of earlier tokens before them where there is a cache:
/// `[batch, kv_heads, len, head_size]`.
pub(crate) fn with_earlier(
    n: usize,
    keys: Tensor<4>,
    values: Tensor<4>,
    context: &LayerContext<'_>,
) -> [Tensor<4>; 2] {
    match context.cache {
        Some(cache) => cache.borrow_mut().extend(n, keys, values),
        None => [keys.swap_dims(1, 2), values.swap_dims(1, 2)],
    }
}

#[cfg(test)]
mod tests {
    use super::positions;

    #[test]
    fn padding_on_the_left_does_not_count() {
        assert_eq!(positions(&[0, 0, 1, 1, 1, 1, 1, 1], &[0, 0], 4), [0, 0, 0, 1, 0, 1, 2, 3]);
        assert_eq!(positions(&[1, 1], &[2, 4], 1), [2, 4]);
    }
}
