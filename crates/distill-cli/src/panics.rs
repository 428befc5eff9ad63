//! What a user sees of a bug: where it is, not a backtrace.

use std::panic::{self, UnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

/// Message and place of the latest panic, in whichever thread it was.
static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// Runs `command`; a panic that escapes it is told as a bug of this program and exits with 1.
///
/// The hook only remembers: a library that catches its own panic (to turn a missing driver into an error) stays quiet.
pub fn guard(command: impl FnOnce() -> ExitCode + UnwindSafe) -> ExitCode {
    panic::set_hook(Box::new(|information| {
        let message = information.payload_as_str().unwrap_or("no message");
        let place = information.location().map_or("an unknown place".to_owned(), ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let mut text = format!("{message}\n  --> {place}");
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        if let Ok(mut latest) = LATEST.lock() {
            *latest = Some(text);
        }
    }));
    panic::catch_unwind(command).unwrap_or_else(|_| {
        let latest = LATEST.lock().ok().and_then(|mut latest| latest.take());
        let version = env!("CARGO_PKG_VERSION");
        eprintln!(
            "error: internal error: {}\nhelp: this is a bug of distill {version}; please report it with the command, the \
             recipe and these lines; `RUST_BACKTRACE=1` adds a backtrace",
            latest.unwrap_or_else(|| "no message".to_owned())
        );
        ExitCode::FAILURE
    })
}
