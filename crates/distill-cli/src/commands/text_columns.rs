//! What a row of texts is made of, on the command line: by columns, by a recipe, or by that of the run which made the model.

use super::data_arguments::DataArguments;
use super::run_record::RunRecord;
use crate::failure::Failure;
use clap::Args;
use distill_models::TaskKind;
use distill_recipe::{Document, OneOrMany, Recipe};
use distill_train::TrainError;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Longest sequence where no recipe names one, in tokens, if the model reads so many.
const MAX_LENGTH: usize = 512;

/// How rows are read for models that write texts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Models that write texts")]
pub struct TextColumns {
    /// Recipe that says by `[task]`, `[data]` and `[rationale]` what a row is made of [default: that of the run]
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Override a key of that recipe; may be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Column of prompts, which are answered
    #[arg(long, value_name = "COLUMN")]
    prompt: Option<String>,
    /// Column of the texts to be written after the prompts
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Prompt with columns in braces, as in "Summarize: {text}"
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "prompt")]
    prompt_template: Option<String>,
    /// Target with columns in braces
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "target")]
    target_template: Option<String>,
    /// Column of conversations
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["prompt", "prompt_template"])]
    messages: Option<String>,
}

impl TextColumns {
    /// An option that was given, if any.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--recipe", self.recipe.is_some()),
            ("--set", !self.set.is_empty()),
            ("--prompt", self.prompt.is_some()),
            ("--target", self.target.is_some()),
            ("--prompt-template", self.prompt_template.is_some()),
            ("--target-template", self.target_template.is_some()),
            ("--messages", self.messages.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// The recipe with what the command line says of columns, and `data` as its test files.
    ///
    /// # Errors
    /// [`Failure::Recipe`] with its faults.
    pub fn recipe(
        &self,
        model: &str,
        kind: TaskKind,
        data: &DataArguments,
        format: Option<&str>,
    ) -> Result<Recipe, Failure> {
        let mut overrides = Vec::new();
        let column = |name: &String| match name.parse::<usize>() {
            Ok(number) if data.no_header => json!(number),
            _ => json!(name),
        };
        if !data.text.is_empty() {
            overrides.push(set("data.text", data.text.iter().map(column).collect()));
        }
        let columns = [("prompt", &self.prompt), ("target", &self.target), ("messages", &self.messages)];
        let columns = columns.into_iter().filter_map(|(key, name)| Some((key, column(name.as_ref()?))));
        let templates =
            [("prompt_template", &self.prompt_template), ("target_template", &self.target_template)];
        let templates = templates.into_iter().filter_map(|(key, text)| Some((key, json!(text.as_ref()?))));
        let header = data.no_header.then_some(("header", json!(false)));
        let format = format.map(|format| ("format", json!(format)));
        let given = columns.chain(templates).chain(header).chain(format);
        overrides.extend(given.map(|(key, value)| set(&format!("data.{key}"), value)));
        overrides.extend(self.set.iter().cloned());
        let file = self.recipe.clone().or_else(|| RunRecord::of(model).recipe_file());
        let document = match file {
            Some(path) => Document::read(&path, &overrides),
            None => {
                self.check_pairs()?;
                Document::parse("the command line", self.of_columns(model, kind, data), &overrides)
            }
        };
        let mut recipe = distill_train::rows_recipe(&document.map_err(TrainError::from)?)?;
        recipe.data.test = Some(OneOrMany(data.data.clone()));
        Ok(recipe)
    }

    /// Prompts and targets need one another, where no recipe has the other one.
    fn check_pairs(&self) -> Result<(), Failure> {
        let prompts = self.prompt.is_some() || self.prompt_template.is_some();
        let targets = self.target.is_some() || self.target_template.is_some();
        let message = match (prompts, targets) {
            (true, false) => "prompts are named, and no texts to be written after them",
            (false, true) => "texts to be written are named, and no prompts",
            _ => return Ok(()),
        };
        Err(Failure::input(message).with_help(
            "name columns by `--prompt` and `--target`, or templates by `--prompt-template` and `--target-template`",
        ))
    }

    /// A recipe for a model that no recipe made.
    fn of_columns(&self, model: &str, kind: TaskKind, data: &DataArguments) -> String {
        let prompts = self.prompt.is_some() || self.prompt_template.is_some();
        let task = match kind {
            TaskKind::MaskedLm => "masked_language_modeling",
            TaskKind::CausalLm if !prompts => "language_modeling",
            _ => "seq2seq",
        };
        let (model, train) = (json!(model), json!(data.data));
        format!(
            "name = \"eval\"\n[task]\nkind = \"{task}\"\n[model]\npath = {model}\n[data]\ntrain = {train}\nmax_length = \
             {MAX_LENGTH}\n"
        )
    }
}

/// An override of a recipe; JSON's lists and texts are TOML's.
fn set(key: &str, value: Value) -> String {
    format!("{key}={value}")
}
