//! What can go wrong with a tokenizer.

use std::path::PathBuf;

use crate::chat_template::ChatTemplateError;

/// A tokenizer that cannot be loaded, trained, used or saved.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder does not hold the files of a tokenizer.
    #[error(
        "no tokenizer in `{}`: needs `tokenizer.json`, `vocab.txt`, or `vocab.json` with \
         `merges.txt`, found {found}; a folder with a SentencePiece model alone is converted by \
         `AutoTokenizer.from_pretrained(...).save_pretrained(...)`",
        folder.display()
    )]
    NotFound {
        /// The folder.
        folder: PathBuf,
        /// File names in it, for the message.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("cannot access `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what its name promises.
    #[error("`{}` is not a valid tokenizer file: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// The vocabulary lacks a token that the tokenizer cannot do without.
    #[error(
        "`{}` has no token `{token}`, needed as `{role}`; add it, or name the right one in \
         `tokenizer_config.json`",
        path.display()
    )]
    MissingToken {
        /// The vocabulary file.
        path: PathBuf,
        /// The token.
        token: String,
        /// Key of the token in `tokenizer_config.json`.
        role: &'static str,
    },
    /// No room is left for the special tokens.
    #[error("`max_length` must be at least {special}, the number of special tokens, found `{max_length}`")]
    MaxLength {
        /// As asked for.
        max_length: usize,
        /// Special tokens around a text.
        special: usize,
    },
    /// A text cannot be encoded.
    #[error("cannot tokenize text {index} of the batch: {message}")]
    Encode {
        /// Position in the batch, from 0.
        index: usize,
        /// What the tokenizer says.
        message: String,
    },
    /// Ids cannot be decoded.
    #[error("cannot decode token ids: {message}")]
    Decode {
        /// What the tokenizer says.
        message: String,
    },
    /// A text has no end that a model could learn.
    #[error(
        "the tokenizer has no token that ends a text; name one as `eos_token` in \
         `tokenizer_config.json`, or train a tokenizer of `kind = \"gpt2\"`"
    )]
    NoEndToken,
    /// Conversations are given, and nothing says how to write them.
    #[error(
        "the tokenizer has no chat template, which conversations need; take an instruction-tuned \
         model, or put a `chat_template.jinja` beside the tokenizer"
    )]
    NoChatTemplate,
    /// The chat template cannot be used, or refuses a conversation.
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// Rows without a prompt and a target, for a model with an encoder.
    #[error("an encoder-decoder needs prompts and targets; documents and conversations are for decoders")]
    NotForEncoderDecoders,
    /// The vocabulary asked for is too small.
    #[error("`vocab_size` must be at least {needed} (special tokens and alphabet), found `{vocab_size}`")]
    VocabSize {
        /// As asked for.
        vocab_size: usize,
        /// Smallest possible.
        needed: usize,
    },
    /// There is nothing to train on.
    #[error("cannot train a tokenizer: the corpus has no words")]
    EmptyCorpus,
}
