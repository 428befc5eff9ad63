//! TinyBERT's data augmentation; Jiao et al. 2020, §3.2 and Algorithm 1 (arXiv:1909.10351).
//!
//! `places` finds the words of a text that can be replaced, `embeddings` or `masked_lm` what could stand there,
//! `copies` draws from that, and `cache` keeps what came out.

mod cache;
mod copies;
mod embeddings;
mod masked_lm;
mod places;
mod ranking;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::rows::Rows;
use burn::tensor::Device;
use cache::{Cache, ROWS_A_PART};
use copies::copies;
use distill_data::tokenizer::Tokenizer;
use distill_models::{HeadPolicy, LoadRequest, ModelConfig, Task, load};
use distill_ops::Precision;
use embeddings::Neighbours;
use masked_lm::MaskedLm;
use places::{Row, Vocabulary};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the words come from that replace others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacements {
    /// The nearest in the model's word embeddings, by cosine.
    Embeddings,
    /// What a masked language model thinks most probable at that place.
    MaskedLm,
}

/// How texts are augmented. The paper's names are in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentSettings {
    /// Changed copies of each text, at most (N_a); 10 to 30 in the reference code, by task.
    pub copies: usize,
    /// Probability that a word is replaced (p_t), from 0 to 1; 0.4 in the paper.
    pub probability: f64,
    /// Words from which a replacement is drawn (K); 15 in the paper.
    pub candidates: usize,
    /// Where they come from.
    pub replacements: Replacements,
    /// Seed of all draws.
    pub seed: u64,
    /// Rows that the masked language model reads at once; fewer where their logits would take too much memory.
    pub batch_size: usize,
    /// Tokens of a text that are looked at; words behind stay as they are.
    pub max_length: usize,
}

/// Writes changed versions of every text into a file in the folder `cache`, and returns its path.
///
/// Each line is `{"text": ..., "row": n}`, `n` the text's number in its data set; lines come in the order of `texts`,
/// copies of a text one behind the other, those that equal it or each other left out. What is drawn is a function of
/// seed, row and copy. The file is found again by model, tokenizer, texts and settings; what a kill or `interrupt`
/// left unfinished is gone on with, 1,024 texts at a time.
///
/// As in Algorithm 1 each word is replaced with a probability, by one of some candidates. What differs:
/// - A word of several tokens stays, as do one letter and parts of a word like `don't`: there is no second table of
///   embeddings for them.
/// - [`Replacements::MaskedLm`] does not mask one word at a time but up to a seventh of a row's words, evenly spread,
///   in at most 7 passes: a seventh of all words is about what is masked in pretraining. It reads the masked text
///   alone; the reference code has the original behind it as a second segment.
/// - Candidates are whole words other than the one replaced; a masked language model often names that one first.
/// - Stop words are replaced like others, as the paper has it; the reference code keeps an English list of them.
///
/// # Errors
/// [`TrainError::Unusable`] if the model has no masked language model's head where one is needed, its tokenizer no mask
/// token, or no text a word that can be replaced; [`TrainError::TooLong`], [`TrainError::VocabularyMismatch`];
/// [`TrainError::Interrupted`]; whatever is wrong with the files of the model, the texts or the cache.
#[allow(clippy::too_many_arguments)] // Each is another thing; there is one caller.
pub fn augment(
    model_folder: &Path,
    texts: &Rows,
    settings: &AugmentSettings,
    device: &Device,
    precision: Precision,
    cache: &Path,
    interrupt: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<PathBuf, TrainError> {
    let tokenizer = Tokenizer::load(model_folder)?;
    let cache = Cache::new(cache, model_folder, &tokenizer, texts, settings)?;
    if let Some(finished) = cache.finished() {
        return Ok(finished);
    }
    if !cache.has_all() {
        let source = CandidateSource::load(model_folder, &tokenizer, settings, device, precision, observer)?;
        let rows = Vec::with_capacity(ROWS_A_PART);
        let total = texts.len();
        let mut augmenter =
            Augmenter { tokenizer: &tokenizer, settings, source, cache: &cache, rows, done: 0, total };
        texts.for_each_text(&mut |number, text| augmenter.add(number, text, interrupt, observer))?;
        augmenter.finish(interrupt, observer)?;
    }
    cache.join()?.ok_or_else(|| TrainError::Unusable {
        message: "no text has a word that can be replaced by another".to_owned(),
        help: "take a model whose tokenizer knows words of these texts as a whole, or raise `copies`, \
               `probability` and `candidates`"
            .to_owned(),
    })
}

/// What words can be replaced by, and where that is looked up.
struct CandidateSource {
    vocabulary: Vocabulary,
    lookup: Lookup,
}

enum Lookup {
    Embeddings(Box<Neighbours>),
    MaskedLm(MaskedLm),
}

impl CandidateSource {
    fn load(
        folder: &Path,
        tokenizer: &Tokenizer,
        settings: &AugmentSettings,
        device: &Device,
        precision: Precision,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let config = ModelConfig::read(folder)?;
        let vocab_size = config.base.vocab_size();
        if tokenizer.vocab_size() > vocab_size {
            return Err(TrainError::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: vocab_size,
            });
        }
        let head = match settings.replacements {
            Replacements::MaskedLm => {
                check_masked_lm(folder, &config, settings).map(|()| HeadPolicy::MustMatch)?
            }
            // The head is not looked at, and need not be there.
            Replacements::Embeddings => HeadPolicy::Reinitialise,
        };
        observer.event(&Event::Stage { message: format!("loading `{}`", folder.display()) });
        let request = LoadRequest {
            task: config.task,
            head,
            seed: 0,
            device: device.clone(),
            dropout: Some(0.0),
            adapter: None,
        };
        let loaded = load(folder, request)?;
        let vocabulary = Vocabulary::new(tokenizer, vocab_size)?;
        let lookup = match settings.replacements {
            Replacements::Embeddings => {
                let count = settings.candidates;
                let neighbours = Neighbours::new(loaded.model.as_ref(), &vocabulary, count, device)?;
                Lookup::Embeddings(Box::new(neighbours))
            }
            Replacements::MaskedLm => Lookup::MaskedLm(MaskedLm {
                model: loaded.model.eval_copy(),
                precision,
                mask_token_id: mask_token_id(folder, tokenizer)?,
                pad_token_id: tokenizer.pad_token_id().or(config.base.pad_token_id()).unwrap_or(0),
                vocab_size,
            }),
        };
        Ok(Self { vocabulary, lookup })
    }

    /// The candidates of each place of each row; `progress` hears what fraction of them is found.
    fn candidates(
        &mut self,
        rows: &[Row],
        settings: &AugmentSettings,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Vec<Vec<u32>>>, TrainError> {
        match &mut self.lookup {
            Lookup::Embeddings(neighbours) => neighbours.candidates(rows, interrupt),
            Lookup::MaskedLm(model) => {
                model.candidates(rows, &self.vocabulary, settings, interrupt, progress)
            }
        }
    }
}

/// Whether the model in a folder can name the replacements that are asked for, told before its weights are read.
///
/// # Errors
/// Those of [`augment`] that are about the model.
pub fn check_model(folder: &Path, settings: &AugmentSettings) -> Result<(), TrainError> {
    if settings.replacements == Replacements::MaskedLm {
        check_masked_lm(folder, &ModelConfig::read(folder)?, settings)?;
        mask_token_id(folder, &Tokenizer::load(folder)?)?;
    }
    Ok(())
}

fn check_masked_lm(
    folder: &Path,
    config: &ModelConfig,
    settings: &AugmentSettings,
) -> Result<(), TrainError> {
    if config.task != Task::MaskedLm {
        return Err(TrainError::Unusable {
            message: format!(
                "`{}` is not a masked language model: it cannot say which words fit",
                folder.display()
            ),
            help: "take one whose `architectures` name `...ForMaskedLM`, such as the checkpoint that it was \
                   fine-tuned from, or `replacements = \"embeddings\"`"
                .to_owned(),
        });
    }
    let (max_length, limit) = (settings.max_length, config.base.max_length());
    if max_length > limit {
        return Err(TrainError::TooLong { max_length, limit });
    }
    Ok(())
}

fn mask_token_id(folder: &Path, tokenizer: &Tokenizer) -> Result<u32, TrainError> {
    tokenizer.mask_token_id().ok_or_else(|| TrainError::Unusable {
        message: format!("the tokenizer of `{}` has no mask token", folder.display()),
        help: "name it as `mask_token` in `tokenizer_config.json`, or take `replacements = \"embeddings\"`"
            .to_owned(),
    })
}

/// Gathers texts until a part is full, and writes its copies.
struct Augmenter<'a> {
    tokenizer: &'a Tokenizer,
    settings: &'a AugmentSettings,
    source: CandidateSource,
    cache: &'a Cache,
    rows: Vec<Row>,
    /// Texts seen so far, those that wait included.
    done: usize,
    total: usize,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
    row: usize,
}

impl Augmenter<'_> {
    fn add(
        &mut self,
        number: usize,
        text: &str,
        interrupt: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let part = self.done / ROWS_A_PART;
        self.done += 1;
        if self.cache.has(part) {
            return Ok(());
        }
        if interrupt.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted);
        }
        let vocabulary = &self.source.vocabulary;
        self.rows.push(Row::new(number, text, self.tokenizer, vocabulary, self.settings.max_length)?);
        if self.rows.len() == ROWS_A_PART { self.write(part, interrupt, observer) } else { Ok(()) }
    }

    fn finish(&mut self, interrupt: &AtomicBool, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if self.done != self.total {
            return Err(TrainError::Unusable {
                message: format!(
                    "the texts changed while they were read: {} rows, now {}",
                    self.total, self.done
                ),
                help: "start again".to_owned(),
            });
        }
        if self.rows.is_empty() { Ok(()) } else { self.write(self.done / ROWS_A_PART, interrupt, observer) }
    }

    fn write(
        &mut self,
        part: usize,
        interrupt: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (before, rows) = (self.done - self.rows.len(), std::mem::take(&mut self.rows));
        let total = Some(self.total as u64);
        let mut progress = |fraction: f64| {
            let done = before as u64 + (fraction * rows.len() as f64) as u64;
            observer.event(&Event::Progress { what: "augmenting".to_owned(), done, total });
        };
        let candidates = self.source.candidates(&rows, self.settings, interrupt, &mut progress)?;
        let mut lines = Vec::new();
        for (row, candidates) in rows.iter().zip(&candidates) {
            for text in copies(row, candidates, &self.source.vocabulary, self.settings) {
                let line = Line { text: &text, row: row.number };
                // A string and a number always are JSON, and a vector takes every byte.
                let _ = serde_json::to_writer(&mut lines, &line);
                lines.push(b'\n');
            }
        }
        self.cache.write(part, &lines)?;
        progress(1.0);
        Ok(())
    }
}
