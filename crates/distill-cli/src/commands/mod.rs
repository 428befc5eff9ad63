//! The commands: one file each, one line each in [`Command`] and in [`Cli::execute`].

mod bench;
mod compare;
mod data_arguments;
mod datasets;
mod dtype;
mod eval;
mod generate;
mod generation_arguments;
mod inspect;
mod merge;
mod model_arguments;
mod plan;
mod predict;
mod rationales;
mod recipe_arguments;
mod recipes;
mod run;
mod run_record;
mod schema;
mod text_columns;
mod validate;

use crate::failure::Failure;
use crate::terminal::{Manner, Voice};
use clap::{Args, Parser, Subcommand, ValueEnum};
use distill_ops::{ISA_VARIABLE, check_isa_variable};
use std::num::NonZeroUsize;

/// Fine-tunes small transformers: one recipe file in, one Hugging Face checkpoint out.
#[derive(Debug, Parser)]
#[command(name = "distill", version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  distill recipes copy quickstart            # a recipe and its data, into this folder
  distill run quickstart.toml                # train, measure, save
  distill predict checkpoints/quickstart --text \"where is my parcel?\"

Exit codes: 0 done, 1 something went wrong, 2 the arguments, the recipe or the data are not usable, 130 interrupted.";

#[derive(Debug, Args)]
struct Globals {
    /// Tell warnings and errors only
    #[arg(long, short, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Progress on stderr as text or as one JSON object a line
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text, help_heading = "Global options")]
    log_format: LogFormat,
    /// Worker threads [default: the recipe's `train.threads`, else one for each core]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    threads: Option<NonZeroUsize>,
}

/// How progress is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Validate(validate::Validate),
    Plan(plan::Plan),
    Schema(schema::Schema),
    Recipes(recipes::Recipes),
    Datasets(datasets::Datasets),
    Eval(eval::Eval),
    Predict(predict::Predict),
    Generate(Box<generate::Generate>),
    Rationales(Box<rationales::Rationales>),
    Merge(merge::Merge),
    Compare(compare::Compare),
    Inspect(inspect::Inspect),
    Bench(bench::Bench),
}

/// What every command may use.
#[derive(Debug)]
pub struct Context {
    /// Speaks on stderr.
    pub voice: Voice,
    /// `--threads`.
    pub threads: Option<NonZeroUsize>,
}

impl Cli {
    /// How the command is to speak on stderr.
    pub fn voice(&self) -> Voice {
        let manner = match self.globals.log_format {
            LogFormat::Json => Manner::Json,
            LogFormat::Text => Manner::of_stderr(),
        };
        Voice::new(manner, self.globals.quiet)
    }

    /// Does what the command says.
    ///
    /// # Errors
    /// Why it could not.
    pub fn execute(self, voice: Voice) -> Result<(), Failure> {
        check_isa_variable().map_err(|error| {
            Failure::input(format!("environment variable `{ISA_VARIABLE}`: {error}"))
                .with_help(format!("unset `{ISA_VARIABLE}` to take the best of this processor"))
        })?;
        let context = Context { voice, threads: self.globals.threads };
        match self.command {
            Command::Run(command) => command.execute(&context),
            Command::Validate(command) => command.execute(&context),
            Command::Plan(command) => command.execute(&context),
            Command::Schema(command) => command.execute(),
            Command::Recipes(command) => command.execute(&context),
            Command::Datasets(command) => command.execute(&context),
            Command::Eval(command) => command.execute(&context),
            Command::Predict(command) => command.execute(&context),
            Command::Generate(command) => command.execute(&context),
            Command::Rationales(command) => command.execute(&context),
            Command::Merge(command) => command.execute(&context),
            Command::Compare(command) => command.execute(&context),
            Command::Inspect(command) => command.execute(&context),
            Command::Bench(command) => command.execute(&context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_ends_its_help_with_examples() {
        let mut commands: Vec<_> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  distill "), "{}: {help}", command.get_name());
            commands.extend(
                command
                    .get_subcommands()
                    .filter(|sub| sub.get_name() != "copy" && sub.get_name() != "write")
                    .cloned(),
            );
        }
    }
}
