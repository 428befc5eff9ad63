//! Texts as JSON lines, from a file or from a pipe that may trickle.

use crate::failure::Failure;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a batch waits for more rows of a pipe. Long enough for a writer that is busy, short for one that waits.
const GRACE: Duration = Duration::from_millis(10);
/// Rows read ahead of the model, in batches.
const AHEAD: usize = 8;

/// When a batch is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// When it is full: for files.
    Full,
    /// When it is full or nothing more comes for now: for pipes, whose writer may wait for our answer.
    Ready,
}

/// Rows that another thread reads.
#[derive(Debug)]
pub struct TextRows {
    rows: Receiver<Result<String, Failure>>,
    batch_size: usize,
    gather: Gather,
    failure: Option<Failure>,
}

impl TextRows {
    /// Begins to read `source`, which errors call `name`.
    pub fn read(source: impl Read + Send + 'static, name: String, batch_size: usize, gather: Gather) -> Self {
        let (sender, rows) = sync_channel(batch_size.saturating_mul(AHEAD));
        thread::spawn(move || send_rows(BufReader::new(source), &name, &sender));
        Self { rows, batch_size, gather, failure: None }
    }

    /// The next rows, at most `batch_size`; none at the end.
    ///
    /// # Errors
    /// The first bad line, after all rows before it.
    pub fn next_batch(&mut self) -> Result<Vec<String>, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut batch = Vec::new();
        let Ok(first) = self.rows.recv() else { return Ok(batch) };
        batch.push(first?);
        let end = Instant::now() + GRACE;
        while batch.len() < self.batch_size {
            let next = match self.gather {
                Gather::Full => self.rows.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Gather::Ready => self.rows.recv_timeout(end.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(Ok(text)) => batch.push(text),
                Ok(Err(failure)) => {
                    self.failure = Some(failure);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(batch)
    }
}

fn send_rows(mut source: impl BufRead, name: &str, rows: &SyncSender<Result<String, Failure>>) {
    let mut bytes = Vec::new();
    for number in 1u64.. {
        bytes.clear();
        let row = match source.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => parse(&bytes, number).transpose(),
            Err(error) => Some(Err(Failure::io("read", name, error))),
        };
        let row = match row {
            None => continue,
            Some(row) => row.map_err(|failure| failure.at(&format!("`{name}:{number}`"))),
        };
        let failed = row.is_err();
        // Nobody listens any more once another error ended the command.
        if rows.send(row).is_err() || failed {
            return;
        }
    }
}

/// The text of a line; `None` for a blank one.
fn parse(bytes: &[u8], number: u64) -> Result<Option<String>, Failure> {
    let help = "write one JSON object a line, as `{\"text\": \"...\"}`";
    let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    let line = std::str::from_utf8(bytes).map_err(|error| {
        Failure::input(format!("invalid UTF-8 at byte {} of the line", error.valid_up_to() + 1))
    })?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(line)
        .map_err(|error| Failure::input(format!("not a JSON object: {}", reason(&error))).with_help(help))?;
    let Value::Object(object) = value else {
        return Err(Failure::input(format!("expected a JSON object, found {}", kind(&value))).with_help(help));
    };
    match object.get("text") {
        Some(Value::String(text)) if text.trim().is_empty() => Err(Failure::input("empty text")),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Failure::input(format!("key `text` holds {}, expected a string", kind(other)))),
        None => {
            let keys: Vec<String> = object.keys().map(|key| format!("`{key}`")).collect();
            let keys = if keys.is_empty() {
                "there are none".to_owned()
            } else {
                format!("the keys are {}", keys.join(", "))
            };
            Err(Failure::input(format!("no key `text`; {keys}")).with_help(help))
        }
    }
}

/// What the parser says, without its own line number, which is always 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    format!("{} at column {}", text.strip_suffix(&end).unwrap_or(&text), error.column())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;
    use std::io::{Cursor, pipe};

    fn rows(text: &[u8], batch_size: usize) -> TextRows {
        TextRows::read(Cursor::new(text.to_vec()), "in.jsonl".to_owned(), batch_size, Gather::Full)
    }

    fn message(text: &[u8]) -> String {
        rows(text, 4).next_batch().unwrap_err().render(Paint::PLAIN, 80)
    }

    #[test]
    fn rows_come_in_order_and_in_full_batches() {
        let mut rows =
            rows(b"\xef\xbb\xbf{\"text\": \"a\"}\n\n{\"id\": 1, \"text\": \"b\\n\"}\r\n{\"text\": \"c\"}", 2);
        assert_eq!(rows.next_batch().unwrap(), ["a", "b\n"]);
        assert_eq!(rows.next_batch().unwrap(), ["c"]);
        assert!(rows.next_batch().unwrap().is_empty());
    }

    #[test]
    fn rows_before_a_bad_line_are_answered_first() {
        let mut rows = rows(b"{\"text\": \"a\"}\nno json\n{\"text\": \"b\"}\n", 8);
        assert_eq!(rows.next_batch().unwrap(), ["a"]);
        let failure = rows.next_batch().unwrap_err().render(Paint::PLAIN, 80);
        assert!(
            failure.starts_with("error: `in.jsonl:2`: not a JSON object: expected ident at column 2\n"),
            "{failure}"
        );
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        assert!(
            message(b"[1]\n")
                .starts_with("error: `in.jsonl:1`: expected a JSON object, found a list\nhelp: ")
        );
        assert!(
            message(b"{\"t\": 1}\n").starts_with("error: `in.jsonl:1`: no key `text`; the keys are `t`\n")
        );
        assert!(message(b"{}\n").contains("no key `text`; there are none"));
        assert!(message(b"{\"text\": 5}\n").contains("key `text` holds a number, expected a string"));
        assert!(message(b"{\"text\": \" \"}\n").contains("`in.jsonl:1`: empty text"));
        assert!(
            message(b"\n{\"text\": \"\xff\"}\n")
                .contains("`in.jsonl:2`: invalid UTF-8 at byte 11 of the line")
        );
    }

    #[test]
    fn a_pipe_that_waits_gets_what_it_sent() {
        use std::io::Write;
        let (reader, mut writer) = pipe().unwrap();
        let mut rows = TextRows::read(reader, "stdin".to_owned(), 32, Gather::Ready);
        writer.write_all(b"{\"text\": \"a\"}\n").unwrap();
        assert_eq!(rows.next_batch().unwrap(), ["a"]);
        writer.write_all(b"{\"text\": \"b\"}\n").unwrap();
        drop(writer);
        assert_eq!(rows.next_batch().unwrap(), ["b"]);
        assert!(rows.next_batch().unwrap().is_empty());
    }
}
