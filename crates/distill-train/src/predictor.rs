//! A finished model that answers texts.

use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::evaluate::{Batching, logits_of, predict_rows};
use crate::events::{Event, Observer};
use crate::finished_model::FinishedModel;
use crate::predictions::write_predictions;
use crate::rows::{Rows, Source, TokenizedRows, padding, tokenize};
use distill_data::tokenizer::Tokenizer;
use distill_data::{DataSpec, LabelMap, LabelSource, collate_sequences, fetch, scan_classification};
use distill_eval::{ClassificationReport, Predictions, softmax};
use distill_models::{
    ForwardOptions, Model, ModelConfig, ModelError, ModelInput, Task, TaskKind, TensorFault,
};
use distill_ops::{DeviceSpec, Dropout, Precision, autocast, resolve};
use distill_recipe::DtypeChoice;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Length at which texts are cut if neither the caller nor the tokeniser says another, in tokens.
const DEFAULT_MAX_LENGTH: usize = 512;

/// A classifier with its tokeniser and the names of its labels.
pub struct Predictor {
    model: Box<dyn Model>,
    tokenizer: Tokenizer,
    labels: Vec<String>,
    max_length: usize,
    pad_token_id: u32,
    precision: Precision,
    folder: PathBuf,
}

/// What a classifier says of one text.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// Name of the most probable label.
    pub label: String,
    /// Its id.
    pub label_id: usize,
    /// Its probability.
    pub score: f64,
    /// Logits of all labels, in the order of their ids.
    pub logits: Vec<f32>,
}

impl Predictor {
    /// Loads a model: the folder of a run or of a checkpoint, any Hugging Face folder, or a hub id.
    ///
    /// # Errors
    /// If it is not there, not a classifier, damaged, or the device cannot be used.
    pub fn load(
        model: &str,
        device: &str,
        dtype: DtypeChoice,
        max_length: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let spec: DeviceSpec = device.parse()?;
        let device = resolve(spec)?;
        let precision = precision_for(dtype, &device)?;
        let finished = FinishedModel::find(model, observer)?;
        finished.announce(model, observer);
        let config = finished.config()?;
        let task = config.task.clone();
        let Task::Classification { id2label: labels } = task.clone() else {
            let writes = matches!(task.kind(), TaskKind::CausalLm | TaskKind::Seq2SeqLm);
            let help = if writes {
                "let it write by `distill generate`, or measure it by `distill eval`"
            } else {
                "fine-tune it first by `distill run`"
            };
            return Err(TrainError::Unusable {
                message: format!("`{model}` is a model for {}, not a classifier", task.kind().name()),
                help: help.to_owned(),
            });
        };
        let loaded =
            finished.load(task, device).map_err(|error| without_classifier(model, &config, error))?;
        let tokenizer = Tokenizer::load(finished.tokenizer_folder())?;
        if tokenizer.vocab_size() > loaded.config.base.vocab_size() {
            return Err(TrainError::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: loaded.config.base.vocab_size(),
            });
        }
        let limit = loaded.config.base.max_length();
        if let Some(max_length) = max_length.filter(|&length| length > limit) {
            return Err(TrainError::TooLong { max_length, limit });
        }
        let known = tokenizer.model_max_length().unwrap_or(DEFAULT_MAX_LENGTH);
        let max_length = max_length.unwrap_or(known.min(limit));
        let pad_token_id = tokenizer.pad_token_id().or(loaded.config.base.pad_token_id()).unwrap_or(0);
        let model = loaded.model.eval_copy();
        let folder = finished.folder;
        Ok(Self { model, tokenizer, labels, max_length, pad_token_id, precision, folder })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Texts are cut to this many tokens.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// All parameters, tied ones once.
    pub fn parameters(&self) -> u64 {
        let count = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        self.model.parameters().iter().map(|parameter| count(&parameter.shape)).sum()
    }

    /// What tensor work is done with.
    pub fn computing(&self) -> Computing {
        Computing::new(&self.model.device(), self.precision)
    }

    /// Names of the labels, in the order of their ids.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Answers a batch of texts, in their order. An empty text is answered too.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`] if a text cannot be tokenised.
    pub fn predict(&self, texts: &[String]) -> Result<Vec<Prediction>, TrainError> {
        self.predict_tokens(&self.tokenize(texts)?)
    }

    /// Token ids of each text, special tokens among them.
    pub(crate) fn tokenize(&self, texts: &[String]) -> Result<Vec<Vec<u32>>, TrainError> {
        let encoded = self.tokenizer.encode_batch(texts, self.max_length)?;
        Ok(encoded.into_iter().map(|text| text.ids).collect())
    }

    /// Answers a batch of tokenised texts, in their order.
    pub(crate) fn predict_tokens(&self, sequences: &[Vec<u32>]) -> Result<Vec<Prediction>, TrainError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let batch = collate_sequences(sequences, 0, &padding(self.pad_token_id, self.max_length))?;
        let shape = [batch.batch_size, batch.sequence_length];
        let input =
            ModelInput::new(&batch.input_ids, &batch.attention_mask, None, shape, &self.model.device());
        let forward = || self.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
        let output = autocast(self.precision, forward);
        Ok(logits_of(output.logits()).into_iter().map(|logits| self.answer(logits)).collect())
    }

    /// Tokens of all rows of a source, in a file in `cache`.
    pub(crate) fn tokenize_rows(
        &self,
        source: Arc<Source>,
        cache: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<TokenizedRows, TrainError> {
        let dataset = tokenize(&source, &self.tokenizer, self.max_length, cache, progress)?;
        Ok(TokenizedRows::new(Arc::new(dataset), &Rows::all(source)))
    }

    /// Logits of tokenised rows, batches made by length.
    pub(crate) fn predict_rows(
        &self,
        rows: &TokenizedRows,
        batch_size: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Predictions, TrainError> {
        let batching = Batching {
            batch_size,
            pad_token_id: self.pad_token_id,
            max_length: self.max_length,
            precision: self.precision,
        };
        predict_rows(self.model.as_ref(), rows, batching, progress)
    }

    fn answer(&self, logits: Vec<f32>) -> Prediction {
        let probabilities = softmax(&logits);
        let best = |best: usize, id: usize| if probabilities[id] > probabilities[best] { id } else { best };
        let label_id = (0..probabilities.len()).fold(0, best);
        Prediction {
            label: self.labels.get(label_id).cloned().unwrap_or_default(),
            label_id,
            score: probabilities.get(label_id).copied().unwrap_or_default(),
            logits,
        }
    }
}

/// An encoder whose weights have no classifier is not damaged: that is told in other words.
fn without_classifier(model: &str, config: &ModelConfig, error: ModelError) -> TrainError {
    let headless = match &error {
        ModelError::Tensors { faults, .. } => {
            let missing = |fault: &TensorFault| matches!(fault, TensorFault::Missing { .. });
            !config.has_classifier() && faults.iter().all(missing)
        }
        _ => false,
    };
    if !headless {
        return error.into();
    }
    TrainError::Unusable {
        message: format!("`{model}` is an encoder without a classifier"),
        help: "fine-tune it first by `distill run`".to_owned(),
    }
}

/// Measures a model on labelled files.
///
/// A line for each row is written to `written_to`, if it is given. Labels are matched by `mapping`, that of the run which
/// made the model; without it by name, and integers count from 0 or from 1 in the order of the model's labels.
///
/// # Errors
/// Whatever is wrong with the files, or labels that the model does not have.
pub fn evaluate_files(
    predictor: &Predictor,
    spec: &DataSpec,
    mapping: Option<&LabelMap>,
    batch_size: usize,
    written_to: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<ClassificationReport, TrainError> {
    let mut reading =
        |done| observer.event(&Event::Progress { what: "reading rows".to_owned(), done, total: None });
    let names = match mapping.filter(|mapping| mapping.names() == predictor.labels) {
        Some(mapping) => LabelSource::Map(mapping),
        None => LabelSource::Infer { names: Some(&predictor.labels), start: None },
    };
    let spec = fetch(spec, &mut |_| ())?;
    let scan = scan_classification(&spec, names, &mut reading)?;
    let total = Some(scan.rows);
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let mut tokenizing =
        |done| observer.event(&Event::Progress { what: "tokenising".to_owned(), done, total });
    let source = Arc::new(Source::of_texts(spec, scan));
    let rows = predictor.tokenize_rows(source.clone(), scratch.path(), &mut tokenizing)?;
    let mut measuring = |done| observer.event(&Event::Progress { what: "measuring".to_owned(), done, total });
    let predictions = predictor.predict_rows(&rows, batch_size, &mut measuring)?;
    let report = ClassificationReport::from_predictions(&predictions, &predictor.labels)?;
    if let Some(path) = written_to {
        write_predictions(path, &Rows::all(source), &predictions, &predictor.labels)?;
    }
    Ok(report)
}
