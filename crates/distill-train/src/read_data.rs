//! The rows that a recipe names, read and checked: training, validation, test, and texts without labels.

use crate::error::TrainError;
use crate::events::{Event, Observer};
use crate::record::DataFile;
use crate::rows::{LanguageSource, Rows, Source};
use crate::tasks::{RationaleTask, Task};
use distill_data::hub::Download;
use distill_data::{
    Agreement, Answers, Column, DataError, DataSpec, Field, Format, LabelMap, LabelSource, LabelStart,
    LanguageScan, LanguageSpec, Layout, RationaleFields, RowKind, Scan, Template, TextUnit, fetch,
    scan_classification, scan_language_rows, scan_texts, seeded_subset, stratified_split,
};
use distill_eval::answers::Compare;
use distill_recipe::{DataFormat, DataTable, RationaleMode, RationaleTable, Recipe, WrongRationales};
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) struct Data {
    pub(crate) train: Rows,
    pub(crate) validation: Option<Rows>,
    pub(crate) test: Option<Rows>,
    pub(crate) transfer: Vec<Rows>,
    pub(crate) files: Vec<DataFile>,
    pub(crate) labels: Option<LabelMap>,
    pub(crate) notes: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn read_data(
    recipe: &Recipe,
    task: &Task,
    layout: Layout,
    observer: &mut dyn Observer,
) -> Result<Data, TrainError> {
    let table = &recipe.data;
    let mut files = Vec::new();
    let start = table.labels_start.map(|start| if start == 0 { LabelStart::Zero } else { LabelStart::One });
    let infer = match task {
        Task::Classification(task) => Some(LabelSource::Infer { names: task.labels.as_deref(), start }),
        _ => None,
    };
    let reading = Reading { recipe, task, layout };
    let train = reading.source(&table.train, infer, "train", &mut files, observer)?;
    let labels = train.scan.label_map.clone();
    if infer.is_some() && labels.is_none() {
        return Err(DataError::NoLabelColumn.into());
    }
    let mut read =
        |sources: &[String], used_as, labels: Option<LabelSource<'_>>, observer: &mut dyn Observer| {
            let source = reading.source(sources, labels, used_as, &mut files, observer)?;
            Ok::<_, TrainError>(Rows::all(Arc::new(source)))
        };
    let known = labels.as_ref().map(LabelSource::Map);
    let given =
        table.validation.as_ref().map(|sources| read(sources, "validation", known, observer)).transpose()?;
    let test = table.test.as_ref().map(|sources| read(sources, "test", known, observer)).transpose()?;
    let transfer = recipe.distill.as_ref().and_then(|distill| distill.table.transfer_data.as_ref());
    let mut transfer = transfer.map(|sources| read(sources, "transfer", None, observer)).transpose()?;
    let mut train = Rows::all(Arc::new(train));
    if let Some(max_rows) = table.max_rows {
        train.rows = seeded_subset(train.len(), max_rows, recipe.seed);
    }
    let (train, validation) = match given {
        Some(validation) => (train, Some(validation)),
        None => split_off(train, table.validation_fraction, recipe.seed)?,
    };
    if train.is_empty() {
        let help = "lower `validation_fraction`, or give more rows".to_owned();
        return Err(TrainError::Unusable { message: "no rows are left to train on".to_owned(), help });
    }
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    if let Some(rows) = transfer.take() {
        let (all, held_out) = (rows.len(), [&validation, &test].into_iter().flatten().collect::<Vec<_>>());
        let rows = rows.without(&held_out)?;
        let left_out = all - rows.len();
        if left_out > 0 {
            notes.push(format!(
                "{left_out} texts of `transfer_data` are left out: they are validation or test rows"
            ));
        }
        transfer = Some(rows);
    }
    let present: HashSet<u32> = train.labels().collect();
    for (id, name) in labels.iter().flat_map(LabelMap::names).enumerate() {
        if !present.contains(&(id as u32)) {
            warnings.push(format!("the label `{name}` has no training row"));
        }
    }
    Ok(Data {
        train,
        validation,
        test,
        transfer: transfer.into_iter().collect(),
        files,
        labels,
        notes,
        warnings,
    })
}

/// Takes the validation part out of the training rows.
fn split_off(rows: Rows, fraction: f64, seed: u64) -> Result<(Rows, Option<Rows>), TrainError> {
    // Rows without labels are one class.
    let labels: Vec<u32> = match rows.source.scan.labels {
        Some(_) => rows.labels().collect(),
        None => vec![0; rows.len()],
    };
    let split = stratified_split(&labels, fraction, seed)?;
    let part = |positions: &[usize]| Rows {
        source: rows.source.clone(),
        rows: positions.iter().filter_map(|&position| rows.rows.get(position).copied()).collect(),
    };
    let validation = (!split.validation.is_empty()).then(|| part(&split.validation));
    Ok((part(&split.train), validation))
}

/// How the rows of a recipe are read.
struct Reading<'a> {
    recipe: &'a Recipe,
    task: &'a Task,
    layout: Layout,
}

impl Reading<'_> {
    fn source(
        &self,
        sources: &[String],
        labels: Option<LabelSource<'_>>,
        used_as: &'static str,
        files: &mut Vec<DataFile>,
        observer: &mut dyn Observer,
    ) -> Result<Source, TrainError> {
        let table = &self.recipe.data;
        let Some(kind) = self.row_kind(used_as)? else {
            return read_source(sources, table, labels, used_as, files, observer);
        };
        let data = fetch(&data_spec(sources, table)?, &mut |download| download_event(download, observer))?;
        let text_unit = match (table.text_unit, &kind) {
            (Some(distill_recipe::TextUnit::Line), _) => TextUnit::Line,
            (Some(distill_recipe::TextUnit::Paragraph), _) | (None, RowKind::Document) => TextUnit::Paragraph,
            (Some(distill_recipe::TextUnit::File), _) => TextUnit::File,
            (None, _) => TextUnit::Line,
        };
        let mut spec = LanguageSpec { data: DataSpec { label: None, ..data }, text_unit, kind };
        let what = format!("reading {used_as} rows");
        observer.event(&Event::Stage { message: what.clone() });
        let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total: None });
        let mut scanned = scan_language_rows(&spec, &mut progress);
        // Held-out files need no rationales.
        if let (Err(DataError::MissingColumn { .. }), RowKind::Rationale(fields)) = (&scanned, &mut spec.kind)
            && used_as != "train"
            && fields.rationale.take().is_some()
        {
            scanned = scan_language_rows(&spec, &mut progress);
        }
        let LanguageScan { scan, bytes } = scanned?;
        files.extend(data_files(&scan, used_as));
        let language = Some(LanguageSource { spec: spec.clone(), bytes, layout: self.layout });
        Ok(Source { spec: spec.data, scan, language })
    }
}

impl Reading<'_> {
    fn row_kind(&self, used_as: &str) -> Result<Option<RowKind>, TrainError> {
        match (self.task, &self.recipe.rationale) {
            (Task::Rationale(task), Some(table)) => {
                let fields = rationale_fields(self.recipe, task, table, self.layout, used_as == "train")?;
                Ok(Some(RowKind::Rationale(Box::new(fields))))
            }
            _ => row_kind(self.recipe, self.task),
        }
    }
}

/// What a row of the task `rationale` is made of. Held-out files need no rationales, and are measured by the right label.
fn rationale_fields(
    recipe: &Recipe,
    task: &RationaleTask,
    table: &RationaleTable,
    layout: Layout,
    learnt: bool,
) -> Result<RationaleFields, TrainError> {
    let field = |key: &str, text: &str| {
        Template::parse(text).map(Field::Template).map_err(|error| {
            TrainError::from(recipe.faults(vec![recipe.fault_at(
                &format!("rationale.{key}"),
                error.to_string(),
                Some("name columns in braces, as in `\"predict: {question}\"`".to_owned()),
            )]))
        })
    };
    let optional = |key: &str, text: &Option<String>, read: bool| {
        text.as_deref().filter(|_| read).map(|text| field(key, text)).transpose()
    };
    let mode = table.mode;
    let gold = table.gold.as_deref().unwrap_or(&table.label);
    let drop = table.wrong_rationales == WrongRationales::Drop;
    let argued = optional("teacher_label", &table.teacher_label, learnt && drop)?;
    let explained = mode != RationaleMode::LabelOnly;
    let together = mode == RationaleMode::SingleTask;
    Ok(RationaleFields {
        label_prompt: field("label_prompt", &table.label_prompt)?,
        label: field("label", if learnt { &table.label } else { gold })?,
        rationale_prompt: optional(
            "rationale_prompt",
            &table.rationale_prompt,
            mode == RationaleMode::MultiTask,
        )?,
        // Of held-out rows they are read where both are one text, so that its loss can be told.
        rationale: optional("rationale", &table.rationale, explained && (learnt || together))?,
        gold: field("gold", gold)?,
        argued: argued.map(|argued| (argued, agreement(task.compare(table.choices.is_some())))),
        choices: table.choices.as_ref().map(column_of),
        separator: if layout == Layout::Decoder { table.separator.clone() } else { String::new() },
        marker: together.then(|| table.answer_marker.clone()),
    })
}

fn agreement(compare: Compare) -> Agreement {
    match compare {
        Compare::Expression => {
            Agreement { name: "expression", agrees: |one, other| Compare::Expression.agrees(one, other, &[]) }
        }
        // Both are choices as they are written.
        Compare::Text | Compare::Choice => {
            Agreement { name: "text", agrees: |one, other| Compare::Text.agrees(one, other, &[]) }
        }
    }
}

/// What a row of a generative task is made of; `None` for tasks that read texts and labels.
fn row_kind(recipe: &Recipe, task: &Task) -> Result<Option<RowKind>, TrainError> {
    let table = &recipe.data;
    let fault = |key: &str, message: String, help: &str| {
        TrainError::from(recipe.faults(vec![recipe.fault_at(key, message, Some(help.to_owned()))]))
    };
    let field = |column: &Option<distill_recipe::Column>, template: &Option<String>, key: &str| match (
        column, template,
    ) {
        (Some(name), _) => Ok(Some(Field::Column(column_of(name)))),
        (None, Some(text)) => match Template::parse(text) {
            Ok(template) => Ok(Some(Field::Template(template))),
            Err(error) => Err(fault(
                &format!("data.{key}_template"),
                error.to_string(),
                "name columns in braces, as in `\"Summarize: {text}\"`; `{{` and `}}` are braces",
            )),
        },
        (None, None) => Ok(None),
    };
    let prompt = field(&table.prompt, &table.prompt_template, "prompt")?;
    let target = field(&table.target, &table.target_template, "target")?;
    let messages = table.messages.as_ref().map(column_of);
    match task {
        Task::Classification(_) | Task::MaskedLanguageModeling(_) | Task::Rationale(_) => Ok(None),
        Task::LanguageModeling(_) => match (prompt, messages) {
            (Some(prompt), _) if target.is_some() => Ok(Some(RowKind::Pair { prompt, target })),
            (Some(_), _) => Err(fault(
                "data.prompt",
                "`prompt` has no `target` to be learnt".to_owned(),
                "write `target`, or name what is to be learnt whole by `text`",
            )),
            (None, Some(messages)) => Ok(Some(RowKind::Chat { messages, answers: Answers::Required })),
            (None, None) => Ok(Some(RowKind::Document)),
        },
        Task::Seq2Seq(_) => match (prompt, target) {
            (Some(prompt), Some(target)) => Ok(Some(RowKind::Pair { prompt, target: Some(target) })),
            _ => Err(fault(
                "data",
                "the task `seq2seq` needs prompts and targets".to_owned(),
                "write `prompt = \"...\"` and `target = \"...\"`, the names of their columns, or templates",
            )),
        },
    }
}

fn data_files(scan: &Scan, used_as: &'static str) -> impl Iterator<Item = DataFile> {
    scan.files.iter().map(move |file| DataFile {
        used_as,
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        bytes: file.bytes,
        rows: file.rows,
    })
}

fn column_of(column: &distill_recipe::Column) -> Column {
    match column {
        distill_recipe::Column::Name(name) => Column::Name(name.clone()),
        distill_recipe::Column::Number(number) => Column::Number(*number),
    }
}

fn read_source(
    sources: &[String],
    table: &DataTable,
    labels: Option<LabelSource<'_>>,
    used_as: &'static str,
    files: &mut Vec<DataFile>,
    observer: &mut dyn Observer,
) -> Result<Source, TrainError> {
    let mut spec = fetch(&data_spec(sources, table)?, &mut |download| download_event(download, observer))?;
    if labels.is_none() {
        spec.label = None;
    }
    let what = format!("reading {used_as} rows");
    observer.event(&Event::Stage { message: what.clone() });
    let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total: None });
    let scan = match labels {
        Some(labels) => scan_classification(&spec, labels, &mut progress)?,
        None => scan_texts(&spec, &mut progress)?,
    };
    files.extend(data_files(&scan, used_as));
    Ok(Source::of_texts(spec, scan))
}

/// Texts without labels.
pub(crate) fn read_texts(
    sources: &[String],
    table: &DataTable,
    used_as: &'static str,
    files: &mut Vec<DataFile>,
    observer: &mut dyn Observer,
) -> Result<Source, TrainError> {
    read_source(sources, table, None, used_as, files, observer)
}

/// The test files of a recipe whose task has no labels of its own.
///
/// # Errors
/// [`TrainError::Data`] if there are none, or they cannot be read.
pub(crate) fn read_held_out(
    recipe: &Recipe,
    task: &Task,
    layout: Layout,
    observer: &mut dyn Observer,
) -> Result<Source, TrainError> {
    let sources = recipe.data.test.as_deref().unwrap_or_default();
    Reading { recipe, task, layout }.source(sources, None, "test", &mut Vec::new(), observer)
}

/// The same rows by other columns, such as those that `text` in `[teacher]` names.
///
/// # Errors
/// [`TrainError::Data`] if the files have no such columns.
pub(crate) fn read_other_columns(
    source: &Source,
    columns: &[distill_recipe::Column],
    what: &str,
    observer: &mut dyn Observer,
) -> Result<Source, TrainError> {
    let text = columns.iter().map(column_of).collect();
    let spec = DataSpec { text, label: None, ..source.spec.clone() };
    let what = what.to_owned();
    observer.event(&Event::Stage { message: what.clone() });
    let mut progress = |done| observer.event(&Event::Progress { what: what.clone(), done, total: None });
    let scan = scan_texts(&spec, &mut progress)?;
    Ok(Source::of_texts(spec, scan))
}

fn data_spec(sources: &[String], table: &DataTable) -> Result<DataSpec, DataError> {
    let format = |format: DataFormat| {
        Format::from_name(match format {
            DataFormat::Csv => "csv",
            DataFormat::Tsv => "tsv",
            DataFormat::Jsonl => "jsonl",
            DataFormat::Parquet => "parquet",
            DataFormat::Text => "text",
        })
    };
    Ok(DataSpec {
        sources: sources.to_vec(),
        format: table.format.map(format).transpose()?,
        header: table.header,
        delimiter: table.delimiter,
        text: table.text.iter().map(column_of).collect(),
        label: Some(column_of(&table.label)),
    })
}

pub(crate) fn download_event(download: Download<'_>, observer: &mut dyn Observer) {
    let what = format!("downloading {}", download.file);
    observer.event(&Event::Progress { what, done: download.bytes, total: Some(download.total) });
}
