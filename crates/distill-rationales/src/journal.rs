//! The replies so far, in a file that survives a kill: no row is asked twice.
//!
//! `OUTPUT.partial` holds a line about teacher and prompts, and then a line a reply, as it came, each on
//! the disk before the next is written. A line that a kill cut off is left out, and its row asked again.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cost::Usage;
use crate::error::RationaleError;
use crate::teacher::Reply;

const FORMAT: &str = "distill-rationales-1";

/// Whether replies that are kept are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They are; an output that is complete stays.
    Resume,
    /// They are thrown away, and so is the output once there is a new one.
    Anew,
}

/// The first line: what the replies depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    format: String,
    teacher: Value,
    /// Digest of what all prompts share.
    prompts: String,
}

/// A line: a reply and what it replies to.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    row: usize,
    /// Digest of the prompt.
    prompt: String,
    text: String,
    finish_reason: Option<String>,
    #[serde(flatten)]
    usage: Usage,
}

/// A reply that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Digest of the prompt.
    pub prompt: String,
    /// The reply.
    pub reply: Reply,
}

/// The replies so far, by the number of their row.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    replies: BTreeMap<usize, Kept>,
    was_cut: bool,
}

impl Journal {
    /// Opens what is kept for `output`, or begins it.
    ///
    /// `teacher` is [`identity`](crate::Teacher::identity), `prompts` the digest of what all prompts share.
    ///
    /// # Errors
    /// An output that is there already, replies that another process is adding to, that depend on
    /// something else, or that cannot be read.
    pub fn open(output: &Path, teacher: &Value, prompts: &str, start: Start) -> Result<Self, RationaleError> {
        if output.is_dir() {
            return Err(RationaleError::io("write", output)(std::io::ErrorKind::IsADirectory.into()));
        }
        if start == Start::Resume && output.exists() {
            return Err(RationaleError::OutputExists { path: output.to_owned() });
        }
        let path = partial_path(output);
        let folder = folder_of(&path);
        std::fs::create_dir_all(folder).map_err(RationaleError::io("write", folder))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(RationaleError::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RationaleError::OutputBusy { path }),
            // Not every file system has locks; then nothing guards against a second process.
            Err(TryLockError::Error(_)) => {}
        }
        let mut content = Vec::new();
        if start == Start::Resume {
            file.read_to_end(&mut content).map_err(RationaleError::io("read", &path))?;
        }
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let was_cut = whole < content.len();
        let header =
            Header { format: FORMAT.to_owned(), teacher: teacher.clone(), prompts: prompts.to_owned() };
        let (before, replies) = read(&path, &content[..whole])?;
        let whole = match before.and_then(|before| difference(&before, &header)) {
            // Nothing is lost by beginning anew.
            Some(_) if replies.is_empty() => 0,
            Some(what) => return Err(RationaleError::Changed { path, what, replies: replies.len() }),
            None => whole,
        };
        let write = || RationaleError::io("write", &path);
        file.set_len(whole as u64).map_err(write())?;
        file.seek(SeekFrom::End(0)).map_err(write())?;
        let mut journal = Self { path, file, replies, was_cut };
        if whole == 0 {
            journal.append(&header)?;
            // Without this a power cut may take the file itself; not every file system can.
            if let Ok(folder) = File::open(folder_of(&journal.path)) {
                let _ = folder.sync_all();
            }
        }
        Ok(journal)
    }

    /// The replies, by the number of their row.
    pub fn replies(&self) -> &BTreeMap<usize, Kept> {
        &self.replies
    }

    /// Whether a line was cut off by a kill, and left out.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Where the replies are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokens of all replies.
    pub fn usage(&self) -> Usage {
        self.replies.values().map(|kept| kept.reply.usage).sum()
    }

    /// Checks that every reply is to the prompt that its row has now; `digest` gives that of a row, and
    /// `None` where there is no such row.
    ///
    /// # Errors
    /// [`RationaleError::Changed`], with the first row that is another.
    pub fn check(&self, digest: impl Fn(usize) -> Option<String>) -> Result<(), RationaleError> {
        for (row, kept) in &self.replies {
            let what = match digest(*row) {
                Some(now) if now == kept.prompt => continue,
                Some(_) => format!("other data: the question of row {} is another", row + 1),
                None => format!("other data: there is no row {}", row + 1),
            };
            return Err(self.changed(what));
        }
        Ok(())
    }

    /// Keeps a reply: it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub fn keep(&mut self, row: usize, prompt: String, reply: Reply) -> Result<(), RationaleError> {
        let Reply { text, finish_reason, usage } = reply;
        let line = Line { row, prompt, text, finish_reason, usage };
        self.append(&line)?;
        let Line { prompt, text, finish_reason, .. } = line;
        self.replies.insert(row, Kept { prompt, reply: Reply { text, finish_reason, usage } });
        Ok(())
    }

    /// Removes the file, when the output is complete.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(self) -> Result<(), RationaleError> {
        std::fs::remove_file(&self.path).map_err(RationaleError::io("remove", &self.path))
    }

    fn changed(&self, what: String) -> RationaleError {
        RationaleError::Changed { path: self.path.clone(), what, replies: self.replies.len() }
    }

    fn append<T: Serialize>(&mut self, line: &T) -> Result<(), RationaleError> {
        let fault = || RationaleError::io("write", &self.path);
        let mut bytes = serde_json::to_vec(line).map_err(|error| fault()(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(fault())
    }
}

/// Where the replies for `output` are.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = OsString::from(output.file_name().unwrap_or_default());
    name.push(".partial");
    output.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The header, unless there is none yet, and the replies.
fn read(path: &Path, content: &[u8]) -> Result<(Option<Header>, BTreeMap<usize, Kept>), RationaleError> {
    let fault = |line: usize, reason: String| RationaleError::Journal { path: path.to_owned(), line, reason };
    let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Some(first) = lines.next() else { return Ok((None, BTreeMap::new())) };
    let not_ours = || fault(1, "not a file of replies that `distill rationales` began".to_owned());
    let header: Header = serde_json::from_slice(first).map_err(|_| not_ours())?;
    if header.format != FORMAT {
        return Err(not_ours());
    }
    let mut replies = BTreeMap::new();
    for (index, line) in lines.enumerate() {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| fault(index + 2, format!("damaged: {error}")))?;
        let Line { row, prompt, text, finish_reason, usage } = line;
        replies.insert(row, Kept { prompt, reply: Reply { text, finish_reason, usage } });
    }
    Ok((Some(header), replies))
}

/// What replies were asked for with, where that is not what it is now.
fn difference(before: &Header, now: &Header) -> Option<String> {
    if before.teacher != now.teacher {
        let mut told = Vec::new();
        differences("", &before.teacher, &now.teacher, &mut told);
        return Some(told.join(" and "));
    }
    (before.prompts != now.prompts).then(|| "other instructions or examples".to_owned())
}

/// Every value that differs, by its keys with points between them.
fn differences(key: &str, before: &Value, now: &Value, told: &mut Vec<String>) {
    match (before, now) {
        _ if before == now => {}
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let value =
                    |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                differences(&key, &value(old), &value(new), told);
            }
        }
        _ => told.push(format!("`{key}` = `{before}`, which is `{now}` now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(text: &str) -> Reply {
        Reply {
            text: text.into(),
            finish_reason: Some("stop".into()),
            usage: Usage { input_tokens: 3, output_tokens: 2 },
        }
    }

    fn open(output: &Path) -> Result<Journal, RationaleError> {
        Journal::open(output, &json!({"model": "a"}), "p", Start::Resume)
    }

    #[test]
    fn replies_are_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new/out.jsonl");
        let mut journal = open(&output).unwrap();
        journal.keep(7, "d7".into(), reply("seven\nlines")).unwrap();
        journal.keep(2, "d2".into(), reply("")).unwrap();
        drop(journal);
        let journal = open(&output).unwrap();
        assert_eq!(journal.replies().keys().copied().collect::<Vec<_>>(), [2, 7]);
        assert_eq!(journal.replies()[&7], Kept { prompt: "d7".into(), reply: reply("seven\nlines") });
        assert_eq!(journal.usage(), Usage { input_tokens: 6, output_tokens: 4 });
        assert!(!journal.was_cut());
        let path = journal.path().to_owned();
        assert_eq!(path.file_name().unwrap(), "out.jsonl.partial");
        journal.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_lines_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let mut journal = open(&output).unwrap();
        for row in 0..3 {
            journal.keep(row, format!("d{row}"), reply("é")).unwrap();
        }
        let path = journal.path().to_owned();
        drop(journal);
        let content = std::fs::read(&path).unwrap();
        for length in 0..=content.len() {
            std::fs::write(&path, &content[..length]).unwrap();
            let mut journal = open(&output).unwrap();
            let whole = content[..length].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
            assert_eq!(journal.replies().len(), whole, "{length}");
            assert_eq!(journal.was_cut(), length > 0 && content[length - 1] != b'\n', "{length}");
            journal.keep(9, "d9".into(), reply("more")).unwrap();
            drop(journal);
            assert_eq!(open(&output).unwrap().replies().len(), whole + 1, "{length}");
        }
    }

    #[test]
    fn changes_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let mut journal = open(&output).unwrap();
        journal.keep(4, "d".into(), reply("a")).unwrap();
        assert!(journal.check(|_| Some("d".into())).is_ok());
        let message = |result: Result<(), RationaleError>| {
            let text = result.unwrap_err().to_string();
            text.split_once("partial` ").map(|(_, rest)| rest.to_owned()).unwrap()
        };
        assert_eq!(
            message(journal.check(|_| Some("other".into()))),
            "holds 1 replies that were asked for with other data: the question of row 5 is another"
        );
        assert!(message(journal.check(|_| None)).ends_with("there is no row 5"));
        drop(journal);
        let other = |teacher: Value, prompts| {
            message(Journal::open(&output, &teacher, prompts, Start::Resume).map(drop))
        };
        assert_eq!(
            other(json!({"model": "b", "t": 1}), "p"),
            "holds 1 replies that were asked for with `model` = `\"a\"`, which is `\"b\"` now and `t` = `null`, which is `1` now"
        );
        assert!(
            other(json!({"model": "a", "generation": {"seed": 1}}), "p")
                .contains("`generation` = `null`, which is `{")
        );
        assert!(other(json!({"model": "a"}), "q").ends_with("with other instructions or examples"));
        assert_eq!(open(&output).unwrap().replies().len(), 1, "nothing was lost by asking");
        let anew = Journal::open(&output, &json!({"model": "b"}), "q", Start::Anew).unwrap();
        assert!(anew.replies().is_empty());
    }

    #[test]
    fn without_a_reply_anything_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        drop(open(&output).unwrap());
        let other = || Journal::open(&output, &json!({"model": "other"}), "q", Start::Resume);
        other().unwrap().keep(0, "d".into(), reply("a")).unwrap();
        assert_eq!(other().unwrap().replies().len(), 1);
        assert!(open(&output).is_err());
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let partial = folder.path().join("out.jsonl.partial");
        std::fs::write(&partial, "{\"a\": 1}\n").unwrap();
        assert!(open(&output).unwrap_err().to_string().contains("partial:1`: not a file of replies"));
        assert_eq!(std::fs::read_to_string(&partial).unwrap(), "{\"a\": 1}\n");
        std::fs::remove_file(&partial).unwrap();
        drop(open(&output).unwrap());
        let header = std::fs::read_to_string(&partial).unwrap();
        std::fs::write(&partial, format!("{header}{{\"row\": }}\n")).unwrap();
        assert!(open(&output).unwrap_err().to_string().contains("partial:2`: damaged: "));
        std::fs::write(&output, "done\n").unwrap();
        assert!(matches!(open(&output), Err(RationaleError::OutputExists { .. })));
        assert!(matches!(open(folder.path()), Err(RationaleError::Io { .. })));
    }

    #[test]
    fn two_at_once_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let first = open(&output).unwrap();
        assert!(matches!(open(&output), Err(RationaleError::OutputBusy { .. })));
        drop(first);
        assert!(open(&output).is_ok());
    }
}
