//! `[data]`: where the examples come from and how they are read.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::one_or_many::OneOrMany;
use super::parse::Table;
use super::template_fault::template_fault;
use crate::fault::Fault;
use crate::node::Node;
use crate::type_schema::aliases;

/// Names that users know from other tools, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("train_file", "train"),
    ("train_files", "train"),
    ("train_path", "train"),
    ("dataset", "train"),
    ("dataset_name", "train"),
    ("datasets", "train"),
    ("validation_file", "validation"),
    ("validation_files", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("eval", "validation"),
    ("eval_dataset", "validation"),
    ("test_file", "test"),
    ("test_files", "test"),
    ("file_format", "format"),
    ("file_type", "format"),
    ("separator", "delimiter"),
    ("sep", "delimiter"),
    ("has_header", "header"),
    ("text_column", "text"),
    ("text_columns", "text"),
    ("text_column_names", "text"),
    ("text_column_name", "text"),
    ("text_field", "text"),
    ("label_column", "label"),
    ("label_column_name", "label"),
    ("label_field", "label"),
    ("input", "prompt"),
    ("source", "prompt"),
    ("instruction", "prompt"),
    ("question", "prompt"),
    ("prompt_column", "prompt"),
    ("source_column", "prompt"),
    ("output", "target"),
    ("completion", "target"),
    ("response", "target"),
    ("summary", "target"),
    ("answer", "target"),
    ("reference", "target"),
    ("highlights", "target"),
    ("target_column", "target"),
    ("summary_column", "target"),
    ("conversation", "messages"),
    ("conversations", "messages"),
    ("chat", "messages"),
    ("messages_column", "messages"),
    ("template", "prompt_template"),
    ("prompt_format", "prompt_template"),
    ("completion_template", "target_template"),
    ("response_template", "target_template"),
    ("unit", "text_unit"),
    ("sample_by", "text_unit"),
    ("val_size", "validation_fraction"),
    ("val_set_size", "validation_fraction"),
    ("validation_split", "validation_fraction"),
    ("test_size", "validation_fraction"),
    ("cutoff_len", "max_length"),
    ("sequence_len", "max_length"),
    ("max_seq_length", "max_length"),
    ("max_seq_len", "max_length"),
    ("max_len", "max_length"),
    ("sequence_length", "max_length"),
    ("max_train_samples", "max_rows"),
    ("max_samples", "max_rows"),
    ("max_examples", "max_rows"),
];

/// What `[data]` says. Whether files exist is checked where they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-aliases" = aliases(ALIASES)))]
pub struct DataTable {
    /// Training examples: a file, a glob, `hf://datasets/org/name[@revision]/split`, or a list of them.
    pub train: OneOrMany<String>,
    /// Validation examples, as `train`; by default a part of `train` is split off.
    #[schemars(extend("x-number" = "name a file, or split rows off `train`: `validation_fraction = {value}`"))]
    pub validation: Option<OneOrMany<String>>,
    /// Test examples, as `train`, measured once at the end; by default there is no test.
    #[schemars(extend("x-number" = "name a file: test rows are never split off"))]
    pub test: Option<OneOrMany<String>>,
    /// Format of the files: `csv`, `tsv`, `jsonl`, `parquet` or `text` (a line an example); by default told by their extension.
    pub format: Option<DataFormat>,
    /// Whether the first row of CSV and TSV files names the columns; default `true`.
    #[serde(default = "default_header")]
    pub header: bool,
    /// Character between the columns of CSV files, ASCII; default `,` (`.tsv`: tab).
    pub delimiter: Option<char>,
    /// Column or columns of the text, joined by a space: names, or numbers from 0; default `["text"]`.
    #[serde(default = "default_text")]
    pub text: OneOrMany<Column>,
    /// Column of the label: a name, or a number from 0; default `label`.
    #[serde(default = "default_label")]
    pub label: Column,
    /// What a row of a plain text file is: a `line`, a `paragraph` (up to a blank line) or the whole `file`; default `line`, for language modelling `paragraph`.
    pub text_unit: Option<TextUnit>,
    /// Column of the text that a `target` is written after: a name, or a number from 0; a list of texts is joined by spaces.
    pub prompt: Option<Column>,
    /// Column of the text to be written after `prompt`: a name, or a number from 0; of a list the first is learnt, and all count as references.
    pub target: Option<Column>,
    /// Prompt with places for columns, as in `"Summarize: {text}\nSummary:"`, instead of `prompt`; `{{` and `}}` are braces.
    #[schemars(length(min = 1))]
    pub prompt_template: Option<String>,
    /// Target with places for columns, as in `" {summary}"`, instead of `target`.
    #[schemars(length(min = 1))]
    pub target_template: Option<String>,
    /// Column of conversations, lists of `{role, content}`, of which the assistant's messages are learnt: a name, or a number from 0.
    pub messages: Option<Column>,
    /// First value of integer labels, 0 or 1; by default told by the values that occur.
    #[schemars(range(min = 0, max = 1))]
    pub labels_start: Option<u8>,
    /// Part of `train` to split off for validation if `validation` is not given; fraction, at least 0 and below 1, default 0.05.
    #[serde(default = "default_validation_fraction")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    #[schemars(extend("x-help" = "write a fraction, as in `validation_fraction = 0.05`"))]
    pub validation_fraction: f64,
    /// Longest input, special tokens included, what is longer is cut; tokens, at least 2, default 128.
    #[serde(default = "default_max_length")]
    #[schemars(range(min = 2))]
    pub max_length: usize,
    /// Use this many rows of `train` at most, drawn with the seed, for quick trials; rows, at least 1, default all.
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
    /// Folder for the cache of token ids; by default `cache` in `output_dir`.
    pub cache_dir: Option<PathBuf>,
}

/// A column of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Column {
    /// The name in the header, or the key of the object.
    Name(String),
    /// The position, from 0.
    Number(usize),
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Formats of data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[schemars(extend("x-aliases" = {
    "json": "jsonl", "ndjson": "jsonl", "json_lines": "jsonl", "txt": "text", "tab": "tsv",
    "arrow": "parquet"
}))]
pub enum DataFormat {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Plain text; what a row is says `text_unit`.
    Text,
}

/// What a row of a plain text file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[schemars(extend("x-aliases" = {
    "lines": "line", "paragraphs": "paragraph", "document": "file", "files": "file", "document_per_file": "file"
}))]
pub enum TextUnit {
    /// A line; blank ones are skipped.
    Line,
    /// Lines up to a blank one.
    Paragraph,
    /// The whole file.
    File,
}

fn default_header() -> bool {
    true
}

fn default_text() -> OneOrMany<Column> {
    OneOrMany(vec![Column::Name("text".to_string())])
}

fn default_label() -> Column {
    Column::Name("label".to_string())
}

fn default_validation_fraction() -> f64 {
    0.05
}

fn default_max_length() -> usize {
    128
}

impl Table for DataTable {
    const KEY: &'static str = "data";

    fn check(&self, written: &Node, faults: &mut Vec<Fault>) {
        let sources = [
            ("train", Some(&self.train)),
            ("validation", self.validation.as_ref()),
            ("test", self.test.as_ref()),
        ];
        for (key, list) in sources {
            for (index, source) in list.iter().flat_map(|list| list.iter()).enumerate() {
                if source.trim().is_empty() {
                    let fault = written
                        .fault_at(&item_path(written, key, index), format!("`{key}` must not be empty"))
                        .with_help("name a file, a glob or `hf://datasets/org/name/split`");
                    faults.push(fault);
                }
            }
        }
        if let Some(delimiter) = self.delimiter.filter(|delimiter| !delimiter.is_ascii()) {
            let message = format!("`delimiter` must be an ASCII character, found `{delimiter}`");
            faults.push(written.fault_at("delimiter", message));
        }
        self.check_columns(written, faults);
        check_parts(written, faults);
        for (key, template) in
            [("prompt_template", &self.prompt_template), ("target_template", &self.target_template)]
        {
            if let Some(reason) = template.as_deref().and_then(template_fault) {
                let help = "name a column as in `{text}`, and write `{{` and `}}` for braces";
                faults.push(written.fault_at(key, format!("`{key}`: {reason}")).with_help(help));
            }
        }
    }
}

/// Keys of prompts, targets and conversations that exclude or need each other.
fn check_parts(written: &Node, faults: &mut Vec<Fault>) {
    let both = |one: &str, other: &str| Some((written.get(one)?, written.get(other)?));
    for (part, instead) in [
        ("prompt", "prompt_template"),
        ("target", "target_template"),
        ("messages", "prompt"),
        ("messages", "prompt_template"),
        ("messages", "target"),
        ("messages", "target_template"),
    ] {
        if let Some((one, other)) = both(part, instead) {
            let message = format!("`[data]` must have `{part}` or `{instead}`, not both");
            faults.push(Fault::new(message, one.key_label()).with_label(other.key_label()));
            return;
        }
    }
    if written.get("prompt").is_none()
        && written.get("prompt_template").is_none()
        && let Some((key, target)) =
            ["target", "target_template"].iter().find_map(|key| Some((key, written.get(key)?)))
    {
        let message = format!("`{key}` needs `prompt` or `prompt_template`");
        let help = "`target` is a text to be written after a prompt; for the class of a text write `label`";
        faults.push(Fault::new(message, target.key_label()).with_help(help));
    }
}

impl DataTable {
    fn check_columns(&self, written: &Node, faults: &mut Vec<Fault>) {
        let columns = self.text.iter().enumerate().map(|(index, column)| ("text", index, column));
        let parts = [("prompt", &self.prompt), ("target", &self.target), ("messages", &self.messages)];
        let parts = parts.into_iter().filter_map(|(key, column)| Some((key, 0, column.as_ref()?)));
        let has_parts =
            ["prompt", "prompt_template", "messages"].iter().any(|key| written.get(key).is_some());
        for (key, index, column) in columns.chain([("label", 0, &self.label)]).chain(parts) {
            let path = item_path(written, key, index);
            match column {
                Column::Name(name) if name.is_empty() => {
                    faults.push(written.fault_at(&path, format!("`{key}` must not be empty")));
                }
                // Without a header there are no names, so the default for `text` is a fault as well,
                // where it is read; that for `label` is not, as some tasks have no label.
                Column::Name(name)
                    if !self.header
                        && self.is_delimited()
                        && (key == "text" && !has_parts || written.get(key).is_some()) =>
                {
                    let message = format!(
                        "without a header `{key}` must be a column number from 0, found `\"{name}\"`"
                    );
                    let help = format!("with `header = false` write `{key} = 0`");
                    let written_key = written.get(key).is_some();
                    let path = if written_key { path.as_str() } else { "header" };
                    faults.push(written.fault_at(path, message).with_help(help));
                }
                _ => {}
            }
        }
    }

    /// Whether the files are, or may be, CSV or TSV.
    fn is_delimited(&self) -> bool {
        match self.format {
            Some(format) => matches!(format, DataFormat::Csv | DataFormat::Tsv),
            None => self.train.iter().any(|source| {
                let source = source.to_ascii_lowercase();
                source.ends_with(".csv") || source.ends_with(".tsv")
            }),
        }
    }
}

/// `train` if it was written as one value, `train.1` if as a list.
fn item_path(written: &Node, key: &str, index: usize) -> String {
    let item = format!("{key}.{index}");
    if written.at(&item).is_some() { item } else { key.to_string() }
}
