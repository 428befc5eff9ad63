//! The special tokens, by role.
//!
//! `tokenizer_config.json` names them, then `special_tokens_map.json`; where neither does, the
//! names that BERT and RoBERTa use are looked for among the tokenizer's special tokens.

use serde_json::Value;
use tokenizers::Tokenizer as FastTokenizer;

/// A special token, with its id if the vocabulary has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SpecialToken {
    pub(super) found: Option<(String, u32)>,
}

impl SpecialToken {
    pub(super) fn id(&self) -> Option<u32> {
        self.found.as_ref().map(|(_, id)| *id)
    }
}

/// The five roles that encoders know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) pad: SpecialToken,
    pub(super) unk: SpecialToken,
    pub(super) cls: SpecialToken,
    pub(super) sep: SpecialToken,
    pub(super) mask: SpecialToken,
}

impl SpecialTokens {
    /// Finds the five roles in a tokenizer.
    pub(super) fn resolve(inner: &FastTokenizer, names: &Names<'_>) -> Self {
        let find = |role, usual: &[&str]| {
            let named = names.token(role).and_then(|token| inner.token_to_id(&token).map(|id| (token, id)));
            let found = named.or_else(|| {
                usual.iter().find_map(|token| {
                    let id = inner.token_to_id(token)?;
                    let added = inner.get_added_tokens_decoder();
                    added.get(&id).is_some_and(|added| added.special).then(|| ((*token).to_owned(), id))
                })
            });
            SpecialToken { found }
        };
        Self {
            pad: find("pad_token", &["[PAD]", "<pad>"]),
            unk: find("unk_token", &["[UNK]", "<unk>"]),
            cls: find("cls_token", &["[CLS]", "<s>"]),
            sep: find("sep_token", &["[SEP]", "</s>"]),
            mask: find("mask_token", &["[MASK]", "<mask>"]),
        }
    }

    /// Ids of the roles that the vocabulary has.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        [&self.pad, &self.unk, &self.cls, &self.sep, &self.mask].map(SpecialToken::id).into_iter().flatten()
    }
}

/// Names of special tokens as the folder's two JSON files give them.
pub(super) struct Names<'a> {
    pub(super) tokenizer_config: Option<&'a Value>,
    pub(super) special_tokens_map: Option<&'a Value>,
}

impl Names<'_> {
    /// The token of a role such as `pad_token`; written as a string or as `{"content": ...}`.
    pub(super) fn token(&self, role: &str) -> Option<String> {
        [self.tokenizer_config, self.special_tokens_map]
            .into_iter()
            .flatten()
            .find_map(|file| content(file.get(role)?))
    }

    /// Special tokens beyond the roles.
    pub(super) fn additional(&self) -> Vec<String> {
        [self.tokenizer_config, self.special_tokens_map]
            .into_iter()
            .flatten()
            .find_map(|file| file.get("additional_special_tokens")?.as_array())
            .map(|tokens| tokens.iter().filter_map(content).collect())
            .unwrap_or_default()
    }
}

fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}
