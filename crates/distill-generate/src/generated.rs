//! What a generation gives.

use serde::Serialize;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it: one of `eos_token_id` came.
    Eos,
    /// One of `stop_strings` came.
    StopString,
    /// It has `max_new_tokens`, or as many as the model takes.
    Length,
}

/// A continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, the one of `eos_token_id` and those of a stop string included.
    pub token_ids: Vec<u32>,
    /// Their text, without the token of `eos_token_id`, cut before a stop string.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Of a beam search, the sum of the tokens' log-probabilities over `tokens ^ length_penalty`; nats.
    pub score: Option<f32>,
}

/// News of a text while it is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The number of the continuation: its place among the results.
    pub row: usize,
    /// The tokens that are new: one at a time, or all tokens of a beam search's result.
    pub token_ids: &'a [u32],
    /// The text that is certain with them, after what came before: nothing while a character is
    /// incomplete or a stop string may have begun.
    pub text: &'a str,
}
