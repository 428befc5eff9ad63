//! The files of one commit, as the hub's API lists them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a repository holds at a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    pub(super) sha: String,
    /// Every file, sorted by path.
    pub(super) files: Vec<ListedFile>,
    /// What the data card says about splits; empty if it says nothing.
    pub(super) configs: Vec<DataConfig>,
    /// Whether the hub made the list; a list read from a cache folder may lack files.
    pub(super) complete: bool,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedFile {
    /// Path in the repository, with `/`.
    pub(super) path: String,
    /// Bytes, if the hub told.
    pub(super) size: Option<u64>,
}

/// One configuration of a data card's `configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataConfig {
    pub(super) name: String,
    pub(super) is_default: bool,
    /// Split names with the path patterns of their files.
    pub(super) splits: Vec<(String, Vec<String>)>,
}

impl Listing {
    /// From the answer of `/api/{models,datasets}/ID/revision/REVISION?blobs=true`.
    ///
    /// `None` if it is not such an answer.
    pub(super) fn from_answer(answer: &Value) -> Option<Self> {
        let sha = answer.get("sha")?.as_str()?;
        if sha.is_empty() || !sha.chars().all(|c| c.is_ascii_alphanumeric()) {
            return None;
        }
        let mut files: Vec<ListedFile> = answer
            .get("siblings")?
            .as_array()?
            .iter()
            .filter_map(|file| {
                let path = file.get("rfilename")?.as_str()?;
                let size = file.get("size").and_then(Value::as_u64);
                is_safe(path).then(|| ListedFile { path: path.to_owned(), size })
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let configs = answer
            .pointer("/cardData/configs")
            .and_then(Value::as_array)
            .map(|configs| configs.iter().filter_map(data_config).collect())
            .unwrap_or_default();
        Some(Self { sha: sha.to_owned(), files, configs, complete: true })
    }

    pub(super) fn file(&self, path: &str) -> Option<&ListedFile> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }
}

/// A path that stays within the repository's folder; a hub could send anything.
fn is_safe(path: &str) -> bool {
    !path.contains('\\') && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// `data_files` is a pattern, a list of patterns, or a list of `{split, path}`.
fn data_config(config: &Value) -> Option<DataConfig> {
    let data_files = config.get("data_files")?;
    let folder = config
        .get("data_dir")
        .and_then(Value::as_str)
        .map(|folder| folder.trim_end_matches('/').to_owned() + "/")
        .unwrap_or_default();
    let patterns = |value: &Value| -> Vec<String> {
        match value {
            Value::String(pattern) => vec![format!("{folder}{pattern}")],
            Value::Array(list) => {
                list.iter().filter_map(|pattern| Some(format!("{folder}{}", pattern.as_str()?))).collect()
            }
            _ => Vec::new(),
        }
    };
    let by_split: Vec<(String, Vec<String>)> = data_files
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let split = entry.get("split")?.as_str()?.to_owned();
            Some((split, patterns(entry.get("path")?)))
        })
        .collect();
    let splits =
        if by_split.is_empty() { vec![("train".to_owned(), patterns(data_files))] } else { by_split };
    Some(DataConfig {
        name: config.get("config_name").and_then(Value::as_str).unwrap_or("default").to_owned(),
        is_default: config.get("default").and_then(Value::as_bool) == Some(true),
        splits,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_answer_of_the_api() {
        let listing = Listing::from_answer(&json!({
            "sha": "abc123",
            "siblings": [
                { "rfilename": "z.txt" },
                { "rfilename": "data/a.parquet", "size": 12 },
                { "rfilename": "../../.ssh/authorized_keys" },
                { "rfilename": "/etc/passwd" },
            ],
            "cardData": { "configs": [
                { "config_name": "main", "default": true, "data_dir": "d", "data_files": [
                    { "split": "train", "path": ["x*.csv", "y.csv"] },
                    { "split": "test", "path": "t.csv" },
                ]},
                { "config_name": "all", "data_files": "*.csv" },
            ]},
        }))
        .unwrap();
        assert_eq!(listing.paths().collect::<Vec<_>>(), ["data/a.parquet", "z.txt"]);
        assert_eq!(listing.file("data/a.parquet").unwrap().size, Some(12));
        assert_eq!(listing.configs.len(), 2);
        assert!(listing.configs[0].is_default);
        assert_eq!(
            listing.configs[0].splits,
            [
                ("train".to_owned(), vec!["d/x*.csv".to_owned(), "d/y.csv".to_owned()]),
                ("test".to_owned(), vec!["d/t.csv".to_owned()]),
            ]
        );
        assert_eq!(listing.configs[1].splits, [("train".to_owned(), vec!["*.csv".to_owned()])]);
    }

    #[test]
    fn another_answer_is_none() {
        assert_eq!(Listing::from_answer(&json!({ "error": "no" })), None);
        assert_eq!(Listing::from_answer(&json!({ "sha": "../x", "siblings": [] })), None);
    }
}
