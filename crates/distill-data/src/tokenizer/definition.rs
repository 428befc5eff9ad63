//! `tokenizer.json` as a value: the whole of a tokenizer from its vocabulary.
//!
//! Same parts as Hugging Face's converters from vocabulary files (`convert_slow_tokenizer.py`,
//! `BertConverter`, `RobertaConverter`, `GPT2Converter`), so that the ids are the same.

use serde_json::{Map, Value, json};

/// A token outside the model's own splitting, found in the text before anything else.
#[derive(Debug, Clone)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    pub(super) special: bool,
    /// Takes the space before it along, as RoBERTa's `<mask>` does.
    pub(super) lstrip: bool,
}

/// How BERT cleans a text before it is split.
#[derive(Debug, Clone, Copy)]
pub(super) struct BertNormalization {
    pub(super) lowercase: bool,
    /// `None`: as `lowercase`.
    pub(super) strip_accents: Option<bool>,
    pub(super) tokenize_chinese_chars: bool,
}

/// A token and its id.
pub(super) type Token<'a> = (&'a str, u32);

/// WordPiece as BERT uses it, `[CLS] A [SEP]`.
pub(super) fn wordpiece(
    vocab: Map<String, Value>,
    added: &[AddedToken],
    normalization: BertNormalization,
    unk: &str,
    (cls, sep): (Token<'_>, Token<'_>),
) -> Value {
    tokenizer(
        added,
        json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": normalization.tokenize_chinese_chars,
            "strip_accents": normalization.strip_accents,
            "lowercase": normalization.lowercase,
        }),
        json!({ "type": "BertPreTokenizer" }),
        bert_template(cls, sep),
        json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        json!({
            "type": "WordPiece",
            "unk_token": unk,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": MAX_WORD_CHARS,
            "vocab": vocab,
        }),
    )
}

/// Longest word that WordPiece splits, in characters; a longer one is unknown.
pub(super) const MAX_WORD_CHARS: usize = 100;

/// Byte-level BPE as GPT-2 and RoBERTa use it; `post_processor` tells them apart.
pub(super) fn byte_level_bpe(
    vocab: Map<String, Value>,
    merges: Vec<(String, String)>,
    added: &[AddedToken],
    normalizer: Value,
    post_processor: Value,
    add_prefix_space: bool,
) -> Value {
    tokenizer(
        added,
        normalizer,
        json!({
            "type": "ByteLevel",
            "add_prefix_space": add_prefix_space,
            "trim_offsets": true,
            "use_regex": true,
        }),
        post_processor,
        json!({
            "type": "ByteLevel",
            "add_prefix_space": true,
            "trim_offsets": true,
            "use_regex": true,
        }),
        json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": vocab,
            "merges": merges,
        }),
    )
}

/// `[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` for pairs.
pub(super) fn bert_template((cls, cls_id): Token<'_>, (sep, sep_id): Token<'_>) -> Value {
    let special = |id: &str, type_id: u32| json!({ "SpecialToken": { "id": id, "type_id": type_id } });
    let sequence = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    let token = |token: &str, id: u32| json!({ "id": token, "ids": [id], "tokens": [token] });
    json!({
        "type": "TemplateProcessing",
        "single": [special(cls, 0), sequence("A", 0), special(sep, 0)],
        "pair": [
            special(cls, 0), sequence("A", 0), special(sep, 0), sequence("B", 1), special(sep, 1),
        ],
        "special_tokens": { cls: token(cls, cls_id), sep: token(sep, sep_id) },
    })
}

/// `<s> A </s>`, and `<s> A </s> </s> B </s>` for pairs.
pub(super) fn roberta_template(cls: Token<'_>, sep: Token<'_>, add_prefix_space: bool) -> Value {
    json!({
        "type": "RobertaProcessing",
        "sep": sep,
        "cls": cls,
        "trim_offsets": true,
        "add_prefix_space": add_prefix_space,
    })
}

/// No special tokens, as GPT-2 has it.
pub(super) fn byte_level_template() -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": true,
        "trim_offsets": false,
        "use_regex": true,
    })
}

fn tokenizer(
    added: &[AddedToken],
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Value,
) -> Value {
    let added: Vec<Value> = added
        .iter()
        .map(|token| {
            json!({
                "id": token.id,
                "content": token.content,
                "single_word": false,
                "lstrip": token.lstrip,
                "rstrip": false,
                // Special tokens stand in the text as they are; others meet the normalised text.
                "normalized": !token.special,
                "special": token.special,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    })
}
