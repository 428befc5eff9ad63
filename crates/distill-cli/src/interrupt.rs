//! Ctrl-C: first a request, then a command.

use crate::failure::{Code, Failure};
use crate::terminal::Voice;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is said to a user who asks to stop.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// At the first Ctrl-C: what is finished.
    pub first: &'static str,
    /// At the second: what is lost.
    pub second: &'static str,
}

/// Of a run that trains.
pub const TRAINING: Words = Words {
    first: "finishing this step, then saving; press Ctrl-C again to stop at once",
    second: "stopped at once; what came after the last checkpoint is lost",
};

/// A flag that the first Ctrl-C (or SIGTERM) sets; the second ends the process with exit code 130.
///
/// # Errors
/// The system refuses the handler.
pub fn watch(voice: Voice, words: Words) -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    handle(move || {
        if raised.swap(true, Ordering::SeqCst) {
            voice.freeze();
            voice.warning(words.second);
            std::process::exit(Code::Interrupted as i32);
        }
        voice.freeze();
        voice.note(words.first);
    })?;
    Ok(flag)
}

/// Removes a half-written file on Ctrl-C, then ends the process with exit code 130.
///
/// # Errors
/// The system refuses the handler.
pub fn remove(partial: PathBuf) -> Result<(), Failure> {
    handle(move || {
        // It may be gone or have its name by now: either is fine.
        let _ = std::fs::remove_file(&partial);
        std::process::exit(Code::Interrupted as i32);
    })
}

fn handle(handler: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(handler).map_err(|error| Failure::other(format!("cannot listen for Ctrl-C: {error}")))
}
