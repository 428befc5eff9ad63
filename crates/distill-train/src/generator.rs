//! A finished model that writes texts.

use crate::computing::{Computing, precision_for};
use crate::error::TrainError;
use crate::events::Observer;
use crate::finished_model::FinishedModel;
use crate::next_tokens::NextTokens;
use distill_data::tokenizer::Tokenizer;
use distill_data::{ChatTemplate, GenerationPrompt, Layout, Message, RowEncoder, RowParts};
use distill_generate::{GenerateError, Generated, Generation, GenerationConfig};
use distill_models::{Model, ModelConfig, Task, TaskKind};
use distill_ops::{DeviceSpec, Precision, resolve};
use distill_recipe::DtypeChoice;
use std::path::Path;

/// Longest prompt of an encoder-decoder, in tokens: as good as any.
const LONGEST_PROMPT: usize = 1 << 24;

/// What a model is to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text to continue, or for an encoder-decoder to answer.
    Text(String),
    /// A conversation to answer.
    Chat(Vec<Message>),
}

/// A language model with its tokenizer.
pub struct Generator {
    model: Box<dyn Model>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    generation_config: GenerationConfig,
    precision: Precision,
}

impl Generator {
    /// Loads a model: the folder of a run, of a checkpoint or of an adapter, any Hugging Face folder, or a hub id.
    ///
    /// # Errors
    /// If it is not there, writes no texts, is damaged, or the device cannot be used.
    pub fn load(
        model: &str,
        device: &str,
        dtype: DtypeChoice,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let spec: DeviceSpec = device.parse()?;
        let device = resolve(spec)?;
        let precision = precision_for(dtype, &device)?;
        let finished = FinishedModel::find(model, observer)?;
        finished.announce(model, observer);
        let config = finished.config()?;
        let task = config.task.clone();
        if !matches!(task.kind(), TaskKind::CausalLm | TaskKind::Seq2SeqLm) {
            return Err(TrainError::Unusable {
                message: format!(
                    "`{model}` is a `{}` model for {}: it writes no texts",
                    config.architecture.model_type,
                    task.kind().name()
                ),
                help: "take a `llama`, `qwen2`, `gpt2` or `t5` model; labels come from `distill predict`"
                    .to_owned(),
            });
        }
        let loaded = finished.load(task, device)?;
        let tokenizer = Tokenizer::load(finished.tokenizer_folder())?;
        if tokenizer.vocab_size() > loaded.config.base.vocab_size() {
            return Err(TrainError::VocabularyMismatch {
                tokenizer: tokenizer.vocab_size(),
                model: loaded.config.base.vocab_size(),
            });
        }
        let generation_config = generation_config(&finished, &config, &tokenizer)?;
        Ok(Self {
            model: loaded.model.eval_copy(),
            config: loaded.config,
            chat_template: tokenizer.chat_template().map_err(|error| TrainError::Unusable {
                message: error.to_string(),
                help: "mend `chat_template.jinja` in the model's folder".to_owned(),
            })?,
            tokenizer,
            generation_config,
            precision,
        })
    }

    /// The model's own settings; what ends a text is that of its configuration where they do not say.
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.generation_config
    }

    /// What tensor work is done with.
    pub fn computing(&self) -> Computing {
        Computing::new(&self.model.device(), self.precision)
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether it has a chat template, so that it can answer a conversation.
    pub fn has_chat_template(&self) -> bool {
        self.chat_template.is_some()
    }

    /// Tokens of a prompt, with those that the model sees around it.
    ///
    /// # Errors
    /// A chat for a model without a chat template, or one that the template refuses.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<usize, TrainError> {
        Ok(self.tokens(prompt)?.len())
    }

    /// Goes on from each prompt. `first_prompt` is the number of the first among all that are asked for, so that drawn
    /// texts do not depend on how many are made together. `on_text` hears of the growing text of each.
    ///
    /// # Errors
    /// Settings that cannot be, prompts without a token or too long ones, a chat for a model without a chat template.
    pub fn generate(
        &mut self,
        prompts: &[Prompt],
        first_prompt: usize,
        config: &GenerationConfig,
        on_text: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Generated>, TrainError> {
        let prompts: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| self.tokens(prompt)).collect::<Result<_, _>>()?;
        let mut rows = rows_of(self.model.as_ref(), &self.config, self.precision, &self.tokenizer);
        continue_prompts(&mut rows, &self.tokenizer, &prompts, first_prompt, config, on_text)
    }

    fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, TrainError> {
        match prompt {
            Prompt::Text(text) if self.config.task == Task::CausalLm => {
                Ok([self.tokenizer.prefix_ids(), &self.tokenizer.encode_text(text)?].concat())
            }
            Prompt::Text(text) => {
                // With the end that encoders are trained to see, as in training.
                let row = RowParts::Pair { prompt: text.clone(), targets: Vec::new() };
                let encoder = RowEncoder::new(&self.tokenizer, Layout::EncoderDecoder, LONGEST_PROMPT)?;
                Ok(encoder.prompt(&row)?.ids)
            }
            Prompt::Chat(messages) => {
                let Some(template) = &self.chat_template else {
                    return Err(TrainError::Unusable {
                        message: "the model has no chat template".to_owned(),
                        help: "give it a text to continue, without `--chat`".to_owned(),
                    });
                };
                let text = template.render(messages, GenerationPrompt::Add);
                let text = text.map_err(|error| TrainError::Unusable {
                    message: error.to_string(),
                    help: "change the messages to what the model's chat template expects".to_owned(),
                })?;
                Ok(self.tokenizer.encode_text(&text)?)
            }
        }
    }
}

/// The settings in a model's folder, and what ends its texts.
fn generation_config(
    finished: &FinishedModel,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
) -> Result<GenerationConfig, TrainError> {
    let folders = [Some(finished.folder.as_path()), finished.base.as_deref()];
    let has = |folder: &&Path| folder.join("generation_config.json").is_file();
    let folder = folders.into_iter().flatten().find(has).unwrap_or(&finished.folder);
    let settings = GenerationConfig::from_folder(folder).map_err(|error| TrainError::Unusable {
        message: error.to_string(),
        help: "mend `generation_config.json`, or remove it".to_owned(),
    })?;
    Ok(with_ends(settings, config, tokenizer))
}

/// What ends a text where the settings do not say: what the model's configuration or its tokenizer says.
pub(crate) fn with_ends(
    mut settings: GenerationConfig,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
) -> GenerationConfig {
    if settings.eos_token_id.is_empty() {
        settings.eos_token_id = config.token_ids("eos_token_id");
    }
    // A conversation ends with what the tokenizer calls the end, whatever the model was first trained with.
    if let Some(eos) = tokenizer.eos_token_id().filter(|eos| !settings.eos_token_id.contains(eos)) {
        settings.eos_token_id.push(eos);
    }
    settings
}

/// A model as generation sees it.
pub(crate) fn rows_of<'a>(
    model: &'a dyn Model,
    config: &ModelConfig,
    precision: Precision,
    tokenizer: &Tokenizer,
) -> NextTokens<'a> {
    let start = config.base.decoder_start_token_id();
    let limit = config.base.max_length();
    let pad = tokenizer.pad_token_id().or(config.base.pad_token_id()).unwrap_or(0);
    NextTokens::new(model, precision, (limit < usize::MAX).then_some(limit), start, pad)
}

/// Continues tokenised prompts.
///
/// # Errors
/// As [`Generator::generate`].
pub(crate) fn continue_prompts(
    rows: &mut NextTokens<'_>,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    first_prompt: usize,
    config: &GenerationConfig,
    on_text: &mut dyn FnMut(usize, &str),
) -> Result<Vec<Generated>, TrainError> {
    // What cannot be decoded (an id that only padding of the vocabulary has) is no text.
    let decode = |ids: &[u32]| tokenizer.decode(ids).unwrap_or_default();
    let generation = Generation { config, decode: &decode, first_prompt };
    let made = generation.run(rows, prompts, &mut |piece| on_text(piece.row, piece.text));
    made.map_err(|error| TrainError::Unusable {
        help: match &error {
            GenerateError::Config(_) => "change the settings of generation",
            GenerateError::NotFinite { .. } => "the model is damaged, or was trained until it diverged",
            _ => "change the prompt",
        }
        .to_owned(),
        message: error.to_string(),
    })
}
