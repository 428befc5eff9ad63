//! Rows as token ids with marks of what is learnt.
use std::ops::Range;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::chat_template::{ChatTemplate, GenerationPrompt};
use crate::content::hex;
use crate::language_row::{Message, Role, RowParts};
use crate::marks::{is_learnt, learnt};
use crate::rationale_row::RationaleRow;
use crate::tokenizer::{Encoded, Tokenizer, TokenizerError};

/// Which kind of model reads the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One sequence: the prompt, then the target.
    Decoder,
    /// Two: the prompt with its end for the encoder, the target for the decoder.
    EncoderDecoder,
}

/// Turns rows into tokens, those that are learnt marked as in [`marks`](crate::marks).
///
/// | | tokens (learnt ones in brackets) | if they are more than `max_length` |
/// |-|-|-|
/// | document | `bos` `[text eos]` | uncut: packing cuts them |
/// | pair, decoder | `bos` `prompt` `[target eos]` | the prompt is cut at its start, a target that alone is too long at its end |
/// | pair, encoder-decoder | `prompt eos` `[target eos]` | each is cut at its end, the prompt's `eos` stays |
/// | chat | `...` `[answer and what ends it]` `...` | the oldest exchanges are left out, then the start of the last one |
/// | rationale | two pairs: the label's, then the rationale's | each as a pair; see [`RowEncoder::second_pair`] |
///
/// `bos` stands for what the tokenizer puts before a text: often nothing. Prompt and target are
/// tokenised apart, as they are when the model writes the target; a conversation is tokenised as the
/// one text that its template makes.
#[derive(Debug, Clone)]
pub struct RowEncoder<'a> {
    tokenizer: &'a Tokenizer,
    layout: Layout,
    max_length: usize,
    template: Option<ChatTemplate>,
}

impl<'a> RowEncoder<'a> {
    /// An encoder to at most `max_length` tokens, with the chat template of the tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::ChatTemplate`] if the tokenizer's template cannot be read;
    /// [`TokenizerError::MaxLength`] if `max_length` leaves no room beside the special tokens.
    pub fn new(tokenizer: &'a Tokenizer, layout: Layout, max_length: usize) -> Result<Self, TokenizerError> {
        let special = tokenizer.prefix_ids().len() + 1;
        if max_length <= special {
            return Err(TokenizerError::MaxLength { max_length, special: special + 1 });
        }
        Ok(Self { tokenizer, layout, max_length, template: tokenizer.chat_template()? })
    }

    /// What tokens depend on beside `max_length` and the rows, for
    /// [`CacheKey::new`](crate::CacheKey::new).
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.tokenizer.hash());
        hash.update(format!("rows 1 {:?} {:?}", self.layout, self.tokenizer.eos_token_id()));
        if let Some(template) = &self.template {
            hash.update(template.source());
        }
        hex(&hash.finalize())
    }

    /// Encodes rows in parallel, in their order; the length before cutting tells which were cut.
    ///
    /// # Errors
    /// [`TokenizerError::NoEndToken`] or [`TokenizerError::NoChatTemplate`] if the tokenizer has none;
    /// [`TokenizerError::ChatTemplate`] if the template refuses a conversation;
    /// [`TokenizerError::NotForEncoderDecoders`] for documents and conversations of such a model.
    pub fn encode_batch(&self, rows: &[RowParts]) -> Result<Vec<Encoded>, TokenizerError> {
        rows.par_iter().map(|row| self.encode(row)).collect()
    }

    /// Encodes one row as [`RowEncoder::encode_batch`] does.
    ///
    /// # Errors
    /// As [`RowEncoder::encode_batch`].
    pub fn encode(&self, row: &RowParts) -> Result<Encoded, TokenizerError> {
        match (row, self.layout) {
            (RowParts::Document(text), Layout::Decoder) => self.document(text),
            (RowParts::Pair { prompt, targets }, _) => {
                self.pair(prompt, targets.first().map_or("", String::as_str))
            }
            (RowParts::Rationale(row), _) => self.label_and_rationale(row),
            (RowParts::Chat(messages), Layout::Decoder) => self.chat(messages),
            (RowParts::Document(_) | RowParts::Chat(_), Layout::EncoderDecoder) => {
                Err(TokenizerError::NotForEncoderDecoders)
            }
        }
    }

    /// Ids of what the model reads before it writes: a document, a prompt, or a conversation up to
    /// its last answer, or up to its end if there is none. Cut to `max_length` at the start, for
    /// encoder-decoders at the end.
    ///
    /// # Errors
    /// As [`RowEncoder::encode_batch`].
    pub fn prompt(&self, row: &RowParts) -> Result<Encoded, TokenizerError> {
        let prefix = self.tokenizer.prefix_ids();
        match (row, self.layout) {
            (RowParts::Pair { prompt: text, .. } | RowParts::Document(text), Layout::EncoderDecoder) => {
                let (ids, full_length) = self.encoder_input(text)?;
                Ok(Encoded { ids, full_length })
            }
            (RowParts::Pair { prompt: text, .. } | RowParts::Document(text), Layout::Decoder) => {
                let text = self.tokenizer.encode_text(text)?;
                let full_length = prefix.len() + text.len();
                let kept = last(&text, self.max_length - prefix.len());
                Ok(Encoded { ids: [prefix, kept].concat(), full_length })
            }
            (RowParts::Chat(messages), Layout::Decoder) => {
                let messages = row.last_answer().map_or(messages.as_slice(), |(before, _)| before);
                let text = self.template()?.render(messages, GenerationPrompt::Add)?;
                let ids = self.tokenizer.encode_text(&text)?;
                Ok(Encoded { ids: last(&ids, self.max_length).to_vec(), full_length: ids.len() })
            }
            (RowParts::Rationale(row), _) => {
                self.prompt(&RowParts::Pair { prompt: row.prompt.clone(), targets: Vec::new() })
            }
            (RowParts::Chat(_), Layout::EncoderDecoder) => Err(TokenizerError::NotForEncoderDecoders),
        }
    }

    /// Where the second pair of a rationale row begins among its tokens: after the first learnt ones. `None` for rows
    /// that teach their label alone.
    pub fn second_pair(tokens: &[u32]) -> Option<usize> {
        let first = tokens.iter().position(|token| is_learnt(*token))?;
        let end = tokens[first..].iter().position(|token| !is_learnt(*token))?;
        Some(first + end)
    }

    fn pair(&self, prompt: &str, target: &str) -> Result<Encoded, TokenizerError> {
        match self.layout {
            Layout::Decoder => self.continuation(prompt, target),
            Layout::EncoderDecoder => self.two_sequences(prompt, target),
        }
    }

    fn label_and_rationale(&self, row: &RationaleRow) -> Result<Encoded, TokenizerError> {
        let label = self.pair(&row.prompt, &row.target)?;
        let (Some(prompt), Some(rationale)) = (&row.rationale_prompt, &row.rationale) else {
            return Ok(label);
        };
        let second = self.pair(prompt, rationale)?;
        // Without a token of its prompt it could not be told from the label.
        if second.ids.first().is_none_or(|token| is_learnt(*token)) {
            return Ok(label);
        }
        let full_length = label.full_length + second.full_length;
        Ok(Encoded { ids: [label.ids, second.ids].concat(), full_length })
    }

    fn eos(&self) -> Result<u32, TokenizerError> {
        self.tokenizer.eos_token_id().ok_or(TokenizerError::NoEndToken)
    }

    fn template(&self) -> Result<&ChatTemplate, TokenizerError> {
        self.template.as_ref().ok_or(TokenizerError::NoChatTemplate)
    }

    fn document(&self, text: &str) -> Result<Encoded, TokenizerError> {
        let text = self.tokenizer.encode_text(text)?;
        let ids = [self.tokenizer.prefix_ids(), &text, &[self.eos()?]].concat();
        let ids: Vec<u32> = ids.into_iter().map(learnt).collect();
        Ok(Encoded { full_length: ids.len(), ids })
    }

    /// A target with its end, cut at its end to `room` tokens, and its length before that.
    fn target(&self, text: &str, room: usize) -> Result<(Vec<u32>, usize), TokenizerError> {
        let mut ids = self.tokenizer.encode_text(text)?;
        ids.push(self.eos()?);
        let full_length = ids.len();
        ids.truncate(room);
        Ok((ids.into_iter().map(learnt).collect(), full_length))
    }

    fn continuation(&self, prompt: &str, target: &str) -> Result<Encoded, TokenizerError> {
        let prefix = self.tokenizer.prefix_ids();
        let room = self.max_length - prefix.len();
        let prompt = self.tokenizer.encode_text(prompt)?;
        // A token of the prompt stays: nothing precedes the first token of a sequence, so that it cannot be learnt.
        let (target, full_target) = self.target(target, room - usize::from(prefix.is_empty()))?;
        let full_length = prefix.len() + prompt.len() + full_target;
        let kept = last(&prompt, room - target.len());
        Ok(Encoded { ids: [prefix, kept, &target].concat(), full_length })
    }

    /// The tokens of an encoder's input, with its end, and their number before it was cut.
    fn encoder_input(&self, text: &str) -> Result<(Vec<u32>, usize), TokenizerError> {
        let (prefix, suffix) = (self.tokenizer.prefix_ids(), self.tokenizer.suffix_ids());
        let end = if suffix.is_empty() { &[self.eos()?] } else { suffix };
        let mut text = self.tokenizer.encode_text(text)?;
        let special = prefix.len() + end.len();
        let full_length = text.len() + special;
        text.truncate(self.max_length.saturating_sub(special));
        Ok(([prefix, &text, end].concat(), full_length))
    }

    fn two_sequences(&self, prompt: &str, target: &str) -> Result<Encoded, TokenizerError> {
        let (prompt, full_prompt) = self.encoder_input(prompt)?;
        let (target, full_target) = self.target(target, self.max_length)?;
        Ok(Encoded { ids: [prompt, target].concat(), full_length: full_prompt + full_target })
    }

    fn chat(&self, messages: &[Message]) -> Result<Encoded, TokenizerError> {
        let mut ids = self.conversation(messages)?;
        let full_length = ids.len();
        let mut kept = messages.to_vec();
        while ids.len() > self.max_length
            && let Some(exchange) = oldest_exchange(&kept)
        {
            kept.drain(exchange);
            ids = self.conversation(&kept)?;
        }
        if ids.len() > self.max_length {
            let answer = ids.iter().position(|token| is_learnt(*token)).unwrap_or(0);
            ids.drain(..answer.min(ids.len() - self.max_length));
            ids.truncate(self.max_length);
        }
        Ok(Encoded { ids, full_length })
    }

    /// The tokens of a whole conversation. Of an answer all are learnt that stand for a part of it,
    /// up to the last special token: what follows that, such as a line break, no model writes.
    fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>, TokenizerError> {
        let (text, answers) = self.template()?.render_answers(messages)?;
        let encoded = self.tokenizer.encode_with_offsets(&text)?;
        let mut ids: Vec<u32> = encoded.iter().map(|(id, _)| *id).collect();
        for answer in answers {
            let overlaps = |bytes: &Range<usize>| bytes.start < answer.end && bytes.end > answer.start;
            let Some(first) = encoded.iter().position(|(_, bytes)| overlaps(bytes)) else { continue };
            let tokens = encoded[first..].iter().take_while(|(_, bytes)| overlaps(bytes)).count();
            let answer = &mut ids[first..first + tokens];
            let end =
                answer.iter().rposition(|id| self.tokenizer.is_special(*id)).map_or(tokens, |end| end + 1);
            answer[..end].iter_mut().for_each(|id| *id = learnt(*id));
        }
        Ok(ids)
    }
}

/// The last `count` of `ids`, or all.
fn last(ids: &[u32], count: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(count)..]
}

/// The messages from the first that is not the system's up to the user's next turn; `None` if no
/// answer would be left.
fn oldest_exchange(messages: &[Message]) -> Option<Range<usize>> {
    let start = messages.iter().position(|message| message.role != Role::System)?;
    let asks = |at: usize| messages[at].role == Role::User && messages[at - 1].role != Role::User;
    let end = (start + 1..messages.len()).find(|at| asks(*at))?;
    messages[end..].iter().any(|message| message.role == Role::Assistant).then_some(start..end)
}

#[cfg(test)]
mod tests;
