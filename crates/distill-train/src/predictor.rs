//! A finished model that answers texts.

use crate::computing::precision_for;
use crate::error::TrainError;
use crate::evaluate::{Batching, logits_of, predict_rows};
use crate::events::{Event, Observer};
use crate::prepare::model_folder;
use crate::rows::{Rows, Source, TokenizedRows, padding, tokenize};
use distill_data::tokenizer::Tokenizer;
use distill_data::{DataSpec, LabelMap, LabelSource, collate_sequences, fetch, scan_classification};
use distill_eval::{ClassificationReport, Predictions, softmax};
use distill_models::{ForwardOptions, HeadPolicy, LoadRequest, Model, ModelConfig, ModelInput, Task, load};
use distill_ops::{DeviceSpec, Dropout, Precision, autocast, resolve};
use distill_recipe::DtypeChoice;
use serde::Serialize;
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
        let folder = model_folder(model, observer)?;
        observer.event(&Event::Stage { message: format!("loading `{model}`") });
        let task = ModelConfig::read(&folder)?.task;
        let Task::Classification { id2label: labels } = task.clone() else {
            return Err(TrainError::Unusable {
                message: format!("`{model}` is a masked language model, not a classifier"),
                help: "fine-tune it first by `distill run`".to_owned(),
            });
        };
        let request = LoadRequest { task, seed: 0, device, dropout: Some(0.0), head: HeadPolicy::MustMatch };
        let loaded = load(&folder, request)?;
        let tokenizer = Tokenizer::load(&folder)?;
        if tokenizer.vocab_size() > loaded.config.encoder.vocab_size() {
            return Err(TrainError::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: loaded.config.encoder.vocab_size(),
            });
        }
        let limit = loaded.config.encoder.max_length();
        if let Some(max_length) = max_length.filter(|&length| length > limit) {
            return Err(TrainError::TooLong { max_length, limit });
        }
        let known = tokenizer.model_max_length().unwrap_or(DEFAULT_MAX_LENGTH);
        let max_length = max_length.unwrap_or(known.min(limit));
        let pad_token_id = tokenizer.pad_token_id().or(loaded.config.encoder.pad_token_id()).unwrap_or(0);
        let model = loaded.model.eval_copy();
        Ok(Self { model, tokenizer, labels, max_length, pad_token_id, precision })
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
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let encoded = self.tokenizer.encode_batch(texts, self.max_length)?;
        let sequences: Vec<Vec<u32>> = encoded.into_iter().map(|text| text.ids).collect();
        let batch = collate_sequences(&sequences, 0, &padding(self.pad_token_id, self.max_length))?;
        let shape = [batch.batch_size, batch.sequence_length];
        let input =
            ModelInput::new(&batch.input_ids, &batch.attention_mask, None, shape, &self.model.device());
        let forward = || self.model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
        let output = autocast(self.precision, forward);
        Ok(logits_of(output.logits).into_iter().map(|logits| self.answer(logits)).collect())
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

/// Measures a model on labelled files.
///
/// Labels are matched by `mapping`, that of the run which made the model; without it by name, and integers count from
/// 0 or from 1 in the order of the model's labels.
///
/// # Errors
/// Whatever is wrong with the files, or labels that the model does not have.
pub fn evaluate_files(
    predictor: &Predictor,
    spec: &DataSpec,
    mapping: Option<&LabelMap>,
    batch_size: usize,
    observer: &mut dyn Observer,
) -> Result<(ClassificationReport, Predictions), TrainError> {
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
    let source = Arc::new(Source { spec, scan });
    let (tokenizer, max_length) = (&predictor.tokenizer, predictor.max_length);
    let dataset = tokenize(&source, tokenizer, max_length, scratch.path(), &mut tokenizing)?;
    let rows = TokenizedRows::new(Arc::new(dataset), &Rows::all(source));
    let batching = Batching {
        batch_size,
        pad_token_id: predictor.pad_token_id,
        max_length: predictor.max_length,
        precision: predictor.precision,
    };
    let mut measuring = |done| observer.event(&Event::Progress { what: "measuring".to_owned(), done, total });
    let predictions = predict_rows(predictor.model.as_ref(), &rows, batching, &mut measuring)?;
    let report = ClassificationReport::from_predictions(&predictions, &predictor.labels)?;
    Ok((report, predictions))
}
