//! Candidates by word embedding: the nearest by cosine.

use super::places::{Row, Vocabulary};
use super::ranking::best;
use crate::error::TrainError;
use burn::tensor::{Device, Tensor, TensorData};
use distill_models::Model;
use distill_ops::{Precision, autocast, linear};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Words that are compared with all others in one product.
///
/// The last block is filled up with zeros: products of another height may add in another order.
const BLOCK: usize = 512;

/// The name that every architecture's word embeddings end in.
const TABLE: &str = "word_embeddings.weight";

/// The nearest neighbours of words, computed when a word first occurs.
pub(super) struct Neighbours {
    /// Embeddings of the words, each of length 1: `[words, hidden]`.
    table: Tensor<2>,
    /// The same, row by row.
    rows: Vec<f32>,
    hidden: usize,
    /// Ids of the words, ascending: the row of each.
    ids: Vec<u32>,
    count: usize,
    found: HashMap<u32, Vec<u32>>,
}

impl Neighbours {
    /// Neighbours, `count` of each word, in the word embeddings of `model`.
    pub(super) fn new(
        model: &dyn Model,
        vocabulary: &Vocabulary,
        count: usize,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (values, hidden) = table_of(model)?;
        let mut rows = Vec::with_capacity(vocabulary.ids().len() * hidden);
        for &id in vocabulary.ids() {
            let row = &values[id as usize * hidden..(id as usize + 1) * hidden];
            let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            rows.extend(row.iter().map(|value| (f64::from(*value) * scale) as f32));
        }
        let shape = [vocabulary.ids().len(), hidden];
        let device = device.clone().without_autodiff();
        let table = Tensor::from_data(TensorData::new(rows.clone(), shape), &device);
        Ok(Self { table, rows, hidden, ids: vocabulary.ids().to_vec(), count, found: HashMap::new() })
    }

    /// The candidates of each place of each row.
    pub(super) fn candidates(
        &mut self,
        rows: &[Row],
        interrupt: &AtomicBool,
    ) -> Result<Vec<Vec<Vec<u32>>>, TrainError> {
        let mut new: Vec<u32> = rows.iter().flat_map(|row| &row.places).map(|place| place.id).collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|id| !self.found.contains_key(id));
        for block in new.chunks(BLOCK) {
            if interrupt.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted);
            }
            self.find(block);
        }
        let of = |id: u32| self.found.get(&id).cloned().unwrap_or_default();
        Ok(rows.iter().map(|row| row.places.iter().map(|place| of(place.id)).collect()).collect())
    }

    fn find(&mut self, block: &[u32]) {
        let mut queries = Vec::with_capacity(BLOCK * self.hidden);
        for id in block {
            let row = self.ids.binary_search(id).unwrap_or_default();
            queries.extend(&self.rows[row * self.hidden..(row + 1) * self.hidden]);
        }
        queries.resize(BLOCK * self.hidden, 0.0);
        let queries = TensorData::new(queries, [BLOCK, self.hidden]);
        let queries = Tensor::<2>::from_data(queries, &self.table.device());
        // In f32 whatever the run multiplies in: cosines of neighbours are close to each other.
        let cosines = autocast(Precision::F32, || linear(queries, self.table.clone(), None));
        let cosines: Vec<f32> = cosines.into_data().iter::<f32>().collect();
        for (id, cosines) in block.iter().zip(cosines.chunks(self.ids.len().max(1))) {
            let others =
                self.ids.iter().copied().zip(cosines.iter().copied()).filter(|(other, _)| other != id);
            self.found.insert(*id, best(others, self.count));
        }
    }
}

/// The word embeddings, row by row, and how wide a row is.
fn table_of(model: &dyn Model) -> Result<(Vec<f32>, usize), TrainError> {
    let mut table = None;
    model.visit(&mut |parameter, values| {
        if parameter.name.ends_with(TABLE) {
            let width = parameter.shape.last().copied().unwrap_or(0);
            table = Some((values.into_data().iter::<f32>().collect(), width));
        }
    });
    table.ok_or_else(|| TrainError::Unusable {
        message: format!("the model has no `{TABLE}`, in which words could be compared"),
        help: "take another model to augment with".to_owned(),
    })
}
