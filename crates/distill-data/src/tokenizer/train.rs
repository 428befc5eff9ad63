//! Trains a tokenizer on a recipe's own corpus.
//!
//! The same corpus gives the same bytes of `tokenizer.json`: words are counted and sorted, and
//! merges are learned with fixed ties (`merges.rs`), so neither the order of the texts nor the
//! number of threads matters.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer as FastTokenizer,
};

use super::definition::{self, AddedToken, BertNormalization, MAX_WORD_CHARS};
use super::merges::{self, Vocabulary, Word};
use super::special::{Names, SpecialTokens};
use super::{Origin, Tokenizer, TokenizerError};

/// Special tokens of an encoder's trained tokenizer, with their roles; their ids are their places.
const OF_ENCODERS: &[(&str, &[&str])] = &[
    ("[PAD]", &["pad_token"]),
    ("[UNK]", &["unk_token"]),
    ("[CLS]", &["cls_token"]),
    ("[SEP]", &["sep_token"]),
    ("[MASK]", &["mask_token"]),
];

/// The same of a decoder's; bytes leave nothing unknown, but Transformers wants a token for it.
const OF_DECODERS: &[(&str, &[&str])] =
    &[("<|endoftext|>", &["bos_token", "eos_token", "unk_token"]), ("<pad>", &["pad_token"])];

/// Most characters in the alphabet of a WordPiece vocabulary; rarer ones become `[UNK]`.
const MAX_ALPHABET: usize = 1000;

/// Texts that are split into words at a time.
const CHUNK: usize = 8192;

/// What kind of vocabulary is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// BERT's: whole words and `##` pieces; what the alphabet lacks is `[UNK]`.
    WordPiece,
    /// Byte-level BPE, as RoBERTa's: every text can be expressed.
    Bpe,
    /// Byte-level BPE, as GPT-2's: nothing is put around a text, which decodes to itself.
    Gpt2,
}

impl TokenizerKind {
    /// Special tokens with their roles; their ids are their places.
    pub(super) fn special(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::WordPiece | Self::Bpe => OF_ENCODERS,
            Self::Gpt2 => OF_DECODERS,
        }
    }
}

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Default: WordPiece.
    pub kind: TokenizerKind,
    /// Most tokens in the vocabulary, special tokens included; default 30522.
    pub vocab_size: usize,
    /// Fewest occurrences of a pair that is joined, from 1; default 2.
    pub min_frequency: u64,
    /// Whether texts are lower-cased (and, for WordPiece, stripped of accents); default true.
    pub lowercase: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self { kind: TokenizerKind::WordPiece, vocab_size: 30522, min_frequency: 2, lowercase: true }
    }
}

impl Tokenizer {
    /// Trains a tokenizer on texts, with `[PAD] [UNK] [CLS] [SEP] [MASK]` as ids 0 to 4, or
    /// `<|endoftext|> <pad>` as 0 and 1 for [`TokenizerKind::Gpt2`].
    ///
    /// # Errors
    /// [`TokenizerError::EmptyCorpus`] if there is no word in the texts;
    /// [`TokenizerError::VocabSize`] if `vocab_size` cannot hold special tokens and alphabet;
    /// [`TokenizerError::Encode`] if a text cannot be split into words.
    pub fn train<S: AsRef<str> + Sync>(
        texts: impl IntoIterator<Item = S>,
        config: &TrainConfig,
    ) -> Result<Self, TokenizerError> {
        let splitter = fast_tokenizer(define(config, &specials(config.kind), Vec::new()))?;
        let counts = count_words(texts, &splitter)?;
        if counts.is_empty() {
            return Err(TokenizerError::EmptyCorpus);
        }
        let mut vocabulary = specials(config.kind);
        let merges = match config.kind {
            TokenizerKind::WordPiece => learn_wordpiece(&counts, &mut vocabulary, config)?,
            TokenizerKind::Bpe | TokenizerKind::Gpt2 => learn_bpe(&counts, &mut vocabulary, config)?,
        };
        let inner = fast_tokenizer(define(config, &vocabulary, merges))?;
        let roles = roles(config.kind).into();
        let names = Names { tokenizer_config: Some(&roles), ..Names::default() };
        let special = SpecialTokens::resolve(&inner, &names);
        Ok(Self::new(inner, special, None, Origin::Trained(config.clone())))
    }
}

fn specials(kind: TokenizerKind) -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    for (token, _) in kind.special() {
        vocabulary.insert((*token).to_owned());
    }
    vocabulary
}

/// The special token of each role, as `tokenizer_config.json` has them.
pub(super) fn roles(kind: TokenizerKind) -> Map<String, Value> {
    let special = kind.special().iter();
    special
        .flat_map(|(token, roles)| roles.iter().map(|role| ((*role).to_owned(), (*token).into())))
        .collect()
}

fn fast_tokenizer(value: Value) -> Result<FastTokenizer, TokenizerError> {
    serde_json::from_value(value).map_err(|error| TokenizerError::Invalid {
        path: "tokenizer.json".into(),
        message: error.to_string(),
    })
}

fn define(config: &TrainConfig, vocabulary: &Vocabulary, merges: Vec<(String, String)>) -> Value {
    let special = config.kind.special();
    let added: Vec<AddedToken> = special
        .iter()
        .zip(0..)
        .map(|((token, _), id)| AddedToken { id, content: (*token).to_owned(), special: true, lstrip: false })
        .collect();
    let vocab: Map<String, Value> =
        vocabulary.tokens().iter().zip(0_u32..).map(|(token, id)| (token.clone(), Value::from(id))).collect();
    let (cls, sep) = (("[CLS]", 2), ("[SEP]", 3));
    match config.kind {
        TokenizerKind::WordPiece => {
            let normalization = BertNormalization {
                lowercase: config.lowercase,
                strip_accents: None,
                tokenize_chinese_chars: true,
            };
            definition::wordpiece(vocab, &added, normalization, "[UNK]", (cls, sep))
        }
        TokenizerKind::Bpe => {
            let normalizer = if config.lowercase {
                json!({
                    "type": "Sequence",
                    "normalizers": [{ "type": "NFC" }, { "type": "Lowercase" }],
                })
            } else {
                json!({ "type": "NFC" })
            };
            let template = definition::bert_template(cls, sep);
            // With a space before it the first word of a text is split like any other.
            definition::byte_level_bpe(vocab, merges, &added, normalizer, template, true)
        }
        TokenizerKind::Gpt2 => {
            let normalizer = if config.lowercase { json!({ "type": "Lowercase" }) } else { Value::Null };
            let template = definition::byte_level_template();
            definition::byte_level_bpe(vocab, merges, &added, normalizer, template, false)
        }
    }
}

/// Words, split as the tokenizer will split them, in sorted order with their counts.
fn count_words<S: AsRef<str> + Sync>(
    texts: impl IntoIterator<Item = S>,
    splitter: &FastTokenizer,
) -> Result<Vec<(String, u64)>, TokenizerError> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut texts = texts.into_iter();
    let mut start = 0;
    loop {
        let chunk: Vec<S> = texts.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let chunks: Vec<HashMap<String, u64>> = chunk
            .par_iter()
            .enumerate()
            .try_fold(HashMap::new, |mut counts, (index, text)| {
                count_text(text.as_ref(), splitter, &mut counts).map_err(|error| TokenizerError::Encode {
                    index: start + index,
                    message: error.to_string(),
                })?;
                Ok(counts)
            })
            .collect::<Result<_, TokenizerError>>()?;
        for (word, count) in chunks.into_iter().flatten() {
            *counts.entry(word).or_default() += count;
        }
        start += chunk.len();
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort();
    Ok(counts)
}

fn count_text(
    text: &str,
    splitter: &FastTokenizer,
    counts: &mut HashMap<String, u64>,
) -> tokenizers::Result<()> {
    let mut normalized = NormalizedString::from(text);
    if let Some(normalizer) = splitter.get_normalizer() {
        normalizer.normalize(&mut normalized)?;
    }
    let mut words = PreTokenizedString::from(normalized);
    if let Some(pre_tokenizer) = splitter.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut words)?;
    }
    for (word, _, _) in words.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    Ok(())
}

fn learn_wordpiece(
    counts: &[(String, u64)],
    vocabulary: &mut Vocabulary,
    config: &TrainConfig,
) -> Result<Vec<(String, String)>, TokenizerError> {
    // Each character is there at the start and inside of a word.
    let special = config.kind.special().len();
    let room = config.vocab_size.saturating_sub(special) / 2;
    if room == 0 {
        return Err(TokenizerError::VocabSize { vocab_size: config.vocab_size, needed: special + 2 });
    }
    let mut alphabet: HashMap<char, u64> = HashMap::new();
    for (word, count) in counts {
        for character in word.chars() {
            *alphabet.entry(character).or_default() += count;
        }
    }
    let mut alphabet: Vec<(char, u64)> = alphabet.into_iter().collect();
    alphabet.sort_by_key(|(character, count)| (std::cmp::Reverse(*count), *character));
    alphabet.truncate(room.min(MAX_ALPHABET));
    alphabet.sort();
    for (character, _) in &alphabet {
        vocabulary.insert(character.to_string());
    }
    for (character, _) in &alphabet {
        vocabulary.insert(format!("##{character}"));
    }
    let mut words: Vec<Word> = counts
        .iter()
        // A word that will be `[UNK]` as a whole has nothing to teach.
        .filter(|(word, _)| word.chars().count() <= MAX_WORD_CHARS)
        .filter_map(|(word, count)| {
            let symbols = word
                .chars()
                .enumerate()
                .map(|(place, character)| match place {
                    0 => vocabulary.id(&character.to_string()),
                    _ => vocabulary.id(&format!("##{character}")),
                })
                .collect::<Option<Vec<u32>>>()?;
            Some(Word { symbols, count: *count })
        })
        .collect();
    merges::learn(&mut words, vocabulary, config.vocab_size, config.min_frequency, |left, right| {
        format!("{left}{}", right.strip_prefix("##").unwrap_or(right))
    });
    // WordPiece takes the longest piece of the vocabulary; it needs no merges.
    Ok(Vec::new())
}

fn learn_bpe(
    counts: &[(String, u64)],
    vocabulary: &mut Vocabulary,
    config: &TrainConfig,
) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut alphabet: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let needed = config.kind.special().len() + alphabet.len();
    if config.vocab_size < needed {
        return Err(TokenizerError::VocabSize { vocab_size: config.vocab_size, needed });
    }
    for character in alphabet {
        vocabulary.insert(character.to_string());
    }
    let mut words: Vec<Word> = counts
        .iter()
        .map(|(word, count)| Word {
            symbols: word.chars().filter_map(|character| vocabulary.id(&character.to_string())).collect(),
            count: *count,
        })
        .collect();
    Ok(merges::learn(&mut words, vocabulary, config.vocab_size, config.min_frequency, |left, right| {
        format!("{left}{right}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with many ties, in an order that a seed turns.
    fn corpus(turn: usize) -> Vec<String> {
        let mut texts: Vec<String> = (0..400_usize)
            .map(|i| {
                let letters = |n: usize| -> String {
                    (0..4 + n % 5).map(|k| char::from(b'a' + ((n * 7 + k * k * 3) % 26) as u8)).collect()
                };
                format!("{} {}, {}: {i}", letters(i), letters(i * 3), letters(i / 2))
            })
            .collect();
        texts.rotate_left(turn);
        texts
    }

    fn bytes(texts: Vec<String>, kind: TokenizerKind, threads: usize) -> String {
        let config = TrainConfig { kind, vocab_size: 600, min_frequency: 1, lowercase: true };
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let folder = tempfile::tempdir().unwrap();
            let tokenizer = Tokenizer::train(texts, &config).unwrap();
            assert_eq!(tokenizer.vocab_size(), 600);
            tokenizer.save(folder.path()).unwrap();
            std::fs::read_to_string(folder.path().join("tokenizer.json")).unwrap()
        })
    }

    #[test]
    fn training_is_a_function_of_the_corpus() {
        for kind in [TokenizerKind::WordPiece, TokenizerKind::Bpe, TokenizerKind::Gpt2] {
            let first = bytes(corpus(0), kind, 1);
            assert_eq!(first, bytes(corpus(0), kind, 4));
            assert_eq!(first, bytes(corpus(123), kind, 2));
        }
    }

    #[test]
    fn vocabulary_is_bounded_and_ids_are_dense() {
        let config = TrainConfig { vocab_size: 40, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(corpus(0), &config).unwrap();
        assert_eq!(tokenizer.vocab_size(), 40);
        assert!((0..40).all(|id| tokenizer.id_to_token(id).is_some()));
        for ((token, _), id) in OF_ENCODERS.iter().zip(0..) {
            assert_eq!(tokenizer.token_to_id(token), Some(id));
        }
    }

    #[test]
    fn frequent_words_become_one_token() {
        let texts = vec!["refund please, refund my order"; 20];
        let tokenizer = Tokenizer::train(texts, &TrainConfig::default()).unwrap();
        for word in ["refund", "please", "my", "order"] {
            assert!(tokenizer.token_to_id(word).is_some(), "{word}");
        }
        assert_eq!(tokenizer.encode("Refund", 8).unwrap().ids.len(), 3);
    }

    #[test]
    fn case_is_kept_if_asked_for() {
        let config = TrainConfig { lowercase: false, ..TrainConfig::default() };
        let tokenizer = Tokenizer::train(vec!["Abba abba"; 5], &config).unwrap();
        assert_ne!(tokenizer.encode("Abba", 8).unwrap().ids, tokenizer.encode("abba", 8).unwrap().ids);
    }

    #[test]
    fn a_decoders_texts_decode_to_themselves() {
        let config = TrainConfig {
            kind: TokenizerKind::Gpt2,
            vocab_size: 300,
            lowercase: false,
            ..TrainConfig::default()
        };
        let tokenizer = Tokenizer::train(corpus(0), &config).unwrap();
        let roles = [
            tokenizer.bos_token_id(),
            tokenizer.eos_token_id(),
            tokenizer.unk_token_id(),
            tokenizer.pad_token_id(),
        ];
        assert_eq!(roles, [0, 0, 0, 1].map(Some));
        assert_eq!((tokenizer.prefix_ids(), tokenizer.suffix_ids()), (&[][..], &[][..]));
        for text in [" Two  spaces\r\n\ttab ", "e\u{301} \u{4e2d}\u{1f600}", ""] {
            let ids = tokenizer.encode(text, 100).unwrap().ids;
            assert_eq!(ids, tokenizer.encode_text(text).unwrap());
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(
            (again.hash(), again.eos_token_id(), again.pad_token_id()),
            (tokenizer.hash(), Some(0), Some(1))
        );
    }

    #[test]
    fn errors_say_what_is_needed() {
        let train = |texts: &[&str], kind, vocab_size| {
            let config = TrainConfig { kind, vocab_size, ..TrainConfig::default() };
            Tokenizer::train(texts, &config).unwrap_err().to_string()
        };
        assert_eq!(
            train(&["a"], TokenizerKind::Bpe, 260),
            "`vocab_size` must be at least 261 (special tokens and alphabet), found `260`"
        );
        assert_eq!(
            train(&["a"], TokenizerKind::WordPiece, 6),
            "`vocab_size` must be at least 7 (special tokens and alphabet), found `6`"
        );
        assert_eq!(
            train(&["", "  \n"], TokenizerKind::WordPiece, 100),
            "cannot train a tokenizer: the corpus has no words"
        );
    }
}
