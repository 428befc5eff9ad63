//! Text generation over any model of the next token.
//!
//! A [`NextToken`] model reads prompts and says how likely each token is to come next. [`Generation`]
//! continues the prompts with it: the most probable token, one drawn by chance, or the best of several
//! [beams](GenerationConfig::num_beams), as a [`GenerationConfig`] says, with the names, the defaults and
//! the arithmetic of Hugging Face's `generate`. Nothing here knows of tensors: logits are slices.

mod beam_search;
mod chance;
mod config;
mod early_stopping;
mod error;
mod generate;
mod generated;
mod likelihood;
mod model;
mod one_or_many;
pub mod processors;
mod scores;
mod text_stream;
#[cfg(test)]
mod toy_model;

pub use config::{ConfigFault, ConfigFaults, DEFAULT_MAX_NEW_TOKENS, GenerationConfig};
pub use early_stopping::EarlyStopping;
pub use error::{ConfigFileError, GenerateError};
pub use generate::Generation;
pub use generated::{FinishReason, Generated, Piece};
pub use likelihood::log_likelihoods;
pub use model::NextToken;
pub use text_stream::TextStream;
