//! `distill bench generate`: prompts and the tokens after them.

use super::measured::{Format, Measured, add_conditions, memory, milliseconds, rate};
use crate::commands::Context;
use crate::failure::Failure;
use crate::terminal::table::Facts;
use crate::terminal::units::counted;
use crate::terminal::{Paint, width};
use crate::{output, threads};
use clap::Args;
use distill_train::bench::{GenerateBench, GenerateReport, bench_generate};
use std::num::NonZeroUsize;

/// Measure how fast prompts are read and continued, one most probable token after the other
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    #[command(flatten)]
    measured: Measured,
    /// Rows that are continued together
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZeroUsize,
    /// Tokens of a prompt [default: --length]
    #[arg(long, value_name = "N")]
    prompt_length: Option<NonZeroUsize>,
    /// Tokens that are added to it
    #[arg(long, value_name = "N", default_value = "64")]
    new_tokens: NonZeroUsize,
    /// Prompts that are measured
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// Prompts before them, which are not
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,
}

const EXAMPLES: &str = "\
Examples:
  distill bench generate --model HuggingFaceTB/SmolLM2-135M --prompt-length 512 --new-tokens 128
  distill bench generate --model checkpoints/abstracts --batch 8 --dtype f32 --format json
  distill bench generate --config llama --hidden-size 576 --heads 9 --layers 30 --vocab-size 49152

Prompts are random tokens. Times are wall times from token ids to token ids; the figures for a second are those of the
median prompt and of the median token.";

impl Generate {
    /// Measures prompts and tokens.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let bench = GenerateBench {
            model: self.measured.model()?,
            batch: self.batch.get(),
            prompt_length: self.prompt_length.unwrap_or(self.measured.length).get(),
            new_tokens: self.new_tokens.get(),
            dtype: self.measured.dtype.into(),
            device: self.measured.device()?,
            rounds: self.rounds.get(),
            warmup: self.warmup,
            seed: self.measured.seed,
        };
        let mut observer = context.voice.observer();
        let report = bench_generate(&bench, observer.as_mut());
        drop(observer);
        let report = report?;
        match self.measured.format {
            Format::Json => Ok(output::print_json(&report)?),
            Format::Text => Ok(output::print(&render(&report, Paint::stdout(), width()))?),
        }
    }
}

fn render(report: &GenerateReport, paint: Paint, width: usize) -> String {
    let conditions = &report.conditions;
    let mut facts = Facts::new(paint);
    let prompt = paint.bold(format!("{} tokens/s", rate(report.tokens_per_second)));
    facts
        .add("prompt", format!("{prompt}, {} ms to the first new token", milliseconds(report.prompt_ms.p50)));
    let decode = paint.bold(format!("{} tokens/s", rate(report.decode_tokens_per_second)));
    let spread = &report.token_ms;
    facts.add(
        "new tokens",
        format!(
            "{decode}, {} ms median, {} the 99% quantile",
            milliseconds(spread.p50),
            milliseconds(spread.p99)
        ),
    );
    facts.add("memory", memory(conditions));
    facts.add(
        "work",
        format!(
            "batch {} x {}, {} new tokens, {} after {}",
            conditions.batch,
            conditions.length,
            report.new_tokens,
            counted(report.rounds as u64, "prompt"),
            counted(report.warmup as u64, "warm-up prompt"),
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
    fn tells_prompts_and_tokens() {
        let report = GenerateReport {
            tokens_per_second: 1_234.5,
            decode_tokens_per_second: 43.21,
            prompt_ms: Spread { min: 400.0, p50: 414.7, p90: 420.0, p99: 430.0 },
            token_ms: Spread { min: 21.0, p50: 23.14, p90: 25.0, p99: 30.0 },
            new_tokens: 128,
            rounds: 3,
            warmup: 1,
            conditions: conditions(),
        };
        let text = render(&report, Paint::PLAIN, 80);
        assert!(text.contains("1,235 tokens/s, 414.7 ms to the first new token"), "{text}");
        assert!(text.contains("43.2 tokens/s, 23.1 ms median, 30.0 the 99% quantile"), "{text}");
        assert!(text.contains("128 new tokens, 3 prompts after 1 warm-up prompt"), "{text}");
    }
}
