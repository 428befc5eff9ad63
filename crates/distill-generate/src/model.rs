//! What generation asks of a model.

/// A model that continues rows of tokens.
///
/// A *row* is a sequence that the model holds state for (a key/value cache). Rows have numbers from 0,
/// which change with [`select`](NextToken::select). Logits are `[rows * vocab]`, row by row, with the same
/// `vocab` in every answer.
pub trait NextToken {
    /// What can go wrong in the model.
    type Error: std::error::Error;

    /// Forgets all rows and reads one prompt a row, of at least one token each; the logits of the token
    /// after each prompt. At most `max_new_tokens` tokens will be appended to a row.
    ///
    /// # Errors
    /// The model's own.
    fn start(&mut self, prompts: &[Vec<u32>], max_new_tokens: usize) -> Result<Vec<f32>, Self::Error>;

    /// Appends one token to every row; the logits of the token after it.
    ///
    /// # Errors
    /// The model's own.
    fn next(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Self::Error>;

    /// Goes on with these rows, in this order; a row may be named several times (beams) or not at all
    /// (ended). Row `i` is from now on what row `rows[i]` was.
    ///
    /// # Errors
    /// The model's own.
    fn select(&mut self, rows: &[usize]) -> Result<(), Self::Error>;

    /// The tokens that a continuation of `prompt` is appended to: the prompt itself for decoders, which
    /// is the default; the decoder's start token for encoder-decoders, whose prompts are the encoder's.
    fn written(&self, prompt: &[u32]) -> Vec<u32> {
        prompt.to_vec()
    }

    /// Most tokens that what is [written](NextToken::written) and its continuation may have together,
    /// `max_position_embeddings`; `None`, the default, where there is no limit.
    fn max_length(&self) -> Option<usize> {
        None
    }
}
