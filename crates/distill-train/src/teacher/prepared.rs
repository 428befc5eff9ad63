//! What is known of a teacher before its weights are loaded.

use crate::checkpoint::{hex, sha256};
use crate::error::TrainError;
use crate::events::Observer;
use crate::label_order::label_order;
use crate::objectives::Level;
use crate::read_model::model_folder;
use burn::tensor::Device;
use distill_data::tokenizer::Tokenizer;
use distill_models::{HeadPolicy, LoadRequest, Model, ModelConfig, Task, load};
use distill_recipe::{ModelTable, Recipe, TeacherTable};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the weights of a teacher come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TeacherSource {
    /// A folder.
    Folder(PathBuf),
    /// The student as it starts.
    StudentsStart,
}

/// A teacher that has been checked and not loaded.
#[derive(Clone, Debug)]
pub struct PreparedTeacher {
    /// As the recipe names it.
    pub name: String,
    /// Where its weights are.
    pub source: TeacherSource,
    /// Its part in the average of all teachers; they sum to 1.
    pub weight: f64,
    /// Its configuration.
    pub config: ModelConfig,
    /// Its tokeniser, where it is not the student's.
    pub own_tokenizer: Option<Arc<Tokenizer>>,
    /// For each of the student's labels the column of the teacher's logits; `None` where they are the same.
    pub label_order: Option<Vec<usize>>,
    /// SHA-256 of its weights; empty for the student's own start, which the run's fingerprint has already.
    pub hash: String,
}

/// Reads what the recipe says of its teachers; `tokenizer` is the student's.
///
/// # Errors
/// Whatever does not fit together: other labels, other tokens where they must be the same.
pub fn prepare_teachers(
    recipe: &Recipe,
    level: Level,
    labels: &[String],
    tokenizer: &Tokenizer,
    needs_logits: bool,
    student: &ModelConfig,
    observer: &mut dyn Observer,
) -> Result<Vec<PreparedTeacher>, TrainError> {
    let Some(table) = &recipe.teacher else { return Ok(Vec::new()) };
    if table.self_distillation {
        return Ok(vec![PreparedTeacher {
            name: "the student's start".to_owned(),
            source: TeacherSource::StudentsStart,
            weight: 1.0,
            config: student.clone(),
            own_tokenizer: None,
            label_order: None,
            hash: String::new(),
        }]);
    }
    let members = table.members();
    let sum: f64 = members.iter().map(|member| member.weight).sum();
    let mut prepared = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        let key = if table.models.is_some() {
            format!("teacher.models.{index}.path")
        } else {
            "teacher.path".to_owned()
        };
        let folder = model_folder(&member.path, observer)?;
        let config = ModelConfig::read(&folder)?;
        let check = Check { recipe, table, key: &key, name: &member.path };
        let label_order = match level {
            Level::Sequence if needs_logits => check.label_order(&config, labels)?,
            Level::Token if needs_logits => check.masked_lm(&config)?,
            Level::NextToken => {
                check.writes_alike(&config, student)?;
                None
            }
            _ => None,
        };
        let own = Tokenizer::load(&folder)?;
        let same = own.hash() == tokenizer.hash() || same_tokens(&own, tokenizer);
        if level == Level::NextToken {
            check.same_vocabulary(same, &config, student)?;
        }
        prepared.push(PreparedTeacher {
            name: member.path.clone(),
            weight: member.weight / sum,
            config,
            own_tokenizer: (!same).then(|| Arc::new(own)),
            label_order,
            hash: folder_hash(&folder)?,
            source: TeacherSource::Folder(folder),
        });
    }
    Ok(prepared)
}

/// Whether two tokenizers split and number texts alike: their vocabularies are compared, and a text with all that
/// tokenizers differ in.
fn same_tokens(one: &Tokenizer, other: &Tokenizer) -> bool {
    const PROBE: &str = "The  QUICK brown fox, na\u{ef}ve \u{4f60}\u{597d} don't jump_over 12,345.67 lazy dogs\u{2026} \u{1f600} A-B";
    let vocabulary = |tokenizer: &Tokenizer| {
        (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id)).collect::<Vec<_>>()
    };
    let ids = |tokenizer: &Tokenizer| tokenizer.encode(PROBE, 512).map(|encoded| encoded.ids).ok();
    one.vocab_size() == other.vocab_size() && ids(one) == ids(other) && vocabulary(one) == vocabulary(other)
}

/// SHA-256 over the weights of a folder.
fn folder_hash(folder: &Path) -> Result<String, TrainError> {
    let entries = std::fs::read_dir(folder).map_err(TrainError::io(folder))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(sha256(&file)?);
    }
    hasher.update(std::fs::read(folder.join("config.json")).map_err(TrainError::io(folder))?);
    Ok(hex(&hasher.finalize()))
}

/// The checks of one teacher, and where its faults are told.
struct Check<'a> {
    recipe: &'a Recipe,
    table: &'a TeacherTable,
    key: &'a str,
    name: &'a str,
}

impl Check<'_> {
    fn fault(&self, message: String, help: &str) -> TrainError {
        let fault = self.recipe.fault_at(self.key, message, Some(help.to_owned()));
        self.recipe.faults(vec![fault]).into()
    }

    /// The teacher's column for each label of the student, by name.
    fn label_order(&self, config: &ModelConfig, labels: &[String]) -> Result<Option<Vec<usize>>, TrainError> {
        let Task::Classification { id2label } = &config.task else {
            return Err(self.fault(
                format!(
                    "the teacher `{}` is a masked language model, and this task needs a classifier",
                    self.name
                ),
                "fine-tune it first by `distill run`, or use losses on hidden states",
            ));
        };
        if !config.has_classifier() {
            return Err(self.fault(
                format!("the teacher `{}` has no classifier: it was not fine-tuned", self.name),
                "fine-tune it first by `distill run`",
            ));
        }
        let names = self.table.labels.as_ref().unwrap_or(id2label);
        if names.len() != id2label.len() {
            let message = format!(
                "`labels` names {} labels, the teacher `{}` has {}",
                names.len(),
                self.name,
                id2label.len()
            );
            let fault = self.recipe.fault_at("teacher.labels", message, None);
            return Err(self.recipe.faults(vec![fault]).into());
        }
        if names.as_slice() == labels {
            return Ok(None);
        }
        match label_order(names, labels) {
            Some(order) => Ok(Some(order)),
            None => {
                let list = |names: &[String]| {
                    let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
                    let more = names.len().saturating_sub(8);
                    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
                };
                Err(self.fault(
                    format!(
                        "the labels of the teacher `{}` are not those of the data: it knows {}; the data have {}",
                        self.name,
                        list(names),
                        list(labels)
                    ),
                    "name the teacher's labels as the data do, in the order of its logits: `labels = [...]` in \
                     `[teacher]`",
                ))
            }
        }
    }

    /// What a student of the next token needs of its teacher: that it writes texts, and in the same way.
    fn writes_alike(&self, teacher: &ModelConfig, student: &ModelConfig) -> Result<(), TrainError> {
        if teacher.task == student.task {
            return Ok(());
        }
        let is = |config: &ModelConfig| match config.task {
            Task::CausalLm => "a decoder, which continues texts",
            Task::Seq2SeqLm => "an encoder-decoder, which answers texts",
            Task::MaskedLm => "a masked language model, which writes none",
            Task::Classification { .. } => "a classifier, which writes none",
        };
        Err(self.fault(
            format!(
                "the teacher `{}` is {}; the student {} is {}",
                self.name,
                is(teacher),
                self.student(),
                is(student)
            ),
            "compare models of one sort: take another teacher, or another student",
        ))
    }

    /// What a comparison of next tokens needs.
    fn same_vocabulary(
        &self,
        same: bool,
        teacher: &ModelConfig,
        student: &ModelConfig,
    ) -> Result<(), TrainError> {
        let help = "next tokens are compared one by one: take models that share a tokenizer and its vocabulary, such as \
                    those of one family, or make the student of its teacher by `init = \"from_teacher\"`";
        if !same {
            let message = format!(
                "the teacher `{}` splits texts otherwise than the student {}",
                self.name,
                self.student()
            );
            return Err(self.fault(message, help));
        }
        let [of_teacher, of_student] = [teacher, student].map(|config| config.base.vocab_size());
        if of_teacher == of_student {
            return Ok(());
        }
        let message = format!(
            "the teacher `{}` has {of_teacher} tokens in its vocabulary, the student {} has {of_student}",
            self.name,
            self.student()
        );
        Err(self.fault(message, help))
    }

    /// The student as the recipe names it.
    fn student(&self) -> String {
        match &self.recipe.model {
            ModelTable::Pretrained { path } => format!("`{path}`"),
            ModelTable::Scratch(_) => "that is made from scratch".to_owned(),
            ModelTable::FromTeacher(_) => "that is made of its teacher".to_owned(),
        }
    }

    fn masked_lm(&self, config: &ModelConfig) -> Result<Option<Vec<usize>>, TrainError> {
        match config.task {
            Task::MaskedLm => Ok(None),
            Task::Classification { .. } | Task::CausalLm | Task::Seq2SeqLm => Err(self.fault(
                format!("the teacher `{}` has no masked language model head", self.name),
                "take one that has, or losses that need no logits: `hidden_states`, `attention`, `relations`",
            )),
        }
    }
}

impl PreparedTeacher {
    /// The network, without gradients.
    ///
    /// `start` is the student as it starts.
    ///
    /// # Errors
    /// [`TrainError::Model`] if the weights cannot be read.
    pub fn load(
        &self,
        needs_logits: bool,
        start: &dyn Model,
        device: &Device,
    ) -> Result<Box<dyn Model>, TrainError> {
        let TeacherSource::Folder(folder) = &self.source else { return Ok(start.eval_copy()) };
        // A head that nobody looks at need not be there.
        let head = if needs_logits { HeadPolicy::MustMatch } else { HeadPolicy::Reinitialise };
        let request = LoadRequest {
            task: self.config.task.clone(),
            head,
            seed: 0,
            device: device.clone(),
            dropout: Some(0.0),
            adapter: None,
        };
        Ok(load(folder, request)?.model.eval_copy())
    }
}
