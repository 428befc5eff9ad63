//! The columns of a comparison, on the terminal and in Markdown.

use super::names;
use crate::commands::bench::{milliseconds, rate};
use crate::terminal::Paint;
use crate::terminal::table::{Align, Table, shorten};
use crate::terminal::units::{bytes, percent, short_count};
use distill_train::compare::{Compared, Comparison};

/// Columns that a model's name may take on a terminal.
const NAME_WIDTH: usize = 28;
/// Stands for what was not measured.
const NONE: &str = "–";

/// A column beside the names.
struct Column {
    /// On the terminal.
    heading: &'static str,
    /// In Markdown, with which tables are made that stand alone.
    full: &'static str,
    cell: fn(&Compared) -> String,
}

/// What the models are.
const QUALITY: &[Column] = &[
    Column { heading: "accuracy", full: "accuracy", cell: |model| percent(model.accuracy) },
    Column { heading: "macro F1", full: "macro F1", cell: |model| format!("{:.4}", model.macro_f1) },
    Column { heading: "agreement", full: "agreement", cell: |model| percent(model.agreement) },
    Column { heading: "parameters", full: "parameters", cell: |model| short_count(model.parameters as f64) },
    Column {
        heading: "of first",
        full: "of first",
        cell: |model| format!("{:.1}%", model.parameters_ratio * 100.0),
    },
    Column { heading: "weights", full: "weights", cell: |model| bytes(model.weight_bytes) },
];

/// How fast they are.
const SPEED: &[Column] = &[
    Column {
        heading: "p50 ms",
        full: "latency p50 (ms)",
        cell: |model| milliseconds(model.speed.latency_ms.p50),
    },
    Column {
        heading: "p99 ms",
        full: "latency p99 (ms)",
        cell: |model| milliseconds(model.speed.latency_ms.p99),
    },
    Column { heading: "speed-up", full: "latency speed-up", cell: |model| times(model.latency_speedup) },
    Column { heading: "texts/s", full: "texts/s", cell: |model| rate(model.speed.examples_per_second) },
    Column {
        heading: "speed-up",
        full: "throughput speed-up",
        cell: |model| times(model.throughput_speedup),
    },
    Column {
        heading: "mJ a text",
        full: "energy (mJ a text)",
        cell: |model| {
            model.speed.energy_mj_per_example.map_or(NONE.to_owned(), |energy| format!("{energy:.1}"))
        },
    },
];

fn times(factor: f64) -> String {
    if factor < 9.995 { format!("{factor:.2}x") } else { format!("{factor:.1}x") }
}

/// One table if it is no wider than that, else two.
pub fn tables(compared: &Comparison, paint: Paint, width: usize) -> Vec<String> {
    let whole = table(compared, &[QUALITY, SPEED], paint);
    if whole.width(0) <= width {
        return whole.lines(0);
    }
    let mut lines = table(compared, &[QUALITY], paint).lines(0);
    lines.push(String::new());
    lines.extend(table(compared, &[SPEED], paint).lines(0));
    lines
}

fn table(compared: &Comparison, groups: &[&[Column]], paint: Paint) -> Table {
    let columns = || groups.iter().copied().flatten();
    let mut aligns = vec![Align::Left];
    aligns.extend(columns().map(|_| Align::Right));
    let mut table = Table::new(aligns);
    let heading = ["model"].into_iter().chain(columns().map(|column| column.heading));
    table.row(heading.map(|text| paint.bold(text)));
    for (name, model) in names::of(compared).iter().zip(&compared.models) {
        let cells = columns().map(|column| (column.cell)(model));
        table.row([shorten(name, NAME_WIDTH)].into_iter().chain(cells));
    }
    table
}

/// One table.
pub fn markdown(compared: &Comparison) -> String {
    let columns: Vec<&Column> = [QUALITY, SPEED].into_iter().flatten().collect();
    let heading = ["model"].into_iter().chain(columns.iter().map(|column| column.full));
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(heading.map(str::to_owned).collect());
    text.push_str(&row([":---".to_owned()]
        .into_iter()
        .chain(columns.iter().map(|_| "---:".to_owned()))
        .collect()));
    for (name, model) in names::of(compared).iter().zip(&compared.models) {
        let cells = columns.iter().map(|column| (column.cell)(model));
        text.push_str(&row([escape(name)].into_iter().chain(cells).collect()));
    }
    text
}

/// A name as it is, in a cell of a table.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if "|\\`*_[]<>#".contains(character) {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { ' ' } else { character });
    }
    escaped
}
