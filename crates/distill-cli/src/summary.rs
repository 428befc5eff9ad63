//! What came out of a run.

use crate::report;
use crate::shell::word;
use crate::terminal::Paint;
use crate::terminal::sentences::number;
use crate::terminal::table::Facts;
use crate::terminal::units::{bytes, count, seconds, short_count};
use distill_train::{Report, RunSummary};

/// The summary of a finished run, with a line end.
pub fn render(summary: &RunSummary, paint: Paint, width: usize) -> String {
    let mut text = String::new();
    let folder = summary.output_dir.display().to_string();
    let measured = summary.test.as_ref().map(|test| ("test", test));
    let measured = measured.or(summary.validation.as_ref().map(|validation| ("validation", validation)));
    if let Some((what, Report::Classification(report))) = measured {
        text.push_str(&report::render(what, report, paint, width));
    }
    text.push('\n');
    for line in facts(summary, &folder, paint).lines(width) {
        text.push_str(&line);
        text.push('\n');
    }
    let model = word(&folder);
    text.push_str(&format!("\n{}\n", paint.bold("next")));
    if !summary.labels.is_empty() {
        text.push_str(&format!("  distill predict {model} --text \"...\"\n"));
        text.push_str(&format!("  distill eval {model} --data FILE\n"));
    }
    if summary.writes_texts {
        text.push_str(&format!("  distill generate {model} --prompt \"...\"\n"));
        text.push_str(&format!("  distill eval {model} --data FILE\n"));
    }
    text.push_str(&format!("  distill inspect {model}\n"));
    text
}

/// The summary as the last event of a run, for programs.
pub fn to_json(summary: &RunSummary) -> serde_json::Value {
    serde_json::json!({
        "event": "finished",
        "output_dir": summary.output_dir,
        "steps": summary.steps,
        "best_step": summary.best_step,
        "train_loss": summary.train_loss,
        "validation": summary.validation,
        "test": summary.test,
        "seconds": summary.seconds.total,
        "peak_memory_bytes": summary.peak_memory_bytes,
    })
}

fn facts(summary: &RunSummary, folder: &str, paint: Paint) -> Facts {
    let mut facts = Facts::new(paint);
    let best =
        summary.best_step.map_or(String::new(), |step| format!(", best model at step {}", count(step)));
    facts.add("trained", format!("{} steps, {:.2} epochs{best}", count(summary.steps), summary.epochs));
    if let Some(loss) = summary.train_loss {
        facts.add("loss", format!("{loss:.4} over all training steps"));
    }
    for (what, report) in [("validation", &summary.validation), ("test", &summary.test)] {
        let Some(report) = report else { continue };
        // What has a table of its own above is not said again.
        let above = matches!(report, Report::Classification(_)) && (what == "test" || summary.test.is_none());
        if !above {
            let numbers: Vec<String> =
                report.headline().iter().map(|(name, value)| number(name, *value)).collect();
            let rows = report.classification().map(|report| format!(" ({} rows)", count(report.rows)));
            facts.add(what, numbers.join(", ") + &rows.unwrap_or_default());
        }
    }
    let times = &summary.seconds;
    let parts =
        [("preparing", times.prepare), ("training", times.train), ("measuring", times.evaluate + times.test)];
    // The parts count earlier processes of a resumed run too, the total does not.
    let total = times.total.max(parts.iter().map(|(_, time)| time).sum());
    let parts = parts.map(|(name, time)| format!("{} {name}", seconds(time)));
    facts.add("time", format!("{}: {}", seconds(total), parts.join(", ")));
    facts.add("speed", format!("{} examples/s in training", short_count(summary.examples_per_second)));
    if let Some(peak) = summary.peak_memory_bytes {
        facts.add("memory", format!("{} at its peak", bytes(peak)));
    }
    facts.add("saved in", paint.green(folder));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;
    use distill_train::Timings;

    #[test]
    fn tells_scores_times_and_what_to_do_next() {
        let summary = RunSummary {
            writes_texts: false,
            name: "tickets".to_owned(),
            output_dir: "checkpoints/my tickets".into(),
            steps: 1938,
            epochs: 3.0,
            train_loss: Some(0.21),
            best_step: Some(1400),
            validation: Some(Report::Classification(Box::new(sample(2)))),
            test: Some(Report::Classification(Box::new(sample(2)))),
            labels: vec!["a".to_owned(), "b".to_owned()],
            distillation: None,
            seconds: Timings { total: 65.0, prepare: 1.5, train: 60.0, evaluate: 2.5, test: 1.0 },
            peak_memory_bytes: Some(1 << 30),
            examples_per_second: 212.4,
        };
        insta::assert_snapshot!(render(&summary, Paint::PLAIN, 80));
    }
}
