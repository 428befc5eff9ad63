//! What the trainer sees of a network: one object-safe interface, implemented once for every architecture.

use burn::module::{Module, ModuleMapper};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use distill_ops::{AttentionBias, CrossEntropy, Dropout, Scores, TokenLoss};

use crate::key_value_cache::KeyValueCache;
use crate::layer_context::LayerContext;
use crate::layer_output::{Kept, LayerOutput, Tokens, Wanted};
use crate::logits::Logits;
use crate::parameters::{Freezer, ParameterInfo, Updater, Value, Visitor, take_gradients};
use crate::{Layers, Loss, gradient_checkpointing};

/// One batch, on the host and on the device.
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// Rows and columns: `[batch, seq]`.
    pub shape: [usize; 2],
    /// Token numbers, row by row, as they were given.
    pub host_input_ids: Vec<u32>,
    /// 1 for a token, 0 for padding, row by row, as it was given.
    pub host_attention_mask: Vec<u8>,
    /// `[batch, seq]`.
    pub input_ids: Tensor<2, Int>,
    /// `[batch, seq]`; absent where every token has type 0.
    pub token_type_ids: Option<Tensor<2, Int>>,
    /// The padding mask in the form that attention adds.
    pub attention_bias: AttentionBias,
    /// Where each token stands in its text, row by row; absent where every row counts from 0.
    pub position_ids: Option<Vec<u32>>,
    /// What an encoder-decoder's second half reads.
    pub decoder: Option<DecoderInput>,
}

/// The target side of a batch: what the decoder of an encoder-decoder reads.
#[derive(Debug, Clone)]
pub struct DecoderInput {
    /// Rows and columns: `[batch, target]`.
    pub shape: [usize; 2],
    /// `[batch, target]`: the start token, then the target without its last token.
    pub input_ids: Tensor<2, Int>,
}

impl ModelInput {
    /// Uploads a batch to the model's device (the one with autodiff for training).
    ///
    /// # Shapes
    /// All slices hold `shape[0] · shape[1]` values, row by row.
    pub fn new(
        input_ids: &[u32],
        attention_mask: &[u8],
        token_type_ids: Option<&[u32]>,
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        let token_type_ids =
            token_type_ids.filter(|ids| ids.iter().any(|&id| id != 0)).map(|ids| upload(ids, shape, device));
        Self {
            shape,
            host_input_ids: input_ids.to_vec(),
            host_attention_mask: attention_mask.to_vec(),
            input_ids: upload(input_ids, shape, device),
            token_type_ids,
            attention_bias: AttentionBias::from_padding_mask(attention_mask, shape),
            position_ids: None,
            decoder: None,
        }
    }

    /// With the place of each token in its text, `shape[0] · shape[1]` of them.
    #[must_use]
    pub fn with_positions(self, position_ids: Vec<u32>) -> Self {
        Self { position_ids: Some(position_ids), ..self }
    }

    /// Several texts in a row: a token sees those of its own segment alone.
    ///
    /// # Shapes
    /// - `segments`: a number for each token, the same throughout a text, `shape[0] · shape[1]` of them
    #[must_use]
    pub fn with_segments(self, segments: &[u32]) -> Self {
        let bias = AttentionBias::from_segments(segments, self.shape, &self.input_ids.device());
        Self { attention_bias: bias, ..self }
    }

    /// With what the decoder of an encoder-decoder reads, `[batch, target]` row by row.
    #[must_use]
    pub fn with_decoder(self, input_ids: &[u32], shape: [usize; 2]) -> Self {
        let input_ids = upload(input_ids, shape, &self.input_ids.device());
        Self { decoder: Some(DecoderInput { shape, input_ids }), ..self }
    }

    /// The tokens' places: as given, or those of one row that all share; and how many rows that is.
    pub(crate) fn positions(&self) -> (Vec<u32>, usize) {
        match &self.position_ids {
            Some(ids) => (ids.clone(), self.shape[0]),
            None => ((0..self.shape[1] as u32).collect(), 1),
        }
    }
}

/// Integers as a `[batch, seq]` tensor.
pub(crate) fn upload(ids: &[u32], shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_data(TensorData::new(ids, shape), device)
}

/// What a forward pass should hand back besides its logits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Keep the output of the embeddings and of every layer.
    pub hidden_states: bool,
    /// Keep the output of the last layer; [`hidden_states`](Self::hidden_states) does so too.
    ///
    /// A classification head reads its first token only. Where nobody asks for the others, the last layer computes
    /// keys and values of all tokens, and the rest of the first one: the same logits and gradients for less work.
    pub last_hidden_state: bool,
    /// Keep the attention scores of these layers, `q · kᵀ / √head_size` before bias and softmax.
    ///
    /// A layer whose scores are asked for computes all tokens, even the last one.
    pub attention_scores: Layers,
    /// Keep queries, keys and values of these layers: those of all tokens, whatever else the layer computes.
    pub queries_keys_values: Layers,
    /// Leave out the head, and the layers above the highest one that something is asked of.
    pub without_logits: bool,
}

impl ForwardOptions {
    /// All that either asks for; logits unless both do without.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            hidden_states: self.hidden_states || other.hidden_states,
            last_hidden_state: self.last_hidden_state || other.last_hidden_state,
            attention_scores: self.attention_scores.union(other.attention_scores),
            queries_keys_values: self.queries_keys_values.union(other.queries_keys_values),
            without_logits: self.without_logits && other.without_logits,
        }
    }

    pub(crate) fn keeps_last(self) -> bool {
        self.hidden_states || self.last_hidden_state
    }

    /// How many of these layers are run.
    pub(crate) fn layers_run(self, num_hidden_layers: usize) -> usize {
        if !self.without_logits || self.keeps_last() {
            return num_hidden_layers;
        }
        let highest = self.attention_scores.union(self.queries_keys_values).highest();
        highest.map_or(0, |highest| num_hidden_layers.min(highest + 1))
    }
}

/// What the backward pass finds of what the layers computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activations {
    /// All that the operations saved.
    #[default]
    Keep,
    /// The input of each layer; what is between is computed anew. The gradients are the same; Chen et al. 2016
    /// (arXiv:1604.06174).
    Recompute,
}

/// What a forward pass returns.
#[derive(Debug, Clone)]
pub struct ModelOutput {
    /// What the head says; [`logits`](Self::logits) are the numbers.
    pub logits: Logits,
    /// After the last layer, and its norm where the architecture has one there, `[batch, seq, hidden]`; of an
    /// encoder-decoder its encoder's. Where asked for.
    pub last_hidden_state: Option<Tensor<3>>,
    /// `[batch, hidden]`, of architectures and tasks with a pooler.
    pub pooler_output: Option<Tensor<2>>,
    /// The embeddings first, then every layer, as Hugging Face orders them; where asked for.
    pub hidden_states: Option<Vec<Tensor<3>>>,
    /// `q · kᵀ / √head_size` of the layers asked for, in ascending order: `[batch, heads, seq, seq]`.
    ///
    /// Padding has scores like any token: nothing has been masked.
    pub attention_scores: Vec<Tensor<4>>,
    /// Queries, keys and values of the layers asked for, in ascending order, each `[batch, seq, hidden]`; the numbers of
    /// a head lie side by side.
    ///
    /// A layer of ALBERT that is a group of several hands out what the last of them computed, scores too.
    pub queries_keys_values: Vec<[Tensor<3>; 3]>,
}

impl ModelOutput {
    /// Before softmax. Classification: `[batch, num_labels]`; language models: `[batch · seq, vocab]`, of an
    /// encoder-decoder for the tokens of its target. Those of a vocabulary are computed at every call.
    pub fn logits(&self) -> Tensor<2> {
        self.logits.tensor()
    }

    /// The same numbers where a student's graph is; nothing flows back through them.
    #[must_use]
    pub fn lifted(self) -> Self {
        let all = |states: Vec<Tensor<3>>| states.into_iter().map(Tensor::autodiff).collect();
        Self {
            logits: self.logits.lifted(),
            last_hidden_state: self.last_hidden_state.map(Tensor::autodiff),
            pooler_output: self.pooler_output.map(Tensor::autodiff),
            hidden_states: self.hidden_states.map(all),
            attention_scores: self.attention_scores.into_iter().map(Tensor::autodiff).collect(),
            queries_keys_values: self
                .queries_keys_values
                .into_iter()
                .map(|of| of.map(Tensor::autodiff))
                .collect(),
        }
    }

    /// Cross entropy of the logits with `labels`, one a row, −100 = ignored; what
    /// [`distill_ops::cross_entropy`] makes of [`logits`](Self::logits), for less work and memory.
    pub fn cross_entropy(&self, labels: &[i64], label_smoothing: f64) -> CrossEntropy {
        self.logits.cross_entropy(labels, label_smoothing)
    }

    /// The loss of each row whose label is not −100, and whether its largest logit is the label's; without gradients.
    pub fn token_losses(&self, labels: &[i64]) -> Vec<Option<TokenLoss>> {
        self.logits.token_losses(labels)
    }
}

/// A network with its head, ready to run.
pub trait Model: Send {
    /// Runs a batch. Ids must be below the vocabulary size and rows at most as long as
    /// [`BaseModelConfig::max_length`](crate::BaseModelConfig::max_length).
    fn forward(&self, input: &ModelInput, options: ForwardOptions, dropout: &mut Dropout) -> ModelOutput;

    /// Forward and backward pass: the gradients of what `loss` makes of the output, as [`Model::gradients`] gives them.
    ///
    /// Parameters that the loss does not depend on are left out.
    fn gradients_of(
        &self,
        input: &ModelInput,
        options: ForwardOptions,
        activations: Activations,
        dropout: &mut Dropout,
        loss: &mut dyn Loss,
    ) -> Vec<(String, Tensor<1>)>;

    /// Reads more tokens of every row and returns the logits of what comes next, `[rows, vocab]`; `None` if the model's
    /// task is not to continue texts.
    ///
    /// Rows of different lengths are padded on the left. The first call of an encoder-decoder brings the source and the
    /// start of the target, later ones the target's next tokens as `input`'s own.
    fn next_logits(&self, input: &ModelInput, cache: &mut KeyValueCache) -> Option<Tensor<2>>;

    /// Every parameter, in a fixed order.
    fn parameters(&self) -> Vec<ParameterInfo>;

    /// Takes this model's gradients out of `grads`: flat, without autodiff, in parameter order; parameters without
    /// one are left out.
    fn gradients(&self, grads: &mut Gradients) -> Vec<(String, Tensor<1>)>;

    /// Shows every value: flat, without autodiff, in parameter order.
    fn visit(&self, f: &mut dyn FnMut(&ParameterInfo, Tensor<1>));

    /// Replaces every value by what `f` makes of it; what is trainable stays so.
    fn update(&mut self, f: &mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>);

    /// Which parameters get gradients, by name.
    fn set_trainable(&mut self, trainable: &dyn Fn(&str) -> bool);

    /// The same tensors, shared, on the plain device and without a graph.
    fn eval_copy(&self) -> Box<dyn Model>;

    /// Where the parameters are, with autodiff if they have it.
    fn device(&self) -> Device;

    /// How many encoder layers there are.
    fn num_hidden_layers(&self) -> usize;

    /// The depth of a parameter: 0 for the embeddings, 1 to `num_hidden_layers` for the layers, `None` for pooler and
    /// head. A layer that is shared counts as the last of its uses.
    fn layer_of(&self, name: &str) -> Option<usize>;
}

/// What an architecture implements: embeddings and layers, piece by piece, so that a layer can be run on its own.
pub(crate) trait Encoder {
    /// The input of the first layer.
    fn embed(&self, input: &ModelInput, dropout: &mut Dropout) -> Tensor<3>;
    /// Layer `n`, from 0; what is `wanted` of it.
    fn layer(
        &self,
        n: usize,
        hidden: Tensor<3>,
        wanted: Wanted,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> LayerOutput;
    /// What the layers need to know of a batch.
    fn context(&self, input: &ModelInput) -> LayerContext<'static> {
        LayerContext::of(input.attention_bias.clone())
    }
    /// What comes after the last layer and belongs to the last hidden state.
    fn finish(&self, last: Tensor<3>, _: &LayerContext<'_>, _: &mut Dropout) -> Tensor<3> {
        last
    }
    fn num_hidden_layers(&self) -> usize;
    /// As [`Model::layer_of`].
    fn layer_of(&self, name: &str) -> Option<usize>;
    /// The same, but a layer that is shared counts as the first of its uses.
    fn first_layer_of(&self, name: &str) -> Option<usize> {
        self.layer_of(name)
    }
}

/// What a task makes of the last hidden state.
pub(crate) struct HeadOutput {
    pub(crate) logits: Logits,
    pub(crate) pooler_output: Option<Tensor<2>>,
}

/// What an architecture implements for each task.
pub(crate) trait Forward: Module + 'static {
    fn encoder(&self) -> &dyn Encoder;
    /// Which tokens of the last layer the head looks at.
    fn reads(&self) -> Tokens;
    fn head(&self, last: &Tensor<3>, dropout: &mut Dropout) -> HeadOutput;

    fn forward(&self, input: &ModelInput, options: ForwardOptions, dropout: &mut Dropout) -> ModelOutput {
        let encoder = self.encoder();
        let context = encoder.context(input);
        let mut hidden = encoder.embed(input, dropout);
        let mut hidden_states = options.hidden_states.then(|| vec![hidden.clone()]);
        let layers = options.layers_run(encoder.num_hidden_layers());
        let mut all_kept = Vec::with_capacity(layers);
        for n in 0..layers {
            let wanted = self.wanted_of(n, options);
            let output = encoder.layer(n, hidden, wanted, &context, dropout);
            hidden = output.hidden;
            all_kept.push(output.kept);
            if let Some(states) = &mut hidden_states {
                states.push(hidden.clone());
            }
        }
        self.finish(hidden, hidden_states, all_kept, options, &context, dropout)
    }

    /// The head, and the output as a whole, from what the layers left.
    fn finish(
        &self,
        last: Tensor<3>,
        mut hidden_states: Option<Vec<Tensor<3>>>,
        kept: Vec<Kept>,
        options: ForwardOptions,
        context: &LayerContext<'_>,
        dropout: &mut Dropout,
    ) -> ModelOutput {
        // Where layers above are left out, this is not the last one.
        let last = match options.without_logits && !options.keeps_last() {
            true => last,
            false => self.encoder().finish(last, context, dropout),
        };
        if let Some(state) = hidden_states.as_mut().and_then(|states| states.last_mut()) {
            *state = last.clone();
        }
        let HeadOutput { logits, pooler_output } = if options.without_logits {
            let nothing = Tensor::zeros([0, 0], &last.device());
            HeadOutput { logits: Logits::computed(nothing), pooler_output: None }
        } else {
            self.head(&last, dropout)
        };
        let last_hidden_state = options.keeps_last().then_some(last);
        let (mut attention_scores, mut queries_keys_values) = (Vec::new(), Vec::new());
        for kept in kept {
            attention_scores.extend(kept.scores);
            queries_keys_values.extend(kept.queries_keys_values);
        }
        ModelOutput {
            logits,
            last_hidden_state,
            pooler_output,
            hidden_states,
            attention_scores,
            queries_keys_values,
        }
    }

    /// As [`Model::next_logits`].
    fn next_logits(&self, _: &ModelInput, _: &mut KeyValueCache) -> Option<Tensor<2>> {
        None
    }

    /// What anybody looks at of layer `n`.
    fn wanted_of(&self, n: usize, options: ForwardOptions) -> Wanted {
        let scores = if options.attention_scores.contains(n) { Scores::Keep } else { Scores::Discard };
        let queries_keys_values = options.queries_keys_values.contains(n);
        let last = n + 1 == options.layers_run(self.encoder().num_hidden_layers());
        let all = !last || options.keeps_last() || scores == Scores::Keep;
        // Without logits nobody reads the rest of the last layer: one token is the least there is.
        let read = if options.without_logits { Tokens::First } else { self.reads() };
        Wanted { tokens: if all { Tokens::All } else { read }, scores, queries_keys_values }
    }
}

/// Any architecture as a [`Model`].
pub(crate) struct ModuleModel<M> {
    /// Empty only while [`Model::update`] and [`Model::set_trainable`] rebuild it.
    module: Option<M>,
    device: Device,
}

impl<M: Forward> ModuleModel<M> {
    pub(crate) fn boxed(module: M, device: &Device) -> Box<dyn Model> {
        Box::new(Self { module: Some(module), device: device.clone() })
    }

    fn module(&self) -> &M {
        self.module.as_ref().expect("the module is back in place whenever a method returns")
    }

    fn map(&mut self, mapper: &mut impl ModuleMapper) {
        // Taken out, not cloned: a second handle to every tensor would keep the old values alive until the end.
        if let Some(module) = self.module.take() {
            self.module = Some(module.map(mapper));
        }
    }
}

impl<M: Forward> Model for ModuleModel<M> {
    fn forward(&self, input: &ModelInput, options: ForwardOptions, dropout: &mut Dropout) -> ModelOutput {
        self.module().forward(input, options, dropout)
    }

    fn gradients_of(
        &self,
        input: &ModelInput,
        options: ForwardOptions,
        activations: Activations,
        dropout: &mut Dropout,
        loss: &mut dyn Loss,
    ) -> Vec<(String, Tensor<1>)> {
        match activations {
            Activations::Keep => {
                let mut grads = loss.loss(self.forward(input, options, dropout)).backward();
                loss.take_gradients(&mut grads);
                self.gradients(&mut grads)
            }
            Activations::Recompute => {
                gradient_checkpointing::gradients_of(self.module(), input, options, dropout, loss)
            }
        }
    }

    fn next_logits(&self, input: &ModelInput, cache: &mut KeyValueCache) -> Option<Tensor<2>> {
        self.module().next_logits(input, cache)
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        let mut parameters = Vec::new();
        self.module()
            .visit(&mut Visitor::new(|info: &ParameterInfo, _: &dyn Value| parameters.push(info.clone())));
        parameters
    }

    fn gradients(&self, grads: &mut Gradients) -> Vec<(String, Tensor<1>)> {
        take_gradients(self.module(), grads)
    }

    fn visit(&self, f: &mut dyn FnMut(&ParameterInfo, Tensor<1>)) {
        self.module()
            .visit(&mut Visitor::new(|info: &ParameterInfo, value: &dyn Value| f(info, value.flat())));
    }

    fn update(&mut self, f: &mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>) {
        self.map(&mut Updater::new(f));
    }

    fn set_trainable(&mut self, trainable: &dyn Fn(&str) -> bool) {
        self.map(&mut Freezer::new(trainable));
    }

    fn eval_copy(&self) -> Box<dyn Model> {
        Self::boxed(self.module().valid(), &self.device.clone().without_autodiff())
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn num_hidden_layers(&self) -> usize {
        self.module().encoder().num_hidden_layers()
    }

    fn layer_of(&self, name: &str) -> Option<usize> {
        self.module().encoder().layer_of(name)
    }
}
