//! `distill bench predict`: forward passes.

use super::measured::{Format, Measured, add_conditions, memory, milliseconds, rate};
use crate::commands::Context;
use crate::failure::Failure;
use crate::terminal::table::Facts;
use crate::terminal::units::count;
use crate::terminal::{Paint, width};
use crate::{output, threads};
use clap::Args;
use distill_train::bench::{PredictBench, PredictReport, bench_predict};
use std::num::NonZeroUsize;

/// Measure the time from token ids to logits
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Predict {
    #[command(flatten)]
    measured: Measured,
    /// Sequences a batch
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// Batches that are measured
    #[arg(long, value_name = "N", default_value = "100")]
    batches: NonZeroUsize,
    /// Batches before them, which are not
    #[arg(long, value_name = "N", default_value_t = 10)]
    warmup: usize,
}

const EXAMPLES: &str = "\
Examples:
  distill bench predict                                    # BERT, 6 layers of 384, batch 32 x 128
  distill bench predict --batch 1 --length 32 --batches 500
  distill bench predict --model checkpoints/quickstart --length 48 --dtype f32
  distill bench predict --format json | jq .latency_ms.p99

Tokens are random and rows are full. Times are wall times; tokenising is not in them.";

impl Predict {
    /// Measures forward passes.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let bench = PredictBench {
            model: self.measured.model()?,
            batch: self.batch.get(),
            length: self.measured.length.get(),
            dtype: self.measured.dtype.into(),
            device: self.measured.device()?,
            batches: self.batches.get(),
            warmup: self.warmup,
            seed: self.measured.seed,
        };
        let mut observer = context.voice.observer();
        let report = bench_predict(&bench, observer.as_mut());
        drop(observer);
        let report = report?;
        match self.measured.format {
            Format::Json => Ok(output::print_json(&report)?),
            Format::Text => Ok(output::print(&render(&report, Paint::stdout(), width()))?),
        }
    }
}

fn render(report: &PredictReport, paint: Paint, width: usize) -> String {
    let conditions = &report.conditions;
    let mut facts = Facts::new(paint);
    let speed = paint.bold(format!("{} examples/s", rate(report.examples_per_second)));
    facts.add("predicting", format!("{speed}, {} tokens/s", rate(report.tokens_per_second)));
    let latency = &report.latency_ms;
    facts.add(
        "batch",
        format!(
            "{} ms p50, {} p90, {} p99, {} shortest",
            milliseconds(latency.p50),
            milliseconds(latency.p90),
            milliseconds(latency.p99),
            milliseconds(latency.min)
        ),
    );
    facts.add("memory", memory(conditions));
    facts.add(
        "work",
        format!(
            "batch {} x {}, {} after {} of warm-up",
            conditions.batch,
            conditions.length,
            if report.batches == 1 {
                "1 batch".to_owned()
            } else {
                format!("{} batches", count(report.batches as u64))
            },
            report.warmup,
        ),
    );
    add_conditions(&mut facts, conditions);
    facts.lines(width).join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::measured::tests::conditions;
    use super::*;
    use distill_train::bench::Spread;

    #[test]
    fn tells_latency_speed_and_memory() {
        let report = PredictReport {
            examples_per_second: 301.9,
            tokens_per_second: 38_643.0,
            latency_ms: Spread { min: 101.2, p50: 106.0, p90: 109.9, p99: 121.3 },
            batches: 100,
            warmup: 10,
            conditions: conditions(),
        };
        insta::assert_snapshot!(render(&report, Paint::PLAIN, 80));
    }
}
