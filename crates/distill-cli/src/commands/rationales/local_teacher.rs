//! A model on this machine as a teacher.

use crate::failure::Failure;
use distill_data::FileHash;
use distill_generate::{FinishReason, Generated, GenerationConfig};
use distill_rationales::prompt::SEPARATOR;
use distill_rationales::{Asked, Content, Form, Heard, Prompt, Reply, Teacher, TeacherError, Usage};
use distill_recipe::DtypeChoice;
use distill_train::{FinishedModel, Generator, Observer, Prompt as ModelPrompt, TrainError};
use serde_json::{Map, Value, json};
use std::path::Path;

/// After as many rows that failed one after the other no further one is begun: something else is wrong.
const MOST_FAILURES_IN_A_ROW: usize = 5;

/// Files that the texts of a model depend on, beside its weights.
const FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "adapter_config.json"];

/// A model that writes texts, and how it does.
pub struct LocalTeacher {
    name: String,
    generator: Generator,
    config: GenerationConfig,
    form: Form,
    batch_size: usize,
    /// Digest of each of the model's files.
    files: Value,
}

impl LocalTeacher {
    /// Loads a model, whose own settings of generation count until [`LocalTeacher::set`] changes them. Without a form
    /// it is a chat if the model has a template for chats.
    ///
    /// # Errors
    /// A model or a device that cannot be used, or a chat for a model without a template.
    pub fn load(
        model: &str,
        device: &str,
        dtype: DtypeChoice,
        form: Option<Form>,
        observer: &mut dyn Observer,
    ) -> Result<Self, Failure> {
        let generator = Generator::load(model, device, dtype, observer)?;
        let chats = generator.has_chat_template();
        if form == Some(Form::Chat) && !chats {
            return Err(
                Failure::input(format!("`{model}` has no chat template")).with_help("write `--form plain`")
            );
        }
        let form = form.unwrap_or(if chats { Form::Chat } else { Form::Plain });
        let finished = FinishedModel::find(model, observer)?;
        let folders = [Some(finished.folder.as_path()), finished.base.as_deref()];
        let mut files = Map::new();
        for (which, folder) in ["model", "base"].into_iter().zip(folders) {
            let Some(folder) = folder else { continue };
            files.insert(which.to_owned(), Value::Object(digests(folder)?.into_iter().collect()));
        }
        let config = generator.generation_config().clone();
        Ok(Self {
            name: model.to_owned(),
            generator,
            config,
            form,
            batch_size: 1,
            files: Value::Object(files),
        })
    }

    /// The same teacher with these settings; without a temperature draws are as the model's own settings say.
    ///
    /// # Errors
    /// Settings that cannot be.
    pub fn set(
        mut self,
        max_new_tokens: usize,
        temperature: Option<f64>,
        seed: u64,
        batch_size: usize,
    ) -> Result<Self, Failure> {
        let config = &mut self.config;
        config.max_new_tokens = Some(max_new_tokens);
        config.num_return_sequences = 1;
        config.seed = seed;
        match temperature {
            Some(0.0) => config.do_sample = false,
            Some(temperature) => (config.do_sample, config.temperature) = (true, temperature),
            None => {}
        }
        if self.form == Form::Plain {
            config.stop_strings.push(format!("\n{SEPARATOR}"));
        }
        config.check().map_err(|faults| {
            let messages: Vec<String> = faults.0.into_iter().map(|fault| fault.message).collect();
            Failure::input(messages.join("\n"))
        })?;
        self.batch_size = batch_size;
        Ok(self)
    }

    /// Whether it is asked by chats.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The prompts from `index` on that are answered together. Draws go by a row's number, and the rows of a batch by
    /// that of the first, so there is no gap among them.
    fn batch(&self, asked: &Asked<'_>, index: usize) -> Vec<Prompt> {
        let mut batch: Vec<Prompt> = Vec::new();
        while batch.len() < self.batch_size && index + batch.len() < asked.len {
            let prompt = (asked.prompt)(index + batch.len());
            let follows = batch.last().is_none_or(|last| prompt.row == last.row + 1);
            if !follows || !(asked.may_begin)(index + batch.len()) {
                break;
            }
            batch.push(prompt);
        }
        batch
    }

    fn answer(&mut self, prompts: &[Prompt]) -> Result<Vec<Reply>, TrainError> {
        let first = prompts.first().map_or(0, |prompt| prompt.row);
        let prompts: Vec<ModelPrompt> = prompts.iter().map(|prompt| model_prompt(&prompt.content)).collect();
        let generated = self.generator.generate(&prompts, first, &self.config, &mut |_, _| ())?;
        prompts
            .iter()
            .zip(generated)
            .map(|(prompt, generated)| Ok(reply(generated, self.generator.prompt_tokens(prompt)?)))
            .collect()
    }
}

impl Teacher for LocalTeacher {
    fn identity(&self) -> Value {
        json!({"model": self.name, "files": self.files, "generation": self.config})
    }

    fn ask(&mut self, asked: &Asked<'_>, heard: &mut dyn FnMut(Heard)) -> Result<(), TeacherError> {
        let (mut index, mut failures) = (0, 0);
        while index < asked.len {
            let batch = self.batch(asked, index);
            if batch.is_empty() {
                return Ok(());
            }
            match self.answer(&batch) {
                Ok(replies) => {
                    failures = 0;
                    for (offset, reply) in replies.into_iter().enumerate() {
                        heard(Heard::Reply { index: index + offset, reply });
                    }
                }
                // One prompt may be too long for the model: the others are not to suffer for it.
                Err(_) => {
                    for (offset, prompt) in batch.iter().enumerate() {
                        let index = index + offset;
                        match self.answer(std::slice::from_ref(prompt)).map(|mut replies| replies.pop()) {
                            Ok(Some(reply)) => {
                                failures = 0;
                                heard(Heard::Reply { index, reply });
                            }
                            Ok(None) => heard(Heard::GivenUp { index }),
                            Err(error) => {
                                failures += 1;
                                heard(Heard::Failed { index, reason: error.to_string() });
                                if failures >= MOST_FAILURES_IN_A_ROW {
                                    let message =
                                        format!("{failures} rows failed one after the other: {error}");
                                    return Err(TeacherError::new(message, error.help()));
                                }
                            }
                        }
                    }
                }
            }
            index += batch.len();
        }
        Ok(())
    }
}

fn model_prompt(content: &Content) -> ModelPrompt {
    match content {
        Content::Chat(messages) => ModelPrompt::Chat(messages.clone()),
        Content::Plain(text) => ModelPrompt::Text(text.clone()),
    }
}

fn reply(generated: Generated, prompt_tokens: usize) -> Reply {
    let usage = Usage { input_tokens: prompt_tokens as u64, output_tokens: generated.token_ids.len() as u64 };
    let finish_reason = match generated.finish_reason {
        FinishReason::Eos | FinishReason::StopString => "stop",
        FinishReason::Length => "length",
    };
    Reply { text: generated.text, finish_reason: Some(finish_reason.to_owned()), usage }
}

/// SHA-256 of the files that a model's texts depend on.
fn digests(folder: &Path) -> Result<Vec<(String, Value)>, Failure> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(|error| Failure::io("read", folder.display(), error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".safetensors") || FILES.contains(&name.as_str()))
        .collect();
    names.sort();
    let digest = |name: String| {
        let sha256 = FileHash::of(&folder.join(&name), 0)?.sha256;
        Ok((name, sha256.into()))
    };
    names.into_iter().map(digest).collect()
}
