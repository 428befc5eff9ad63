//! A teacher that answers for the batches of a run: from its cache, or by a forward pass.

use super::cache::{CachedLogits, LogitKey};
use super::prepared::PreparedTeacher;
use super::top_k::LikeliestCache;
use crate::error::TrainError;
use crate::evaluate::logits_of;
use crate::events::{Event, Observer};
use crate::examples::{Examples, LabelledBatch};
use crate::objectives::{Needs, TeacherOutput};
use crate::rows::{Rows, TokenizedRows};
use burn::tensor::{Device, Int, Tensor, TensorData};
use distill_data::sequential_batches;
use distill_models::{ForwardOptions, Logits, Model, ModelInput, ModelOutput};
use distill_ops::{Dropout, Precision, autocast};
use distill_recipe::CacheDtype;
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a run looks whether another one has finished a cache that both need.
const BETWEEN_TWO_LOOKS: Duration = Duration::from_millis(100);

/// What a teacher is asked, and how it computes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the losses need.
    pub needs: Needs,
    /// What its products multiply in.
    pub precision: Precision,
    /// Rows a batch, where it answers for a whole data set.
    pub batch_size: usize,
    /// Longest sequence, in tokens.
    pub max_length: usize,
    /// Id of the student's padding token.
    pub pad_token_id: u32,
    /// Where the student computes: the device with gradients.
    pub device: Device,
}

/// All teachers of a run.
pub struct Teacher {
    members: Vec<Member>,
    asked: Asked,
}

/// One of them.
struct Member {
    weight: f64,
    label_order: Option<Vec<usize>>,
    answers: Answers,
}

enum Answers {
    /// By a forward pass over the student's tokens.
    Live(Box<dyn Model>),
    /// By a forward pass over its own tokens of the same rows.
    LiveOnOwnTokens { model: Box<dyn Model>, rows: TokenizedRows, pad_token_id: u32 },
    /// From its cache, a file for each data set of the rows.
    Cached { rows: TokenizedRows, files: Vec<Remembered> },
    /// By the likeliest tokens of its cache.
    Likeliest(LikeliestCache),
}

/// The cached logits of one data set.
struct Remembered {
    logits: CachedLogits,
    /// The numbers of the rows that are there, ascending; `None` = all.
    selection: Option<Vec<usize>>,
}

/// A teacher that is yet to answer for the rows of a run.
pub struct TeacherRows<'a> {
    /// What is known of it.
    pub prepared: &'a PreparedTeacher,
    /// Its tokens of the training rows; the student's where they are the same.
    pub rows: TokenizedRows,
    /// The data sets of these rows.
    pub parts: &'a [&'a Rows],
}

impl Teacher {
    /// Teachers that run along in each step, with their own tokens of the rows where they split texts otherwise.
    ///
    /// # Errors
    /// [`TrainError::Model`] if weights cannot be read.
    pub fn live(
        members: Vec<(&PreparedTeacher, Option<TokenizedRows>)>,
        asked: Asked,
        start: &dyn Model,
    ) -> Result<Self, TrainError> {
        let device = asked.device.clone().without_autodiff();
        let members = members
            .into_iter()
            .map(|(prepared, own_rows)| {
                let model = prepared.load(asked.needs.teacher_logits, start, &device)?;
                let pad_token_id = prepared.pad_token_id(asked.pad_token_id);
                let answers = match own_rows {
                    Some(rows) => Answers::LiveOnOwnTokens { model, rows, pad_token_id },
                    None => Answers::Live(model),
                };
                Ok(Member { weight: prepared.weight, label_order: prepared.label_order.clone(), answers })
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Self { members, asked })
    }

    /// Teachers that answer from the cache in `folder`, which is made or completed first.
    ///
    /// A teacher whose cache is whole is not loaded.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`]; weights or files that cannot be read or written.
    pub fn cached(
        members: Vec<TeacherRows<'_>>,
        asked: Asked,
        start: &dyn Model,
        caching: &Caching<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            let prepared = member.prepared;
            let mut files = Vec::with_capacity(member.parts.len());
            let mut model: Option<Box<dyn Model>> = None;
            for (number, part) in member.parts.iter().enumerate() {
                files.push(remember(&member, number, part, &asked, start, caching, &mut model, observer)?);
            }
            let answers = Answers::Cached { rows: member.rows, files };
            found.push(Member {
                weight: prepared.weight,
                label_order: prepared.label_order.clone(),
                answers,
            });
        }
        Ok(Self { members: found, asked })
    }

    /// A teacher that answers by its `k` likeliest next tokens of these examples, from the cache in `folder`, which is made
    /// or completed first.
    ///
    /// # Errors
    /// As [`Teacher::cached`].
    pub fn likeliest(
        teacher: &PreparedTeacher,
        examples: &Examples,
        k_at: (usize, Vec<f64>),
        asked: Asked,
        start: &dyn Model,
        caching: &Caching<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let cache = LikeliestCache::of(teacher, examples, k_at, &asked, start, caching, observer)?;
        let answers = Answers::Likeliest(cache);
        Ok(Self { members: vec![Member { weight: 1.0, label_order: None, answers }], asked })
    }

    /// What the teachers say of the rows at these positions, whose tokens the student sees in `batch`.
    ///
    /// # Errors
    /// [`TrainError::Data`] or [`TrainError::Io`] if a cache cannot be read.
    pub fn output(&self, positions: &[usize], batch: &LabelledBatch) -> Result<TeacherOutput, TrainError> {
        let mut output = TeacherOutput::default();
        for member in &self.members {
            if let Answers::Likeliest(cache) = &member.answers {
                output.likeliest = Some(cache.read(positions, batch)?);
                continue;
            }
            let (logits, inside) = member.answer(positions, batch, &self.asked)?;
            if self.asked.needs.teacher_logits {
                output.logits.push((member.weight, logits));
            }
            output.output = inside;
        }
        Ok(output)
    }

    /// Whether no teacher runs along.
    pub fn is_cached(&self) -> bool {
        self.members
            .iter()
            .all(|member| matches!(member.answers, Answers::Cached { .. } | Answers::Likeliest(_)))
    }
}

/// Where and how logits are kept.
pub struct Caching<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// As they are stored.
    pub dtype: CacheDtype,
    /// Device and precision, in words.
    pub computing: String,
    /// Hash of the student's tokeniser.
    pub tokenizer: String,
    /// Hash of the student's start, which a student that teaches itself is told by.
    pub start: String,
    /// Set from outside to give up.
    pub interrupt: &'a AtomicBool,
}

#[allow(clippy::too_many_arguments)] // one caller, which has them all at hand
fn remember(
    member: &TeacherRows<'_>,
    number: usize,
    part: &Rows,
    asked: &Asked,
    start: &dyn Model,
    caching: &Caching<'_>,
    model: &mut Option<Box<dyn Model>>,
    observer: &mut dyn Observer,
) -> Result<Remembered, TrainError> {
    let prepared = member.prepared;
    let all = part.source.scan.rows as usize;
    // Another seed splits other rows off; a small part of a large file is kept for itself.
    let selection = (part.len() * 2 < all).then(|| part.rows.clone());
    let rows = selection.as_ref().map_or(all, Vec::len);
    let key = LogitKey {
        teacher: if prepared.hash.is_empty() { caching.start.clone() } else { prepared.hash.clone() },
        tokenizer: prepared.own_tokenizer.as_ref().map_or(caching.tokenizer.clone(), |own| own.hash()),
        max_length: prepared.max_length(asked.max_length),
        content: part.source.scan.content.to_string(),
        computing: caching.computing.clone(),
        selection: selection.as_deref().map(selection_hash).unwrap_or_default(),
        rows,
        classes: prepared.classes(),
        dtype: caching.dtype,
    };
    if let Some(logits) = CachedLogits::open(caching.folder, &key)? {
        return Ok(Remembered { logits, selection });
    }
    if model.is_none() {
        observer.event(&Event::Stage { message: format!("loading the teacher `{}`", prepared.name) });
        let device = asked.device.clone().without_autodiff();
        *model = Some(prepared.load(true, start, &device)?);
    }
    let Some(model) = model.as_deref() else { return Err(TrainError::Interrupted) };
    let Some(dataset) = member.rows.dataset(number) else { return Err(TrainError::Interrupted) };
    let number_of = |row: usize| selection.as_ref().map_or(row, |rows| rows[row]);
    let pad_token_id = prepared.pad_token_id(asked.pad_token_id);
    let what = format!("asking the teacher `{}`", prepared.name);
    let observer = RefCell::new(observer);
    let mut wait = waiting(&observer, &prepared.name, caching.interrupt);
    let logits = CachedLogits::complete(caching.folder, &key, &mut wait, &mut |chunk| {
        let rows = TokenizedRows::of_dataset(dataset, chunk.clone().map(number_of).collect());
        let mut logits = vec![Vec::new(); rows.len()];
        for positions in sequential_batches(rows.lengths(), asked.batch_size) {
            if caching.interrupt.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted);
            }
            let input = input_of(&rows, &positions, pad_token_id, &model.device())?;
            let forward = || model.forward(&input, ForwardOptions::default(), &mut Dropout::off());
            let output = autocast(asked.precision, forward);
            for (position, values) in positions.iter().zip(logits_of(output.logits())) {
                logits[*position] = values;
            }
        }
        let (done, total) = (chunk.end as u64, Some(key.rows as u64));
        observer.borrow_mut().event(&Event::Progress { what: what.clone(), done, total });
        Ok(logits.concat())
    })?;
    Ok(Remembered { logits, selection })
}

/// Waits a moment for another run that makes the same cache; tells so once.
pub(super) fn waiting<'a>(
    observer: &'a RefCell<&mut dyn Observer>,
    name: &'a str,
    interrupt: &'a AtomicBool,
) -> impl FnMut() -> Result<(), TrainError> + 'a {
    let mut told = false;
    move || {
        if !std::mem::replace(&mut told, true) {
            let message = format!("waiting for another run that asks the teacher `{name}`");
            observer.borrow_mut().event(&Event::Stage { message });
        }
        std::thread::sleep(BETWEEN_TWO_LOOKS);
        if interrupt.load(Ordering::Relaxed) { Err(TrainError::Interrupted) } else { Ok(()) }
    }
}

fn selection_hash(rows: &[usize]) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for row in rows {
        hasher.update((*row as u64).to_le_bytes());
    }
    crate::checkpoint::hex(&hasher.finalize())
}

fn input_of(
    rows: &TokenizedRows,
    positions: &[usize],
    pad_token_id: u32,
    device: &Device,
) -> Result<ModelInput, TrainError> {
    // The rows were cut when they were tokenised.
    let batch = rows.batch(positions, pad_token_id, usize::MAX)?;
    let shape = [batch.batch_size, batch.sequence_length];
    Ok(ModelInput::new(&batch.input_ids, &batch.attention_mask, None, shape, device))
}

impl Member {
    /// Logits in the student's order of labels (those of a pass without them are empty; those of a vocabulary are not
    /// computed yet), and what is inside, where it is asked for.
    fn answer(
        &self,
        positions: &[usize],
        batch: &LabelledBatch,
        asked: &Asked,
    ) -> Result<(Logits, Option<ModelOutput>), TrainError> {
        let output = match &self.answers {
            Answers::Cached { rows, files } => {
                return Ok((Logits::computed(self.remembered(rows, files, positions, asked)?), None));
            }
            Answers::Likeliest(_) => unreachable!("read before, token by token"),
            Answers::Live(model) => forward(model.as_ref(), &batch.input(&model.device()), asked),
            Answers::LiveOnOwnTokens { model, rows, pad_token_id } => {
                let input = input_of(rows, positions, *pad_token_id, &model.device())?;
                forward(model.as_ref(), &input, asked)
            }
        };
        let output = output.lifted();
        let logits = match &self.label_order {
            Some(_) if asked.needs.teacher_logits => Logits::computed(self.ordered(output.logits())),
            _ => output.logits.clone(),
        };
        Ok((logits, asked.needs.inside_of_teacher().then_some(output)))
    }

    fn remembered(
        &self,
        rows: &TokenizedRows,
        files: &[Remembered],
        positions: &[usize],
        asked: &Asked,
    ) -> Result<Tensor<2>, TrainError> {
        let mut values = Vec::new();
        for &position in positions {
            let place = rows.place(position).and_then(|(part, row)| Some((files.get(part)?, row)));
            let Some((file, row)) = place else { continue };
            let row = match &file.selection {
                Some(selection) => selection.binary_search(&row).unwrap_or_default(),
                None => row,
            };
            values.extend(file.logits.read(row)?);
        }
        let classes = values.len() / positions.len().max(1);
        let logits = Tensor::from_data(TensorData::new(values, [positions.len(), classes]), &asked.device);
        Ok(self.ordered(logits))
    }

    fn ordered(&self, logits: Tensor<2>) -> Tensor<2> {
        let Some(order) = &self.label_order else { return logits };
        let order: Vec<i64> = order.iter().map(|&column| column as i64).collect();
        let count = order.len();
        let order = Tensor::<1, Int>::from_data(TensorData::new(order, [count]), &logits.device());
        logits.select(1, order)
    }
}

fn forward(model: &dyn Model, input: &ModelInput, asked: &Asked) -> ModelOutput {
    autocast(asked.precision, || model.forward(input, asked.needs.teacher, &mut Dropout::off()))
}

impl PreparedTeacher {
    /// The id of padding in what this teacher reads.
    fn pad_token_id(&self, of_student: u32) -> u32 {
        match &self.own_tokenizer {
            Some(own) => own.pad_token_id().or(self.config.base.pad_token_id()).unwrap_or(0),
            None => of_student,
        }
    }

    /// Where it cuts texts, in tokens.
    pub fn max_length(&self, of_student: usize) -> usize {
        of_student.min(self.config.base.max_length())
    }

    /// Logits a text.
    fn classes(&self) -> usize {
        match &self.config.task {
            distill_models::Task::Classification { id2label } => id2label.len(),
            _ => self.config.base.vocab_size(),
        }
    }
}
