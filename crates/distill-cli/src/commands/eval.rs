//! `distill eval`: a model measured on rows of a file.

use super::Context;
use super::data_arguments::DataArguments;
use super::model_arguments::ModelArguments;
use super::text_columns::TextColumns;
use crate::failure::Failure;
use crate::files::write_whole;
use crate::terminal::sentences::number_alone;
use crate::terminal::table::Facts;
use crate::terminal::units::{count, counted};
use crate::terminal::{Paint, width};
use crate::{output, report, threads};
use clap::Args;
use distill_data::DataSpec;
use distill_models::TaskKind;
use distill_train::{FinishedModel, TextEvaluation, TextScores};
use serde::Serialize;
use std::path::PathBuf;

/// Measure a model on data: a classifier on labelled texts, a model that writes on texts or answers
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
    /// Also write a JSON line for each row to this file: the prediction, or the answer
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Write the scores to stdout as JSON
    #[arg(long)]
    json: bool,
    // Last: its heading stands above all that follows.
    #[command(flatten)]
    columns: TextColumns,
}

const EXAMPLES: &str = "\
Examples:
  distill eval checkpoints/quickstart --data datasets/support_tickets/test.csv
  distill eval checkpoints/ag-news --data test.csv --no-header --text 1 --text 2 --label 0
  distill eval org/model --data test.jsonl --json | jq .accuracy
  distill eval HuggingFaceTB/SmolLM2-135M --data abstracts.csv --text abstract     # perplexity
  distill eval checkpoints/summaries --data test.jsonl --predictions answers.jsonl # as the run measured its test
  distill eval HuggingFaceTB/SmolLM2-135M --data test.jsonl --recipe step_by_step.toml

Of a model that no run of distill made, `--text` columns are read as documents; `--prompt` and `--target` are answered and
compared (ROUGE, BLEU). For anything else name a recipe.";

impl Eval {
    /// Measures the model.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        match self.kind(context)? {
            TaskKind::Classification => self.labels(context),
            kind => self.texts(kind, context),
        }
    }

    /// What the model is for.
    fn kind(&self, context: &Context) -> Result<TaskKind, Failure> {
        let mut observer = context.voice.observer();
        let config = FinishedModel::find(&self.model.model, observer.as_mut()).and_then(|it| it.config());
        drop(observer);
        Ok(config?.task.kind())
    }

    /// Measures a classifier.
    fn labels(&self, context: &Context) -> Result<(), Failure> {
        if let Some(option) = self.columns.given() {
            let message = format!("`{option}` is for models that write texts, and this is a classifier");
            return Err(Failure::input(message).with_help("name its columns by `--text` and `--label`"));
        }
        let spec = self.data_spec()?;
        let predictor = self.model.load(context)?;
        let mapping = self.model.run_record().label_map();
        let mut observer = context.voice.observer();
        let measured = distill_train::evaluate_files(
            &predictor,
            &spec,
            mapping.as_ref(),
            self.model.settings.batch_size(),
            self.predictions.as_deref(),
            observer.as_mut(),
        );
        drop(observer);
        let scores = measured?;
        self.tell(
            &scores,
            |scores| report::render(&self.data.name(), scores, Paint::stdout(), width()),
            context,
        )
    }

    /// Measures a model that writes texts, or guesses hidden tokens.
    fn texts(&self, kind: TaskKind, context: &Context) -> Result<(), Failure> {
        if self.data.label.is_some() {
            let message = "`--label` is for classifiers, and this model is none";
            let help = "name what it is to write by `--target`, or a recipe by `--recipe`";
            return Err(Failure::input(message).with_help(help));
        }
        let (model, settings) = (&self.model.model, &self.model.settings);
        let recipe = self.columns.recipe(model, kind, &self.data, self.format.as_deref())?;
        let asked = TextEvaluation {
            model,
            recipe: &recipe,
            device: &settings.device,
            dtype: settings.dtype.into(),
            batch_size: settings.batch_size(),
            max_length: settings.max_length(),
            predictions: self.predictions.as_deref(),
        };
        let mut observer = context.voice.observer();
        let measured = distill_train::evaluate_texts(&asked, observer.as_mut());
        drop(observer);
        let scores = measured?;
        if self.predictions.is_some() && !scores.has_predictions {
            context
                .voice
                .note("no predictions were written: of documents there is nothing to say row by row");
        }
        self.tell(&scores.report, |_| self.sentences(&scores), context)
    }

    /// The scores of a model that writes, a line each.
    fn sentences(&self, scores: &TextScores) -> String {
        let paint = Paint::stdout();
        let mut facts = Facts::new(paint);
        for (name, value) in scores.report.headline() {
            facts.add(name, number_alone(name, value));
        }
        let name = self.data.name();
        let rows = counted(scores.rows, "row");
        let cut = format!("at most {} tokens at once", count(scores.max_length as u64));
        let mut text = format!("{} ({rows}, {cut})\n", paint.bold(&name));
        for line in facts.lines(width()) {
            text.push_str(&format!("{line}\n"));
        }
        text
    }

    /// Writes scores where they are wanted.
    fn tell<T: Serialize>(
        &self,
        scores: &T,
        render: impl FnOnce(&T) -> String,
        context: &Context,
    ) -> Result<(), Failure> {
        if let Some(path) = &self.output {
            let text =
                serde_json::to_string_pretty(scores).map_err(|error| Failure::other(error.to_string()))?;
            write_whole(path, (text + "\n").as_bytes())?;
            context.voice.note(&format!("wrote `{}`", path.display()));
        }
        if self.json {
            return Ok(output::print_json(scores)?);
        }
        Ok(output::print(&render(scores))?)
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
