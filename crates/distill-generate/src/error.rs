//! What can be wrong with a generation.

use crate::config::ConfigFaults;
use std::path::PathBuf;
use thiserror::Error;

/// A `generation_config.json` that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// It is not what it is called.
    #[error("`{path}` is no JSON object: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },

    /// Settings that cannot be.
    #[error("`{path}`: {faults}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// All of them.
        faults: ConfigFaults,
    },
}

/// A generation that cannot be begun or completed.
#[derive(Debug, Error)]
pub enum GenerateError<E: std::error::Error> {
    /// Settings that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigFaults),

    /// There is nothing to continue.
    #[error("prompt {prompt} has no token; give every prompt at least one")]
    EmptyPrompt {
        /// Prompt, counted from 0.
        prompt: usize,
    },

    /// There is no room for a continuation.
    #[error(
        "prompt {prompt} has `{found}` tokens, the model takes `{allowed}` with the new ones; shorten the prompt to \
         at most {} tokens",
        allowed.saturating_sub(1)
    )]
    PromptTooLong {
        /// Prompt, counted from 0.
        prompt: usize,
        /// Tokens of the prompt.
        found: usize,
        /// Most tokens of the prompt and its continuation.
        allowed: usize,
    },

    /// The logits do not form a `[rows, vocab]` matrix.
    #[error(
        "the model gave `{found}` logits for `{rows}` rows; expected the same number, above 0, for each row"
    )]
    LogitShape {
        /// Number of logits.
        found: usize,
        /// Number of rows.
        rows: usize,
    },

    /// A logit that is infinite or not a number.
    #[error(
        "the logit of token `{token}` after {length} tokens of prompt {prompt} is `{value}`, which is not finite; \
         the model has diverged or its weights are damaged"
    )]
    NotFinite {
        /// Prompt, counted from 0.
        prompt: usize,
        /// Tokens before it, those of the prompt included.
        length: usize,
        /// Token it is the logit of.
        token: usize,
        /// The value found.
        value: f32,
    },

    /// The settings forbid all tokens.
    #[error(
        "no token is allowed after {length} tokens of prompt {prompt}: all are forbidden by `no_repeat_ngram_size` \
         or `min_new_tokens`, or there are fewer than `num_return_sequences`; lower these"
    )]
    NoToken {
        /// Prompt, counted from 0.
        prompt: usize,
        /// Tokens before it, those of the prompt included.
        length: usize,
    },

    /// The model failed.
    #[error(transparent)]
    Model(E),
}
