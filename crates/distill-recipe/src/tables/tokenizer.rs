//! `[tokenizer]`: a tokenizer of its own, or one trained from the recipe's texts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::Table;
use crate::fault::Fault;
use crate::node::Node;

/// What `[tokenizer]` says: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "tokenizer_name_or_path": "path", "tokenizer_path": "path", "tokenizer_name": "path",
    "file": "path"
}))]
pub struct TokenizerTable {
    /// A folder, or the hub id of a model, with `tokenizer.json`, `vocab.txt`, or `vocab.json` and `merges.txt`.
    #[schemars(length(min = 1))]
    pub path: Option<String>,
    /// Train a tokenizer from the texts of `data.train`.
    pub train: Option<TokenizerTraining>,
}

/// How a tokenizer is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-aliases" = {
    "type": "kind", "model": "kind", "do_lower_case": "lowercase", "lower_case": "lowercase",
    "size": "vocab_size"
}))]
pub struct TokenizerTraining {
    /// Kind of tokenizer: `wordpiece` (as BERT), `bpe` (byte level, as RoBERTa) or `gpt2` (byte level, for decoders); default `wordpiece`.
    pub kind: TokenizerKind,
    /// Size of the vocabulary, special tokens included; tokens, at least 100, default 4000.
    #[schemars(range(min = 100))]
    pub vocab_size: usize,
    /// How often a pair must occur to become a token; count, at least 1, default 2.
    #[schemars(range(min = 1))]
    pub min_frequency: u64,
    /// Whether letters are lowered (and, for WordPiece, accents removed) first; default `true`, for `gpt2` `false`.
    pub lowercase: Option<bool>,
}

impl TokenizerTraining {
    /// Whether letters are lowered first.
    pub fn lowercase(&self) -> bool {
        // What a decoder learns in lower case it writes in lower case.
        self.lowercase.unwrap_or(self.kind != TokenizerKind::Gpt2)
    }
}

impl Default for TokenizerTraining {
    fn default() -> Self {
        Self { kind: TokenizerKind::Wordpiece, vocab_size: 4000, min_frequency: 2, lowercase: None }
    }
}

/// Kinds of tokenizer that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-aliases" = {
    "word_piece": "wordpiece", "WordPiece": "wordpiece", "bert": "wordpiece",
    "byte_bpe": "bpe", "bytelevel": "bpe", "roberta": "bpe",
    "gpt": "gpt2", "decoder": "gpt2"
}))]
pub enum TokenizerKind {
    /// WordPiece, as BERT has it: words split at spaces and punctuation, then the longest match.
    Wordpiece,
    /// Byte-level byte-pair encoding, as RoBERTa has it.
    Bpe,
    /// Byte-level byte-pair encoding, as GPT-2 has it: nothing is put around a text.
    Gpt2,
}

impl Table for TokenizerTable {
    const KEY: &'static str = "tokenizer";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        match (written.get("path"), written.get("train")) {
            (Some(path), Some(train)) => faults.push(
                Fault::new("`[tokenizer]` must have `path` or `train`, not both", path.key_label())
                    .with_label(train.key_label())
                    .with_help("`path` takes a tokenizer as it is, `train` makes one; remove one"),
            ),
            // Another key stood for one of them, and has its fault.
            (None, None) if written.as_table().is_some_and(|table| !table.is_empty()) => {}
            (None, None) => faults.push(
                Fault::new("`[tokenizer]` must have `path` or `train`", written.key_label())
                    .with_help("for the tokenizer of the model remove `[tokenizer]`"),
            ),
            _ => {}
        }
    }
}
