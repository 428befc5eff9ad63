//! Which layers of a teacher its student starts from.

use crate::student::StudentError;

/// Which layers of a teacher its student starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerChoice {
    /// So many, evenly spread, the first and the last among them; Sanh et al. 2019, §3 (arXiv:1910.01108).
    ///
    /// Of N layers number `i` of M is `i · (N − 1) / (M − 1)`, rounded, halves up: 6 of 12 are 0, 2, 4, 7, 9 and 11;
    /// 3 of 6 are 0, 3 and 5. One alone is the first.
    Even {
        /// Layers of the student, from 1 to those of the teacher.
        num_hidden_layers: usize,
    },
    /// These, numbered from 0, in ascending order, each once.
    Explicit(Vec<usize>),
}

impl LayerChoice {
    /// The chosen ones of a teacher's `available` layers.
    pub(crate) fn resolve(&self, available: usize) -> Result<Vec<usize>, StudentError> {
        match self {
            Self::Even { num_hidden_layers: 0 } => Err(StudentError::NoLayers { available }),
            Self::Even { num_hidden_layers } if *num_hidden_layers > available => {
                Err(StudentError::TooManyLayers { found: *num_hidden_layers, available })
            }
            Self::Even { num_hidden_layers } => Ok(evenly(*num_hidden_layers, available)),
            Self::Explicit(layers) => {
                if layers.is_empty() {
                    return Err(StudentError::NoLayers { available });
                }
                if let Some(&found) = layers.iter().find(|&&layer| layer >= available) {
                    return Err(StudentError::LayerOutOfRange { found, available });
                }
                if !layers.is_sorted_by(|a, b| a < b) {
                    return Err(StudentError::LayersNotAscending { found: layers.clone() });
                }
                Ok(layers.clone())
            }
        }
    }
}

/// `count` of `available`, at most all of them.
fn evenly(count: usize, available: usize) -> Vec<usize> {
    let gaps = count.saturating_sub(1).max(1);
    (0..count).map(|i| (2 * i * (available - 1) + gaps) / (2 * gaps)).collect()
}

/// Which of the teacher's `groups` of shared layers become the student's, so that each chosen layer keeps its
/// parameters.
///
/// ALBERT tells a layer's group from the numbers of layers and groups alone. Where that rule would give a chosen layer
/// another one's parameters, every layer has a group of its own.
pub(crate) fn shared_groups(layers: &[usize], available: usize, groups: usize) -> Vec<usize> {
    let needed: Vec<_> = layers.iter().map(|layer| layer * groups / available).collect();
    let mut distinct = needed.clone();
    distinct.dedup();
    let keeps = (0..layers.len()).all(|i| distinct[i * distinct.len() / layers.len()] == needed[i]);
    if keeps { distinct } else { needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_choices_are_spread_from_the_first_to_the_last() {
        for (count, available, expected) in [
            (6, 12, vec![0, 2, 4, 7, 9, 11]),
            (3, 6, vec![0, 3, 5]),
            (2, 6, vec![0, 5]),
            (1, 6, vec![0]),
            (1, 1, vec![0]),
            (4, 12, vec![0, 4, 7, 11]),
        ] {
            assert_eq!(LayerChoice::Even { num_hidden_layers: count }.resolve(available).unwrap(), expected);
        }
        for available in 2..30 {
            for count in 2..=available {
                let layers = evenly(count, available);
                assert!(layers.is_sorted_by(|a, b| a < b), "{layers:?}");
                assert_eq!((layers[0], layers[count - 1], layers.len()), (0, available - 1, count));
            }
            assert_eq!(evenly(available, available), (0..available).collect::<Vec<_>>());
        }
    }

    #[test]
    fn choices_that_no_teacher_has_are_refused_with_its_number_of_layers() {
        for (choice, expected) in [
            (
                LayerChoice::Even { num_hidden_layers: 0 },
                "`layers` must name at least one of the teacher's 6 layers",
            ),
            (
                LayerChoice::Even { num_hidden_layers: 7 },
                "`num_hidden_layers` must be at most 6, the layers of the teacher, found `7`",
            ),
            (LayerChoice::Explicit(vec![]), "`layers` must name at least one of the teacher's 6 layers"),
            (
                LayerChoice::Explicit(vec![0, 6]),
                "`layers` must be numbers from 0 to 5, found `6`: the teacher has 6 layers, counted from 0",
            ),
            (
                LayerChoice::Explicit(vec![2, 0]),
                "`layers` must be in ascending order, each layer once, found `[2, 0]`",
            ),
            (
                LayerChoice::Explicit(vec![2, 2]),
                "`layers` must be in ascending order, each layer once, found `[2, 2]`",
            ),
        ] {
            assert_eq!(choice.resolve(6).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn shared_layers_keep_their_groups() {
        // One group serves all.
        assert_eq!(shared_groups(&[0, 3, 5], 6, 1), [0]);
        // Layers 0 and 1 share a group, 2 and 3 the other.
        assert_eq!(shared_groups(&[0, 1, 2, 3], 4, 2), [0, 1]);
        assert_eq!(shared_groups(&[0, 3], 4, 2), [0, 1]);
        assert_eq!(shared_groups(&[2, 3], 4, 2), [1]);
        assert_eq!(shared_groups(&[0, 1, 2], 4, 2), [0, 1]);
        // The rule would have layers 0 and 1 of three share the first group.
        assert_eq!(shared_groups(&[0, 2, 3], 4, 2), [0, 1, 1]);
    }
}
