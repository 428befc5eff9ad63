//! Operands that are packed once for several products.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use burn::backend::flex::FlexTensor;
use burn::tensor::Bytes;

use crate::flex_op::{matrix, values};
use crate::kernels::{Matrix, PackedRight};
use crate::precision::Precision;

/// Which part of whose memory was packed, and for what.
#[derive(Debug, Clone)]
struct Source {
    /// Keeps the memory's address from being used again, not the memory; whoever changes the values in place finds the
    /// memory shared, and moves them.
    memory: Weak<Bytes>,
    /// Where the values begin, and how they lie.
    part: [usize; 4],
    precision: Precision,
}

impl Source {
    fn new(precision: Precision, tensor: &FlexTensor, b: Matrix<'_>) -> Self {
        let part = [tensor.layout().start_offset(), b.rows, b.columns, b.row_stride];
        Self { memory: Arc::downgrade(&tensor.data_arc()), part, precision }
    }

    fn is(&self, other: &Self) -> bool {
        self.memory.ptr_eq(&other.memory)
            && self.memory.strong_count() > 0
            && self.part == other.part
            && self.precision == other.precision
    }
}

thread_local! {
    /// The latest input: queries, keys and values have the same.
    static INPUT: RefCell<Option<(Source, Weak<PackedRight>)>> = const { RefCell::new(None) };
}

/// `x`, `[rows, inputs]`, as the right operand of a weight's gradient.
pub(crate) fn packed_input(precision: Precision, x: &FlexTensor) -> Arc<PackedRight> {
    let source = Source::new(precision, x, matrix(x));
    let known = INPUT.with_borrow(|input| {
        input.as_ref().filter(|(known, _)| known.is(&source)).and_then(|(_, packed)| packed.upgrade())
    });
    known.unwrap_or_else(|| {
        let packed = Arc::new(PackedRight::new(precision, matrix(x)));
        INPUT.replace(Some((source, Arc::downgrade(&packed))));
        packed
    })
}

/// Packed weights by the address of what was packed and the stride of its rows as they were read, which is another one
/// for a weight and for the same weight transposed.
type Weights = HashMap<[usize; 2], (Source, Arc<PackedRight>)>;

/// The weights of models that only predict, and those that stay as they are while others learn.
static WEIGHTS: LazyLock<Mutex<Weights>> = LazyLock::new(Mutex::default);

/// `weight`, seen as `b`, as the right operand of products; kept as long as the weight lives.
pub(crate) fn packed_weight(precision: Precision, weight: &FlexTensor, b: Matrix<'_>) -> Arc<PackedRight> {
    let source = Source::new(precision, weight, b);
    let mut weights = WEIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(packed) = known(&weights, &source, weight, b) {
        return packed;
    }
    weights.retain(|_, (source, _)| source.memory.strong_count() > 0);
    let packed = Arc::new(PackedRight::new(precision, b));
    weights.insert(key(weight, b), (source, packed.clone()));
    packed
}

/// Whether a weight is packed already.
pub(crate) fn is_packed(precision: Precision, weight: &FlexTensor, b: Matrix<'_>) -> bool {
    let weights = WEIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
    known(&weights, &Source::new(precision, weight, b), weight, b).is_some()
}

fn key(weight: &FlexTensor, b: Matrix<'_>) -> [usize; 2] {
    [values(weight).as_ptr() as usize, b.row_stride]
}

fn known(weights: &Weights, source: &Source, weight: &FlexTensor, b: Matrix<'_>) -> Option<Arc<PackedRight>> {
    let (known, packed) = weights.get(&key(weight, b))?;
    known.is(source).then(|| packed.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flex_op::tensor_of;
    use crate::test_support::numbers;

    #[test]
    fn the_same_values_are_packed_once_and_others_anew() {
        let tensor = |seed| tensor_of(numbers(40 * 50, seed, 1.0), [40, 50]);
        let (a, b) = (tensor(1), tensor(2));
        let of_weight = |precision, w: &FlexTensor| packed_weight(precision, w, matrix(w).transposed());
        check(&packed_input, [&a, &b]);
        check(&of_weight, [&a, &b]);
    }

    fn check(packed: &dyn Fn(Precision, &FlexTensor) -> Arc<PackedRight>, [a, b]: [&FlexTensor; 2]) {
        let first = packed(Precision::F32, a);
        assert!(Arc::ptr_eq(&first, &packed(Precision::F32, &a.clone())));
        assert!(!Arc::ptr_eq(&first, &packed(Precision::Bf16, a)));
        assert!(!Arc::ptr_eq(&first, &packed(Precision::F32, b)));
        assert!(!Arc::ptr_eq(&first, &packed(Precision::F32, &a.reshape([50, 40].into()))));
    }

    #[test]
    fn a_weight_and_its_transpose_are_both_kept() {
        for shape in [[40, 50], [40, 40], [1, 40], [40, 1]] {
            let weight = tensor_of(numbers(shape[0] * shape[1], 3, 1.0), shape);
            let packed = |b| packed_weight(Precision::Bf16, &weight, b);
            let there = packed(matrix(&weight));
            let back = packed(matrix(&weight).transposed());
            assert!(!Arc::ptr_eq(&there, &back));
            if shape[0] > 1 && shape[1] > 1 {
                assert!(Arc::ptr_eq(&there, &packed(matrix(&weight))));
                assert!(Arc::ptr_eq(&back, &packed(matrix(&weight).transposed())));
            }
        }
    }

    #[test]
    fn values_that_change_in_place_are_packed_anew() {
        let mut weight = tensor_of(numbers(64, 1, 1.0), [8, 8]);
        let first = packed_weight(Precision::F32, &weight, matrix(&weight).transposed());
        weight.storage_mut::<f32>()[0] += 1.0;
        assert!(!Arc::ptr_eq(&first, &packed_weight(Precision::F32, &weight, matrix(&weight).transposed())));
    }

    #[test]
    fn weights_that_are_gone_are_forgotten() {
        let weight = tensor_of(numbers(64, 1, 1.0), [8, 8]);
        let packed = Arc::downgrade(&packed_weight(Precision::F32, &weight, matrix(&weight).transposed()));
        drop(weight);
        let other = tensor_of(numbers(64, 2, 1.0), [8, 8]);
        let _other = packed_weight(Precision::F32, &other, matrix(&other).transposed());
        assert!(packed.upgrade().is_none());
    }
}
