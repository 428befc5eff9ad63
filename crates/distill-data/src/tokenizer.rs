//! Fast tokenizers: loaded from a Hugging Face folder, built from vocabulary files, or trained.
//!
//! The work is done by the `tokenizers` crate. This wrapper fixes what a run must be able to rely
//! on: truncation is ours (what a `tokenizer.json` says about padding and truncation is switched
//! off), the special tokens are known by role, and a folder that was loaded is saved byte for byte.

mod definition;
mod error;
mod load;
mod merges;
mod save;
mod special;
mod stream;
mod train;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{PostProcessor, Tokenizer as FastTokenizer};

use crate::chat_template::{self, ChatTemplate, ChatTemplateError};
pub use error::TokenizerError;
pub use load::FILES;
use special::{Names, SpecialTokens};
pub use stream::TextStream;
pub use train::{TokenizerKind, TrainConfig};
pub use words::{Word, WordsOfText};

/// A text as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids with special tokens, at most `max_length` of them.
    pub ids: Vec<u32>,
    /// Number of tokens before truncation, special tokens included.
    pub full_length: usize,
}

impl Encoded {
    /// Whether tokens were cut off.
    pub fn is_truncated(&self) -> bool {
        self.full_length > self.ids.len()
    }
}

/// A tokenizer with its special tokens.
#[derive(Clone)]
pub struct Tokenizer {
    inner: FastTokenizer,
    special: SpecialTokens,
    special_ids: BTreeSet<u32>,
    vocab_size: usize,
    /// Special tokens that the post-processor puts around one text.
    template_tokens: usize,
    /// Those of them before the text, and those after it.
    around: (Vec<u32>, Vec<u32>),
    model_max_length: Option<usize>,
    origin: Origin,
}

/// Where a tokenizer comes from, and so what `save` writes.
#[derive(Clone)]
enum Origin {
    /// File names and contents as they were in the folder.
    Folder(Vec<(String, Vec<u8>)>),
    /// Trained here.
    Trained(TrainConfig),
}

impl Tokenizer {
    fn new(
        mut inner: FastTokenizer,
        special: SpecialTokens,
        model_max_length: Option<usize>,
        origin: Origin,
    ) -> Self {
        // Never fails: without truncation there is no stride to be too large.
        let _ = inner.with_truncation(None);
        inner.with_padding(None);
        let special_ids = inner
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| *id)
            .chain(special.ids())
            .collect();
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        let template_tokens = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let around = around(&inner).unwrap_or_default();
        Self { inner, special, special_ids, vocab_size, template_tokens, around, model_max_length, origin }
    }

    /// Encodes texts in parallel, in their order.
    ///
    /// Equal to Hugging Face's `truncation=True, max_length=max_length` without padding: a text
    /// that is too long loses tokens at its end, its special tokens stay.
    ///
    /// # Errors
    /// [`TokenizerError::MaxLength`] if `max_length` leaves no room for the special tokens;
    /// [`TokenizerError::Encode`] if the tokenizer's model cannot encode a text.
    pub fn encode_batch<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        max_length: usize,
    ) -> Result<Vec<Encoded>, TokenizerError> {
        let room = self.room(max_length)?;
        texts
            .par_iter()
            .enumerate()
            .map(|(index, text)| {
                self.encode_one(text.as_ref(), room)
                    .map_err(|error| TokenizerError::Encode { index, message: error.to_string() })
            })
            .collect()
    }

    /// Encodes one text as [`Tokenizer::encode_batch`] does.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_batch`].
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Encoded, TokenizerError> {
        let room = self.room(max_length)?;
        self.encode_one(text, room)
            .map_err(|error| TokenizerError::Encode { index: 0, message: error.to_string() })
    }

    /// Tokens that a text may have beside the special ones.
    fn room(&self, max_length: usize) -> Result<usize, TokenizerError> {
        max_length
            .checked_sub(self.template_tokens)
            .ok_or(TokenizerError::MaxLength { max_length, special: self.template_tokens })
    }

    fn encode_one(&self, text: &str, room: usize) -> tokenizers::Result<Encoded> {
        // Special tokens come in a second step, so that one pass gives the length before and the
        // ids after truncation.
        let mut encoding = self.inner.encode_fast(text, false)?;
        let full_length = encoding.len() + self.template_tokens;
        if encoding.len() > room {
            encoding.truncate(room, 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
        let encoding = self.inner.post_process(encoding, None, true)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), full_length })
    }

    /// Token ids of a text alone, without special tokens around it, uncut.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] if the tokenizer's model cannot encode it.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding =
            encoding.map_err(|error| TokenizerError::Encode { index: 0, message: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`Tokenizer::encode_text`], with the bytes of the text that each token stands for.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_text`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, TokenizerError> {
        let encoding = self.inner.encode(text, false);
        let encoding =
            encoding.map_err(|error| TokenizerError::Encode { index: 0, message: error.to_string() })?;
        let offsets = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// Special tokens that are put before a text: `<s>` of Llama, `[CLS]` of BERT.
    pub fn prefix_ids(&self) -> &[u32] {
        &self.around.0
    }

    /// Special tokens that are put after a text: `</s>` of T5, `[SEP]` of BERT.
    pub fn suffix_ids(&self) -> &[u32] {
        &self.around.1
    }

    /// The text of token ids, special tokens as they stand in the vocabulary.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] if the tokenizer's decoder fails.
    pub fn decode_with_special_tokens(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, false).map_err(|error| TokenizerError::Decode { message: error.to_string() })
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, true).map_err(|error| TokenizerError::Decode { message: error.to_string() })
    }

    /// The template of conversations, of `chat_template.jinja` or `tokenizer_config.json`; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`ChatTemplateError::Invalid`] for a template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ChatTemplateError> {
        let Origin::Folder(files) = &self.origin else { return Ok(None) };
        let file = |name: &str| files.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes);
        // Loading has read them before.
        let json =
            |name| file(name).and_then(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok());
        let (settings, map) = (json("tokenizer_config.json"), json("special_tokens_map.json"));
        let source = match (file("chat_template.jinja"), settings.as_ref()) {
            (Some(bytes), _) => std::str::from_utf8(bytes)
                .map(Some)
                .map_err(|error| ChatTemplateError::Invalid { message: error.to_string() })?,
            (None, Some(settings)) => {
                settings.get("chat_template").map(chat_template::configured).transpose()?.flatten()
            }
            (None, None) => None,
        };
        let names =
            Names { tokenizer_config: settings.as_ref(), special_tokens_map: map.as_ref(), config: None };
        let roles = self.special.roles().into_iter();
        let special = roles.filter_map(|(role, _)| Some((role.to_owned(), names.token(role)?))).collect();
        source.map(|source| ChatTemplate::new(source, special)).transpose()
    }

    /// Rows that an embedding needs: the largest id, added tokens included, plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Special tokens that are put around one text, 2 for BERT.
    pub fn template_tokens(&self) -> usize {
        self.template_tokens
    }

    /// Longest input in tokens that `tokenizer_config.json` names; `None` if it sets no bound.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Sets what a trained tokenizer writes as `model_max_length`, in tokens.
    #[must_use]
    pub fn with_model_max_length(mut self, model_max_length: usize) -> Self {
        self.model_max_length = Some(model_max_length);
        self
    }

    /// Id of the padding token.
    pub fn pad_token_id(&self) -> Option<u32> {
        self.special.pad.id()
    }

    /// Id of the token for what the vocabulary cannot express.
    pub fn unk_token_id(&self) -> Option<u32> {
        self.special.unk.id()
    }

    /// Id of the token that classification reads.
    pub fn cls_token_id(&self) -> Option<u32> {
        self.special.cls.id()
    }

    /// Id of the token that an encoder's text ends with.
    pub fn sep_token_id(&self) -> Option<u32> {
        self.special.sep.id()
    }

    /// Id of the token that hides another in masked LM.
    pub fn mask_token_id(&self) -> Option<u32> {
        self.special.mask.id()
    }

    /// Id of the token that begins a text.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.special.bos.id()
    }

    /// Id of the token that ends a text.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.special.eos.id()
    }

    /// Id of a token as it stands in the vocabulary, such as `##ing`.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Token of an id as it stands in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether an id is a special token: never masked, not part of the decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// Ids of all special tokens, ascending: the roles, and what the files declare beside them.
    pub fn special_ids(&self) -> Vec<u32> {
        self.special_ids.iter().copied().collect()
    }

    /// SHA-256, in hex, of the serialised tokenizer without padding and truncation.
    ///
    /// Equal hashes give equal ids, whatever files the tokenizer came from.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        // Serialising can only fail in the writer, and a hasher takes every byte.
        let _ = serde_json::to_writer(HashWriter(&mut hasher), &self.inner);
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The special tokens before and after a text; `None` if they cannot be told from the text's own.
fn around(inner: &FastTokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let text = inner.encode_fast("a", false).ok()?;
    let alone = text.get_ids().to_vec();
    let whole = inner.post_process(text, None, true).ok()?.get_ids().to_vec();
    let start = whole.windows(alone.len().max(1)).position(|window| window == alone)?;
    Some((whole[..start].to_vec(), whole[start + alone.len()..].to_vec()))
}

/// Feeds a hasher, so that a tokenizer of many megabytes is hashed without a copy.
struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("special", &self.special)
            .field("model_max_length", &self.model_max_length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The folder of all-MiniLM-L6-v2, or a loud word about what is skipped.
    fn minilm() -> Option<PathBuf> {
        let models = std::env::var_os("DISTILL_MODELS")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".cache/distill-models")))?;
        let folder = models.join("all-minilm-l6-v2");
        if folder.join("tokenizer.json").is_file() {
            return Some(folder);
        }
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no tokenizer in `{}`; set DISTILL_MODELS",
            folder.display()
        );
        None
    }

    fn golden() -> Option<PathBuf> {
        let folder = std::env::var_os("DISTILL_GOLDEN")
            .map_or_else(|| PathBuf::from("../../../shared/golden"), PathBuf::from);
        if folder.join("minilm-l6/trajectory.json").is_file() {
            return Some(folder.join("minilm-l6"));
        }
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no `minilm-l6` in `{}`; set DISTILL_GOLDEN",
            folder.display()
        );
        None
    }

    fn golden_texts(golden: &Path) -> Vec<String> {
        let json = std::fs::read(golden.join("trajectory.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        serde_json::from_value(json["text"].clone()).unwrap()
    }

    fn ids(encoded: &[Encoded]) -> Vec<Vec<u32>> {
        encoded.iter().map(|text| text.ids.clone()).collect()
    }

    #[test]
    fn golden_ids_equal_transformers() {
        let (Some(model), Some(golden)) = (minilm(), golden()) else {
            return;
        };
        let tokenizer = Tokenizer::load(&model).unwrap();
        let file = std::fs::read(golden.join("forward.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let expected = tensors.tensor("input_ids").unwrap();
        let [batch, max_length] = *expected.shape() else {
            panic!("input_ids must have two dimensions");
        };
        let texts = golden_texts(&golden);
        let encoded = tokenizer.encode_batch(&texts[..batch], max_length).unwrap();
        let pad = tokenizer.pad_token_id().unwrap();
        let mut found = Vec::new();
        for text in &encoded {
            let padding = std::iter::repeat_n(pad, max_length - text.ids.len());
            found.extend(text.ids.iter().copied().chain(padding).map(i64::from));
        }
        let expected: Vec<i64> = expected
            .data()
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn golden_texts_get_the_same_ids_from_vocab_txt() {
        let (Some(model), Some(golden)) = (minilm(), golden()) else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        for name in ["vocab.txt", "tokenizer_config.json", "special_tokens_map.json"] {
            std::fs::copy(model.join(name), folder.path().join(name)).unwrap();
        }
        let full = Tokenizer::load(&model).unwrap();
        let built = Tokenizer::load(folder.path()).unwrap();
        let mut texts = golden_texts(&golden);
        texts.push("Crème brûlée, 東京 [MASK] ok\u{200b}\t\u{1f600} \u{fffd}".to_owned());
        texts.push(String::new());
        texts.push("x".repeat(150));
        assert_eq!(full.encode_batch(&texts, 512).unwrap(), built.encode_batch(&texts, 512).unwrap());
        assert_eq!(full.hash(), built.hash());
        assert_eq!(built.vocab_size(), 30522);
        let special = |t: &Tokenizer| {
            [t.pad_token_id(), t.unk_token_id(), t.cls_token_id(), t.sep_token_id(), t.mask_token_id()]
        };
        assert_eq!(special(&built), [0, 100, 101, 102, 103].map(Some));
        assert_eq!(special(&full), special(&built));
        assert_eq!(built.model_max_length(), Some(512));

        // What is saved is what was there, and what was missing is made.
        let saved = tempfile::tempdir().unwrap();
        built.save(saved.path()).unwrap();
        for name in ["vocab.txt", "tokenizer_config.json", "special_tokens_map.json"] {
            assert_eq!(
                std::fs::read(saved.path().join(name)).unwrap(),
                std::fs::read(model.join(name)).unwrap()
            );
        }
        let again = Tokenizer::load(saved.path()).unwrap();
        assert_eq!(again.hash(), full.hash());
    }

    #[test]
    fn truncation_keeps_the_special_tokens() {
        let tokenizer = trained(TokenizerKind::WordPiece);
        let [cls, sep] = [2, 3];
        let text = ["printer broken printer broken printer"];
        let full = &tokenizer.encode_batch(&text, 512).unwrap()[0];
        assert_eq!(full.full_length, full.ids.len());
        for max_length in 2..full.full_length {
            let cut = &tokenizer.encode_batch(&text, max_length).unwrap()[0];
            assert_eq!(cut.full_length, full.full_length);
            let kept = full.ids[1..max_length - 1].iter().copied();
            let expected: Vec<u32> = std::iter::once(cls).chain(kept).chain([sep]).collect();
            assert_eq!(cut.ids, expected);
        }
        let error = tokenizer.encode_batch(&text, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`max_length` must be at least 2, the number of special tokens, found `1`"
        );
    }

    #[test]
    fn padding_and_truncation_of_the_file_are_off() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = trained(TokenizerKind::WordPiece);
        tokenizer.save(folder.path()).unwrap();
        let path = folder.path().join("tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json["truncation"] = serde_json::json!({
            "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
        });
        json["padding"] = serde_json::json!({
            "strategy": { "Fixed": 128 }, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        });
        let bytes = json.to_string();
        std::fs::write(&path, &bytes).unwrap();
        let loaded = Tokenizer::load(folder.path()).unwrap();
        let text = ["the printer is broken again"];
        assert_eq!(loaded.encode_batch(&text, 512).unwrap(), tokenizer.encode_batch(&text, 512).unwrap());
        assert_eq!(loaded.hash(), tokenizer.hash());
        // The file itself is kept as it was.
        let saved = tempfile::tempdir().unwrap();
        loaded.save(saved.path()).unwrap();
        assert_eq!(std::fs::read_to_string(saved.path().join("tokenizer.json")).unwrap(), bytes);
    }

    #[test]
    fn special_ids_are_known_and_left_out_of_text() {
        let tokenizer = trained(TokenizerKind::WordPiece);
        assert!((0..5).all(|id| tokenizer.is_special(id)));
        assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3, 4]);
        assert_eq!(trained(TokenizerKind::Bpe).mask_token_id(), Some(4));
        assert_eq!(tokenizer.mask_token_id(), Some(4));
        assert!(!tokenizer.is_special(5));
        let encoded = tokenizer.encode("The printer is BROKEN", 32).unwrap();
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "the printer is broken");
        assert_eq!(tokenizer.encode("[MASK]", 32).unwrap().ids, [2, 4, 3]);
        assert_eq!(tokenizer.encode("\u{4e2d}", 32).unwrap().ids, [2, 1, 3]);
    }

    fn trained(kind: TokenizerKind) -> Tokenizer {
        let texts = [
            "The printer is broken, the printer is broken again!",
            "my printer broke; the broken one is mine",
            "again and again the printer prints nothing",
        ];
        let config = TrainConfig { kind, vocab_size: 400, ..TrainConfig::default() };
        Tokenizer::train(texts, &config).unwrap()
    }

    #[test]
    fn byte_level_bpe_expresses_every_text() {
        let tokenizer = trained(TokenizerKind::Bpe);
        let text = "the printer prints \u{4e2d}\u{6587} \u{1f600}";
        let encoded = tokenizer.encode(text, 128).unwrap();
        assert!(!encoded.ids.contains(&1));
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap().trim(), text);
        let word = tokenizer.encode("printer", 16).unwrap();
        assert_eq!(word.ids.len(), 3, "{:?}", word.ids);
    }

    #[test]
    fn chat_templates_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        trained(TokenizerKind::WordPiece).save(folder.path()).unwrap();
        let rendered = |settings: &str| {
            std::fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
            let template = Tokenizer::load(folder.path()).unwrap().chat_template();
            template.map(|template| {
                template.map(|template| template.render(&[], crate::GenerationPrompt::Add).unwrap())
            })
        };
        assert_eq!(rendered("{}").unwrap(), None);
        assert_eq!(rendered(r#"{"chat_template": null}"#).unwrap(), None);
        let one = r#"{"chat_template": "{{ sep_token }}{{ eos_token }}!", "eos_token": {"content": "</s>"}}"#;
        assert_eq!(rendered(one).unwrap().as_deref(), Some("[SEP]</s>!"));
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}"#;
        assert_eq!(rendered(named).unwrap().as_deref(), Some("b"));
        let error = rendered(r#"{"chat_template": [{"name": "x", "template": "a"}]}"#).unwrap_err();
        assert!(error.to_string().ends_with("none of the templates (`x`) is called `default`"), "{error}");
        std::fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
        assert_eq!(rendered(named).unwrap().as_deref(), Some("file"));
        assert!(trained(TokenizerKind::Bpe).chat_template().unwrap().is_none());
        // Saved as it was.
        let saved = tempfile::tempdir().unwrap();
        Tokenizer::load(folder.path()).unwrap().save(saved.path()).unwrap();
        assert_eq!(std::fs::read_to_string(saved.path().join("tokenizer_config.json")).unwrap(), named);
        assert_eq!(std::fs::read_to_string(saved.path().join("chat_template.jinja")).unwrap(), "file");
    }

    #[test]
    fn encoding_is_independent_of_the_number_of_threads() {
        let tokenizer = trained(TokenizerKind::Bpe);
        let texts: Vec<String> = (0..500).map(|i| format!("printer {i} broke again")).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ids(&tokenizer.encode_batch(&texts, 8).unwrap()))
        };
        assert_eq!(with(1), with(4));
    }
}
