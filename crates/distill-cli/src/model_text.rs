//! A model folder as people read it.

use crate::run_history::RunHistory;
use crate::terminal::Paint;
use crate::terminal::table::{Align, Facts, Table};
use crate::terminal::units::{bytes, count, counted};
use distill_models::Inspection;
use serde_json::Value;
use std::collections::BTreeMap;

/// Labels that are named before the rest is counted.
const LABELS_SHOWN: usize = 12;

/// What a model is and how large, with a line end.
pub fn render(model: &Inspection, run: Option<&RunHistory>, paint: Paint, width: usize) -> String {
    let mut facts = Facts::new(paint);
    facts.add("model", format!("{} ({})", model.class, model.architecture));
    facts.add("parameters", count(model.parameters));
    match model.files.as_slice() {
        [file] => {
            facts.add("size", bytes(model.bytes));
            facts.add("file", file.path.display().to_string());
        }
        files => {
            facts.add("size", format!("{} in {}", bytes(model.bytes), counted(files.len() as u64, "file")));
            for file in files {
                facts.add("", format!("{} {}", bytes(file.bytes), file.path.display()));
            }
        }
    }
    facts.add("tensors", dtypes(model));
    if let Some(labels) = &model.labels {
        facts.add("labels", format!("{}: {}", labels.len(), shown(labels)));
    }
    if let Some(run) = run {
        facts.add("run", run.state());
        for (index, checkpoint) in run.checkpoints().iter().enumerate() {
            let name = if index == 0 { "checkpoints" } else { "" };
            facts.add(name, checkpoint.display().to_string());
        }
    }
    let mut lines = facts.lines(width);
    lines.push(String::new());
    lines.push(paint.bold("config.json"));
    let mut config = Table::new([Align::Left, Align::Left]);
    for (key, value) in &model.config {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        config.row([key.clone(), value]);
    }
    lines.extend(config.lines(2));
    lines.join("\n") + "\n"
}

/// Every tensor, with a line end.
pub fn tensors(model: &Inspection, paint: Paint) -> String {
    let mut table = Table::new([Align::Left, Align::Left, Align::Right, Align::Right]);
    table.row(["tensor", "dtype", "shape", "numbers"].map(|text| paint.bold(text)));
    for tensor in &model.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let cells = [
            tensor.name.clone(),
            tensor.dtype.clone(),
            format!("[{}]", shape.join(", ")),
            count(numbers(&tensor.shape)),
        ];
        table.row(cells);
    }
    table.lines(0).join("\n") + "\n"
}

fn dtypes(model: &Inspection) -> String {
    let mut by_dtype: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for tensor in &model.tensors {
        let (tensors, parameters) = by_dtype.entry(&tensor.dtype).or_default();
        *tensors += 1;
        *parameters += numbers(&tensor.shape);
    }
    let parts = by_dtype.iter().map(|(dtype, (tensors, parameters))| {
        format!("{} of {dtype} ({} numbers)", count(*tensors), count(*parameters))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn numbers(shape: &[usize]) -> u64 {
    shape.iter().map(|&size| size as u64).product()
}

fn shown(labels: &[String]) -> String {
    let text = labels.iter().take(LABELS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match labels.len().saturating_sub(LABELS_SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distill_models::{FileSummary, TensorSummary};

    fn sample() -> Inspection {
        let tensor = |name: &str, dtype: &str, shape: &[usize]| TensorSummary {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
        };
        Inspection {
            architecture: "bert".to_owned(),
            class: "BertForSequenceClassification".to_owned(),
            labels: Some((0..14).map(|index| format!("label {index}")).collect()),
            config: [("hidden_size".to_owned(), 128.into()), ("hidden_act".to_owned(), "gelu".into())]
                .into_iter()
                .collect(),
            tensors: vec![
                tensor("bert.embeddings.word_embeddings.weight", "F32", &[2000, 128]),
                tensor("bert.pooler.dense.bias", "F16", &[128]),
            ],
            parameters: 256_128,
            bytes: 1_024_900,
            files: vec![FileSummary { path: "m/model.safetensors".into(), bytes: 1_024_900 }],
        }
    }

    #[test]
    fn tells_architecture_size_and_dtypes() {
        insta::assert_snapshot!(render(&sample(), None, Paint::PLAIN, 80));
    }

    #[test]
    fn lists_every_tensor() {
        insta::assert_snapshot!(tensors(&sample(), Paint::PLAIN));
    }
}
