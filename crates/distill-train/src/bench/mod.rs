//! How fast a model trains and answers on this machine, by the code that runs use.

mod distill;
mod generate;
mod model;
mod predict;
mod train;

pub use distill::{DistillBench, DistillReport, MethodReport, bench_distill};
pub use generate::{GenerateBench, GenerateReport, bench_generate};
pub use model::{BenchModel, ModelSizes, ScratchModel};
pub use predict::{PredictBench, PredictReport, bench_predict};
pub use train::{Parts, TrainBench, TrainReport, bench_train};

use crate::computing::Computing;
use crate::memory::peak_memory;
use distill_models::{Model, ModelInput};
use serde::Serialize;
use std::time::Duration;

/// What every measurement tells of how it was made.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// `device`, `dtype`, `instruction_set` and `threads`, as they were resolved.
    #[serde(flatten)]
    pub computing: Computing,
    /// Sequences a batch.
    pub batch: usize,
    /// Tokens a sequence; none is padding.
    pub length: usize,
    /// Seed of the token ids, of dropout and of new weights.
    pub seed: u64,
    /// The model.
    pub model: ModelSizes,
    /// Highest resident memory of this process so far, in MiB (Linux only).
    pub peak_memory_mib: Option<f64>,
}

/// The spread of some times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The shortest.
    pub min: f64,
    /// Half of them are at most this long.
    pub p50: f64,
    /// 90% are at most this long.
    pub p90: f64,
    /// 99% are at most this long.
    pub p99: f64,
}

impl Spread {
    /// Of these times; all zero if there is none.
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = times.map(milliseconds).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&sorted, share);
        Self { min: at(0.0), p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The smallest of the sorted values that at least this share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn peak_memory_mib() -> Option<f64> {
    peak_memory().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Batches of random tokens, a function of the seed alone.
struct RandomBatches {
    state: u64,
    shape: [usize; 2],
    vocab_size: usize,
}

impl RandomBatches {
    fn new(seed: u64, batch: usize, length: usize, vocab_size: usize) -> Self {
        Self { state: seed, shape: [batch, length], vocab_size }
    }

    /// SplitMix64; Steele et al. 2014, §4 (doi:10.1145/2714064.2660195).
    fn next(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }

    /// A batch, row by row.
    fn texts(&mut self) -> Vec<Vec<u32>> {
        let [batch, length] = self.shape;
        let vocab_size = self.vocab_size;
        (0..batch).map(|_| (0..length).map(|_| self.next(vocab_size) as u32).collect()).collect()
    }

    fn input(&mut self, model: &dyn Model) -> ModelInput {
        let [batch, length] = self.shape;
        let vocab_size = self.vocab_size;
        let ids: Vec<u32> = (0..batch * length).map(|_| self.next(vocab_size) as u32).collect();
        ModelInput::new(&ids, &vec![1; ids.len()], None, self.shape, &model.device())
    }

    fn labels(&mut self, classes: usize) -> Vec<i64> {
        (0..self.shape[0]).map(|_| self.next(classes) as i64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times = (1..=100).map(Duration::from_millis);
        let spread = Spread::of(times);
        assert_eq!([spread.min, spread.p50, spread.p90, spread.p99].map(f64::round), [1.0, 50.0, 90.0, 99.0]);
        assert_eq!(Spread::of([Duration::from_millis(7)].into_iter()).p99.round(), 7.0);
        assert_eq!(Spread::of(std::iter::empty()).p50, 0.0);
    }

    #[test]
    fn tokens_are_within_the_vocabulary_and_follow_the_seed() {
        let draw = |seed| {
            let mut batches = RandomBatches::new(seed, 4, 8, 10);
            (0..100).map(|_| batches.next(10)).collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|&id| id < 10));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
