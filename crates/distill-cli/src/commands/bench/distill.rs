//! `distill bench distill`: what a teacher costs.

use super::measured::{Format, Measured, add_conditions, memory, milliseconds};
use crate::commands::Context;
use crate::failure::Failure;
use crate::terminal::table::{Align, Facts, Table};
use crate::terminal::units::{count, counted};
use crate::terminal::{Paint, width};
use crate::{output, threads};
use clap::Args;
use distill_train::bench::{BenchModel, DistillBench, DistillReport, bench_distill};
use std::num::NonZeroUsize;

/// Measure distillation steps beside a step of the student alone and a forward pass of the teacher
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Distill {
    /// The teacher: output folder of a run, a Hugging Face folder or a hub id
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    #[command(flatten)]
    measured: Measured,
    /// Sequences a batch
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// Steps of each kind that are measured
    #[arg(long, value_name = "N", default_value = "20")]
    steps: NonZeroUsize,
    /// Steps before them, which are not
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,
}

const EXAMPLES: &str = "\
Examples:
  distill bench distill --teacher checkpoints/ag-news --model checkpoints/student
  distill bench distill --teacher checkpoints/ag-news --layers 3 --length 64
  distill bench distill --teacher checkpoints/ag-news --hidden-size 128 --layers 2 --heads 2 --intermediate-size 512

`--model` and the sizes are the student's. All kinds of step are taken in turns on random tokens. `ratio` is the median step
against the student's own with labels alone, plus the teacher's forward pass to its logits where it runs along (`live`).
`same outputs` is a step with labels alone in which both compute what the method compares; the last column is the median step
against that one: what the losses cost by themselves.";

impl Distill {
    /// Measures distillation steps.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let bench = DistillBench {
            student: self.measured.model()?,
            teacher: BenchModel::Pretrained(self.teacher.clone()),
            batch: self.batch.get(),
            length: self.measured.length.get(),
            dtype: self.measured.dtype.into(),
            device: self.measured.device()?,
            steps: self.steps.get(),
            warmup: self.warmup,
            seed: self.measured.seed,
        };
        let mut observer = context.voice.observer();
        let report = bench_distill(&bench, observer.as_mut());
        drop(observer);
        let report = report?;
        match self.measured.format {
            Format::Json => Ok(output::print_json(&report)?),
            Format::Text => Ok(output::print(&render(&report, Paint::stdout(), width()))?),
        }
    }
}

fn render(report: &DistillReport, paint: Paint, width: usize) -> String {
    let conditions = &report.conditions;
    let mut facts = Facts::new(paint);
    facts.add("student", format!("{} ms a step with labels alone", milliseconds(report.student_step_ms.p50)));
    facts.add(
        "teacher",
        format!(
            "{} ms a forward pass, {} parameters",
            milliseconds(report.teacher_forward_ms.p50),
            count(report.teacher_parameters)
        ),
    );
    facts.add("memory", memory(conditions));
    let work = format!(
        "batch {} x {}, {} of each kind",
        conditions.batch,
        conditions.length,
        counted(report.steps as u64, "step")
    );
    facts.add("work", work);
    add_conditions(&mut facts, conditions);
    let mut lines = facts.lines(width);
    lines.push(String::new());
    let [left, right] = [Align::Left, Align::Right];
    let mut table = Table::new([left, left, right, right, right, right, left]);
    let head = ["method", "teacher", "ms a step", "ratio", "same outputs", "ratio to that", ""];
    table.row(head.map(|text| paint.bold(text)));
    for method in &report.methods {
        let names = [method.method.to_owned(), method.teacher.to_owned()];
        let rest = match &method.unfit {
            Some(reason) => ["-", "-", "-", "-", reason].map(str::to_owned),
            None => [
                milliseconds(method.step_ms.p50),
                format!("{:.2}", method.ratio),
                milliseconds(method.same_outputs_ms.p50),
                format!("{:.2}", method.same_outputs_ratio),
                String::new(),
            ],
        };
        table.row(names.into_iter().chain(rest));
    }
    lines.extend(table.lines(2));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::measured::tests::conditions;
    use super::*;
    use distill_train::bench::{MethodReport, Spread};

    #[test]
    fn tells_what_a_teacher_costs() {
        let spread = |p50: f64| Spread { min: p50 - 1.0, p50, p90: p50 + 1.0, p99: p50 + 2.0 };
        let method = |method, teacher, p50, ratio, unfit: Option<&str>| MethodReport {
            method,
            teacher,
            step_ms: spread(p50),
            ratio,
            same_outputs_ms: spread(p50 - 2.0),
            same_outputs_ratio: ratio - 0.01,
            unfit: unfit.map(str::to_owned),
        };
        let report = DistillReport {
            student_step_ms: spread(50.0),
            teacher_forward_ms: spread(100.0),
            methods: vec![
                method("soft_labels", "cached", 52.5, 1.05, None),
                method("tinybert", "live", 0.0, 0.0, Some("`attention` compares head by head")),
            ],
            teacher_parameters: 22_700_000,
            steps: 20,
            conditions: conditions(),
        };
        insta::assert_snapshot!(render(&report, Paint::PLAIN, 100));
    }
}
