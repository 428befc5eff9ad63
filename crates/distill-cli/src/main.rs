//! The `distill` binary: the only place that prints.

mod commands;
mod devices;
mod failure;
mod faults;
mod files;
mod interrupt;
mod json_rows;
mod log;
mod model_text;
mod output;
mod panics;
mod plan_text;
mod plot;
mod report;
mod run_history;
mod shell;
mod shipped_recipes;
mod sink;
mod summary;
mod terminal;
mod threads;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    distill_ops::keep_large_temporaries();
    panics::guard(|| {
        let cli = commands::Cli::parse();
        let voice = cli.voice();
        log::start(&voice);
        let result = cli.execute(voice.clone());
        voice.close();
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                voice.failure(&failure);
                failure.code().map_or(ExitCode::SUCCESS, |code| ExitCode::from(code as u8))
            }
        }
    })
}
