//! Writing to stdout, which carries data and may be a pipe that closes early.

use serde::Serialize;
use std::io::{self, Write};

/// Writes a text to stdout.
///
/// # Errors
/// Whatever the stream says, [`io::ErrorKind::BrokenPipe`] among it: a reader such as `head` that has seen enough.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a value as indented JSON and a line end to stdout.
///
/// # Errors
/// As [`print`].
pub fn print_json<T: Serialize>(value: &T) -> io::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}
