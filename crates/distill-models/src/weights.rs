//! Where a network under construction takes its tensors from: a checkpoint, or a seeded generator and rows that are
//! given.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::f64::consts::TAU;
use std::rc::Rc;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::adapter_file::AdapterFile;
use crate::checkpoint::Checkpoint;
use crate::lora::{LoraConfig, LoraSettings, is_factor};
use crate::{ModelError, TensorFault};

/// The place of an untied output layer over the vocabulary.
const OUTPUT_LAYER: &str = "lm_head";

/// How a tensor that no checkpoint has is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Normal with the configuration's `initializer_range`.
    Normal,
    /// The same, with one row of zeros for padding.
    NormalExceptRow(usize),
    /// Biases.
    Zeros,
    /// The scale of norms.
    Ones,
    /// Normal with this deviation.
    NormalOf(f64),
    /// Uniform between ± 1 / √(columns): PyTorch's and PEFT's start of a factor (He et al. 2015 with a = √5).
    KaimingUniform,
}

/// What a head that is not in the checkpoint means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPolicy {
    /// An error: the model is to be used as it is.
    MustMatch,
    /// A new head: the model is to be trained.
    Reinitialise,
}

/// Whether a tensor may be missing from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Trunk,
    Head,
    /// Not of the model's own checkpoint: an adapter.
    Adapter,
}

/// A place in the tree of names. Cheap to clone; all places of one construction share their report.
#[derive(Clone)]
#[doc(hidden)]
pub struct Weights {
    shared: Rc<RefCell<Shared>>,
    path: String,
    part: Part,
}

struct Shared {
    source: Option<Checkpoint>,
    /// Which of the checkpoint's layers (or groups of shared ones) stands in each place, where not all do.
    layers: Option<Vec<usize>>,
    /// Values for new tensors.
    given: HashMap<String, GivenRows>,
    policy: HeadPolicy,
    /// The adapters to put in.
    lora: Option<LoraConfig>,
    /// Where their values, and those of layers that were trained with them, come from; new ones without.
    adapter: Option<AdapterFile>,
    /// The dense layers there are, and those of them that are adapted.
    linear_modules: Vec<String>,
    adapted: Vec<String>,
    seed: u64,
    std: f64,
    device: Device,
    used: BTreeSet<String>,
    newly_initialised: Vec<String>,
    faults: Vec<TensorFault>,
    /// The first failure to read a file; everything after it is moot.
    broken: Option<ModelError>,
}

/// Values for some rows of a tensor that no checkpoint has.
#[derive(Debug)]
pub(crate) struct GivenRows {
    pub(crate) first_row: usize,
    /// Whole rows.
    pub(crate) values: Vec<f32>,
}

/// Which names did not meet their counterpart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the head that the checkpoint does not have, or has in another shape: filled with new values.
    pub newly_initialised: Vec<String>,
    /// Tensors of the checkpoint that this architecture and task do not use.
    pub unused: Vec<String>,
    /// The layers that have an adapter.
    pub adapted: Vec<String>,
}

impl Weights {
    /// Every tensor new.
    pub(crate) fn from_seed(seed: u64, std: f64, device: &Device) -> Self {
        Self::new(None, HeadPolicy::Reinitialise, seed, std, device)
    }

    /// Every tensor new, but for the rows that are given by name.
    pub(crate) fn from_given(
        given: HashMap<String, GivenRows>,
        seed: u64,
        std: f64,
        device: &Device,
    ) -> Self {
        let weights = Self::from_seed(seed, std, device);
        weights.shared.borrow_mut().given = given;
        weights
    }

    /// Every tensor from a checkpoint, those of the head by `policy`.
    pub(crate) fn from_checkpoint(
        source: Checkpoint,
        policy: HeadPolicy,
        seed: u64,
        std: f64,
        device: &Device,
    ) -> Self {
        Self::new(Some(source), policy, seed, std, device)
    }

    fn new(source: Option<Checkpoint>, policy: HeadPolicy, seed: u64, std: f64, device: &Device) -> Self {
        let shared = Shared {
            source,
            layers: None,
            given: HashMap::new(),
            policy,
            lora: None,
            adapter: None,
            linear_modules: Vec::new(),
            adapted: Vec::new(),
            seed,
            std,
            device: device.clone(),
            used: BTreeSet::new(),
            newly_initialised: Vec::new(),
            faults: Vec::new(),
            broken: None,
        };
        Self { shared: Rc::new(RefCell::new(shared)), path: String::new(), part: Part::Trunk }
    }

    /// The same checkpoint with layer (or group of shared layers) `layers[n]` in place `n`.
    pub(crate) fn with_layers(self, layers: Vec<usize>) -> Self {
        self.shared.borrow_mut().layers = Some(layers);
        self
    }

    /// The same with adapters, whose values come from `adapter` if there is one.
    pub(crate) fn with_lora(self, lora: Option<LoraConfig>, adapter: Option<AdapterFile>) -> Self {
        {
            let mut shared = self.shared.borrow_mut();
            shared.lora = lora;
            shared.adapter = adapter;
        }
        self
    }

    /// The adapter of the dense layer at this place, if it is to have one.
    pub(crate) fn lora(&self) -> Option<LoraSettings> {
        let mut shared = self.shared.borrow_mut();
        let is_head = self.part == Part::Head || self.path == OUTPUT_LAYER;
        let settings = shared.lora.as_ref().and_then(|lora| lora.of(&self.path, is_head));
        shared.linear_modules.push(self.path.clone());
        if settings.is_some() {
            shared.adapted.push(self.path.clone());
        }
        settings
    }

    /// The same place, whose tensors are those of an adapter.
    pub(crate) fn adapter(&self) -> Self {
        Self { part: Part::Adapter, ..self.clone() }
    }

    /// Whether the checkpoint holds the tensor `name` below this place.
    pub(crate) fn has(&self, name: &str) -> bool {
        let shared = self.shared.borrow();
        let name = self.name(name);
        shared
            .source
            .as_ref()
            .is_some_and(|source| aliases(&name).iter().any(|name| source.find(name).is_some()))
    }

    /// The place `name` below this one; dots are allowed.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { shared: Rc::clone(&self.shared), path: self.name(name), part: self.part }
    }

    /// The same place, whose tensors may be new.
    pub(crate) fn head(&self) -> Self {
        Self { part: Part::Head, ..self.clone() }
    }

    pub(crate) fn device(&self) -> Device {
        self.shared.borrow().device.clone()
    }

    /// Marks a second name of a tensor that is stored once, so that it does not count as unused.
    pub(crate) fn tied(&self, name: &str) {
        let name = self.name(name);
        self.shared.borrow_mut().used.insert(name);
    }

    /// The parameter `name` below this place. A fault is noted and zeros stand in until [`Weights::finish`].
    pub(crate) fn get<const D: usize>(&self, name: &str, shape: [usize; D], init: Init) -> Param<Tensor<D>> {
        let name = self.name(name);
        let mut shared = self.shared.borrow_mut();
        let values = shared.values(&name, &shape, init, self.part);
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &shared.device))
    }

    /// The numbers of `name` below this place; a fault is noted as in [`Weights::get`].
    pub(crate) fn numbers(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let name = self.name(name);
        self.shared.borrow_mut().values(&name, shape, Init::Zeros, self.part)
    }

    /// What was new (without a checkpoint: every tensor that was not given whole) and what was not used.
    ///
    /// # Errors
    /// The failure to read a file, or every tensor that is missing or does not fit.
    pub(crate) fn finish(&self) -> Result<LoadReport, ModelError> {
        let mut shared = self.shared.borrow_mut();
        if let Some(error) = shared.broken.take() {
            return Err(error);
        }
        let newly_initialised = std::mem::take(&mut shared.newly_initialised);
        let faults = std::mem::take(&mut shared.faults);
        let [linear_modules, adapted] = [&shared.linear_modules, &shared.adapted].map(Clone::clone);
        if shared.lora.is_some() && adapted.is_empty() {
            return Err(ModelError::NothingAdapted { modules: last_words(&linear_modules) });
        }
        if let Some(adapter) = &shared.adapter {
            adapter.check_used(&shared.used)?;
        }
        let Some(source) = &shared.source else {
            return Ok(LoadReport { newly_initialised, unused: Vec::new(), adapted });
        };
        if !faults.is_empty() {
            let folder = match faults.iter().all(|fault| is_factor(fault.name())) {
                true => shared.adapter.as_ref().map_or(source.folder(), AdapterFile::folder),
                false => source.folder(),
            };
            return Err(ModelError::Tensors { folder: folder.to_owned(), faults });
        }
        let unused = source
            .names()
            .into_iter()
            .filter(|name| !shared.used.contains(*name) && !is_buffer(name))
            .map(str::to_owned)
            .collect();
        Ok(LoadReport { newly_initialised, unused, adapted })
    }

    fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// `name` with the number of its layer, or of its group of shared layers, replaced by what `layers` has in that place.
///
/// A table of relative positions stands in the first layer and belongs to all of them: it stays that of the first.
fn renumber(name: &str, layers: &[usize]) -> String {
    if name.contains("relative_attention_bias") {
        return name.to_owned();
    }
    let mut pieces: Vec<_> = name.split('.').map(str::to_owned).collect();
    // The first of them: within a block of T5 `layer` is a part.
    let number = pieces.iter().position(|piece| LAYER_LISTS.contains(&piece.as_str()));
    if let Some(piece) = number.and_then(|place| pieces.get_mut(place + 1))
        && let Some(layer) = piece.parse::<usize>().ok().and_then(|n| layers.get(n))
    {
        *piece = layer.to_string();
    }
    pieces.join(".")
}

/// What checkpoints call the list of their layers.
const LAYER_LISTS: [&str; 5] = ["layer", "albert_layer_groups", "layers", "h", "block"];

/// Constants that old versions of Transformers stored among the weights.
fn is_buffer(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
        || name.ends_with("embeddings.token_type_ids")
        || name.ends_with(".attn.bias")
        || name.ends_with(".attn.masked_bias")
        || name.ends_with("rotary_emb.inv_freq")
}

/// The names under which a checkpoint may hold a tensor: as it is; without the prefix of the headless model; with
/// TensorFlow's words for a norm's scale and shift; and the second name of a tied bias.
fn aliases(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if let Some((prefix, rest)) = name.split_once('.')
        && BASE_PREFIXES.contains(&prefix)
    {
        names.push(rest.to_owned());
    }
    for (suffix, old) in [
        ("LayerNorm.weight", "LayerNorm.gamma"),
        ("LayerNorm.bias", "LayerNorm.beta"),
        ("s.bias", "s.decoder.bias"),
    ] {
        let renamed: Vec<_> =
            names.iter().filter_map(|n| n.strip_suffix(suffix)).map(|n| format!("{n}{old}")).collect();
        names.extend(renamed);
    }
    if name == "lm_head.bias" {
        names.push("lm_head.decoder.bias".to_owned());
    }
    names
}

const BASE_PREFIXES: [&str; 6] = ["bert", "distilbert", "roberta", "albert", "model", "transformer"];

impl Shared {
    fn values(&mut self, name: &str, shape: &[usize], init: Init, part: Part) -> Vec<f32> {
        let len = shape.iter().product();
        match self.load(name, shape, part) {
            Ok(Some(values)) => values,
            Ok(None) => self.new_values(name, shape, init),
            Err(Fault::Tensor(fault)) => {
                self.faults.push(fault);
                vec![0.0; len]
            }
            Err(Fault::File(error)) => {
                self.broken.get_or_insert(error);
                vec![0.0; len]
            }
        }
    }

    /// The stored numbers, `None` where new ones are due.
    fn load(&mut self, name: &str, shape: &[usize], part: Part) -> Result<Option<Vec<f32>>, Fault> {
        if let Some(adapter) = &self.adapter
            && let Some((stored, values)) = adapter.read(name, shape)?
        {
            self.used.insert(stored);
            self.used.insert(name.to_owned());
            return Ok(Some(values));
        }
        if part == Part::Adapter {
            if self.adapter.is_some() {
                return Err(Fault::Tensor(TensorFault::Missing {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                }));
            }
            return Ok(None);
        }
        let Some(source) = &self.source else { return Ok(None) };
        let renumbered = self.layers.as_ref().map(|layers| renumber(name, layers));
        let name = renumbered.as_deref().unwrap_or(name);
        let may_be_new = part == Part::Head && self.policy == HeadPolicy::Reinitialise;
        let Some((stored, (file, info))) =
            aliases(name).into_iter().find_map(|n| source.find(&n).map(|found| (n, found)))
        else {
            if may_be_new {
                self.newly_initialised.push(name.to_owned());
                return Ok(None);
            }
            return Err(Fault::Tensor(TensorFault::Missing {
                name: name.to_owned(),
                expected: shape.to_vec(),
            }));
        };
        if info.shape != shape {
            if may_be_new {
                self.used.insert(stored);
                self.newly_initialised.push(name.to_owned());
                return Ok(None);
            }
            return Err(Fault::Tensor(TensorFault::Shape {
                name: stored,
                file: file.path().to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            }));
        }
        let values = file.read_f32(info).map_err(Fault::File)?.ok_or_else(|| {
            Fault::Tensor(TensorFault::Dtype {
                name: stored.clone(),
                file: file.path().to_owned(),
                found: format!("{:?}", info.dtype),
            })
        })?;
        self.used.insert(stored);
        Ok(Some(values))
    }

    /// New numbers, those that are given among them.
    fn new_values(&mut self, name: &str, shape: &[usize], init: Init) -> Vec<f32> {
        let Some(GivenRows { first_row, values: given }) = self.given.remove(name) else {
            if self.source.is_none() && !is_factor(name) {
                self.newly_initialised.push(name.to_owned());
            }
            return self.fresh(name, shape, init);
        };
        if given.len() == shape.iter().product::<usize>() {
            return given;
        }
        self.newly_initialised.push(name.to_owned());
        let mut values = self.fresh(name, shape, init);
        let start = first_row * shape.last().copied().unwrap_or(0);
        values[start..start + given.len()].copy_from_slice(&given);
        values
    }

    /// New numbers, a pure function of seed, name and shape.
    fn fresh(&self, name: &str, shape: &[usize], init: Init) -> Vec<f32> {
        let len = shape.iter().product();
        let padding_row = match init {
            Init::Zeros => return vec![0.0; len],
            Init::Ones => return vec![1.0; len],
            Init::KaimingUniform => {
                let columns = shape.last().copied().unwrap_or(1).max(1) as f64;
                return uniform(self.seed, name, len, columns.sqrt().recip());
            }
            Init::Normal | Init::NormalOf(_) => None,
            Init::NormalExceptRow(row) => Some(row),
        };
        let std = if let Init::NormalOf(std) = init { std } else { self.std };
        let mut values = normal(self.seed, name, len, std);
        if let Some(row) = padding_row {
            let width = shape.last().copied().unwrap_or(0);
            if let Some(row) = values.get_mut(row * width..(row + 1) * width) {
                row.fill(0.0);
            }
        }
        values
    }
}

/// Why a tensor could not be read.
pub(crate) enum Fault {
    Tensor(TensorFault),
    File(ModelError),
}

/// Numbers above 0 and below 1, from a stream of its own for each seed and name.
fn units(seed: u64, name: &str) -> impl FnMut() -> f64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    let mut generator = ChaCha8Rng::from_seed(hash.finalize().into());
    // 53 bits.
    move || ((generator.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Numbers between ± `bound`.
fn uniform(seed: u64, name: &str, len: usize, bound: f64) -> Vec<f32> {
    let mut unit = units(seed, name);
    (0..len).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect()
}

/// The last words of layers' names, each once.
fn last_words(names: &[String]) -> Vec<String> {
    let words: BTreeSet<&str> = names.iter().filter_map(|name| name.rsplit('.').next()).collect();
    words.into_iter().map(str::to_owned).collect()
}

/// Normal numbers of mean 0, by Box and Muller's method, from a stream of its own for each seed and name.
pub fn normal(seed: u64, name: &str, len: usize, std: f64) -> Vec<f32> {
    // The radius takes a number above zero, whose logarithm is finite.
    let mut unit = units(seed, name);
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        let (radius, angle) = ((-2.0 * unit().ln()).sqrt() * std, unit() * TAU);
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(len);
    values
}

#[cfg(test)]
mod tests {
    use distill_ops::{DeviceSpec, resolve};

    use super::*;

    #[test]
    fn new_values_depend_on_seed_and_name_alone_and_have_the_right_spread() {
        let values = normal(42, "a.weight", 100_001, 0.02);
        assert_eq!(values[..1000], normal(42, "a.weight", 1000, 0.02));
        assert_ne!(values[..1000], normal(43, "a.weight", 1000, 0.02));
        assert_ne!(values[..1000], normal(42, "b.weight", 1000, 0.02));
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 4.0 * 0.02 / n.sqrt(), "{mean}");
        assert!((deviation / 0.02 - 1.0).abs() < 0.01, "{deviation}");
    }

    #[test]
    fn old_and_headless_names_are_known() {
        assert_eq!(
            aliases("bert.embeddings.LayerNorm.weight"),
            [
                "bert.embeddings.LayerNorm.weight",
                "embeddings.LayerNorm.weight",
                "bert.embeddings.LayerNorm.gamma",
                "embeddings.LayerNorm.gamma"
            ]
        );
        assert_eq!(aliases("cls.predictions.bias"), ["cls.predictions.bias", "cls.predictions.decoder.bias"]);
        assert_eq!(aliases("predictions.bias"), ["predictions.bias", "predictions.decoder.bias"]);
        assert_eq!(aliases("classifier.weight"), ["classifier.weight"]);
    }

    #[test]
    fn layers_are_renumbered_and_nothing_else_is() {
        for (name, expected) in [
            ("bert.encoder.layer.1.output.LayerNorm.bias", "bert.encoder.layer.5.output.LayerNorm.bias"),
            (
                "distilbert.transformer.layer.0.ffn.lin1.weight",
                "distilbert.transformer.layer.2.ffn.lin1.weight",
            ),
            (
                "albert.encoder.albert_layer_groups.1.albert_layers.0.ffn.bias",
                "albert.encoder.albert_layer_groups.5.albert_layers.0.ffn.bias",
            ),
            ("bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight"),
            ("classifier.weight", "classifier.weight"),
        ] {
            assert_eq!(renumber(name, &[2, 5]), expected);
        }
    }

    #[test]
    fn given_rows_replace_new_ones_and_the_rest_is_as_ever() {
        let specs = [DeviceSpec::Flex, DeviceSpec::NdArray];
        let Some(device) = specs.into_iter().find_map(|spec| resolve(spec).ok()) else { return };
        let (whole, part) = (vec![1.0; 6], vec![2.0; 2]);
        let given = HashMap::from([
            ("whole".to_owned(), GivenRows { first_row: 0, values: whole.clone() }),
            ("part".to_owned(), GivenRows { first_row: 1, values: part.clone() }),
        ]);
        let weights = Weights::from_given(given, 7, 0.02, &device);
        let numbers =
            |name: &str| weights.shared.borrow_mut().values(name, &[3, 2], Init::Normal, Part::Trunk);
        assert_eq!(numbers("whole"), whole);
        let (fresh, found) = (normal(7, "part", 6, 0.02), numbers("part"));
        assert_eq!(found, [&fresh[..2], &part, &fresh[4..]].concat());
        assert_eq!(numbers("new"), normal(7, "new", 6, 0.02));
        assert_eq!(weights.finish().unwrap().newly_initialised, ["part", "new"]);
    }
}
