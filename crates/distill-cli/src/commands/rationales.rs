//! `distill rationales`: a large model explains its answers, for a small one to learn from.

mod arguments;
mod local_teacher;
mod report;

use super::Context;
use crate::failure::Failure;
use crate::interrupt::{self, Words};
use crate::terminal::Paint;
use crate::{output, threads};
use arguments::{OutputArguments, PromptArguments, TeacherArguments};
use clap::{Args, ValueEnum};
use distill_data::{DataSpec, Format as DataFormat};
use distill_eval::answers::Compare;
use distill_rationales::journal::partial_path;
use distill_rationales::prompt::GoldInPrompt;
use distill_rationales::{
    Address, Ended, Event, Form, Journal, Keep, Limits, PromptSettings, Prompter, RationaleError,
    ReplyReader, Rows, Session, Start, Stopped, Summary, Teacher, drawn_examples, read_examples,
    usual_comparison, write_output,
};
use distill_train::{Event as Progress, Observer};

/// Ask a large model for rationales and answers, to train a small one on them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Rationales {
    #[command(flatten)]
    teacher: TeacherArguments,
    /// Rows with questions: a file, a glob or `hf://datasets/org/name/split`; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<String>,
    /// csv, tsv, jsonl, parquet or text [default: by the extension]
    #[arg(long, value_name = "FORMAT")]
    data_format: Option<String>,
    /// The files have no header: columns are numbers from 0
    #[arg(long)]
    no_header: bool,
    /// How the summary is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    prompt: PromptArguments,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  distill rationales --teacher https://api.openai.com/v1 --model gpt-4o-mini --data train.jsonl --output rationales.jsonl \\
      --examples shots.jsonl --price-input 0.15 --price-output 0.6 --limit-cost 5 --dry-run
  distill rationales --teacher http://localhost:8000 --model big --data train.jsonl --output rationales.jsonl \\
      --prompt-template \"{question}\\nChoices: {choices}\" --concurrency 16 --keep correct
  distill rationales --teacher HuggingFaceTB/SmolLM2-135M-Instruct --data train.jsonl --output rationales.jsonl --max-rows 50

Output is JSON lines: the columns of each row, `rationale` and `teacher_answer`. What could not be read is in
`*.unparsed.jsonl` beside it, and with `--keep correct` what the teacher got wrong in `*.wrong.jsonl`. Until all rows have a
reply, replies are in `*.partial`: after Ctrl-C, a kill or a fault the same command goes on and asks no row twice.";

const INTERRUPTED: Words = Words {
    first: "waiting for the replies that are under way; press Ctrl-C again to stop at once",
    second: "stopped at once; replies that were under way are lost, those before are kept",
};

/// The rows, how they are compared, and the examples that are shown.
struct Material {
    rows: Rows,
    compare: Compare,
    examples: Vec<distill_rationales::Example>,
    /// Numbers of the rows that serve as examples.
    drawn: Vec<usize>,
}

impl Rationales {
    /// Asks, and writes what comes of it.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        threads::set(context.threads, None)?;
        let limits = self.teacher.limits()?;
        let mut observer = context.voice.observer();
        observer.event(&Progress::Stage { message: format!("reading {}", self.data.join(", ")) });
        let material = self.material()?;
        let (mut teacher, form) = self.teacher(observer.as_mut())?;
        drop(observer);
        let settings = PromptSettings {
            form,
            instructions: self.prompt.instructions()?,
            marker: self.prompt.marker()?,
            gold: if self.prompt.show_gold { GoldInPrompt::Shown } else { GoldInPrompt::Hidden },
        };
        let prompter = Prompter::new(settings, material.examples, material.compare);
        let session = Session::new(&material.rows, &prompter, &material.drawn, self.output.max_rows())?;
        if self.output.dry_run {
            return self.show_plan(&session, &prompter, teacher.as_ref(), &limits);
        }
        let start = if self.output.restart { Start::Anew } else { Start::Resume };
        let mut journal = Journal::open(&self.output.path, &teacher.identity(), &prompter.digest(), start)?;
        session.check(&journal)?;
        if journal.was_cut() {
            context.voice.note("the last reply was cut off by a kill: its row is asked again");
        }
        let estimate = session.estimate(Some(&journal), limits.max_tokens);
        context.voice.note(&report::before(&estimate, &limits, material.drawn.len()));
        let ended = self.ask(&session, teacher.as_mut(), &mut journal, &limits, context)?;
        self.check_end(&ended, &session, &journal)?;
        let reader = ReplyReader::new(prompter.marker(), material.compare);
        let keep = if self.output.keep == arguments::Keep::Correct { Keep::Correct } else { Keep::All };
        let columns = self.output.columns();
        let summary = write_output(&self.output.path, &session, &journal, &reader, &columns, keep)?;
        journal.remove()?;
        self.print(&summary, &limits)
    }

    fn material(&self) -> Result<Material, Failure> {
        let format = self.data_format.as_deref().map(DataFormat::from_name).transpose()?;
        let spec =
            DataSpec { format, header: !self.no_header, ..DataSpec::new(self.data.clone(), Vec::new()) };
        let rows = Rows::read(&spec, &self.prompt.columns()?)?;
        self.output.columns().check(&rows.rows)?;
        let needs_gold = |setting| RationaleError::Needs {
            setting,
            needed: "gold answers",
            help: "name their column by `--answer`",
        };
        if self.prompt.show_gold && !rows.have_gold() {
            return Err(needs_gold("`--show-gold`").into());
        }
        if self.output.keep == arguments::Keep::Correct && !rows.have_gold() {
            return Err(needs_gold("`--keep correct`").into());
        }
        let compare = self.prompt.compare.map_or_else(|| usual_comparison(&rows), Compare::from);
        let rationale = self.prompt.example_rationale.as_str();
        let (drawn, examples) = match (&self.prompt.examples, self.prompt.shots) {
            (Some(path), shots) => {
                let mut examples = read_examples(path, &rows, rationale)?;
                let found = examples.len();
                if shots.is_some_and(|shots| shots > found) {
                    return Err(Failure::input(format!(
                        "`{}` has {found} examples, `--shots` asks for {}",
                        path.display(),
                        shots.unwrap_or_default()
                    )));
                }
                examples.truncate(shots.unwrap_or(found));
                (Vec::new(), examples)
            }
            (None, Some(shots)) => drawn_examples(&rows, rationale, shots, self.prompt.seed, compare)?,
            (None, None) => (Vec::new(), Vec::new()),
        };
        Ok(Material { rows, compare, examples, drawn })
    }

    fn teacher(&self, observer: &mut dyn Observer) -> Result<(Box<dyn Teacher>, Form), Failure> {
        let form = self.prompt.form.map(Form::from);
        if Address::is_one(&self.teacher.teacher) {
            let endpoint = self.teacher.endpoint(self.prompt.seed)?;
            return Ok((Box::new(endpoint), form.unwrap_or_default()));
        }
        let local = self.teacher.local(form, self.prompt.seed, observer)?;
        let form = local.form();
        Ok((Box::new(local), form))
    }

    fn ask(
        &self,
        session: &Session<'_>,
        teacher: &mut dyn Teacher,
        journal: &mut Journal,
        limits: &Limits,
        context: &Context,
    ) -> Result<Ended, Failure> {
        let stop = interrupt::watch(context.voice.clone(), INTERRUPTED)?;
        let mut observer = context.voice.observer();
        let total = session.wanted().len() as u64;
        let ended = session.ask(teacher, journal, limits, &stop, &mut |event| {
            let event = match event {
                Event::Kept { done, .. } => {
                    let what = "asking the teacher".to_owned();
                    Progress::Progress { what, done: done as u64, total: Some(total) }
                }
                Event::Retry { row, reason, wait } => {
                    let message = format!("row {} is asked again in {wait:.1} s: {reason}", row + 1);
                    Progress::Note { message }
                }
                Event::Failed { row, reason } => {
                    Progress::Warning { message: format!("row {} has no reply: {reason}", row + 1) }
                }
            };
            observer.event(&event);
        });
        drop(observer);
        Ok(ended?)
    }

    /// Whether the output can be written.
    fn check_end(&self, ended: &Ended, session: &Session<'_>, journal: &Journal) -> Result<(), Failure> {
        if ended.missing == 0 {
            return Ok(());
        }
        let rows = session.wanted().len();
        let have = format!("{} of {rows} rows have a reply", rows - ended.missing);
        let kept = format!("replies are kept in `{}`", journal.path().display());
        let (failure, way_out) = match ended.stopped {
            Some(Stopped::Interrupted) => {
                return Err(
                    Failure::interrupted(have).with_help(format!("{kept}: run the command again to go on"))
                );
            }
            Some(Stopped::CostLimit) => (
                Failure::other(format!("the limit of the cost is reached: {have}")),
                "raise `--limit-cost` to go on",
            ),
            None => (Failure::other(have), "run the command again to ask for the others"),
        };
        if self.output.skip_missing && ended.missing < rows {
            return Ok(());
        }
        Err(failure.with_help(format!(
            "{kept}: {way_out}, or add `--skip-missing` to write the output without them"
        )))
    }

    /// What would be done, without doing it.
    fn show_plan(
        &self,
        session: &Session<'_>,
        prompter: &Prompter,
        teacher: &dyn Teacher,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let begun =
            !self.output.restart && (self.output.path.exists() || partial_path(&self.output.path).exists());
        let journal = match begun {
            true => {
                let open = Journal::open;
                let journal =
                    open(&self.output.path, &teacher.identity(), &prompter.digest(), Start::Resume)?;
                session.check(&journal)?;
                Some(journal)
            }
            false => None,
        };
        let estimate = session.estimate(journal.as_ref(), limits.max_tokens);
        let kept =
            |row: &&usize| journal.as_ref().is_some_and(|journal| journal.replies().contains_key(*row));
        let first = session.wanted().iter().find(|row| !kept(row)).copied().unwrap_or(session.wanted()[0]);
        let prompt = prompter.prompt(first, &session.rows()[first]);
        match self.format {
            Format::Json => {
                output::print_json(&report::plan_json(&estimate, limits, &prompt, &teacher.identity()))?
            }
            Format::Text => output::print(&report::plan(&estimate, limits, &prompt, Paint::stdout()))?,
        }
        Ok(())
    }

    fn print(&self, summary: &Summary, limits: &Limits) -> Result<(), Failure> {
        match self.format {
            Format::Json => output::print_json(&report::summary_json(summary, limits))?,
            Format::Text => {
                output::print(&report::summary(summary, limits, &self.output.path, Paint::stdout()))?
            }
        }
        Ok(())
    }
}
