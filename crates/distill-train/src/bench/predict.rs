//! Forward passes, as evaluations and predictions make them.

use super::model::Wanted;
use super::{BenchModel, Conditions, RandomBatches, Spread, peak_memory_mib};
use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::evaluate::logits_of;
use crate::events::{Event, Observer};
use distill_models::ForwardOptions;
use distill_ops::{DeviceSpec, Dropout, autocast, resolve};
use distill_recipe::DtypeChoice;
use serde::Serialize;
use std::time::Instant;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct PredictBench {
    /// The model.
    pub model: BenchModel,
    /// Sequences a batch.
    pub batch: usize,
    /// Tokens a sequence.
    pub length: usize,
    /// What matrix products multiply in.
    pub dtype: DtypeChoice,
    /// Where to compute.
    pub device: DeviceSpec,
    /// Batches that are measured.
    pub batches: usize,
    /// Batches before them.
    pub warmup: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct PredictReport {
    /// Sequences a second, by the median batch.
    pub examples_per_second: f64,
    /// Tokens a second, likewise.
    pub tokens_per_second: f64,
    /// From token ids to logits, a batch, in milliseconds.
    pub latency_ms: Spread,
    /// Batches that were measured.
    pub batches: usize,
    /// Batches before them.
    pub warmup: usize,
    /// How it was measured.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// Measures forward passes on random tokens, from token ids to logits.
///
/// # Errors
/// A model or a device that cannot be used.
pub fn bench_predict(bench: &PredictBench, observer: &mut dyn Observer) -> Result<PredictReport, TrainError> {
    let device = resolve(bench.device)?;
    let precision = precision_for(bench.dtype, &device)?;
    let wanted = Wanted {
        model: &bench.model,
        length: bench.length,
        seed: bench.seed,
        dropout: Some(0.0),
        device: device.clone(),
        lora: None,
    };
    let (loaded, sizes) = wanted.load(observer)?;
    let model = loaded.model.eval_copy();
    drop(loaded);
    let mut batches = RandomBatches::new(bench.seed, bench.batch, bench.length, sizes.vocab_size);
    let mut times = Vec::with_capacity(bench.batches);
    let total = bench.warmup + bench.batches;
    for number in 0..total {
        let start = Instant::now();
        let input = batches.input(model.as_ref());
        let forward = || model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
        let logits = logits_of(autocast(precision, forward).logits());
        let time = start.elapsed();
        drop(logits);
        if number >= bench.warmup {
            times.push(time);
        }
        let (done, total) = (number as u64 + 1, Some(total as u64));
        observer.event(&Event::Progress { what: "measuring batches".to_owned(), done, total });
    }
    let latency_ms = Spread::of(times.into_iter());
    let examples_per_second = bench.batch as f64 * 1e3 / latency_ms.p50;
    Ok(PredictReport {
        examples_per_second,
        tokens_per_second: examples_per_second * bench.length as f64,
        latency_ms,
        batches: bench.batches,
        warmup: bench.warmup,
        conditions: Conditions {
            computing: Computing::new(&device, precision),
            batch: bench.batch,
            length: bench.length,
            seed: bench.seed,
            model: sizes,
            peak_memory_mib: peak_memory_mib(),
        },
    })
}
