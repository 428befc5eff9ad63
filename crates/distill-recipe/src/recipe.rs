//! A recipe that has passed every check.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::component::{self, Component, ComponentSchema};
use crate::device::{Device, device_fault};
use crate::document::{Document, ToDocument};
use crate::fault::{Fault, Faults};
use crate::schema::Homes;
use crate::tables::augment::AugmentTable;
use crate::tables::data::DataTable;
use crate::tables::distill::{self, Distill};
use crate::tables::head::{self, Head};
use crate::tables::lora::LoraTable;
use crate::tables::model::{self, ModelTable};
use crate::tables::parse;
use crate::tables::rationale::RationaleTable;
use crate::tables::teacher::TeacherTable;
use crate::tables::tokenizer::TokenizerTable;
use crate::tables::train::TrainTable;

/// A checked recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name of the run.
    pub name: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Folder that the run writes to, as written: relative to the working folder.
    pub output_dir: PathBuf,
    /// Where to compute, as written; [`Recipe::device_choice`] has it parsed.
    pub device: String,
    /// What the model is to learn.
    pub task: Component,
    /// The model to start from; the student, where there is a teacher.
    pub model: ModelTable,
    /// What the student learns from.
    pub teacher: Option<TeacherTable>,
    /// What it learns.
    pub distill: Option<Distill>,
    /// Changed copies of the training texts.
    pub augment: Option<AugmentTable>,
    /// Low-rank adapters, where the weights themselves do not learn.
    pub lora: Option<LoraTable>,
    /// Labels with the steps that lead to them.
    pub rationale: Option<RationaleTable>,
    /// The tokenizer, if not the model's own.
    pub tokenizer: Option<TokenizerTable>,
    /// Where the examples come from.
    pub data: DataTable,
    /// How the model is trained.
    pub train: TrainTable,
    /// The recipe as written, for the places of its keys.
    pub document: Document,
}

impl Recipe {
    /// Checks everything that can be checked without files, weights or a device.
    ///
    /// `components` are all those that are registered: their tables are checked in the same pass.
    /// A table for which none is given is only checked for its tag, so that without any
    /// (`&[]`) the components remain for [`Component::parse`] to check.
    ///
    /// # Errors
    /// [`Faults`] with every fault of every table.
    pub fn from_document(document: Document, components: &[ComponentSchema]) -> Result<Self, Faults> {
        let homes = Homes::new(components);
        let mut faults = Vec::new();
        let head = head::parse(&document, &homes, &mut faults);
        parse::missing_tables(&document, &mut faults);
        if let Some(fault) = device_fault(&document) {
            faults.push(fault);
        }
        let task = document
            .root
            .get("task")
            .and_then(|node| component::take(node, "task", "kind", components, &homes, &mut faults));
        let model = model::parse(&document, components, &homes, &mut faults);
        let teacher = parse::table::<TeacherTable>(&document, &homes, &mut faults);
        let distill = distill::parse(&document, components, &homes, &mut faults);
        let augment = parse::table::<AugmentTable>(&document, &homes, &mut faults);
        let lora = parse::table::<LoraTable>(&document, &homes, &mut faults);
        let rationale = parse::table::<RationaleTable>(&document, &homes, &mut faults);
        distillation_faults(&document, &mut faults);
        let tokenizer = parse::table::<TokenizerTable>(&document, &homes, &mut faults);
        let data = parse::table::<DataTable>(&document, &homes, &mut faults);
        let train = match document.root.get("train") {
            Some(_) => parse::table::<TrainTable>(&document, &homes, &mut faults),
            None => Some(TrainTable::default()),
        };
        match (head, task, model, data, train) {
            (Some(head), Some(task), Some(model), Some(data), Some(train)) if faults.is_empty() => {
                let Head { name, seed, output_dir, device } = head;
                Ok(Self {
                    output_dir: output_dir.unwrap_or_else(|| PathBuf::from("checkpoints").join(&name)),
                    name,
                    seed,
                    device,
                    task,
                    model,
                    teacher,
                    distill,
                    augment,
                    lora,
                    rationale,
                    tokenizer,
                    data,
                    train,
                    document,
                })
            }
            _ => Err(document.faults(faults)),
        }
    }

    /// Where to compute.
    pub fn device_choice(&self) -> Device {
        // The form was checked when the recipe was read.
        Device::parse(&self.device).unwrap_or(Device::Auto)
    }

    /// The table that the model stands in: `model`, or `student` where there is a teacher.
    pub fn model_table(&self) -> &'static str {
        if self.teacher.is_some() { "student" } else { "model" }
    }

    /// A fault at a key of the recipe (`train.warmup_ratio`), or at the nearest written one above
    /// it, for checks that need more than the recipe.
    pub fn fault_at(&self, path: &str, message: impl Into<String>, help: Option<String>) -> Fault {
        let fault = self.document.root.fault_at(path, message);
        Fault { help, ..fault }
    }

    /// `faults` together with the texts that they point into.
    pub fn faults(&self, faults: Vec<Fault>) -> Faults {
        self.document.faults(faults)
    }

    /// The recipe with its overrides and with every default of its tables, as JSON; keys without a
    /// value are left out. Components are as written.
    pub fn resolved(&self) -> Json {
        let mut all = Map::new();
        all.insert("name".to_string(), self.name.clone().into());
        all.insert("seed".to_string(), self.seed.into());
        all.insert("output_dir".to_string(), json(&self.output_dir));
        all.insert("device".to_string(), self.device.clone().into());
        all.insert("task".to_string(), self.task.to_json());
        let key = self.model_table();
        all.insert(key.to_string(), self.model.to_json());
        if let Some(teacher) = &self.teacher {
            all.insert("teacher".to_string(), json(teacher));
        }
        if let Some(distill) = &self.distill {
            all.insert("distill".to_string(), json(&distill.table));
        }
        if let Some(augment) = &self.augment {
            all.insert("augment".to_string(), json(augment));
        }
        if let Some(lora) = &self.lora {
            all.insert("lora".to_string(), json(lora));
        }
        if let Some(rationale) = &self.rationale {
            all.insert("rationale".to_string(), json(rationale));
        }
        if let Some(tokenizer) = &self.tokenizer {
            all.insert("tokenizer".to_string(), json(tokenizer));
        }
        all.insert("data".to_string(), json(&self.data));
        all.insert("train".to_string(), json(&self.train));
        Json::Object(all)
    }

    /// [`Recipe::resolved`] as TOML; reading it gives the same recipe.
    pub fn resolved_toml(&self) -> String {
        toml::Value::try_from(self.resolved()).map(|value| value.to_string_document()).unwrap_or_default()
    }
}

/// `[teacher]` and `[distill]` need each other, and `[augment]` needs both.
fn distillation_faults(document: &Document, faults: &mut Vec<Fault>) {
    let written = |key: &str| document.root.get(key);
    let mut missing = |there: &str, wanted: &str, help: &str| {
        if let (Some(node), None) = (written(there), written(wanted)) {
            let message = format!("`[{there}]` needs a `[{wanted}]`");
            faults.push(Fault::new(message, node.key_label()).with_help(help));
        }
    };
    missing("teacher", "distill", "write `[distill]` with `method = \"soft_labels\"`");
    missing(
        "distill",
        "teacher",
        "write `[teacher]` with `path = \"...\"`, a folder or hub id of a trained model",
    );
    missing("augment", "teacher", "copies of the texts are labelled by a teacher");
}

/// A table as JSON, without the keys that have no value.
fn json(table: &impl Serialize) -> Json {
    fn without_nulls(value: Json) -> Json {
        match value {
            Json::Object(map) => map
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect::<Map<_, _>>()
                .into(),
            other => other,
        }
    }
    serde_json::to_value(table).map(without_nulls).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::data::Column;
    use schemars::JsonSchema;
    use serde::Deserialize;

    const MINIMAL: &str = r#"name = "a"
[task]
kind = "classification"
[model]
path = "org/name"
[data]
train = "x.jsonl"
"#;

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Classification {
        /// Names of the classes.
        #[serde(default)]
        #[schemars(length(min = 2))]
        labels: Vec<String>,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct Bert {
        /// Width of the model.
        #[schemars(range(min = 1))]
        hidden_size: usize,
        #[serde(default)]
        num_hidden_layers: Option<usize>,
    }

    fn components() -> Vec<ComponentSchema> {
        vec![
            ComponentSchema::of::<Classification>("task", "kind", "classification"),
            ComponentSchema::of::<Bert>("model", "architecture", "bert"),
        ]
    }

    fn read(text: &str, overrides: &[&str]) -> Result<Recipe, Faults> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        Recipe::from_document(Document::parse("r.toml", text, &overrides)?, &components())
    }

    fn faults(text: &str) -> String {
        read(text, &[]).unwrap_err().to_string()
    }

    /// The faults of the minimal recipe with these overrides.
    fn set_faults(overrides: &[&str]) -> String {
        read(MINIMAL, overrides).unwrap_err().to_string()
    }

    #[test]
    fn a_minimal_recipe_has_every_default() {
        let recipe = read(MINIMAL, &[]).unwrap();
        assert_eq!(recipe.seed, 42);
        assert_eq!(recipe.output_dir, PathBuf::from("checkpoints/a"));
        assert_eq!(recipe.device, "auto");
        assert_eq!(recipe.device_choice(), Device::Auto);
        assert_eq!(recipe.task.name, "classification");
        assert_eq!(recipe.model.path(), Some("org/name"));
        assert_eq!(recipe.train, TrainTable::default());
        assert_eq!(&recipe.data.train[..], ["x.jsonl"]);
        assert_eq!(&recipe.data.text[..], [Column::Name("text".to_string())]);
        assert_eq!(recipe.data.max_length, 128);
        assert!(recipe.tokenizer.is_none());
    }

    #[test]
    fn every_fault_of_every_table_is_reported_at_once() {
        let text = r#"name = "a/b"
sede = 1
device = "cuda:x"
[task]
kind = "classfication"
[model]
model_name_or_path = "org/name"
[data]
train = []
max_length = "128"
[train]
num_train_epochs = 1
warmup_ratio = 500
lr_scheduler_type = "linera"
freeze = ["ok", "("]
seed = 1
"#;
        assert_eq!(
            faults(text),
            r#"error: `name` must be usable as a folder name, without `/` or `\`, found `a/b`
  --> r.toml:1:8
help: the folder itself is `output_dir`

error: unknown key `sede` in the recipe
  --> r.toml:2:1
help: did you mean `seed`? `distill schema` shows all keys

error: `device` must be `auto`, `flex`, `ndarray`, `cuda` or `cuda:N`, found `cuda:x`
  --> r.toml:3:10
help: for the second GPU write `cuda:1`

error: unknown task kind `classfication`
  --> r.toml:5:8
help: did you mean `classification`? known: `classification`

error: unknown key `model_name_or_path` in `[model]`
  --> r.toml:7:1
help: did you mean `path`? `[model]` takes `path` and `architecture`

error: `train` must have at least 1 item, found 0
  --> r.toml:9:9

error: `max_length` must be an integer, found the string `"128"`
  --> r.toml:10:14
help: write `128` without quotes

error: unknown key `num_train_epochs` in `[train]`
  --> r.toml:12:1
help: did you mean `epochs`? `distill schema` shows all keys

error: `warmup_ratio` must be between 0 and 1, found `500`
  --> r.toml:13:16
help: for a number of steps write `warmup_steps = 500`

error: `lr_scheduler_type` must be one of `linear`, `cosine`, `constant`, `polynomial` or `inverse_sqrt`, found `linera`
  --> r.toml:14:21
help: did you mean `linear`?

error: item 2 of `freeze` is not a regular expression: unclosed group, found `(`
  --> r.toml:15:17
help: patterns match anywhere in a weight's name, as `embeddings` or `layer\.[0-3]\.` do

error: unknown key `seed` in `[train]`
  --> r.toml:16:1
help: `seed` belongs at the top of the recipe, before the first table"#
        );
    }

    #[test]
    fn an_empty_recipe_lacks_its_name_and_its_tables() {
        assert_eq!(
            faults(""),
            "error: missing key `name` in the recipe\n  --> r.toml:1:1\n\
             help: `name`: Name of the run, and of its folder under `checkpoints/` unless \
             `output_dir` is given; one word without `/`\n\n\
             error: missing table `[task]`\n  --> r.toml:1:1\n\
             help: write `[task]` with `kind = \"...\"`\n\n\
             error: missing table `[data]`\n  --> r.toml:1:1\n\
             help: write `[data]` with `train = \"...\"`, a file or a hub data set\n\n\
             error: missing table `[model]`\n  --> r.toml:1:1\n\
             help: write `[model]` with `path = \"...\"`, a folder or a hub id"
        );
    }

    #[test]
    fn a_fault_in_an_override_points_at_the_override() {
        assert_eq!(
            set_faults(&["train.epochz=1", "train.learning_rate=fast", "foo.bar=1"]),
            "error: unknown key `epochz` in `[train]`\n  --> --set train.epochz=1\n\
             help: did you mean `epochs`? `distill schema` shows all keys\n\n\
             error: `learning_rate` must be a number, found the string `\"fast\"`\n  \
             --> --set train.learning_rate=fast\n\n\
             error: unknown key `foo` in the recipe\n  --> --set foo.bar=1\n\
             help: the recipe takes `name`, `seed`, `output_dir`, `device`, `task`, `model`, \
             `teacher`, `student`, `distill`, `tokenizer`, `data`, `augment`, `lora`, `rationale` and `train`"
        );
        let faults = read(MINIMAL, &["train.epochz=1"]).unwrap_err();
        let at = faults.locate(&faults.faults[0].labels[0]);
        assert_eq!((at.line, at.column, at.end_column), (1, 7, 13));
    }

    #[test]
    fn overrides_change_what_the_recipe_says() {
        let overrides = [
            "train.epochs=1",
            "data.train=[\"a.csv\",\"b.csv\"]",
            "model.path=some/folder",
            "device=cuda:1",
            "output_dir=out",
        ];
        let recipe = read(MINIMAL, &overrides).unwrap();
        assert_eq!(recipe.train.epochs, 1.0);
        assert_eq!(&recipe.data.train[..], ["a.csv", "b.csv"]);
        assert_eq!(recipe.model.path(), Some("some/folder"));
        assert_eq!(recipe.device_choice(), Device::Cuda(1));
        assert_eq!(recipe.output_dir, PathBuf::from("out"));
    }

    #[test]
    fn wrong_types_say_what_to_write() {
        for (given, message) in [
            (
                "name=12",
                "`name` must be a string, found the integer `12`\n  --> --set name=12\nhelp: write `\"12\"`",
            ),
            ("seed=-1", "`seed` must be at least 0, found `-1`"),
            (
                "seed=1.0",
                "`seed` must be an integer, found the number `1.0`\n  --> --set seed=1.0\nhelp: write `1`",
            ),
            ("seed=1.5", "`seed` must be an integer, found the number `1.5`\n  --> --set seed=1.5"),
            ("train=3", "`train` must be a table, found the integer `3`"),
            ("data.header=\"no\"", "`header` must be `true` or `false`, found the string `\"no\"`"),
            ("data.header=\"true\"", "help: write `true` without quotes"),
            (
                "data.text=1.5",
                "`text` must be a string, an integer or a list of strings or integers, found the number `1.5`",
            ),
            ("data.text=[true]", "item 1 of `text` must be a string or an integer, found the boolean `true`"),
            ("data.train=[1]", "item 1 of `train` must be a string, found the integer `1`"),
            (
                "data.validation=0.1",
                "`validation` must be a string or a list of strings, found the number `0.1`\n  --> --set data.validation=0.1\nhelp: name a file, or split rows off `train`: `validation_fraction = 0.1`",
            ),
            ("data.test=0.1", "help: name a file: test rows are never split off"),
            ("data.delimiter=ab", "`delimiter` must be one character, found `\"ab\"`"),
            ("data.delimiter=é", "`delimiter` must be an ASCII character, found `é`"),
            (
                "data.format=json",
                "`format` must be one of `csv`, `tsv`, `jsonl`, `parquet` or `text`, found `json`\n  --> --set data.format=json\nhelp: did you mean `jsonl`?",
            ),
            (
                "train.dtype=float32",
                "found `float32`\n  --> --set train.dtype=float32\nhelp: did you mean `f32`?",
            ),
            (
                "train.freeze=x",
                "`freeze` must be a list of strings, found the string `\"x\"`\n  --> --set train.freeze=x\nhelp: write `[\"x\"]`",
            ),
            (
                "train.epochs=[3]",
                "`epochs` must be a number, found a list\n  --> --set train.epochs=[3]\nhelp: write `3`",
            ),
            ("train.epochs=0", "`epochs` must be above 0, found `0`"),
            ("train.learning_rate=nan", "`learning_rate` must be a finite number, found `nan`"),
            ("train.label_smoothing=1", "`label_smoothing` must be at least 0 and below 1, found `1`"),
            (
                "train.layerwise_lr_decay=1.5",
                "`layerwise_lr_decay` must be above 0 and at most 1, found `1.5`",
            ),
            ("train.metric_for_best_model=\"\"", "`metric_for_best_model` must not be empty"),
            ("train.on_nan=7", "`on_nan` must be one of `stop` or `skip`, found the integer `7`"),
            ("train.epochs=2024-01-01", "`epochs` must be a number, found the date `2024-01-01`"),
            ("data.train=\"\"", "`train` must not be empty"),
            ("data.train=[\"a\",\" \"]", "`train` must not be empty\n  --> --set data.train=[\"a\",\" \"]"),
            ("data.validation_fraction=5", "help: write a fraction, as in `validation_fraction = 0.05`"),
            (
                "tokenizer.train.kind=wordpeice",
                "`kind` must be one of `wordpiece`, `bpe` or `gpt2`, found `wordpeice`\n  --> --set tokenizer.train.kind=wordpeice\nhelp: did you mean `wordpiece`?",
            ),
            (
                "tokenizer.train.vocabsize=9",
                "unknown key `vocabsize` in `[tokenizer.train]`\n  --> --set tokenizer.train.vocabsize=9\nhelp: did you mean `vocab_size`?",
            ),
            ("device=gpu", "help: did you mean `cuda`?"),
            ("output_dir=\"\"", "`output_dir` must not be empty"),
            (
                "data.num_train_epochs=1",
                "unknown key `num_train_epochs` in `[data]`\n  --> --set data.num_train_epochs=1\nhelp: did you mean `epochs` in `[train]`?",
            ),
            ("train.labels=1", "help: `labels` belongs in `[teacher]` or `[task]`"),
            ("task.labels=[\"a\"]", "`labels` must have at least 2 items, found 1"),
            (
                "task.lables=[\"a\"]",
                "unknown key `lables` in `[task]`\n  --> --set task.lables=[\"a\"]\nhelp: did you mean `labels`?",
            ),
            ("task.kind=3", "`kind` must be a string, found the integer `3`"),
            ("model.path=3", "`path` must be a string, found the integer `3`"),
        ] {
            let rendered = set_faults(&[given]);
            assert!(rendered.contains(message), "{given}\n{rendered}");
            assert_eq!(rendered.matches("error: ").count(), 1, "{given}\n{rendered}");
        }
    }

    #[test]
    fn keys_that_exclude_each_other_are_one_fault_with_both_places() {
        let text = format!("{MINIMAL}[train]\nwarmup_steps = 5\nwarmup_ratio = 0.1\n");
        assert_eq!(
            faults(&text),
            "error: `[train]` must have `warmup_ratio` or `warmup_steps`, not both\n  \
             --> r.toml:10:1 and 9:1\nhelp: remove one of them"
        );
        let both = set_faults(&["model.architecture=bert"]);
        assert!(
            both.starts_with(
                "error: `[model]` must have `path` or `architecture`, not both\n  \
                 --> r.toml:5:1 and --set model.architecture=bert\nhelp: `path` starts from"
            ),
            "{both}"
        );
        let text = format!("{MINIMAL}[tokenizer]\npath = \"x\"\ntrain = {{}}\n");
        assert!(faults(&text).contains("not both\n  --> r.toml:9:1 and 10:1"));
    }

    #[test]
    fn a_table_that_needs_one_of_two_keys_says_so() {
        let text = MINIMAL.replace("path = \"org/name\"\n", "");
        let rendered = faults(&text);
        assert!(
            rendered.starts_with("error: `[model]` must have `path` or `architecture`\n  --> r.toml:4:2\n"),
            "{rendered}"
        );
        let rendered = faults(&format!("{MINIMAL}[tokenizer]\n"));
        assert!(
            rendered.starts_with("error: `[tokenizer]` must have `path` or `train`\n  --> r.toml:8:2"),
            "{rendered}"
        );
        let rendered = set_faults(&["model.hidden_layers=3"]);
        assert!(rendered.contains("help: with `path` no other key is allowed"), "{rendered}");
    }

    #[test]
    fn a_model_from_scratch_takes_the_keys_of_its_architecture() {
        let with = |model: &str| MINIMAL.replace("path = \"org/name\"", model);
        let recipe = read(&with("architecture = \"bert\"\nhidden_size = 64"), &[]).unwrap();
        let component = recipe.model.architecture().unwrap();
        let mut list = Vec::new();
        let bert: Bert = component.parse(&mut list).unwrap();
        assert_eq!((bert.hidden_size, bert.num_hidden_layers), (64, None));
        assert_eq!(recipe.model.path(), None);

        assert_eq!(
            faults(&with("architecture = \"bert\"\nhiden_size = 64\nx = 1")),
            "error: unknown key `hiden_size` in `[model]`\n  --> r.toml:6:1\n\
             help: did you mean `hidden_size`? `[model]` takes `hidden_size`, \
             `num_hidden_layers` and `architecture`\n\n\
             error: unknown key `x` in `[model]`\n  --> r.toml:7:1\n\
             help: `[model]` takes `hidden_size`, `num_hidden_layers` and `architecture`"
        );
        assert!(faults(&with("architecture = \"bert\"")).starts_with(
            "error: missing key `hidden_size` in `[model]`\n  --> r.toml:4:2\n\
                 help: `hidden_size`: Width of the model"
        ));
        assert!(faults(&with("architecture = \"brt\"")).contains(
            "error: unknown model architecture `brt`\n  --> r.toml:5:16\n\
             help: did you mean `bert`? known: `bert`"
        ));
    }

    #[test]
    fn a_task_without_a_kind_is_told_the_kinds() {
        let text = MINIMAL.replace("kind = \"classification\"", "");
        assert_eq!(
            faults(&text),
            "error: missing key `kind` in `[task]`\n  --> r.toml:2:2\nhelp: known: `classification`"
        );
        let text = MINIMAL.replace("kind =", "type =");
        assert_eq!(
            faults(&text),
            "error: unknown key `type` in `[task]`\n  --> r.toml:3:1\n\
             help: did you mean `kind`? known: `classification`"
        );
    }

    #[test]
    fn a_file_without_a_header_has_numbered_columns() {
        let csv = ["data.train=a.csv", "data.header=false"];
        let rendered = set_faults(&csv);
        assert!(
            rendered.contains(
                "without a header `text` must be a column number from 0, found `\"text\"`\n  \
                 --> --set data.header=false\nhelp: with `header = false` write `text = 0`"
            ),
            "{rendered}"
        );
        assert_eq!(rendered.matches("error: ").count(), 1, "{rendered}");
        let named = [&csv[..], &["data.text=0", "data.label=class"]].concat();
        assert!(set_faults(&named).contains("`label` must be a column number from 0"));
        let numbered = [&csv[..], &["data.text=[1,2]", "data.label=0"]].concat();
        let recipe = read(MINIMAL, &numbered).unwrap();
        assert_eq!(&recipe.data.text[..], [Column::Number(1), Column::Number(2)]);
        assert_eq!(recipe.data.label, Column::Number(0));
    }

    #[test]
    fn prompts_and_targets_go_together() {
        let with = |data: &[&str]| {
            let overrides: Vec<String> = data.iter().map(|entry| format!("data.{entry}")).collect();
            set_faults(&overrides.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(
            with(&["target=\"class\""]),
            "error: `target` needs `prompt` or `prompt_template`\n  --> --set data.target=\"class\"\n\
             help: `target` is a text to be written after a prompt; for the class of a text write `label`"
        );
        assert!(with(&["messages=\"chat\"", "prompt=\"p\""]).starts_with(
            "error: `[data]` must have `messages` or `prompt`, not both\n  \
                 --> --set data.messages=\"chat\" and --set data.prompt=\"p\""
        ));
        assert!(with(&["prompt=\"\""]).starts_with("error: `prompt` must not be empty"));
        assert!(with(&["completion=\"x\""]).contains("did you mean `target`?"));
        assert!(with(&["text_unit=\"document\""]).contains("did you mean `file`?"));
        let numbered = ["train=a.csv", "header=false", "prompt=0", "target=\"summary\""];
        let rendered = with(&numbered);
        assert!(
            rendered.starts_with("error: without a header `target` must be a column number"),
            "{rendered}"
        );
        assert_eq!(rendered.matches("error: ").count(), 1, "{rendered}");
        for (template, reason) in [
            ("a {b", "a `{` is never closed"),
            ("a {b {c}", "a `{` is never closed"),
            ("a } b", "a `}` closes nothing"),
            ("a { } {b}", "`{}` names no column"),
        ] {
            let rendered = with(&[&format!("prompt_template=\"{template}\"")]);
            assert!(rendered.starts_with(&format!("error: `prompt_template`: {reason}\n")), "{rendered}");
        }
        let good = ["data.prompt_template=\"{{{a}}} {b}:\"", "data.target_template=\" {c}\""];
        let recipe = read(MINIMAL, &[&good[..], &["data.text_unit=\"file\""]].concat()).unwrap();
        assert_eq!(recipe.data.prompt_template.as_deref(), Some("{{{a}}} {b}:"));
        assert_eq!(recipe.data.text_unit, Some(crate::TextUnit::File));
        let again = read(&recipe.resolved_toml(), &[]).unwrap();
        assert_eq!(again.data, recipe.data);
    }

    #[test]
    fn without_registered_components_their_tables_wait() {
        let text = MINIMAL.replace("\"classification\"", "\"new\"\nanything = 1");
        let document = Document::parse("r.toml", text, &[]).unwrap();
        let recipe = Recipe::from_document(document, &[]).unwrap();
        let mut list = Vec::new();
        let parsed: Option<Classification> = recipe.task.parse(&mut list);
        assert_eq!(parsed, None);
        list.push(crate::unknown_component_fault(&recipe.task, "task", &["knew"]));
        list.push(recipe.fault_at("train.epochs", "too few", Some("more".to_string())));
        list.push(recipe.task.fault_at("anything", "not this", None));
        assert_eq!(
            recipe.faults(list).to_string(),
            "error: too few\n  --> r.toml:1:1\nhelp: more\n\n\
             error: unknown task kind `new`\n  --> r.toml:3:8\n\
             help: did you mean `knew`? known: `knew`\n\n\
             error: unknown key `anything` in `[task]`\n  --> r.toml:4:1\n\
             help: `[task]` takes `labels` and `kind`\n\n\
             error: not this\n  --> r.toml:4:12"
        );
    }

    #[test]
    fn the_resolved_recipe_reads_as_the_same_recipe() {
        let overrides = [
            "train.warmup_ratio=0.06",
            "train.freeze=[\"a\\\\.b\"]",
            "tokenizer.train={}",
            "data.text=[\"a\",3]",
            "data.delimiter=\";\"",
            "task.labels=[\"x\",\"y\"]",
        ];
        let recipe = read(MINIMAL, &overrides).unwrap();
        let again = read(&recipe.resolved_toml(), &[]).unwrap();
        assert_eq!(again.resolved(), recipe.resolved());
        assert_eq!(again.train, recipe.train);
        assert_eq!(again.data, recipe.data);
        assert_eq!(again.tokenizer, recipe.tokenizer);
        assert_eq!(recipe.resolved()["train"]["weight_decay"], 0.01);
        assert_eq!(recipe.resolved()["output_dir"], "checkpoints/a");
        assert!(recipe.resolved()["train"].get("max_steps").is_none());

        let written = read(&recipe.document.resolved(), &[]).unwrap();
        assert_eq!(written.resolved(), recipe.resolved());
    }

    #[test]
    fn tables_that_are_no_tables_are_faults() {
        for (given, message) in [
            ("task=3", "`task` must be a table, found the integer `3`"),
            ("model=\"x\"", "`model` must be a table, found the string `\"x\"`"),
            ("data=[1]", "`data` must be a table, found a list"),
            ("tokenizer=true", "`tokenizer` must be a table, found the boolean `true`"),
        ] {
            let rendered = set_faults(&[given]);
            assert!(rendered.contains(message), "{given}\n{rendered}");
            assert_eq!(rendered.matches("error: ").count(), 1, "{given}\n{rendered}");
        }
    }

    #[test]
    fn however_a_recipe_is_cut_or_garbled_it_is_read_or_refused_with_places_inside_it() {
        let text = format!(
            "{MINIMAL}text = [\"é\", 2]\n[tokenizer]\ntrain = {{ kind = \"bpe\" }}\n\
             [train]\nfreeze = ['a', \"b\\n\"]\nlearning_rate = 1e-4\n"
        );
        let check = |text: &str| {
            if let Err(faults) = read(text, &["train.epochs=1"]) {
                assert!(!faults.faults.is_empty());
                for label in faults.faults.iter().flat_map(|fault| &fault.labels) {
                    let whole = faults.text(label.origin);
                    assert!(label.span.start <= label.span.end && label.span.end <= whole.len());
                    assert!(whole.get(label.span.clone()).is_some(), "{text}\n{label:?}");
                }
                assert!(faults.to_string().starts_with("error: "));
            }
        };
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for (index, &at) in cuts.iter().enumerate() {
            check(&text[..at]);
            check(&text[at..]);
            let next = cuts.get(index + 1).copied().unwrap_or(text.len());
            for other in ["", "=", "\"", "[", "]", "\n", "é", "1", "."] {
                check(&format!("{}{other}{}", &text[..at], &text[next..]));
            }
        }
    }
}
