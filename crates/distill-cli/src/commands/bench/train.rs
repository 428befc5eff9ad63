//! `distill bench train`: a whole training step.

use super::measured::{Format, Measured, add_conditions, memory, milliseconds, rate};
use crate::commands::Context;
use crate::failure::Failure;
use crate::terminal::table::{Align, Facts, Table};
use crate::terminal::units::counted;
use crate::terminal::{Paint, width};
use crate::{output, threads};
use clap::Args;
use distill_models::{Activations, LoraConfig, TargetModules};
use distill_train::bench::{TrainBench, TrainReport, bench_train};
use std::num::NonZeroUsize;

/// Measure a whole training step: forward, loss, backward, gradient norm, AdamW
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    #[command(flatten)]
    measured: Measured,
    /// Sequences a batch
    #[arg(long, value_name = "N", default_value = "16")]
    batch: NonZeroUsize,
    /// Steps that are measured
    #[arg(long, value_name = "N", default_value = "20")]
    steps: NonZeroUsize,
    /// Steps before them, which are not
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,
    /// Probability of every dropout, from 0 to below 1 [default: the model's own]
    #[arg(long, value_name = "P", value_parser = probability)]
    dropout: Option<f64>,
    /// Compute each layer anew in the backward pass: less memory, more work
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Train adapters of this rank in place of the weights
    #[arg(long, value_name = "R")]
    lora_r: Option<NonZeroUsize>,
    /// Layers that get an adapter: all-linear, or names such as q_proj,v_proj
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "all-linear",
        requires = "lora_r"
    )]
    lora_target_modules: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  distill bench train                                      # BERT, 6 layers of 384, batch 16 x 128
  distill bench train --dtype f32 --threads 1
  distill bench train --model checkpoints/quickstart --batch 32 --length 48
  distill bench train --gradient-checkpointing --format json | jq .peak_memory_mib
  distill bench train --config distilbert --hidden-size 768 --intermediate-size 3072
  distill bench train --model HuggingFaceTB/SmolLM2-135M --batch 4 --length 512 --lora-r 8 --lora-target-modules q_proj,v_proj

Tokens are random and rows are full, so that every step is the same work. Times are wall times of the steps as
`distill run` takes them; the figures for a second are those of the median step.";

fn probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("must be at least 0 and below 1".to_owned()) }
}

impl Train {
    fn lora(&self) -> Option<LoraConfig> {
        let r = self.lora_r?.get();
        let names = self.lora_target_modules.clone();
        let target_modules = match names.as_slice() {
            [one] if one == "all-linear" => TargetModules::AllLinear,
            _ => TargetModules::Names(names),
        };
        Some(LoraConfig {
            r,
            lora_alpha: 2.0 * r as f64,
            lora_dropout: 0.0,
            target_modules,
            use_rslora: false,
            modules_to_save: Vec::new(),
        })
    }

    /// Measures training steps.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let bench = TrainBench {
            model: self.measured.model()?,
            batch: self.batch.get(),
            length: self.measured.length.get(),
            dtype: self.measured.dtype.into(),
            device: self.measured.device()?,
            steps: self.steps.get(),
            warmup: self.warmup,
            dropout: self.dropout,
            activations: if self.gradient_checkpointing { Activations::Recompute } else { Activations::Keep },
            lora: self.lora(),
            seed: self.measured.seed,
        };
        let mut observer = context.voice.observer();
        let report = bench_train(&bench, observer.as_mut());
        drop(observer);
        let report = report?;
        match self.measured.format {
            Format::Json => Ok(output::print_json(&report)?),
            Format::Text => Ok(output::print(&render(&report, Paint::stdout(), width()))?),
        }
    }
}

fn render(report: &TrainReport, paint: Paint, width: usize) -> String {
    let conditions = &report.conditions;
    let mut facts = Facts::new(paint);
    let speed = paint.bold(format!("{} examples/s", rate(report.examples_per_second)));
    facts.add("training", format!("{speed}, {} tokens/s", rate(report.tokens_per_second)));
    let spread = &report.step_ms;
    facts.add(
        "step",
        format!(
            "{} ms median, {} shortest, {} the 90% quantile",
            milliseconds(spread.p50),
            milliseconds(spread.min),
            milliseconds(spread.p90)
        ),
    );
    facts.add("memory", memory(conditions));
    let dropout = report.dropout.map_or("the model's".to_owned(), |p| p.to_string());
    let checkpointing = if report.gradient_checkpointing { ", gradient checkpointing" } else { "" };
    facts.add(
        "work",
        format!(
            "batch {} x {}, dropout {dropout}{checkpointing}, {} after {}",
            conditions.batch,
            conditions.length,
            counted(report.steps as u64, "step"),
            counted(report.warmup as u64, "warm-up step"),
        ),
    );
    add_conditions(&mut facts, conditions);
    let mut lines = facts.lines(width);
    lines.push(String::new());
    lines.extend(parts(report, paint));
    lines.join("\n") + "\n"
}

fn parts(report: &TrainReport, paint: Paint) -> Vec<String> {
    let parts = &report.parts_ms;
    let mut table = Table::new([Align::Left, Align::Right, Align::Right]);
    table.row(["part", "ms", "share"].map(|text| paint.bold(text)));
    let named = [
        ("data", parts.data),
        ("forward", parts.forward),
        ("backward", parts.backward),
        ("gradient norm", parts.gradient_norm),
        ("optimizer", parts.optimizer),
    ];
    let sum: f64 = named.iter().map(|(_, time)| time).sum();
    for (name, time) in named {
        let share = if sum > 0.0 { time / sum } else { 0.0 };
        table.row([name.to_owned(), milliseconds(time), format!("{:.1}%", share * 100.0)]);
    }
    table.lines(2)
}

#[cfg(test)]
mod tests {
    use super::super::measured::tests::conditions;
    use super::*;
    use distill_train::bench::{Parts, Spread};

    #[test]
    fn tells_speed_memory_and_parts() {
        let report = TrainReport {
            examples_per_second: 60.6,
            tokens_per_second: 7757.0,
            step_ms: Spread { min: 259.1, p50: 264.0, p90: 270.3, p99: 281.0 },
            parts_ms: Parts {
                data: 0.31,
                forward: 82.4,
                backward: 160.2,
                gradient_norm: 5.02,
                optimizer: 16.1,
            },
            steps: 20,
            warmup: 3,
            dropout: None,
            gradient_checkpointing: true,
            last_loss: 1.4,
            conditions: conditions(),
        };
        insta::assert_snapshot!(render(&report, Paint::PLAIN, 80));
    }

    #[test]
    fn dropout_is_a_probability() {
        assert_eq!(probability("0.1"), Ok(0.1));
        for text in ["1", "-0.1", "nan", "x"] {
            assert!(probability(text).is_err(), "{text}");
        }
    }
}
