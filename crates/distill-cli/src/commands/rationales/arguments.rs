//! What `distill rationales` is told.

use super::local_teacher::LocalTeacher;
use crate::commands::dtype::Dtype;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use distill_data::Template;
use distill_eval::answers::Compare;
use distill_rationales::{
    Address, ApiKey, Columns, Endpoint, EndpointConfig, Form, Limits, OutputColumns, Prices, RationaleError,
    RetryPolicy, SystemClock, TeacherError,
};
use distill_train::Observer;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Who is asked.
#[derive(Debug, Args)]
pub struct TeacherArguments {
    /// The base address of an OpenAI-compatible endpoint, or a model: a folder or a hub id
    #[arg(long, value_name = "MODEL|URL")]
    pub teacher: String,
    /// Name of the model at the endpoint
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    model: Option<String>,
    /// Environment variable with the key [default: OPENAI_API_KEY, where it is set and nobody on the way can read it]
    #[arg(long, value_name = "NAME", help_heading = "Endpoint")]
    api_key_env: Option<String>,
    /// Requests that are under way at once
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Endpoint")]
    concurrency: usize,
    /// Most requests a minute, tries included [default: no limit]
    #[arg(long, value_name = "X", help_heading = "Endpoint")]
    requests_per_minute: Option<f64>,
    /// Longest time that an answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, help_heading = "Endpoint")]
    timeout: f64,
    /// How often a request is tried again, after growing waits
    #[arg(long, value_name = "N", default_value_t = 6, help_heading = "Endpoint")]
    max_retries: u32,
    /// Price of a million tokens of prompts, in any currency
    #[arg(long, value_name = "X", requires = "price_output", help_heading = "Endpoint")]
    price_input: Option<f64>,
    /// Price of a million tokens of replies
    #[arg(long, value_name = "X", requires = "price_input", help_heading = "Endpoint")]
    price_output: Option<f64>,
    /// Stop before all replies together, earlier ones included, could cost more than this
    #[arg(long, value_name = "X", help_heading = "Endpoint")]
    limit_cost: Option<f64>,
    /// Most tokens of a reply
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: u32,
    /// Sampling temperature; 0 takes the most probable tokens, `default` leaves it to the model
    #[arg(long, value_name = "X|default", default_value = "0", value_parser = temperature)]
    temperature: Temperature,
    /// Rows that a local model answers together
    #[arg(long, value_name = "N", default_value = "8", help_heading = "Local model")]
    batch_size: NonZeroUsize,
    /// Where to compute: auto, flex, ndarray, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Local model")]
    device: String,
    /// What matrix products multiply in
    #[arg(long, value_enum, value_name = "DTYPE", default_value_t = Dtype::Auto, help_heading = "Local model")]
    dtype: Dtype,
}

/// `--temperature`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Temperature {
    OfModel,
    Given(f64),
}

fn temperature(text: &str) -> Result<Temperature, String> {
    match (text, text.parse()) {
        ("default", _) => Ok(Temperature::OfModel),
        (_, Ok(value)) if (0.0..=2.0).contains(&value) => Ok(Temperature::Given(value)),
        _ => Err("expected a number between 0 and 2, or `default`".to_owned()),
    }
}

impl TeacherArguments {
    /// Prices and the limit of the cost.
    ///
    /// # Errors
    /// Prices or a limit that cannot be.
    pub fn limits(&self) -> Result<Limits, RationaleError> {
        let prices = match (self.price_input, self.price_output) {
            (Some(input), Some(output)) => Some(Prices::new(input, output)?),
            _ => None,
        };
        let limits = Limits { prices, limit_cost: self.limit_cost, max_tokens: self.max_tokens };
        limits.check()?;
        Ok(limits)
    }

    /// The endpoint at the address that `--teacher` is; `seed` draws the waits between tries.
    ///
    /// # Errors
    /// An address, a key or a setting that cannot be used.
    pub fn endpoint(&self, seed: u64) -> Result<Endpoint, Failure> {
        let unusable = |error: TeacherError| {
            let help = error.help();
            let failure = Failure::input(error.to_string());
            help.map_or_else(|| Failure::input(error.to_string()), |help| failure.with_help(help))
        };
        let address = Address::parse(&self.teacher).map_err(unusable)?;
        let environment = |name: &str| std::env::var(name).ok();
        let api_key =
            ApiKey::from_environment(self.api_key_env.as_deref(), &address, environment).map_err(unusable)?;
        let timeout = Duration::try_from_secs_f64(self.timeout).map_err(|_| {
            Failure::input(format!(
                "`--timeout` must be a number of seconds above 0, found `{}`",
                self.timeout
            ))
        })?;
        let config = EndpointConfig {
            address,
            model: self.model.clone().unwrap_or_default(),
            temperature: match self.temperature {
                Temperature::OfModel => None,
                Temperature::Given(temperature) => Some(temperature),
            },
            max_tokens: self.max_tokens,
            timeout,
            concurrency: self.concurrency,
            requests_per_minute: self.requests_per_minute,
            retry: RetryPolicy { max_retries: self.max_retries, seed, ..RetryPolicy::default() },
            api_key,
        };
        Ok(Endpoint::new(config, Arc::new(SystemClock::default()))?)
    }

    /// The model that `--teacher` is.
    ///
    /// # Errors
    /// A model, a device or a setting that cannot be used.
    pub fn local(
        &self,
        form: Option<Form>,
        seed: u64,
        observer: &mut dyn Observer,
    ) -> Result<LocalTeacher, Failure> {
        if let Some(model) = &self.model {
            return Err(Failure::input(format!(
                "`--model {model}` is for endpoints, `{}` is none",
                self.teacher
            ))
            .with_help(
                "a model on this machine is named by `--teacher` alone; addresses begin with `http`",
            ));
        }
        let teacher = LocalTeacher::load(&self.teacher, &self.device, self.dtype.into(), form, observer)?;
        let temperature = match self.temperature {
            Temperature::OfModel => None,
            Temperature::Given(temperature) => Some(temperature),
        };
        teacher.set(self.max_tokens as usize, temperature, seed, self.batch_size.get())
    }
}

/// What comes of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArguments {
    /// File of JSON lines to write; it appears when all rows have a reply
    #[arg(long = "output", value_name = "FILE")]
    pub path: PathBuf,
    /// Name of the column of the rationales
    #[arg(long, value_name = "COLUMN", default_value = "rationale")]
    rationale_column: String,
    /// Name of the column of the teacher's answers
    #[arg(long, value_name = "COLUMN", default_value = "teacher_answer")]
    answer_column: String,
    /// Which rows to keep where there are gold answers
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Keep::All)]
    pub keep: Keep,
    /// Ask about the first so many rows only
    #[arg(long, value_name = "N")]
    max_rows: Option<NonZeroUsize>,
    /// Write the output even if rows have no reply; they go to `*.unparsed.jsonl`
    #[arg(long)]
    pub skip_missing: bool,
    /// Show rows, tokens, cost and the first prompt, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Throw away the replies that are kept, and replace the output
    #[arg(long)]
    pub restart: bool,
}

/// Which rows the output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// All whose reply could be read
    All,
    /// Those that the teacher answers as the gold answer does; the others go to `*.wrong.jsonl`
    Correct,
}

impl OutputArguments {
    /// `--max-rows`.
    pub fn max_rows(&self) -> Option<usize> {
        self.max_rows.map(NonZeroUsize::get)
    }

    /// The columns that are added.
    pub fn columns(&self) -> OutputColumns {
        OutputColumns { rationale: self.rationale_column.clone(), answer: self.answer_column.clone() }
    }
}

/// What is asked, and how replies are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArguments {
    /// Column of the question [default: question]
    #[arg(long, value_name = "COLUMN", conflicts_with = "prompt_template")]
    question: Option<String>,
    /// Column of the choices, a list [default: choices, if there is one]
    #[arg(long, value_name = "COLUMN")]
    choices: Option<String>,
    /// Column of the gold answer [default: answer, if there is one]
    #[arg(long, value_name = "COLUMN")]
    answer: Option<String>,
    /// The question as it is put, with places for columns, as `{question}`; or `@FILE` [default: the question, then its choices]
    #[arg(long, value_name = "TEXT")]
    prompt_template: Option<String>,
    /// What the teacher is told first, or `@FILE` [default: to explain step by step, and to end with the answer]
    #[arg(long, value_name = "TEXT")]
    instructions: Option<String>,
    /// File of examples: the columns of a row, its answer and a rationale
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,
    /// So many examples, from --examples or else drawn from rows with an answer and a rationale, which are then not asked about
    #[arg(long, value_name = "N")]
    pub shots: Option<usize>,
    /// Column of the rationales of examples
    #[arg(long, value_name = "COLUMN", default_value = "rationale")]
    pub example_rationale: String,
    /// Chat messages or one plain text [default: chat, unless a local model has no chat template]
    #[arg(long, value_enum, value_name = "FORM")]
    pub form: Option<FormArgument>,
    /// Show the gold answer: the teacher explains it instead of finding its own
    #[arg(long)]
    pub show_gold: bool,
    /// What comes before the answer in a reply
    #[arg(long, value_name = "TEXT", default_value = "Answer:")]
    answer_marker: String,
    /// How answers are compared [default: choice if rows have choices, expression if gold answers are numbers or sums, else text]
    #[arg(long, value_enum, value_name = "KIND")]
    pub compare: Option<CompareArgument>,
    /// Where draws begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// `--form`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormArgument {
    /// Instructions, questions and answers as messages
    Chat,
    /// One text to continue, for models that know no chats
    Plain,
}

impl From<FormArgument> for Form {
    fn from(form: FormArgument) -> Self {
        match form {
            FormArgument::Chat => Self::Chat,
            FormArgument::Plain => Self::Plain,
        }
    }
}

/// `--compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompareArgument {
    /// By their words
    Text,
    /// Numbers and sums by their value
    Expression,
    /// By the choice that is meant
    Choice,
}

impl From<CompareArgument> for Compare {
    fn from(compare: CompareArgument) -> Self {
        match compare {
            CompareArgument::Text => Self::Text,
            CompareArgument::Expression => Self::Expression,
            CompareArgument::Choice => Self::Choice,
        }
    }
}

impl PromptArguments {
    /// What the columns mean.
    ///
    /// # Errors
    /// A template that is none, or a file that cannot be read.
    pub fn columns(&self) -> Result<Columns, Failure> {
        let template = match &self.prompt_template {
            Some(text) => Some(Template::parse(&text_or_file(text)?)?),
            None => None,
        };
        Ok(Columns {
            template,
            question: self.question.clone(),
            choices: self.choices.clone(),
            answer: self.answer.clone(),
        })
    }

    /// `--instructions`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn instructions(&self) -> Result<Option<String>, Failure> {
        self.instructions.as_deref().map(text_or_file).transpose()
    }

    /// `--answer-marker`.
    ///
    /// # Errors
    /// Nothing but white space.
    pub fn marker(&self) -> Result<String, Failure> {
        match self.answer_marker.trim() {
            "" => Err(Failure::input("`--answer-marker` is empty")
                .with_help("give what comes before the answer, such as `Answer:`")),
            marker => Ok(marker.to_owned()),
        }
    }
}

/// A text, or with `@` before it that of a file without white space at its end; `\n` in a text is a line break.
fn text_or_file(text: &str) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| Failure::io("read", path, error)),
        None => Ok(text.replace("\\n", "\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_numbers_or_the_models() {
        assert_eq!(temperature("default"), Ok(Temperature::OfModel));
        assert_eq!(temperature("0.7"), Ok(Temperature::Given(0.7)));
        for text in ["", "-1", "2.5", "NaN", "hot"] {
            assert!(temperature(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_may_be_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        std::fs::write(&path, "Think.\nThen say \\n.\n\n").unwrap();
        assert_eq!(text_or_file(&format!("@{}", path.display())).unwrap(), "Think.\nThen say \\n.");
        assert_eq!(text_or_file("a\\nb").unwrap(), "a\nb");
        assert!(text_or_file("@/no/such/file").is_err());
    }
}
