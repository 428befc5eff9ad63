//! Which of the teacher's layers each of the student's learns from.

use super::Unfit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A layer map as recipes write it: `"uniform"`, `"last"`, or pairs `[[student, teacher], ...]` of layers from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum LayerMap {
    /// By a rule.
    Rule(LayerRule),
    /// By numbers from 0: the student's layer, the teacher's layer.
    Pairs(Vec<(usize, usize)>),
}

/// Rules of layer maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = { "even": "uniform", "top": "last", "skip": "uniform" }))]
#[schemars(extend("x-help" = "or pairs of layers from 0, the student's first: `layer_map = [[0, 1], [1, 3]]`"))]
pub enum LayerRule {
    /// The student's layer m of M (from 1) learns from the teacher's layer `m · N / M` of N, rounded down.
    Uniform,
    /// The student's M layers learn from the last M of the teacher.
    Last,
}

impl Default for LayerMap {
    fn default() -> Self {
        Self::Rule(LayerRule::Uniform)
    }
}

impl LayerMap {
    /// Pairs of layers from 0, the student's first, ascending by the student's; Jiao et al. 2020, §3.1.
    ///
    /// # Errors
    /// [`Unfit`] if a layer is not there.
    pub fn pairs(&self, student: usize, teacher: usize) -> Result<Vec<(usize, usize)>, Unfit> {
        match self {
            Self::Rule(rule) if student > teacher => Err(Unfit::at(
                "layer_map",
                format!(
                    "the student has {student} layers, the teacher {teacher}: `{}` maps none twice",
                    rule.name()
                ),
                "write the pairs: `layer_map = [[0, 0], [1, 0]]`",
            )),
            Self::Rule(LayerRule::Uniform) => {
                Ok((0..student).map(|m| (m, (m + 1) * teacher / student - 1)).collect())
            }
            Self::Rule(LayerRule::Last) => Ok((0..student).map(|m| (m, m + teacher - student)).collect()),
            Self::Pairs(pairs) => {
                let mut pairs = pairs.clone();
                pairs.sort_unstable();
                pairs.dedup();
                for (whose, count, largest) in [
                    ("student", student, pairs.iter().map(|pair| pair.0).max()),
                    ("teacher", teacher, pairs.iter().map(|pair| pair.1).max()),
                ] {
                    if let Some(largest) = largest.filter(|&largest| largest >= count) {
                        return Err(Unfit::at(
                            "layer_map",
                            format!(
                                "`layer_map` names layer {largest} of the {whose}, which has {count} layers"
                            ),
                            format!("layers are numbered from 0 to {}", count.saturating_sub(1)),
                        ));
                    }
                }
                if pairs.is_empty() {
                    return Err(Unfit::at("layer_map", "`layer_map` names no pair", "write `[[0, 1], ...]`"));
                }
                Ok(pairs)
            }
        }
    }
}

impl LayerRule {
    fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Last => "last",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_ends_at_the_last_layer() {
        let uniform = LayerMap::default();
        assert_eq!(uniform.pairs(4, 12), Ok(vec![(0, 2), (1, 5), (2, 8), (3, 11)]));
        assert_eq!(uniform.pairs(3, 6), Ok(vec![(0, 1), (1, 3), (2, 5)]));
        assert_eq!(uniform.pairs(6, 6).map(|pairs| pairs.len()), Ok(6));
        assert!(uniform.pairs(7, 6).is_err());
    }

    #[test]
    fn last_takes_the_top() {
        assert_eq!(LayerMap::Rule(LayerRule::Last).pairs(2, 6), Ok(vec![(0, 4), (1, 5)]));
    }

    #[test]
    fn pairs_must_be_there() {
        let pairs = |pairs: &[(usize, usize)]| LayerMap::Pairs(pairs.to_vec()).pairs(2, 4);
        assert_eq!(pairs(&[(1, 3), (0, 0)]), Ok(vec![(0, 0), (1, 3)]));
        let error = pairs(&[(0, 4)]).expect_err("there is no such layer");
        assert!(error.message.contains("layer 4 of the teacher, which has 4 layers"), "{}", error.message);
        assert!(pairs(&[]).is_err());
    }
}
