//! Loads a tokenizer from a Hugging Face folder.
//!
//! `tokenizer.json` says all; without it the tokenizer is put together from `vocab.txt` (BERT) or
//! `vocab.json` and `merges.txt` (RoBERTa, GPT-2), as Hugging Face's own converters do.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer as FastTokenizer;

use super::definition::{self, AddedToken, BertNormalization};
use super::special::{Names, SpecialTokens};
use super::{Origin, Tokenizer, TokenizerError};

/// Files that make up a tokenizer: read if they are there, saved as they were.
pub const FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
];

/// A `model_max_length` beyond this stands for "no bound": Transformers writes 1e30.
const NO_BOUND: f64 = 1e9;

impl Tokenizer {
    /// Loads the tokenizer of a folder.
    ///
    /// # Errors
    /// [`TokenizerError::NotFound`] if the folder has no tokenizer of a known form,
    /// [`TokenizerError::Io`] and [`TokenizerError::Invalid`] for a file that cannot be read or
    /// understood, [`TokenizerError::MissingToken`] if a vocabulary file lacks a special token.
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        let files = Files::read(folder)?;
        let tokenizer_config = files.json("tokenizer_config.json")?;
        let special_tokens_map = files.json("special_tokens_map.json")?;
        let config = config(folder)?;
        let names = Names {
            tokenizer_config: tokenizer_config.as_ref(),
            special_tokens_map: special_tokens_map.as_ref(),
            config: config.as_ref(),
        };
        let inner = if let Some(bytes) = files.get("tokenizer.json") {
            FastTokenizer::from_bytes(bytes).map_err(|error| files.invalid("tokenizer.json", error))?
        } else if files.get("vocab.txt").is_some() {
            build(&files, "vocab.txt", wordpiece(&files, &names)?)?
        } else if files.get("vocab.json").is_some() && files.get("merges.txt").is_some() {
            build(&files, "vocab.json", byte_level_bpe(&files, &names)?)?
        } else {
            return Err(TokenizerError::NotFound { folder: folder.to_owned(), found: files_in(folder) });
        };
        let model_max_length = tokenizer_config
            .as_ref()
            .and_then(|config| config.get("model_max_length")?.as_f64())
            .filter(|length| *length >= 1.0 && *length < NO_BOUND)
            .map(|length| length as usize);
        let special = SpecialTokens::resolve(&inner, &names);
        Ok(Self::new(inner, special, model_max_length, Origin::Folder(files.contents)))
    }
}

/// The model's configuration, if it stands in the same folder; it is no file of the tokenizer.
fn config(folder: &Path) -> Result<Option<Value>, TokenizerError> {
    let path = folder.join("config.json");
    match std::fs::read(&path) {
        // Who loads the model says what is wrong with it.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Io { path, source }),
    }
}

fn build(files: &Files<'_>, name: &str, value: Value) -> Result<FastTokenizer, TokenizerError> {
    serde_json::from_value(value).map_err(|error| files.invalid(name, error))
}

fn wordpiece(files: &Files<'_>, names: &Names<'_>) -> Result<Value, TokenizerError> {
    let text = files.text("vocab.txt")?;
    let vocab: Vocab =
        text.lines().enumerate().map(|(id, token)| (token.trim_end().to_owned(), id as u32)).collect();
    let token = |role, usual: &str| names.token(role).unwrap_or_else(|| usual.to_owned());
    let roles = [
        ("pad_token", token("pad_token", "[PAD]")),
        ("unk_token", token("unk_token", "[UNK]")),
        ("cls_token", token("cls_token", "[CLS]")),
        ("sep_token", token("sep_token", "[SEP]")),
        ("mask_token", token("mask_token", "[MASK]")),
    ];
    let id = |index: usize| files.token_id("vocab.txt", &vocab, roles[index].0, &roles[index].1);
    id(1)?;
    let (cls, sep) = (id(2)?, id(3)?);
    let flag = |key: &str| names.tokenizer_config?.get(key)?.as_bool();
    let special = roles.iter().map(|(_, token)| (token.as_str(), false));
    Ok(definition::wordpiece(
        json_vocab(&vocab),
        &added_tokens(files, names, &vocab, special)?,
        BertNormalization {
            lowercase: flag("do_lower_case").unwrap_or(true),
            strip_accents: flag("strip_accents"),
            tokenize_chinese_chars: flag("tokenize_chinese_chars").unwrap_or(true),
        },
        &roles[1].1,
        ((&roles[2].1, cls), (&roles[3].1, sep)),
    ))
}

fn byte_level_bpe(files: &Files<'_>, names: &Names<'_>) -> Result<Value, TokenizerError> {
    let vocab: Vocab = serde_json::from_str(files.text("vocab.json")?)
        .map_err(|error| files.invalid("vocab.json", error))?;
    let mut merges = Vec::new();
    for (index, line) in files.text("merges.txt")?.lines().enumerate() {
        if line.is_empty() || line.starts_with("#version") {
            continue;
        }
        let Some((left, right)) = line.split_once(' ') else {
            let message = format!("line {}: expected two tokens, found `{line}`", index + 1);
            return Err(files.invalid("merges.txt", message));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let add_prefix_space =
        names.tokenizer_config.and_then(|config| config.get("add_prefix_space")?.as_bool()).unwrap_or(false);
    let token = |role, usual: &str| names.token(role).unwrap_or_else(|| usual.to_owned());
    if is_gpt2(names, &vocab) {
        let roles =
            ["bos_token", "eos_token", "unk_token", "pad_token"].map(|role| token(role, "<|endoftext|>"));
        let special = roles.iter().map(|token| (token.as_str(), false));
        return Ok(definition::byte_level_bpe(
            json_vocab(&vocab),
            merges,
            &added_tokens(files, names, &vocab, special)?,
            Value::Null,
            definition::byte_level_template(),
            add_prefix_space,
        ));
    }
    let (cls, sep) = (token("cls_token", "<s>"), token("sep_token", "</s>"));
    let mask = token("mask_token", "<mask>");
    let roles =
        [cls.clone(), token("pad_token", "<pad>"), sep.clone(), token("unk_token", "<unk>"), mask.clone()];
    let special = roles.iter().map(|token| (token.as_str(), *token == mask));
    let cls_id = files.token_id("vocab.json", &vocab, "cls_token", &cls)?;
    let sep_id = files.token_id("vocab.json", &vocab, "sep_token", &sep)?;
    Ok(definition::byte_level_bpe(
        json_vocab(&vocab),
        merges,
        &added_tokens(files, names, &vocab, special)?,
        Value::Null,
        definition::roberta_template((&cls, cls_id), (&sep, sep_id), add_prefix_space),
        add_prefix_space,
    ))
}

/// GPT-2 puts no special tokens around a text; RoBERTa has the same files and does.
fn is_gpt2(names: &Names<'_>, vocab: &Vocab) -> bool {
    let class = names.tokenizer_config.and_then(|config| config.get("tokenizer_class")?.as_str());
    match class {
        Some(class) if class.starts_with("GPT2") => true,
        Some(class) if class.starts_with("Roberta") => false,
        _ => names.token("cls_token").is_none() && !vocab.contains_key("<s>"),
    }
}

type Vocab = BTreeMap<String, u32>;

/// The vocabulary in the order of ids, so that the same vocabulary gives the same bytes.
fn json_vocab(vocab: &Vocab) -> Map<String, Value> {
    let mut tokens: Vec<_> = vocab.iter().collect();
    tokens.sort_by_key(|(_, id)| **id);
    tokens.into_iter().map(|(token, id)| (token.clone(), Value::from(*id))).collect()
}

/// The special tokens (with `lstrip`) that the vocabulary has, then `added_tokens.json`, by id.
fn added_tokens<'a>(
    files: &Files<'_>,
    names: &Names<'_>,
    vocab: &Vocab,
    special: impl Iterator<Item = (&'a str, bool)>,
) -> Result<Vec<AddedToken>, TokenizerError> {
    let added: Vocab = match files.json("added_tokens.json")? {
        Some(value) => {
            serde_json::from_value(value).map_err(|error| files.invalid("added_tokens.json", error))?
        }
        None => Vocab::new(),
    };
    let mut tokens: BTreeMap<u32, AddedToken> = added
        .iter()
        .map(|(content, id)| {
            let token = AddedToken { id: *id, content: content.clone(), special: false, lstrip: false };
            (*id, token)
        })
        .collect();
    let additional = names.additional();
    let mut named: Vec<(&str, bool)> = special.collect();
    named.extend(additional.iter().map(|token| (token.as_str(), false)));
    for (content, lstrip) in named {
        if let Some(id) = vocab.get(content).or_else(|| added.get(content)) {
            let token = AddedToken { id: *id, content: content.to_owned(), special: true, lstrip };
            tokens.insert(*id, token);
        }
    }
    Ok(tokens.into_values().collect())
}

/// The tokenizer files of a folder.
struct Files<'a> {
    folder: &'a Path,
    contents: Vec<(String, Vec<u8>)>,
}

impl<'a> Files<'a> {
    fn read(folder: &'a Path) -> Result<Self, TokenizerError> {
        let mut contents = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => contents.push(((*name).to_owned(), bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(TokenizerError::Io { path, source }),
            }
        }
        Ok(Self { folder, contents })
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.contents.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes.as_slice())
    }

    fn text(&self, name: &str) -> Result<&str, TokenizerError> {
        std::str::from_utf8(self.get(name).unwrap_or_default()).map_err(|error| self.invalid(name, error))
    }

    fn json(&self, name: &str) -> Result<Option<Value>, TokenizerError> {
        self.get(name).map(serde_json::from_slice).transpose().map_err(|error| self.invalid(name, error))
    }

    fn token_id(
        &self,
        name: &str,
        vocab: &Vocab,
        role: &'static str,
        token: &str,
    ) -> Result<u32, TokenizerError> {
        vocab.get(token).copied().ok_or_else(|| TokenizerError::MissingToken {
            path: self.folder.join(name),
            token: token.to_owned(),
            role,
        })
    }

    fn invalid(&self, name: &str, message: impl ToString) -> TokenizerError {
        TokenizerError::Invalid { path: self.folder.join(name), message: message.to_string() }
    }
}

fn files_in(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return "no such folder".to_owned();
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(format!("`{}`", entry.ok()?.file_name().display()))).collect();
    names.sort();
    if names.is_empty() {
        return "no file".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const VOCAB: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\nHello\nworld\ncafé\ncafe\n";

    #[test]
    fn vocab_txt_follows_the_configuration() {
        let uncased = folder(&[("vocab.txt", VOCAB)]);
        let tokenizer = Tokenizer::load(uncased.path()).unwrap();
        assert_eq!(tokenizer.encode("Hellos [MASK] café", 16).unwrap().ids, [2, 5, 6, 4, 10, 3]);
        assert_eq!(tokenizer.vocab_size(), 11);

        let cased = folder(&[
            ("vocab.txt", VOCAB),
            (
                "tokenizer_config.json",
                r#"{"do_lower_case": false, "model_max_length": 1000000000000000019884624838656}"#,
            ),
        ]);
        let tokenizer = Tokenizer::load(cased.path()).unwrap();
        assert_eq!(tokenizer.encode("Hellos café", 16).unwrap().ids, [2, 7, 6, 9, 3]);
        assert_eq!(tokenizer.model_max_length(), None);
    }

    #[test]
    fn a_vocabulary_without_a_mask_token_has_none() {
        let files = folder(&[("vocab.txt", &VOCAB.replace("[MASK]", "mask"))]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.mask_token_id(), None);
        assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3]);
    }

    #[test]
    fn windows_line_ends_and_added_tokens() {
        let files = folder(&[
            ("vocab.txt", &VOCAB.replace('\n', "\r\n")),
            ("added_tokens.json", r#"{"<extra>": 11}"#),
        ]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.encode("hello<extra>", 16).unwrap().ids, [2, 5, 11, 3]);
        assert_eq!(tokenizer.vocab_size(), 12);
        assert!(!tokenizer.is_special(11));
    }

    /// The vocabulary of "low lower", byte-level: `\u{120}` is the space.
    const BPE: &str = r#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "l": 4, "o": 5, "w": 6,
        "e": 7, "r": 8, "\u0120": 9, "lo": 10, "low": 11, "\u0120low": 12, "er": 13, "<mask>": 14}"#;
    const MERGES: &str = "#version: 0.2\nl o\nlo w\n\u{120} low\ne r\n";

    #[test]
    fn vocab_json_and_merges_as_roberta() {
        let files = folder(&[("vocab.json", BPE), ("merges.txt", MERGES)]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.encode("low lower <mask>", 16).unwrap().ids, [0, 11, 12, 13, 14, 2]);
        assert_eq!(tokenizer.pad_token_id(), Some(1));
        assert_eq!(tokenizer.cls_token_id(), Some(0));
        assert_eq!(tokenizer.sep_token_id(), Some(2));
        assert_eq!(tokenizer.mask_token_id(), Some(14));
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        let again = Tokenizer::load(saved.path()).unwrap();
        assert_eq!(again.hash(), tokenizer.hash());
        assert_eq!(again.cls_token_id(), Some(0));
    }

    #[test]
    fn vocab_json_and_merges_as_gpt2() {
        let vocab = BPE.replace("<s>", "<|endoftext|>");
        let files = folder(&[
            ("vocab.json", &vocab),
            ("merges.txt", MERGES),
            ("tokenizer_config.json", r#"{"tokenizer_class": "GPT2Tokenizer"}"#),
        ]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.encode("low lower<|endoftext|>", 16).unwrap().ids, [11, 12, 13, 0]);
        assert_eq!(tokenizer.template_tokens(), 0);
    }

    #[test]
    fn roles_come_from_the_configuration() {
        let vocab = VOCAB.replace("[CLS]", "<cls>").replace("[SEP]", "<sep>");
        let files = folder(&[
            ("vocab.txt", &vocab),
            ("tokenizer_config.json", r#"{"cls_token": {"content": "<cls>"}}"#),
            ("special_tokens_map.json", r#"{"cls_token": "hello", "sep_token": "<sep>"}"#),
        ]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.encode("world", 16).unwrap().ids, [2, 8, 3]);
        assert_eq!(tokenizer.cls_token_id(), Some(2));
    }

    /// As T5's: Unigram pieces behind a metaspace, `</s>` after a text.
    const UNIGRAM: &str = r#"{"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            {"id": 0, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 2, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": false, "vocab": [
            ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -2.0], ["\u2581the", -1.0],
            ["\u2581low", -1.5], ["er", -2.0], ["t", -4.0], ["h", -4.0], ["e", -4.0], ["l", -4.0], ["o", -4.0]]}}"#;

    #[test]
    fn sentence_piece_unigram_as_t5() {
        let files = folder(&[
            ("tokenizer.json", UNIGRAM),
            ("config.json", r#"{"pad_token_id": 0, "eos_token_id": 1}"#),
        ]);
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        assert_eq!(tokenizer.encode("the lower x", 16).unwrap().ids, [4, 5, 6, 3, 2, 1]);
        assert_eq!(tokenizer.encode_text("the lower").unwrap(), [4, 5, 6]);
        assert_eq!((tokenizer.prefix_ids(), tokenizer.suffix_ids()), (&[][..], &[1][..]));
        let roles = [tokenizer.pad_token_id(), tokenizer.eos_token_id(), tokenizer.unk_token_id()];
        assert_eq!(roles, [0, 1, 2].map(Some));
        assert_eq!(tokenizer.bos_token_id(), None);
        assert_eq!(tokenizer.decode(&[4, 5, 6, 1, 0]).unwrap(), "the lower");
        assert_eq!(tokenizer.decode_with_special_tokens(&[4, 1]).unwrap(), "the</s>");
    }

    #[test]
    fn the_ids_of_a_configuration_count_for_start_and_end() {
        let vocab = BPE.replace("</s>", "<|im_end|>").replace("<pad>", "<|endoftext|>");
        let config = r#"{"bos_token_id": 11, "eos_token_id": [2, 1], "pad_token_id": 7}"#;
        let load = |settings: &str| {
            let files = [
                ("vocab.json", vocab.as_str()),
                ("merges.txt", MERGES),
                ("config.json", config),
                ("tokenizer_config.json", settings),
            ];
            Tokenizer::load(folder(&files).path()).unwrap()
        };
        let tokenizer = load(r#"{"tokenizer_class": "GPT2Tokenizer"}"#);
        let ids = |tokenizer: &Tokenizer| {
            [tokenizer.bos_token_id(), tokenizer.eos_token_id(), tokenizer.pad_token_id()]
        };
        assert_eq!(ids(&tokenizer), [11, 2, 7].map(Some));
        assert!(tokenizer.is_special(2));
        let named =
            r#"{"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "low"}"#;
        assert_eq!(ids(&load(named)), [11, 1, 11].map(Some));
    }

    #[test]
    fn errors_name_file_and_cause() {
        let message = |files: &[(&str, &str)]| {
            let folder = folder(files);
            let message = Tokenizer::load(folder.path()).unwrap_err().to_string();
            message.replace(&folder.path().display().to_string(), "F")
        };
        assert!(message(&[("spiece.model", "")]).contains("found `spiece.model`;"));
        assert!(message(&[]).starts_with("no tokenizer in `F`: needs `tokenizer.json`"));
        assert!(
            message(&[("tokenizer.json", "{")])
                .starts_with("`F/tokenizer.json` is not a valid tokenizer file: ")
        );
        assert_eq!(
            message(&[("vocab.txt", "a\n[UNK]\n[CLS]\n")]),
            "`F/vocab.txt` has no token `[SEP]`, needed as `sep_token`; add it, or name the right \
             one in `tokenizer_config.json`"
        );
        assert_eq!(
            message(&[("vocab.json", BPE), ("merges.txt", "lo\n")]),
            "`F/merges.txt` is not a valid tokenizer file: line 1: expected two tokens, found `lo`"
        );
        assert!(
            Tokenizer::load(Path::new("/no/such/folder")).unwrap_err().to_string().contains("no such folder")
        );
    }
}
