//! `[augment]`: changed copies of the training texts, labelled by the teacher.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::Table;
use crate::fault::Fault;
use crate::node::Node;

/// What `[augment]` says; Jiao et al. 2020, Algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "method": "replacements", "n": "copies", "num_copies": "copies", "p": "probability",
    "k": "candidates", "top_k": "candidates", "model": "path"
}))]
pub struct AugmentTable {
    /// Where replacements come from: `embeddings` (the nearest words by embedding) or `masked_lm` (the likeliest words at that place); default `embeddings`.
    pub replacements: ReplacementsChoice,
    /// The model that names them, a folder or hub id; default the teacher.
    #[schemars(length(min = 1))]
    pub path: Option<String>,
    /// Changed copies of each text; copies, at least 1, default 10.
    #[schemars(range(min = 1))]
    pub copies: usize,
    /// Part of the words that are replaced; probability above 0, at most 1, default 0.4.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub probability: f64,
    /// Words to choose a replacement from; words, at least 1, default 15.
    #[schemars(range(min = 1))]
    pub candidates: usize,
}

impl Default for AugmentTable {
    fn default() -> Self {
        Self {
            replacements: ReplacementsChoice::Embeddings,
            path: None,
            copies: 10,
            probability: 0.4,
            candidates: 15,
        }
    }
}

/// Sources of replacements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = { "glove": "embeddings", "embedding": "embeddings", "mlm": "masked_lm", "bert": "masked_lm" }))]
pub enum ReplacementsChoice {
    /// The nearest words by the cosine of their embeddings.
    Embeddings,
    /// The likeliest words of a masked language model at that place.
    MaskedLm,
}

impl Table for AugmentTable {
    const KEY: &'static str = "augment";

    fn check(&self, _: &Node, _: &mut Vec<Fault>) {}
}
