//! `distill eval`: a model measured on labelled rows.

use super::Context;
use super::data_arguments::DataArguments;
use super::model_arguments::ModelArguments;
use crate::failure::Failure;
use crate::files::write_whole;
use crate::terminal::{Paint, width};
use crate::{output, report, threads};
use clap::Args;
use distill_data::DataSpec;
use std::path::PathBuf;

/// Measure a model on labelled data: accuracy, F1, a line a class, confusion matrix
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    data: DataArguments,
    /// csv, tsv, jsonl, parquet or text [default: by the extension]
    #[arg(long)]
    format: Option<String>,
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
        let mapping = self.model.run_record().label_map();
        let mut observer = context.voice.observer();
        let measured = distill_train::evaluate_files(
            &predictor,
            &spec,
            mapping.as_ref(),
            self.model.settings.batch_size(),
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
        Ok(output::print(&report::render(&self.data.name(), &scores, Paint::stdout(), width()))?)
    }

    fn data_spec(&self) -> Result<DataSpec, Failure> {
        self.data.spec(self.model.run_record().data_table().as_ref(), self.format.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use distill_data::Column;

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
