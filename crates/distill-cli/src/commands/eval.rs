//! `distill eval`: a model measured on labelled rows.

use super::Context;
use super::model_arguments::ModelArguments;
use crate::failure::Failure;
use crate::files::write_whole;
use crate::terminal::{Paint, width};
use crate::{output, report, threads};
use clap::Args;
use distill_data::{Column, DataSpec, Format};
use std::path::PathBuf;

/// Measure a model on labelled data: accuracy, F1, a line a class, confusion matrix
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArguments,
    /// Data: a file, a glob or `hf://datasets/org/name/split`; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<String>,
    /// Text column, a name or a number from 0; several are joined by a space [default: as in the run's recipe, else `text`]
    #[arg(long, value_name = "COLUMN")]
    text: Vec<String>,
    /// Label column, a name or a number from 0 [default: as in the run's recipe, else `label`]
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// csv, tsv, jsonl, parquet or text [default: by the extension]
    #[arg(long)]
    format: Option<String>,
    /// The files have no header: columns are numbers from 0
    #[arg(long)]
    no_header: bool,
    /// Also write the scores to this file, as JSON
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the scores to stdout as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  distill eval checkpoints/quickstart --data datasets/support_tickets/test.csv
  distill eval checkpoints/ag-news --data test.csv --no-header --text 1 --text 2 --label 0
  distill eval org/model --data test.jsonl --json | jq .accuracy";

impl Eval {
    /// Measures the model.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let spec = self.data_spec()?;
        let predictor = self.model.load(context)?;
        let mapping = self.model.label_map();
        let mut observer = context.voice.observer();
        let measured = distill_train::evaluate_files(
            &predictor,
            &spec,
            mapping.as_ref(),
            self.model.batch_size(),
            observer.as_mut(),
        );
        drop(observer);
        let (scores, _) = measured?;
        if let Some(path) = &self.output {
            let text =
                serde_json::to_string_pretty(&scores).map_err(|error| Failure::other(error.to_string()))?;
            write_whole(path, (text + "\n").as_bytes())?;
            context.voice.note(&format!("wrote `{}`", path.display()));
        }
        if self.json {
            return Ok(output::print_json(&scores)?);
        }
        let data = self.data.join(", ");
        Ok(output::print(&report::render(&data, &scores, Paint::stdout(), width()))?)
    }

    /// What to read: the command line before the recipe of the run, and that before the defaults.
    fn data_spec(&self) -> Result<DataSpec, Failure> {
        let recipe = self.model.data_table();
        let header = !self.no_header && recipe.as_ref().is_none_or(|table| table.header);
        let column = |text: &String| match text.parse() {
            Ok(number) if !header => Column::Number(number),
            _ => Column::Name(text.clone()),
        };
        let of_recipe = |column: &distill_recipe::Column| match column {
            distill_recipe::Column::Name(name) => Column::Name(name.clone()),
            distill_recipe::Column::Number(number) => Column::Number(*number),
        };
        let text = match (&recipe, self.text.is_empty()) {
            (_, false) => self.text.iter().map(column).collect(),
            (Some(table), true) => table.text.iter().map(of_recipe).collect(),
            (None, true) => vec!["text".into()],
        };
        let label = match (&recipe, &self.label) {
            (_, Some(label)) => column(label),
            (Some(table), None) => of_recipe(&table.label),
            (None, None) => "label".into(),
        };
        let format = self.format.as_deref().map(Format::from_name).transpose()?;
        let delimiter = recipe.as_ref().and_then(|table| table.delimiter);
        Ok(DataSpec { sources: self.data.clone(), format, header, delimiter, text, label: Some(label) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        eval: Eval,
    }

    fn spec(arguments: &[&str]) -> DataSpec {
        let words = ["eval"].iter().chain(arguments);
        Line::try_parse_from(words).unwrap().eval.data_spec().unwrap()
    }

    fn run_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let record = serde_json::json!({"recipe": {"data": {
            "train": "a.csv", "header": false, "text": [1, 2], "label": 0, "delimiter": ";",
        }}});
        std::fs::write(folder.path().join("run.json"), record.to_string()).unwrap();
        folder
    }

    #[test]
    fn without_a_run_the_columns_are_text_and_label() {
        let spec = spec(&["org/model", "--data", "a.csv", "--data", "b.csv"]);
        assert_eq!(spec.sources, ["a.csv", "b.csv"]);
        assert!(spec.header);
        assert_eq!(spec.text, [Column::from("text")]);
        assert_eq!(spec.label, Some("label".into()));
    }

    #[test]
    fn a_run_knows_its_columns() {
        let folder = run_folder();
        let spec = spec(&[folder.path().to_str().unwrap(), "--data", "b.csv"]);
        assert!(!spec.header);
        assert_eq!(spec.text, [Column::Number(1), Column::Number(2)]);
        assert_eq!((spec.label, spec.delimiter), (Some(Column::Number(0)), Some(';')));
    }

    #[test]
    fn the_command_line_goes_first() {
        let folder = run_folder();
        let spec = spec(&[folder.path().to_str().unwrap(), "--data", "b.csv", "--text", "3", "--label", "4"]);
        assert_eq!((spec.text, spec.label), (vec![Column::Number(3)], Some(Column::Number(4))));
        let named = super::tests::spec(&["org/model", "--data", "b.csv", "--text", "3"]);
        assert_eq!(named.text, [Column::from("3")]);
    }
}
