//! Models side by side on the same labelled rows: how well they answer, how alike, how large they are and how fast.

mod contender;
mod energy;
mod labels;
mod timing;

pub use contender::Contender;
pub use energy::Rapl;
pub use timing::{Speed, Timing};

use crate::computing::Computing;
use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::rows::{Rows, Source};
use distill_data::{DataSpec, fetch};
use distill_eval::{ClassificationReport, Predictions};
use serde::Serialize;
use std::sync::Arc;

/// What was measured, model by model; the first is what the others are compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The files, as they were named.
    pub data: Vec<String>,
    /// Rows in them.
    pub rows: u64,
    /// Names of the labels, in the order of the first model.
    pub labels: Vec<String>,
    /// `device`, `dtype`, `instruction_set` and `threads`, as they were resolved.
    #[serde(flatten)]
    pub computing: Computing,
    /// How times were taken.
    pub timing: Timing,
    /// The models, in the order in which they were named.
    pub models: Vec<Compared>,
}

/// One model of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Folder or hub id.
    pub model: String,
    /// Fraction of right rows.
    pub accuracy: f64,
    /// F1, mean over the classes that occur or are predicted.
    pub macro_f1: f64,
    /// Fraction of the rows that get the label which the first model gives them.
    pub agreement: f64,
    /// All parameters.
    pub parameters: u64,
    /// Parameters, as a fraction of those of the first model.
    pub parameters_ratio: f64,
    /// Size of the weights files, in bytes.
    pub weight_bytes: u64,
    /// That size, as a fraction of that of the first model.
    pub weight_bytes_ratio: f64,
    /// Texts are cut to this many tokens.
    pub max_length: usize,
    /// What it takes to answer.
    #[serde(flatten)]
    pub speed: Speed,
    /// How many times as fast as the first model by `latency_ms.p50`.
    pub latency_speedup: f64,
    /// How many times as fast as the first model by `examples_per_second`.
    pub throughput_speedup: f64,
}

/// Measures models on the same rows: first how well they answer, then, by turns, how fast.
///
/// Labels are matched by name: models may number them differently, but must all know the same ones. Integer labels are
/// read as in the run that made a model; a model without a run takes the reading of the first one that has one, and
/// where there is none at all, the labels count from 0 or from 1 in the order of the first model's. A run that cannot
/// read the labels, since its own were of another kind, has no say. `energy` is what [`Rapl::find`] finds.
///
/// # Errors
/// Whatever is wrong with the files; models with different labels; labels that two runs read differently.
pub fn compare(
    contenders: &[Contender],
    data: &DataSpec,
    timing: &Timing,
    energy: Option<&Rapl>,
    observer: &mut dyn Observer,
) -> Result<Comparison, TrainError> {
    let Some(first) = contenders.first() else {
        return Err(TrainError::Unusable {
            message: "there is no model to measure".to_owned(),
            help: "name two models or more".to_owned(),
        });
    };
    labels::check_names(contenders)?;
    let spec = fetch(data, &mut |_| ())?;
    let scan = labels::read(contenders, &spec, observer)?;
    let total = scan.rows;
    let timing = timing.within(usize::try_from(total).unwrap_or(usize::MAX));
    let names = scan.label_map.as_ref().map_or_else(Vec::new, |map| map.names().to_vec());
    let source = Arc::new(Source::of_texts(spec, scan));
    // Models with the same tokenizer share the tokens in this folder.
    let scratch = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let mut lengths = Vec::new();
    let mut scores = Vec::with_capacity(contenders.len());
    for model in contenders {
        let mut progress = |what: &str, done| {
            let what = format!("{what} `{}`", model.reference());
            observer.event(&Event::Progress { what, done, total: Some(total) });
        };
        let tokens = model.predictor().tokenize_rows(source.clone(), scratch.path(), &mut |done| {
            progress("tokenising for", done);
        })?;
        let predictions = model
            .predictor()
            .predict_rows(&tokens, timing.batch_size, &mut |done| progress("measuring", done))?;
        if lengths.is_empty() {
            lengths = tokens.lengths().to_vec();
        }
        scores.push(Scores::of(&labels::reorder(&predictions, model.predictor().labels(), &names)?, &names)?);
    }
    let computing = first.predictor().computing();
    let energy = energy.filter(|_| computing.is_cpu());
    let speeds = timing.measure(contenders, &Rows::all(source), &lengths, energy, observer)?;
    let measured = contenders.iter().zip(scores).zip(speeds);
    let measured: Vec<Measured<'_>> =
        measured.map(|((model, scores), speed)| Measured { model, scores, speed }).collect();
    Ok(Comparison {
        data: data.sources.clone(),
        rows: total,
        labels: first.predictor().labels().to_vec(),
        computing,
        timing,
        models: measured.iter().map(|model| model.beside(measured.first().unwrap_or(model))).collect(),
    })
}

/// How well a model answers.
struct Scores {
    accuracy: f64,
    macro_f1: f64,
    /// The answer to each row.
    answers: Vec<u32>,
}

impl Scores {
    /// `names` are those of the classes of `predictions`.
    fn of(predictions: &Predictions, names: &[String]) -> Result<Self, TrainError> {
        let report = ClassificationReport::from_predictions(predictions, names)?;
        let answers = predictions.top_classes();
        Ok(Self { accuracy: report.accuracy, macro_f1: report.macro_f1, answers })
    }

    fn agreement(&self, first: &Self) -> f64 {
        let alike = self.answers.iter().zip(&first.answers).filter(|(own, other)| own == other).count();
        ratio(alike as f64, self.answers.len() as f64)
    }
}

struct Measured<'a> {
    model: &'a Contender,
    scores: Scores,
    speed: Speed,
}

impl Measured<'_> {
    fn beside(&self, first: &Self) -> Compared {
        let parameters = self.model.predictor().parameters();
        let weight_bytes = self.model.weight_bytes();
        Compared {
            model: self.model.reference().to_owned(),
            accuracy: self.scores.accuracy,
            macro_f1: self.scores.macro_f1,
            agreement: self.scores.agreement(&first.scores),
            parameters,
            parameters_ratio: ratio(parameters as f64, first.model.predictor().parameters() as f64),
            weight_bytes,
            weight_bytes_ratio: ratio(weight_bytes as f64, first.model.weight_bytes() as f64),
            max_length: self.model.predictor().max_length(),
            speed: self.speed.clone(),
            latency_speedup: ratio(first.speed.latency_ms.p50, self.speed.latency_ms.p50),
            throughput_speedup: ratio(self.speed.examples_per_second, first.speed.examples_per_second),
        }
    }
}

/// `numerator / denominator`, and 0 where there is nothing to divide by: JSON knows no infinity.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}
