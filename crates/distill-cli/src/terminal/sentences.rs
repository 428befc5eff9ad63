//! What is said about the events of a run, alike on a terminal and in a file.

use super::Paint;
use super::units::{count, percent};
use distill_train::Report;

/// Training begins or goes on.
pub fn started(total_steps: u64, resumed_at: u64, epochs: f64) -> String {
    let epochs = if epochs == 1.0 { "1 epoch".to_owned() } else { format!("{} epochs", trimmed(epochs)) };
    if resumed_at == 0 {
        format!("training: {} steps, {epochs}", count(total_steps))
    } else {
        format!("training goes on after step {} of {}, {epochs}", count(resumed_at), count(total_steps))
    }
}

/// The model was measured on the validation set; `metric` is the one that chooses the best model.
pub fn validated(
    paint: Paint,
    place: &str,
    report: &Report,
    (metric, value): (&str, f64),
    best: bool,
) -> String {
    let numbers = report.headline();
    let shown: Vec<String> = numbers.iter().map(|(name, value)| number(name, *value)).collect();
    let mut line = format!("{place}  {} {}", paint.bold("validation:"), shown.join("  "));
    if !numbers.iter().any(|(name, _)| *name == metric) {
        line.push_str(&format!("  {metric} {value:.4}"));
    }
    if best {
        line.push_str(&format!("  {}", paint.green("best")));
    }
    line
}

/// A number of a report with its name, as people say it.
pub fn number(name: &str, value: f64) -> String {
    let name_shown = if name == "macro_f1" { "macro F1" } else { name };
    format!("{name_shown} {}", number_alone(name, value))
}

/// The same without its name.
pub fn number_alone(name: &str, value: f64) -> String {
    match name {
        "accuracy" => percent(value),
        _ => format!("{value:.4}"),
    }
}

/// Each loss of several, in brackets, with a space before it.
pub fn losses(losses: &indexmap::IndexMap<String, f64>) -> String {
    if losses.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    format!(" ({})", parts.join(", "))
}

/// The validation metric stopped improving.
pub fn stopped_early(step: u64, patience: usize) -> String {
    let evaluations =
        if patience == 1 { "1 evaluation".to_owned() } else { format!("{patience} evaluations") };
    format!("stopped early at step {step}: no improvement in {evaluations}")
}

/// A step was left out.
pub fn skipped(step: u64, loss: f64) -> String {
    format!("step {step} was left out: its loss is {loss}")
}

/// At most two decimals, none that are zero.
pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_says_how_long() {
        assert_eq!(started(938, 0, 3.0), "training: 938 steps, 3 epochs");
        assert_eq!(started(938, 400, 1.0), "training goes on after step 400 of 938, 1 epoch");
        assert_eq!(started(10, 0, 0.25), "training: 10 steps, 0.25 epochs");
    }

    #[test]
    fn patience_is_counted() {
        assert_eq!(stopped_early(40, 1), "stopped early at step 40: no improvement in 1 evaluation");
        assert!(stopped_early(40, 3).ends_with("3 evaluations"));
    }

    #[test]
    fn numbers_lose_their_zeros_and_nothing_else() {
        assert_eq!([3.0, 10.0, 0.25, 1.5].map(trimmed), ["3", "10", "0.25", "1.5"]);
    }
}
