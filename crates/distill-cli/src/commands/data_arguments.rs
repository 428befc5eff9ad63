//! Labelled files on the command line, alike for all commands that measure.

use crate::failure::Failure;
use clap::Args;
use distill_data::{Column, DataSpec, Format};
use distill_recipe::DataTable;

/// Labelled rows and which of their columns count.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// Data: a file, a glob or `hf://datasets/org/name/split`; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    pub data: Vec<String>,
    /// Text column, a name or a number from 0; several are joined by a space [default: as in the run's recipe, else `text`]
    #[arg(long, value_name = "COLUMN")]
    pub text: Vec<String>,
    /// Label column, a name or a number from 0 [default: as in the run's recipe, else `label`]
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// The files have no header: columns are numbers from 0
    #[arg(long)]
    pub no_header: bool,
}

impl DataArguments {
    /// The files as they were named, in one line.
    pub fn name(&self) -> String {
        self.data.join(", ")
    }

    /// What to read: the command line before the recipe of the run, and that before the defaults.
    ///
    /// # Errors
    /// A format that there is not.
    pub fn spec(&self, recipe: Option<&DataTable>, format: Option<&str>) -> Result<DataSpec, Failure> {
        let header = !self.no_header && recipe.is_none_or(|table| table.header);
        let column = |text: &String| match text.parse() {
            Ok(number) if !header => Column::Number(number),
            _ => Column::Name(text.clone()),
        };
        let of_recipe = |column: &distill_recipe::Column| match column {
            distill_recipe::Column::Name(name) => Column::Name(name.clone()),
            distill_recipe::Column::Number(number) => Column::Number(*number),
        };
        let text = match (recipe, self.text.is_empty()) {
            (_, false) => self.text.iter().map(column).collect(),
            (Some(table), true) => table.text.iter().map(of_recipe).collect(),
            (None, true) => vec!["text".into()],
        };
        let label = match (recipe, &self.label) {
            (_, Some(label)) => column(label),
            (Some(table), None) => of_recipe(&table.label),
            (None, None) => "label".into(),
        };
        let format = format.map(Format::from_name).transpose()?;
        let delimiter = recipe.and_then(|table| table.delimiter);
        Ok(DataSpec { sources: self.data.clone(), format, header, delimiter, text, label: Some(label) })
    }
}
