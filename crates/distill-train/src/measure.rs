//! What the head of a model in a run says of held-out rows, as its task measures it.

use crate::answers::{Answer, answer, score, write_answers};
use crate::error::TrainError;
use crate::evaluate::{Batching, guess_tokens, predict_unless};
use crate::examples::{ExampleKind, Examples};
use crate::explain::{Explained, Explaining, write_explained};
use crate::predictions::write_predictions;
use crate::prepare::Prepared;
use crate::report::{AnswerReport, Report};
use crate::rows::Rows;
use crate::tasks::{Generate, RationaleTask, Seq2SeqTask, Task};
use crate::writing::{Writing, prompts_together};
use distill_data::tokenizer::Tokenizer;
use distill_data::{Layout, seeded_subset};
use distill_eval::answers::Compare;
use distill_eval::{ClassificationReport, ExplainedAnswer, Predictions, RationaleReport};
use distill_models::{Model, ModelConfig};
use distill_recipe::{RationaleTable, Recipe};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What rows are measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Validation,
    Test,
}

/// Rows that are measured.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    pub(crate) examples: &'a Examples,
    pub(crate) rows: &'a Rows,
    pub(crate) use_: Use,
}

/// What a model says row by row.
pub(crate) enum Written {
    Nothing,
    Labels(Predictions),
    Answers(Vec<Answer>),
    /// With how they are held against labels.
    Explained(Vec<Explained>, Compare),
}

impl Written {
    /// Writes a line for each row to `path`; whether there was something to write.
    ///
    /// # Errors
    /// [`TrainError::Io`], or [`TrainError::Data`] if a file can no longer be read.
    pub(crate) fn write(&self, path: &Path, rows: &Rows, labels: &[String]) -> Result<bool, TrainError> {
        match self {
            Self::Nothing => return Ok(false),
            Self::Labels(predictions) => write_predictions(path, rows, predictions, labels)?,
            Self::Answers(answers) => write_answers(path, answers)?,
            Self::Explained(answers, compare) => write_explained(path, answers, *compare)?,
        }
        Ok(true)
    }
}

/// What measuring takes besides the model, which is in training meanwhile.
pub(crate) struct Head {
    labels: Vec<String>,
    /// Prompts are answered so.
    answers: Option<Seq2SeqTask>,
    /// Questions are answered and explained so.
    explains: Option<(RationaleTask, RationaleTable)>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    seed: u64,
    /// Prompts that are continued at a time.
    prompts_together: usize,
}

impl Head {
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let Prepared { task, recipe, loaded, tokenizer, .. } = prepared;
        Self::new(task, recipe, &loaded.config, tokenizer, prepared.label_names())
    }

    pub(crate) fn new(
        task: &Task,
        recipe: &Recipe,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        labels: &[String],
    ) -> Self {
        let answers = match task {
            Task::Seq2Seq(task) => Some(task.clone()),
            _ => None,
        };
        let explains = match task {
            Task::Rationale(task) => recipe.rationale.clone().map(|table| (task.clone(), table)),
            _ => None,
        };
        Self {
            labels: labels.to_vec(),
            answers,
            explains,
            config: config.clone(),
            tokenizer: tokenizer.clone(),
            seed: recipe.seed,
            prompts_together: prompts_together(&recipe.train),
        }
    }

    /// The same with another number of prompts at a time.
    pub(crate) fn with_prompts_together(self, prompts_together: usize) -> Self {
        Self { prompts_together, ..self }
    }

    /// Measures `model`; `progress` hears how many rows are done.
    ///
    /// # Errors
    /// [`TrainError::Interrupted`], a cache that cannot be read, numbers that are none.
    pub(crate) fn measure(
        &self,
        interrupt: &AtomicBool,
        model: &dyn Model,
        on: Measured<'_>,
        batching: Batching,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Report, Written), TrainError> {
        let plain = model.eval_copy();
        if matches!(on.examples.kind, ExampleKind::Labels) {
            let found = predict_unless(interrupt, plain.as_ref(), &on.examples.rows, batching, progress)?;
            let report = ClassificationReport::from_predictions(&found, &self.labels)?;
            return Ok((Report::Classification(Box::new(report)), Written::Labels(found)));
        }
        if let Some((task, table)) = &self.explains {
            return self.explain(task, table, interrupt, plain.as_ref(), on, batching, progress);
        }
        let Some(task) = self.answers.as_ref().filter(|task| task.generate.asks(on.use_)) else {
            let tokens = guess_tokens(interrupt, plain.as_ref(), on.examples, batching, progress)?;
            let tokens = tokens.of_bytes(on.rows.learnt_bytes());
            return Ok((Report::LanguageModel(tokens), Written::Nothing));
        };
        let tokens = guess_tokens(interrupt, plain.as_ref(), on.examples, batching, &mut |_| {})?;
        let writing = self.writing(batching, task.max_new_tokens, task.num_beams);
        let all = on.examples.rows.len();
        let positions = match (on.use_, task.validation_rows) {
            (Use::Validation, Some(most)) => seeded_subset(all, most, self.seed),
            _ => (0..all).collect(),
        };
        let rows = &on.examples.rows;
        let answers = answer(&writing, plain.as_ref(), on.rows, rows, &positions, interrupt, progress)?;
        let texts = score(&answers)?;
        Ok((Report::Generation(Box::new(AnswerReport { texts, tokens })), Written::Answers(answers)))
    }

    fn writing(&self, batching: Batching, max_new_tokens: usize, num_beams: usize) -> Writing<'_> {
        Writing {
            config: &self.config,
            tokenizer: &self.tokenizer,
            precision: batching.precision,
            batch_size: self.prompts_together,
            max_new_tokens,
            num_beams,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "those of `measure`, and the two tables of the task")]
    fn explain(
        &self,
        task: &RationaleTask,
        table: &RationaleTable,
        interrupt: &AtomicBool,
        model: &dyn Model,
        on: Measured<'_>,
        batching: Batching,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Report, Written), TrainError> {
        let tokens = guess_tokens(interrupt, model, on.examples, batching, &mut |_| {})?;
        let tokens = tokens.of_bytes(on.rows.learnt_bytes());
        let writes = task.generate.asks(on.use_);
        if !writes && table.choices.is_none() {
            return Ok((Report::LanguageModel(tokens), Written::Nothing));
        }
        let layout = on.rows.source.language.as_ref().map_or(Layout::Decoder, |language| language.layout);
        let explaining = Explaining {
            writing: self.writing(batching, task.max_new_tokens, task.num_beams),
            max_length: batching.max_length,
            layout,
            table,
            write: writes,
            rationales: if on.use_ == Use::Test { task.rationale_rows } else { 0 },
        };
        let all = on.rows.len();
        let positions = match (on.use_, task.validation_rows) {
            (Use::Validation, Some(most)) => seeded_subset(all, most, self.seed),
            _ => (0..all).collect(),
        };
        let answers = explaining.answer(model, on.rows, &positions, interrupt, progress)?;
        let compare = task.compare(table.choices.is_some());
        let plain: Vec<ExplainedAnswer> = answers.iter().map(|one| one.answer.clone()).collect();
        let report = RationaleReport::new(&plain, compare, tokens)?;
        Ok((Report::Rationale(Box::new(report)), Written::Explained(answers, compare)))
    }
}

impl Generate {
    /// Whether prompts of these rows are answered.
    fn asks(self, use_: Use) -> bool {
        match self {
            Self::Always => true,
            Self::Test => use_ == Use::Test,
            Self::Never => false,
        }
    }
}
