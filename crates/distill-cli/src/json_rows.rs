//! Rows as JSON lines, from a file or from a pipe that may trickle.

use crate::failure::Failure;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
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

/// A file or a stream of rows.
pub struct RowSource {
    stream: Box<dyn Read + Send>,
    /// What errors call it.
    name: String,
    gather: Gather,
}

impl RowSource {
    /// Opens `--input`: a file, or stdin if it is `-` or not given; `None` if that would wait for someone to type.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(input: Option<&Path>) -> Result<Option<Self>, Failure> {
        let Some(path) = input.filter(|path| *path != Path::new("-")) else {
            let is_typed = input.is_none() && io::stdin().is_terminal();
            let stdin =
                || Self { stream: Box::new(io::stdin()), name: "stdin".to_owned(), gather: Gather::Ready };
            return Ok((!is_typed).then(stdin));
        };
        let failed = |error| Failure::io("read", path.display(), error);
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?;
        if kind.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let gather = if kind.is_file() { Gather::Full } else { Gather::Ready };
        Ok(Some(Self { stream: Box::new(file), name: path.display().to_string(), gather }))
    }
}

/// What is read out of the object of a line.
#[derive(Debug)]
pub struct RowFormat<T> {
    /// A line as it should be, for help.
    pub example: &'static str,
    /// Takes the row out of the object.
    pub parse: fn(&Map<String, Value>) -> Result<T, Failure>,
}

impl<T> Clone for RowFormat<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RowFormat<T> {}

/// Rows that another thread reads.
#[derive(Debug)]
pub struct JsonRows<T> {
    rows: Receiver<Result<T, Failure>>,
    batch_size: usize,
    gather: Gather,
    failure: Option<Failure>,
}

impl<T: Send + 'static> JsonRows<T> {
    /// Begins to read `source`.
    pub fn read(source: RowSource, batch_size: usize, format: RowFormat<T>) -> Self {
        let RowSource { stream, name, gather } = source;
        let (sender, rows) = sync_channel(batch_size.saturating_mul(AHEAD));
        thread::spawn(move || send_rows(BufReader::new(stream), &name, format, &sender));
        Self { rows, batch_size, gather, failure: None }
    }

    /// The next rows, at most `batch_size`; none at the end.
    ///
    /// # Errors
    /// The first bad line, after all rows before it.
    pub fn next_batch(&mut self) -> Result<Vec<T>, Failure> {
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

fn send_rows<T>(
    mut source: impl BufRead,
    name: &str,
    format: RowFormat<T>,
    rows: &SyncSender<Result<T, Failure>>,
) {
    let mut bytes = Vec::new();
    for number in 1u64.. {
        bytes.clear();
        let row = match source.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => parse(&bytes, number, format).transpose(),
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

/// The row of a line; `None` for a blank one.
fn parse<T>(bytes: &[u8], number: u64, format: RowFormat<T>) -> Result<Option<T>, Failure> {
    let with_help = |failure: Failure| {
        failure.with_help(format!("write one JSON object a line, as `{}`", format.example))
    };
    let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    let line = std::str::from_utf8(bytes).map_err(|error| {
        Failure::input(format!("invalid UTF-8 at byte {} of the line", error.valid_up_to() + 1))
    })?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(line)
        .map_err(|error| with_help(Failure::input(format!("not a JSON object: {}", reason(&error)))))?;
    let Value::Object(object) = value else {
        return Err(with_help(Failure::input(format!("expected a JSON object, found {}", kind(&value)))));
    };
    (format.parse)(&object).map(Some).map_err(with_help)
}

/// The text of a key.
///
/// # Errors
/// It is not there, is no string, or has nothing but spaces.
pub fn text_of(object: &Map<String, Value>, key: &str) -> Result<String, Failure> {
    match object.get(key) {
        Some(Value::String(text)) if text.trim().is_empty() => Err(Failure::input(format!("empty {key}"))),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Failure::input(format!("key `{key}` holds {}, expected a string", kind(other)))),
        None => Err(missing(object, &format!("`{key}`"))),
    }
}

/// That none of the keys is there that are wanted.
pub fn missing(object: &Map<String, Value>, wanted: &str) -> Failure {
    let keys: Vec<String> = object.keys().map(|key| format!("`{key}`")).collect();
    let keys = if keys.is_empty() {
        "there are none".to_owned()
    } else {
        format!("the keys are {}", keys.join(", "))
    };
    Failure::input(format!("no key {wanted}; {keys}"))
}

/// What the parser says, without its own line number, which is always 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    format!("{} at column {}", text.strip_suffix(&end).unwrap_or(&text), error.column())
}

/// What a value is, for messages.
pub fn kind(value: &Value) -> &'static str {
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

    const TEXTS: RowFormat<String> =
        RowFormat { example: r#"{"text": "..."}"#, parse: |object| text_of(object, "text") };

    fn rows(text: &[u8], batch_size: usize) -> JsonRows<String> {
        let stream = Box::new(Cursor::new(text.to_vec()));
        let source = RowSource { stream, name: "in.jsonl".to_owned(), gather: Gather::Full };
        JsonRows::read(source, batch_size, TEXTS)
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
        let source = RowSource { stream: Box::new(reader), name: "stdin".to_owned(), gather: Gather::Ready };
        let mut rows = JsonRows::read(source, 32, TEXTS);
        writer.write_all(b"{\"text\": \"a\"}\n").unwrap();
        assert_eq!(rows.next_batch().unwrap(), ["a"]);
        writer.write_all(b"{\"text\": \"b\"}\n").unwrap();
        drop(writer);
        assert_eq!(rows.next_batch().unwrap(), ["b"]);
        assert!(rows.next_batch().unwrap().is_empty());
    }
}
