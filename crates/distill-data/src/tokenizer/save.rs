//! Saves a tokenizer so that `AutoTokenizer.from_pretrained(folder)` loads it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::train::roles;
use super::{Origin, Tokenizer, TokenizerError, TokenizerKind, TrainConfig};

impl Tokenizer {
    /// Writes the tokenizer's files into a folder, which is made if it is not there.
    ///
    /// A tokenizer from a folder: its files byte for byte, and a `tokenizer.json` if it had none.
    /// A trained one: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and,
    /// for WordPiece, `vocab.txt`.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] if the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), TokenizerError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| TokenizerError::Io { path: folder.to_owned(), source })?;
        match &self.origin {
            Origin::Folder(files) => {
                for (name, bytes) in files {
                    write(folder, name, bytes)?;
                }
                if !files.iter().any(|(name, _)| name == "tokenizer.json") {
                    write(folder, "tokenizer.json", &self.definition()?)?;
                }
            }
            Origin::Trained(config) => self.save_trained(folder, config)?,
        }
        Ok(())
    }

    fn save_trained(&self, folder: &Path, config: &TrainConfig) -> Result<(), TokenizerError> {
        write(folder, "tokenizer.json", &self.definition()?)?;
        let roles = roles(config.kind);
        write_json(folder, "special_tokens_map.json", &Value::Object(roles.clone()))?;

        let mut settings = Map::new();
        let special = config.kind.special();
        let added: Map<String, Value> = special
            .iter()
            .enumerate()
            .map(|(id, (token, _))| {
                let token = json!({
                    "content": token,
                    "lstrip": false,
                    "normalized": false,
                    "rstrip": false,
                    "single_word": false,
                    "special": true,
                });
                (id.to_string(), token)
            })
            .collect();
        settings.insert("added_tokens_decoder".to_owned(), Value::Object(added));
        settings
            .insert("clean_up_tokenization_spaces".to_owned(), (config.kind != TokenizerKind::Gpt2).into());
        settings.extend(roles);
        if let Some(length) = self.model_max_length {
            settings.insert("model_max_length".to_owned(), length.into());
        }
        let class = match config.kind {
            TokenizerKind::WordPiece => {
                settings.insert("do_lower_case".to_owned(), config.lowercase.into());
                settings.insert("strip_accents".to_owned(), Value::Null);
                settings.insert("tokenize_chinese_chars".to_owned(), true.into());
                "BertTokenizer"
            }
            // No named class has byte-level BPE within BERT's template. Transformers 4 takes the
            // space before the first word from here, not from `tokenizer.json`.
            TokenizerKind::Bpe => {
                settings.insert("add_prefix_space".to_owned(), true.into());
                "PreTrainedTokenizerFast"
            }
            // The class of GPT-2 would drop the normalizer.
            TokenizerKind::Gpt2 => "PreTrainedTokenizerFast",
        };
        settings.insert("tokenizer_class".to_owned(), class.into());
        write_json(folder, "tokenizer_config.json", &Value::Object(settings))?;

        if config.kind == TokenizerKind::WordPiece {
            let vocab: String = (0..self.vocab_size as u32)
                .filter_map(|id| self.id_to_token(id))
                .map(|token| token + "\n")
                .collect();
            write(folder, "vocab.txt", vocab.as_bytes())?;
        }
        Ok(())
    }

    /// The bytes of `tokenizer.json`.
    fn definition(&self) -> Result<Vec<u8>, TokenizerError> {
        serde_json::to_vec_pretty(&self.inner).map_err(|error| TokenizerError::Invalid {
            path: "tokenizer.json".into(),
            message: error.to_string(),
        })
    }
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<(), TokenizerError> {
    // A value of strings, numbers and flags always has a text.
    write(folder, name, format!("{value:#}\n").as_bytes())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), TokenizerError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|source| TokenizerError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(kind: TokenizerKind) -> (tempfile::TempDir, Value) {
        let config = TrainConfig { kind, vocab_size: 300, ..TrainConfig::default() };
        let folder = tempfile::tempdir().unwrap();
        Tokenizer::train(["some words, some more words"], &config)
            .unwrap()
            .with_model_max_length(64)
            .save(folder.path())
            .unwrap();
        let settings = std::fs::read(folder.path().join("tokenizer_config.json")).unwrap();
        (folder, serde_json::from_slice(&settings).unwrap())
    }

    #[test]
    fn wordpiece_is_saved_as_bert() {
        let (folder, settings) = saved(TokenizerKind::WordPiece);
        assert_eq!(settings["tokenizer_class"], "BertTokenizer");
        assert_eq!(settings["do_lower_case"], true);
        assert_eq!(settings["model_max_length"], 64);
        assert_eq!(settings["added_tokens_decoder"]["4"]["content"], "[MASK]");
        let vocab = std::fs::read_to_string(folder.path().join("vocab.txt")).unwrap();
        assert!(vocab.starts_with("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n,\n"));

        // The whole folder and `vocab.txt` alone give the same tokenizer.
        let whole = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(whole.model_max_length(), Some(64));
        std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        let vocabulary = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(whole.hash(), vocabulary.hash());
        assert_eq!(vocab.lines().count(), whole.vocab_size());
    }

    #[test]
    fn bpe_is_saved_as_a_general_fast_tokenizer() {
        let (folder, settings) = saved(TokenizerKind::Bpe);
        assert_eq!(settings["tokenizer_class"], "PreTrainedTokenizerFast");
        assert_eq!(settings["add_prefix_space"], true);
        assert!(!folder.path().join("vocab.txt").exists());
        assert_eq!(Tokenizer::load(folder.path()).unwrap().mask_token_id(), Some(4));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (folder, _) = saved(TokenizerKind::WordPiece);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let error = tokenizer.save(&file.path().join("below")).unwrap_err();
        assert!(error.to_string().starts_with("cannot access `"), "{error}");
    }
}
