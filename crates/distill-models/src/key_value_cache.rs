//! Keys and values of the tokens that a model has read, so that generating reads each token once.

use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_ops::append_rows;

/// The keys and values of every layer for some rows of text, in memory that is there from the start.
#[derive(Debug)]
pub struct KeyValueCache {
    /// Of the layers that have been run, each `[rows, capacity, kv_heads · head_size]`.
    layers: Vec<Option<[Tensor<3>; 2]>>,
    /// Of layers that look at an encoder's tokens.
    cross: Vec<[Tensor<4>; 2]>,
    /// Tokens a row that have been read.
    len: usize,
    capacity: usize,
    /// 1 for a token, 0 for padding, of each row's tokens so far.
    attention_mask: Vec<Vec<u8>>,
    /// The same of the encoder's tokens.
    source_mask: Vec<Vec<u8>>,
}

impl KeyValueCache {
    /// An empty cache for `rows` rows of at most `capacity` tokens.
    pub fn new(rows: usize, capacity: usize) -> Self {
        Self {
            layers: Vec::new(),
            cross: Vec::new(),
            len: 0,
            capacity,
            attention_mask: vec![Vec::new(); rows],
            source_mask: vec![Vec::new(); rows],
        }
    }

    /// Rows of text.
    pub fn rows(&self) -> usize {
        self.attention_mask.len()
    }

    /// Tokens a row, padding counted, that have been read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens a row for which there is room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Goes on with these rows, in this order; a row may be named several times.
    pub fn select(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.rows()) {
            return;
        }
        let pick = |masks: &[Vec<u8>]| rows.iter().map(|&row| masks[row].clone()).collect();
        self.attention_mask = pick(&self.attention_mask);
        self.source_mask = pick(&self.source_mask);
        let index = |device: &Device| {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            Tensor::<1, Int>::from_data(TensorData::new(rows, [self.attention_mask.len()]), device)
        };
        for layer in &mut self.layers {
            *layer = layer.take().map(|both| {
                both.map(|x| {
                    let index = index(&x.device());
                    x.select(0, index)
                })
            });
        }
        for both in &mut self.cross {
            *both = both.clone().map(|x| {
                let index = index(&x.device());
                x.select(0, index)
            });
        }
    }

    /// Notes which of the tokens that come next are padding, `[rows, new]` row by row, and returns the mask of all so
    /// far, `[rows, len + new]`.
    pub(crate) fn extend_mask(&mut self, mask: &[u8]) -> Vec<u8> {
        let new = mask.len() / self.rows().max(1);
        for (row, mask) in self.attention_mask.iter_mut().zip(mask.chunks(new.max(1))) {
            row.extend_from_slice(mask);
        }
        self.attention_mask.concat()
    }

    /// The mask of the encoder's tokens, `[rows, source]`.
    pub(crate) fn source_mask(&self) -> Vec<u8> {
        self.source_mask.concat()
    }

    pub(crate) fn set_source_mask(&mut self, mask: &[u8]) {
        let len = mask.len() / self.rows().max(1);
        self.source_mask = mask.chunks(len.max(1)).map(<[u8]>::to_vec).collect();
    }

    /// Where each row's next token stands, padding not counted.
    pub(crate) fn next_positions(&self) -> Vec<u32> {
        self.attention_mask.iter().map(|mask| mask.iter().map(|&kept| u32::from(kept)).sum()).collect()
    }

    /// Adds the keys and values of new tokens, `[rows, new, kv_heads, head_size]`, to those of layer `n`, and returns
    /// all, `[rows, kv_heads, len + new, head_size]`.
    pub(crate) fn extend(&mut self, n: usize, keys: Tensor<4>, values: Tensor<4>) -> [Tensor<4>; 2] {
        let [rows, new, heads, size] = keys.dims();
        if self.layers.len() <= n {
            self.layers.resize(n + 1, None);
        }
        let (at, capacity) = (self.len, self.capacity.max(self.len + new));
        let [all_keys, all_values] = self.layers[n].take().unwrap_or_else(|| {
            let empty = || Tensor::zeros([rows, capacity, heads * size], &keys.device());
            [empty(), empty()]
        });
        let flat = |x: Tensor<4>| x.reshape([rows, new, heads * size]);
        let both = [append_rows(all_keys, flat(keys), at), append_rows(all_values, flat(values), at)];
        self.layers[n] = Some(both.clone());
        // Rows with gaps between them would be copied if they were reshaped.
        both.map(|x| {
            let capacity = x.dims()[1];
            x.reshape([rows, capacity, heads, size]).narrow(1, 0, at + new).swap_dims(1, 2)
        })
    }

    /// Counts the tokens that every layer has added.
    pub(crate) fn advance(&mut self, new: usize) {
        self.len += new;
    }

    /// The keys and values that layer `n` of the decoder sees of the encoder, computed by `make` the first time.
    pub(crate) fn cross(&mut self, n: usize, make: impl FnOnce() -> [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        if self.cross.len() == n {
            self.cross.push(make());
        }
        self.cross[n].clone()
    }
}
