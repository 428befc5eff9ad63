//! What stands between a recipe and the files it names.

use std::path::PathBuf;

/// Files of the hub that cannot be had. `repo` is an id, with `datasets/` before a data set's.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The repository is not there.
    #[error("`{repo}` does not exist at {endpoint}; check the spelling, or give a folder")]
    RepoNotFound {
        /// The repository.
        repo: String,
        /// The hub that was asked.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("`{repo}` has no revision `{revision}`; leave `@{revision}` out for `main`")]
    RevisionNotFound {
        /// The repository.
        repo: String,
        /// As asked for.
        revision: String,
    },
    /// The repository has no such file.
    #[error("`{repo}` has no file `{file}` at revision `{revision}`")]
    FileNotFound {
        /// The repository.
        repo: String,
        /// Commit or branch.
        revision: String,
        /// Path in the repository.
        file: String,
    },
    /// The hub wants to know who asks.
    #[error("access to `{repo}` was refused (status {status}): {help}")]
    Unauthorised {
        /// The repository.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// What to do, depending on whether a token was sent.
        help: &'static str,
    },
    /// The cache lacks something and the network must not be used.
    #[error(
        "offline (`HF_HUB_OFFLINE`), and the cache `{}` lacks {missing} of `{repo}` at revision \
         `{revision}`; run once without `HF_HUB_OFFLINE`, or give a folder",
        cache.display()
    )]
    Offline {
        /// The repository.
        repo: String,
        /// As asked for.
        revision: String,
        /// The files, or the revision.
        missing: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The hub cannot be reached, or the connection broke again and again.
    #[error(
        "cannot fetch {what} from {endpoint}: {message}; set `HF_ENDPOINT` for another address, \
         `HF_HUB_OFFLINE=1` for the cache alone, or give a folder"
    )]
    Network {
        /// The hub that was asked.
        endpoint: String,
        /// Repository or file.
        what: String,
        /// What went wrong.
        message: String,
    },
    /// The cache cannot be read or written.
    #[error("cannot access `{}`: {source}; `HF_HOME` moves the cache", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what the hub says it should be.
    #[error("`{file}` of `{repo}` is corrupt: {message}; {help}")]
    Corrupt {
        /// The repository.
        repo: String,
        /// Path in the repository.
        file: String,
        /// What was expected and found.
        message: String,
        /// What to do.
        help: String,
    },
    /// The model has no weights in the format that is read here.
    #[error(
        "`{repo}` has no `model.safetensors`, found {found}; convert it with \
         `AutoModel.from_pretrained(\"{repo}\").save_pretrained(FOLDER)` and give that folder"
    )]
    NoSafetensors {
        /// The repository.
        repo: String,
        /// Weight files of other formats, or all files.
        found: String,
    },
    /// The repository is no Transformers model.
    #[error("`{repo}` has no `config.json`, so it is no Transformers model; found {found}")]
    NoConfig {
        /// The repository.
        repo: String,
        /// Files in it.
        found: String,
    },
    /// The data set has no file in a format that is read here.
    #[error(
        "`{repo}` has no data file that can be read (parquet, jsonl, json, csv, tsv, txt), found \
         {found}; download and convert it, then give the files"
    )]
    NoDataFiles {
        /// The repository.
        repo: String,
        /// Files in it.
        found: String,
    },
    /// The data set has no such split.
    #[error("`{repo}` has no split `{split}`, found {found}")]
    UnknownSplit {
        /// The repository.
        repo: String,
        /// As asked for.
        split: String,
        /// All splits.
        found: String,
    },
    /// The split exists in several configurations.
    #[error("`{repo}` has split `{split}` in several configurations; name one of {found}")]
    SeveralConfigs {
        /// The repository.
        repo: String,
        /// As asked for.
        split: String,
        /// `config/split` of each.
        found: String,
    },
    /// A text that names neither a folder nor a repository.
    #[error("`{text}` is neither {expected}: {reason}")]
    BadReference {
        /// As written.
        text: String,
        /// What it could have been.
        expected: &'static str,
        /// Why it is not, and what was tried.
        reason: String,
    },
    /// There is no place for the cache.
    #[error("no home folder to keep the hub's cache in; set `HF_HOME`")]
    NoCacheFolder,
}

/// Names in backticks for a message, the first few of many.
pub(super) fn name_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return "no file".to_owned();
    }
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
