//! What libraries log, for those who look for a bug: `DISTILL_LOG=debug distill run ...`.

use crate::terminal::{Manner, Voice};
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

/// Sends what libraries log to stderr, by default their warnings.
pub fn start(voice: &Voice) {
    let filter = EnvFilter::try_from_env("DISTILL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let writer = voice.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(voice.paint().has_colours())
        .with_writer(move || Line { voice: writer.clone(), text: Vec::new() });
    // A second subscriber is the only possible failure, and this is called once.
    let _ = match voice.manner() {
        Manner::Json => subscriber.json().try_init(),
        Manner::Bars | Manner::Lines => subscriber.without_time().try_init(),
    };
}

/// One line, spoken when it is complete.
struct Line {
    voice: Voice,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.voice.line(String::from_utf8_lossy(&self.text).trim_end());
        }
    }
}
