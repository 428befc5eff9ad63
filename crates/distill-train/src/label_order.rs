//! The same labels in another order: matched by their names.

use burn::tensor::{Int, Tensor, TensorData};
use distill_models::Model;

/// The parameters whose rows are labels, by their names in every architecture.
const OUTPUT_LAYER: [&str; 4] =
    ["classifier.weight", "classifier.bias", "classifier.out_proj.weight", "classifier.out_proj.bias"];

/// For each of `labels` its place in `names`; `None` unless both name the same ones.
pub fn label_order(names: &[String], labels: &[String]) -> Option<Vec<usize>> {
    let place = |label| names.iter().position(|name| name == label);
    let order: Vec<usize> = labels.iter().map(place).collect::<Option<_>>()?;
    (names.len() == labels.len()).then_some(order)
}

/// Puts the rows of a classifier into this order: what was label `order[i]` becomes label `i`.
pub fn reorder_head(model: &mut dyn Model, order: &[usize]) {
    let places: Vec<i64> = order.iter().map(|&place| place as i64).collect();
    model.update(&mut |parameter, value| {
        if !OUTPUT_LAYER.contains(&parameter.name.as_str()) || parameter.shape.first() != Some(&order.len()) {
            return value;
        }
        let width: usize = parameter.shape[1..].iter().product();
        let rows = TensorData::new(places.clone(), [places.len()]);
        let rows = Tensor::<1, Int>::from_data(rows, &value.device());
        value.reshape([order.len(), width]).select(0, rows).reshape([order.len() * width])
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_matched_by_name_or_not_at_all() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let order = |one: &[&str], other: &[&str]| label_order(&names(one), &names(other));
        assert_eq!(order(&["a", "b", "c"], &["c", "a", "b"]), Some(vec![2, 0, 1]));
        assert_eq!(order(&["a", "b"], &["a", "c"]), None);
        assert_eq!(order(&["a", "b", "c"], &["a", "b"]), None);
        assert_eq!(order(&["a"], &["a", "b"]), None);
    }
}
