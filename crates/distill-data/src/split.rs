//! Rows held out for validation, and subsets: seeded, and the same for any number of threads.
use crate::error::DataError;
use crate::shuffle::{Purpose, Shuffler};

/// Rows of a data set in two parts, both ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to validate on.
    pub validation: Vec<usize>,
}

/// Splits rows so that each class has the same share in both parts.
///
/// `round(fraction · rows)` rows are held out, shared among the classes by largest remainder (ties
/// to the lower id). Beyond that, a class of two rows or more gives at least one to each part, and a
/// class of one row stays in training. `fraction` 0 holds out nothing.
///
/// # Errors
/// [`DataError::Fraction`] unless 0 ≤ `fraction` < 1.
pub fn stratified_split(labels: &[u32], fraction: f64, seed: u64) -> Result<Split, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Fraction { found: fraction });
    }
    let classes = labels.iter().max().map_or(0, |highest| *highest as usize + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        rows[*label as usize].push(row);
    }
    let sizes: Vec<usize> = rows.iter().map(Vec::len).collect();
    let quotas = quotas(&sizes, fraction);
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (class, (mut rows, quota)) in rows.into_iter().zip(quotas).enumerate() {
        Shuffler::new(seed, Purpose::Split, class as u64).shuffle(&mut rows);
        train.extend(rows.split_off(quota));
        validation.extend(rows);
    }
    train.sort_unstable();
    validation.sort_unstable();
    Ok(Split { train, validation })
}

/// Rows of each class that are held out.
fn quotas(sizes: &[usize], fraction: f64) -> Vec<usize> {
    if fraction == 0.0 {
        return vec![0; sizes.len()];
    }
    let rows: usize = sizes.iter().sum();
    let shares: Vec<f64> = sizes.iter().map(|size| *size as f64 * fraction).collect();
    let mut quotas: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let missing = ((rows as f64 * fraction).round() as usize).saturating_sub(quotas.iter().sum());
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|a, b| shares[*b].fract().total_cmp(&shares[*a].fract()).then(a.cmp(b)));
    for class in by_remainder.into_iter().take(missing) {
        quotas[class] += 1;
    }
    for (quota, size) in quotas.iter_mut().zip(sizes) {
        *quota = if *size < 2 { 0 } else { (*quota).clamp(1, size - 1) };
    }
    quotas
}

/// `max_rows` of `rows` rows, drawn without replacement, ascending; all of them if there are no more.
pub fn seeded_subset(rows: usize, max_rows: usize, seed: u64) -> Vec<usize> {
    let mut subset: Vec<usize> = (0..rows).collect();
    if max_rows < rows {
        Shuffler::new(seed, Purpose::Subset, 0).shuffle(&mut subset);
        subset.truncate(max_rows);
        subset.sort_unstable();
    }
    subset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[usize], labels: &[u32], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        rows.iter().for_each(|row| counts[labels[*row] as usize] += 1);
        counts
    }

    #[test]
    fn every_row_is_in_one_part_and_classes_keep_their_share() {
        let labels: Vec<u32> = (0..1000).map(|row| [0, 0, 0, 0, 0, 1, 1, 1, 2, 2][row % 10]).collect();
        let split = stratified_split(&labels, 0.05, 42).unwrap();
        assert_eq!(counts(&split.validation, &labels, 3), [25, 15, 10]);
        let mut all = [split.train.clone(), split.validation.clone()].concat();
        assert!(split.train.is_sorted() && split.validation.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(split, stratified_split(&labels, 0.05, 42).unwrap());
        assert_ne!(split, stratified_split(&labels, 0.05, 43).unwrap());
    }

    #[test]
    fn remainders_go_to_the_largest_and_small_classes_are_in_both_parts() {
        assert_eq!(quotas(&[14, 13, 13], 0.1), [2, 1, 1]);
        assert_eq!(quotas(&[100, 3, 2, 1, 0], 0.05), [5, 1, 1, 0, 0]);
        assert_eq!(quotas(&[2, 2], 0.9), [1, 1]);
        assert_eq!(quotas(&[100, 100], 0.0), [0, 0]);
    }

    #[test]
    fn the_fraction_is_checked() {
        for fraction in [-0.1, 1.0, 5.0, f64::NAN] {
            assert!(matches!(stratified_split(&[0, 1], fraction, 1), Err(DataError::Fraction { .. })));
        }
        assert_eq!(stratified_split(&[], 0.1, 1).unwrap(), Split { train: vec![], validation: vec![] });
    }

    #[test]
    fn subsets_are_ascending_and_distinct() {
        let subset = seeded_subset(100, 10, 7);
        assert_eq!(subset.len(), 10);
        assert!(subset.windows(2).all(|pair| pair[0] < pair[1]) && subset[9] < 100);
        assert_eq!(seeded_subset(3, 10, 7), [0, 1, 2]);
        assert_eq!(subset, seeded_subset(100, 10, 7));
        assert_ne!(subset, seeded_subset(100, 10, 8));
    }
}
