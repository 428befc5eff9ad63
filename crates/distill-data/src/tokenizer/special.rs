//! The special tokens, by role.
//!
//! `tokenizer_config.json` names them, then `special_tokens_map.json`; where neither does, the ids
//! of `config.json` count for the start and the end of a text, and for other roles the names that
//! are usual are looked for among the tokenizer's special tokens.

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

/// The roles that models know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) pad: SpecialToken,
    pub(super) unk: SpecialToken,
    pub(super) cls: SpecialToken,
    pub(super) sep: SpecialToken,
    pub(super) mask: SpecialToken,
    pub(super) bos: SpecialToken,
    pub(super) eos: SpecialToken,
}

impl SpecialTokens {
    /// Finds the roles in a tokenizer.
    pub(super) fn resolve(inner: &FastTokenizer, names: &Names<'_>) -> Self {
        let find = |role, usual: &[&str]| {
            let named = names.token(role).and_then(|token| inner.token_to_id(&token).map(|id| (token, id)));
            let by_id = || names.id(role).and_then(|id| Some((inner.id_to_token(id)?, id)));
            let usual = || {
                usual.iter().find_map(|token| {
                    let id = inner.token_to_id(token)?;
                    let added = inner.get_added_tokens_decoder();
                    added.get(&id).is_some_and(|added| added.special).then(|| ((*token).to_owned(), id))
                })
            };
            // Encoders' `config.json` has ids of padding that their tokenizers know better.
            let found = match role {
                "bos_token" | "eos_token" => named.or_else(by_id).or_else(usual),
                _ => named.or_else(usual).or_else(by_id),
            };
            SpecialToken { found }
        };
        Self {
            pad: find("pad_token", &["[PAD]", "<pad>"]),
            unk: find("unk_token", &["[UNK]", "<unk>"]),
            cls: find("cls_token", &["[CLS]", "<s>"]),
            sep: find("sep_token", &["[SEP]", "</s>"]),
            mask: find("mask_token", &["[MASK]", "<mask>"]),
            bos: find("bos_token", &["<s>", "<|begin_of_text|>", "<bos>"]),
            eos: find("eos_token", &["</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<eos>"]),
        }
    }

    /// Ids of the roles that the vocabulary has.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        self.roles().map(|(_, token)| token.id()).into_iter().flatten()
    }

    /// Every role by its key in `tokenizer_config.json`.
    pub(super) fn roles(&self) -> [(&'static str, &SpecialToken); 7] {
        [
            ("pad_token", &self.pad),
            ("unk_token", &self.unk),
            ("cls_token", &self.cls),
            ("sep_token", &self.sep),
            ("mask_token", &self.mask),
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
        ]
    }
}

/// Names of special tokens as the folder's JSON files give them.
#[derive(Default)]
pub(super) struct Names<'a> {
    pub(super) tokenizer_config: Option<&'a Value>,
    pub(super) special_tokens_map: Option<&'a Value>,
    /// The model's `config.json`, which has ids.
    pub(super) config: Option<&'a Value>,
}

impl Names<'_> {
    /// The token of a role such as `pad_token`; written as a string or as `{"content": ...}`.
    pub(super) fn token(&self, role: &str) -> Option<String> {
        [self.tokenizer_config, self.special_tokens_map]
            .into_iter()
            .flatten()
            .find_map(|file| content(file.get(role)?))
    }

    /// The id of a role in the model's configuration, as `eos_token_id`; of several the first.
    fn id(&self, role: &str) -> Option<u32> {
        let id = self.config?.get(format!("{role}_id"))?;
        id.as_u64().or_else(|| id.get(0)?.as_u64()).and_then(|id| id.try_into().ok())
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
