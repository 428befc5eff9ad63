//! A student made from its teacher: its layers and head, or its embeddings alone.
//!
//! A student of the teacher's architecture and sizes takes the embeddings, chosen layers and the head as they are; Sanh
//! et al. 2019, §3 (arXiv:1910.01108); of an encoder-decoder the same ones in both halves. One of another shape takes the
//! embeddings, projected onto their principal directions where it is narrower; its layers are new. A model that writes
//! texts has a student of its layers alone; Shleifer and Rush 2020, §3.1 (arXiv:2010.13002).

mod error;
mod layer_choice;
mod projection;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::architecture::{Architecture, TaskKind, find};
use crate::checkpoint::Checkpoint;
use crate::pretrained::{LoadRequest, Loaded};
use crate::weights::{GivenRows, HeadPolicy, LoadReport, Weights};
use crate::{BaseModelConfig, ModelConfig, ModelError};

pub use error::StudentError;
pub use layer_choice::LayerChoice;
use layer_choice::shared_groups;
use projection::PrincipalDirections;

/// What a student takes from its teacher, and what it is to be.
#[derive(Debug, Clone)]
pub struct StudentRequest {
    /// The layers to copy. Without them a student of the teacher's architecture and sizes copies all, every other one
    /// has new layers.
    pub layers: Option<LayerChoice>,
    /// `model_type` of the student; the teacher's by default.
    pub architecture: Option<String>,
    /// Sizes as in a from-scratch table (`hidden_size`, `embedding_size`, ...), checked by the architecture.
    ///
    /// What is left out is as in a model from scratch, but for the widths of a student of the teacher's architecture and
    /// the longest row, which are the teacher's. With copied layers all sizes are the teacher's.
    pub sizes: Map<String, Value>,
    /// Task, seed and device of the student. The head is loaded as from any checkpoint where layers are copied, and new
    /// where they are new, whatever the policy.
    pub load: LoadRequest,
}

/// What became of the teacher's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentReport {
    /// The teacher's layer in each of the student's, counted from 0; empty where the layers are new.
    pub copied_layers: Vec<usize>,
    /// The share of the teacher's word embeddings, of the sum of their squares, that a projection keeps, a fraction;
    /// `None` where they are copied.
    pub kept_energy: Option<f64>,
    /// Tensors that are new; a position table too where only some of its rows are.
    pub new: Vec<String>,
}

/// The student's configuration, checked without reading weights.
///
/// # Errors
/// [`StudentError`], but for those of weights.
pub fn student_config(teacher: &Path, request: &StudentRequest) -> Result<ModelConfig, StudentError> {
    Ok(Plan::new(teacher, request)?.student)
}

/// Makes a student from the teacher in a Hugging Face folder.
///
/// New weights are those of a model from scratch: a pure function of the seed and each parameter's name.
///
/// # Errors
/// Every [`StudentError`].
pub fn student_from_teacher(
    teacher: &Path,
    request: StudentRequest,
) -> Result<(Loaded, StudentReport), StudentError> {
    let plan = Plan::new(teacher, &request)?;
    let checkpoint = Checkpoint::open(teacher)?;
    match &plan.start {
        Start::Layers(layers) => plan.copy_layers(layers, checkpoint, &request.load),
        Start::Embeddings => plan.take_embeddings(teacher, checkpoint, &request.load),
    }
}

/// A request that has been checked.
struct Plan {
    teacher: ModelConfig,
    student: ModelConfig,
    start: Start,
}

/// What the teacher gives.
enum Start {
    /// Everything but the layers that are not named.
    Layers(Vec<usize>),
    Embeddings,
}

impl Plan {
    fn new(folder: &Path, request: &StudentRequest) -> Result<Self, StudentError> {
        let teacher = ModelConfig::read(folder)?;
        let architecture = match &request.architecture {
            Some(name) => find(name).map_err(|fault| StudentError::Config(vec![fault]))?,
            None => teacher.architecture,
        };
        let same = architecture.model_type == teacher.architecture.model_type;
        let own = scratch_table(&teacher);
        let others = request.sizes.iter().filter(|(key, value)| !same_value(value, own.get(*key)));
        let only_layers = others.clone().all(|(key, _)| key == "num_hidden_layers");
        let (student, start) = match &request.layers {
            Some(_) if !same => {
                return Err(StudentError::LayersOfAnotherArchitecture {
                    teacher: teacher.architecture.model_type,
                    student: architecture.model_type,
                });
            }
            None if (!same || !only_layers) && (writes(teacher.architecture) || writes(architecture)) => {
                return Err(StudentError::NewLayersOfAWriter { teacher: teacher.architecture.model_type });
            }
            None if !same || !only_layers => {
                (with_new_layers(&teacher, architecture, &own, request)?, Start::Embeddings)
            }
            choice => {
                let layers = copied_layers(&teacher, choice.as_ref(), &own, &request.sizes)?;
                (with_copied_layers(&teacher, &layers, request)?, Start::Layers(layers))
            }
        };
        Ok(Self { teacher, student, start })
    }

    fn copy_layers(
        &self,
        layers: &[usize],
        checkpoint: Checkpoint,
        load: &LoadRequest,
    ) -> Result<(Loaded, StudentReport), StudentError> {
        let base = &self.student.base;
        let weights = Weights::from_checkpoint(
            checkpoint,
            load.head,
            load.seed,
            base.initializer_range(),
            &load.device,
        );
        let places = shared_groups_of(&self.teacher, layers).unwrap_or_else(|| layers.to_vec());
        let mut loaded = build(&self.student, &weights.with_layers(places), load)?;
        // A layer that was not chosen is no surprise; what else is left of the teacher may be one.
        let prefixes = [self.teacher.architecture.base_model_prefix(), "model", "transformer"];
        loaded.report.unused.retain(|name| {
            let headless = |prefix: &&str| name.strip_prefix(*prefix)?.strip_prefix('.');
            let name = prefixes.iter().find_map(headless).unwrap_or(name);
            !LAYERS.iter().any(|layers| name.starts_with(layers))
        });
        let report = StudentReport {
            copied_layers: layers.to_vec(),
            kept_energy: None,
            new: loaded.report.newly_initialised.clone(),
        };
        Ok((loaded, report))
    }

    fn take_embeddings(
        &self,
        folder: &Path,
        checkpoint: Checkpoint,
        load: &LoadRequest,
    ) -> Result<(Loaded, StudentReport), StudentError> {
        let (from, to) = (self.teacher.base.as_ref(), self.student.base.as_ref());
        let embeddings = Embeddings::read(checkpoint, &self.teacher, load)?;
        let directions = if to.embedding_size() == from.embedding_size() {
            None
        } else {
            let directions =
                PrincipalDirections::of(&embeddings.words, from.embedding_size(), to.embedding_size())
                    .map_err(|reason| StudentError::Projection { folder: folder.to_owned(), reason })?;
            Some(directions)
        };
        let kept_energy = directions.as_ref().map(PrincipalDirections::kept_energy);
        let given = embeddings.into_given(from, to, directions.as_ref());
        let prefix = self.student.architecture.base_model_prefix();
        let given = given.into_iter().map(|(name, rows)| (format!("{prefix}.embeddings.{name}"), rows));
        let weights = Weights::from_given(given.collect(), load.seed, to.initializer_range(), &load.device);
        let mut loaded = build(&self.student, &weights, load)?;
        let new = std::mem::take(&mut loaded.report).newly_initialised;
        Ok((loaded, StudentReport { copied_layers: Vec::new(), kept_energy, new }))
    }
}

/// Where a checkpoint holds its layers, below the model's prefix.
const LAYERS: [&str; 8] = [
    "encoder.layer.",
    "transformer.layer.",
    "layer.",
    "encoder.albert_layer_groups.",
    "layers.",
    "h.",
    "encoder.block.",
    "decoder.block.",
];

/// Whether models of this architecture write texts.
fn writes(architecture: &Architecture) -> bool {
    [TaskKind::CausalLm, TaskKind::Seq2SeqLm].iter().any(|task| architecture.tasks.contains(task))
}

/// How many layers there are to choose from: of an encoder-decoder those of each half.
fn choosable_layers(architecture: &Architecture, base: &dyn BaseModelConfig) -> Result<usize, StudentError> {
    let keys = base.to_json();
    let number = |key: &str| keys.get(key).and_then(Value::as_u64).map(|number| number as usize);
    let layers = number(architecture.config_key("num_hidden_layers"));
    let layers = layers.unwrap_or_else(|| base.num_hidden_layers());
    match number(DECODER_LAYERS) {
        Some(decoder) if decoder != layers => Err(StudentError::UnequalHalves { encoder: layers, decoder }),
        _ => Ok(layers),
    }
}

/// Under which key an encoder-decoder has the layers of its second half.
const DECODER_LAYERS: &str = "num_decoder_layers";
/// Under which key some configurations name the kind of each layer.
const LAYER_TYPES: &str = "layer_types";

/// A model's sizes as a from-scratch table would give them.
fn scratch_table(config: &ModelConfig) -> Map<String, Value> {
    let keys = config.base.to_json();
    let size = |key: String| {
        let value = keys.get(config.architecture.config_key(&key))?.clone();
        Some((key, value))
    };
    config.architecture.scratch_keys().into_iter().filter_map(size).collect()
}

/// Whether two JSON values are the same; `1` and `1.0` are.
fn same_value(found: &Value, expected: Option<&Value>) -> bool {
    expected.is_some_and(|expected| match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found == expected,
        _ => found == expected,
    })
}

/// The teacher's padding; where it names none, its architecture's.
fn padding(teacher: &dyn BaseModelConfig) -> u32 {
    teacher.pad_token_id().unwrap_or(teacher.reserved_positions().saturating_sub(1) as u32)
}

fn checked(
    architecture: &'static Architecture,
    table: &Map<String, Value>,
    teacher: &dyn BaseModelConfig,
) -> Result<Box<dyn BaseModelConfig>, StudentError> {
    architecture
        .from_scratch(&Value::Object(table.clone()), teacher.vocab_size(), padding(teacher))
        .map_err(StudentError::Config)
}

/// The layers to copy, if every size is the teacher's.
fn copied_layers(
    teacher: &ModelConfig,
    choice: Option<&LayerChoice>,
    own: &Map<String, Value>,
    sizes: &Map<String, Value>,
) -> Result<Vec<usize>, StudentError> {
    let available = choosable_layers(teacher.architecture, teacher.base.as_ref())?;
    let mut table = own.clone();
    table.extend(sizes.clone());
    checked(teacher.architecture, &table, teacher.base.as_ref())?;
    let count = sizes.get("num_hidden_layers").and_then(Value::as_u64).map_or(available, |it| it as usize);
    let layers = match choice {
        Some(choice) => choice.resolve(available)?,
        None if count != available => {
            return Err(StudentError::LayersNotChosen { found: count, available });
        }
        None => (0..available).collect(),
    };
    for (key, found) in sizes {
        if key == "num_hidden_layers" {
            if count != layers.len() {
                return Err(StudentError::LayerCount { found: count, chosen: layers.len() });
            }
        } else if !same_value(found, own.get(key)) {
            let teacher = own.get(key).map(Value::to_string).unwrap_or_default();
            return Err(StudentError::LayersOfOtherSize {
                key: key.clone(),
                found: found.to_string(),
                teacher,
            });
        }
    }
    Ok(layers)
}

/// The teacher's configuration with fewer layers: its `config.json`, every other key as it is.
fn with_copied_layers(
    teacher: &ModelConfig,
    layers: &[usize],
    request: &StudentRequest,
) -> Result<ModelConfig, StudentError> {
    let mut keys = teacher.keys.clone();
    let count = teacher.architecture.config_key("num_hidden_layers");
    keys.insert(count.to_owned(), json!(layers.len()));
    if teacher.base.to_json().contains_key(DECODER_LAYERS) {
        keys.insert(DECODER_LAYERS.to_owned(), json!(layers.len()));
    }
    if let Some(Value::Array(types)) = keys.get(LAYER_TYPES) {
        let chosen = layers.iter().filter_map(|&layer| types.get(layer).cloned()).collect();
        keys.insert(LAYER_TYPES.to_owned(), Value::Array(chosen));
    }
    if let Some(groups) = shared_groups_of(teacher, layers) {
        keys.insert(GROUPS.to_owned(), json!(groups.len()));
    }
    let mut student =
        ModelConfig::parse(Value::Object(keys)).map_err(|fault| StudentError::Config(vec![fault]))?;
    student.task = request.load.task.clone();
    Ok(student)
}

const GROUPS: &str = "num_hidden_groups";

/// The teacher's groups that the student has, where layers share their parameters.
fn shared_groups_of(teacher: &ModelConfig, layers: &[usize]) -> Option<Vec<usize>> {
    let groups = teacher.base.to_json().get(GROUPS).and_then(Value::as_u64)?;
    Some(shared_groups(layers, teacher.base.num_hidden_layers(), groups as usize))
}

/// The configuration of a student that takes the embeddings alone.
fn with_new_layers(
    teacher: &ModelConfig,
    architecture: &'static Architecture,
    own: &Map<String, Value>,
    request: &StudentRequest,
) -> Result<ModelConfig, StudentError> {
    let from = teacher.base.as_ref();
    let mut table = request.sizes.clone();
    if architecture.model_type == teacher.architecture.model_type {
        for key in ["hidden_size", "embedding_size"] {
            if let (Some(width), false) = (own.get(key), table.contains_key(key)) {
                table.insert(key.to_owned(), width.clone());
            }
        }
    }
    let mut base = checked(architecture, &table, from)?;
    if !table.contains_key("max_position_embeddings") {
        let rows = from.max_length() + base.reserved_positions();
        table.insert("max_position_embeddings".to_owned(), json!(rows));
        base = checked(architecture, &table, from)?;
    }
    if base.embedding_size() > from.embedding_size() {
        let factorised = base.to_json().contains_key("embedding_size");
        return Err(StudentError::Wider {
            key: if factorised { "embedding_size" } else { "hidden_size" },
            found: base.embedding_size(),
            teacher: from.embedding_size(),
        });
    }
    let mut keys = base.to_json();
    keys.insert("model_type".to_owned(), json!(architecture.model_type));
    Ok(ModelConfig { architecture, base, task: request.load.task.clone(), keys })
}

/// The network, from weights of either kind.
fn build(config: &ModelConfig, weights: &Weights, load: &LoadRequest) -> Result<Loaded, ModelError> {
    let mut base = config.base.clone_box();
    if let Some(p) = load.dropout {
        base.set_dropout(p);
    }
    let model = base.build(&config.task, weights);
    let report: LoadReport = weights.finish()?;
    Ok(Loaded { model, config: config.clone(), report, lora: None })
}

/// A teacher's embeddings.
struct Embeddings {
    /// `[vocab, width]`
    words: Vec<f32>,
    /// `[reserved + length, width]`
    positions: Vec<f32>,
    /// `[types, width]`; empty where there are none.
    types: Vec<f32>,
    /// Scale and shift of the norm, `[width]` each.
    norm: [Vec<f32>; 2],
}

const WORDS: &str = "word_embeddings.weight";
const POSITIONS: &str = "position_embeddings.weight";
const TYPES: &str = "token_type_embeddings.weight";
const NORM: [&str; 2] = ["LayerNorm.weight", "LayerNorm.bias"];

impl Embeddings {
    fn read(checkpoint: Checkpoint, teacher: &ModelConfig, load: &LoadRequest) -> Result<Self, ModelError> {
        let sizes = teacher.base.as_ref();
        let width = sizes.embedding_size();
        let all = Weights::from_checkpoint(checkpoint, HeadPolicy::MustMatch, load.seed, 0.0, &load.device);
        let weights = all.child(teacher.architecture.base_model_prefix()).child("embeddings");
        let embeddings = Self {
            words: weights.numbers(WORDS, &[sizes.vocab_size(), width]),
            positions: weights.numbers(POSITIONS, &[sizes.reserved_positions() + sizes.max_length(), width]),
            types: match sizes.type_vocab_size() {
                0 => Vec::new(),
                rows => weights.numbers(TYPES, &[rows, width]),
            },
            norm: NORM.map(|name| weights.numbers(name, &[width])),
        };
        all.finish()?;
        Ok(embeddings)
    }

    /// The rows that the student has too, along `directions`, by name; the norm where there are none.
    fn into_given(
        self,
        from: &dyn BaseModelConfig,
        to: &dyn BaseModelConfig,
        directions: Option<&PrincipalDirections>,
    ) -> HashMap<String, GivenRows> {
        let width = from.embedding_size();
        let mut given = HashMap::new();
        let mut give = |name: &str, first_row, rows: &[f32]| {
            let values = match directions {
                Some(directions) => directions.project(rows),
                None => rows.to_vec(),
            };
            given.insert(name.to_owned(), GivenRows { first_row, values });
        };
        give(WORDS, 0, &self.words);
        // Position n of a text is row n after the reserved ones, whose number is a matter of the architecture.
        let (reserved, target) = (from.reserved_positions(), to.reserved_positions());
        let length = from.max_length().min(to.max_length());
        let skipped = if reserved == target { 0 } else { reserved };
        let positions = &self.positions[skipped * width..(reserved + length) * width];
        give(POSITIONS, if reserved == target { 0 } else { target }, positions);
        let types = from.type_vocab_size().min(to.type_vocab_size());
        if types > 0 {
            give(TYPES, 0, &self.types[..types * width]);
        }
        if directions.is_none() {
            for (name, values) in NORM.iter().zip(&self.norm) {
                give(name, 0, values);
            }
        }
        given
    }
}
