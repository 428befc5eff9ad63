//! What the numbers of a comparison mean, below them.

use crate::commands::bench::milliseconds;
use crate::terminal::Paint;
use crate::terminal::table::Facts;
use crate::terminal::units::{count, counted};
use distill_train::compare::Comparison;
use std::path::Path;

/// For people.
pub fn of(compared: &Comparison, paint: Paint) -> Facts {
    let mut told = Facts::new(paint);
    for (name, fact) in facts(compared) {
        told.add(name, fact);
    }
    told
}

/// Names and facts, without colours.
pub fn facts(compared: &Comparison) -> Vec<(&'static str, String)> {
    let timing = &compared.timing;
    let labels = counted(compared.labels.len() as u64, "label");
    let first = super::names::of(compared).into_iter().next().unwrap_or_default();
    vec![
        ("data", format!("{}, {labels}, matched by name", data(compared))),
        ("first", format!("`{first}`, which agreement, shares and speed-ups refer to")),
        (
            "latency",
            format!(
                "from one text to its label, {} of tokenising in it; {} in {}, the models by turns",
                tokenizing(compared),
                counted(timing.latency_texts as u64, "text"),
                counted(timing.rounds as u64, "round"),
            ),
        ),
        (
            "throughput",
            format!(
                "{} of {} texts of like length in each round, tokenising in it",
                if timing.batches == 1 {
                    "1 batch".to_owned()
                } else {
                    format!("{} batches", count(timing.batches as u64))
                },
                timing.batch_size,
            ),
        ),
        ("energy", energy(compared).to_owned()),
        ("device", compared.computing.to_string()),
    ]
}

/// The files in a few words: `test.csv (7,600 rows)`.
pub fn data(compared: &Comparison) -> String {
    let name = |file: &String| {
        Path::new(file).file_name().map_or_else(|| file.clone(), |name| name.to_string_lossy().into_owned())
    };
    let files: Vec<String> = compared.data.iter().map(name).collect();
    format!("{} ({})", files.join(", "), counted(compared.rows, "row"))
}

/// Median times of tokenising one text, from the fastest to the slowest model.
fn tokenizing(compared: &Comparison) -> String {
    let mut times: Vec<f64> = compared.models.iter().map(|model| model.speed.tokenizing_ms.p50).collect();
    times.sort_by(f64::total_cmp);
    let ends = [times.first(), times.last()].map(|time| milliseconds(time.copied().unwrap_or_default()));
    match ends {
        [least, most] if least == most => format!("{least} ms"),
        [least, most] => format!("{least} to {most} ms"),
    }
}

fn energy(compared: &Comparison) -> &'static str {
    if compared.models.iter().any(|model| model.speed.energy_mj_per_example.is_some()) {
        "of all processor packages while full batches are answered, whatever else they do"
    } else if compared.computing.is_cpu() {
        "this system does not tell it (RAPL)"
    } else {
        "not measured on this device"
    }
}
