//! `distill run`: from a recipe to a model.

use super::Context;
use super::recipe_arguments::RecipeArguments;
use crate::failure::Failure;
use crate::terminal::{Manner, Paint, width};
use crate::{interrupt, output, plan_text, summary, threads};
use clap::Args;
use distill_train::{RunOptions, RunOutcome, RunSummary, Start};

/// Train the model that a recipe describes, measure it and save it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    #[command(flatten)]
    recipe: RecipeArguments,
    /// Go on with the run that is in the output folder
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the run that is in the output folder
    #[arg(long)]
    overwrite: bool,
    /// Resolve everything and show the plan, but train and write nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  distill run quickstart.toml
  distill run ag_news.toml --set train.epochs=1 --set output_dir=checkpoints/short
  distill run ag_news.toml --resume          # after Ctrl-C, a crash or a power cut
  distill run ag_news.toml --dry-run         # what would be done";

impl Run {
    /// Runs the recipe.
    pub fn execute(&self, context: &Context) -> Result<(), Failure> {
        let stages = self.recipe.read()?;
        threads::set(context.threads, stages.first().and_then(|stage| stage.recipe.train.threads))?;
        if self.dry_run {
            return plan_text::show(&stages, context);
        }
        let interrupt = interrupt::watch(context.voice.clone(), interrupt::TRAINING)?;
        let options = RunOptions { start: self.start(), interrupt, replaced: Vec::new() };
        let mut observer = context.voice.observer();
        let outcome = distill_train::run_stages(&stages, &options, observer.as_mut());
        drop(observer);
        match outcome? {
            RunOutcome::Finished(finished) => finish(&finished, context),
            RunOutcome::AlreadyFinished { output_dir } => {
                let folder = output_dir.display();
                context
                    .voice
                    .note(&format!("the run in `{folder}` is already finished; nothing is left to do"));
                Ok(())
            }
            RunOutcome::Interrupted { step, checkpoint } => {
                let saved = match checkpoint {
                    Some(path) => format!("stopped after step {step}; saved `{}`", path.display()),
                    None => format!("stopped after step {step}; nothing was saved yet"),
                };
                let command = format!("`distill run {} --resume`", self.recipe.words());
                Err(Failure::interrupted(saved).with_help(format!("{command} goes on from there")))
            }
        }
    }

    fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (false, true) => Start::Overwrite,
            (false, false) => Start::Fresh,
        }
    }
}

fn finish(finished: &RunSummary, context: &Context) -> Result<(), Failure> {
    if context.voice.is_quiet() {
        return Ok(());
    }
    if context.voice.manner() == Manner::Json {
        context.voice.line(&summary::to_json(finished).to_string());
        return Ok(());
    }
    Ok(output::print(&summary::render(finished, Paint::stdout(), width()))?)
}
