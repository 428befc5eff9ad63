//! How recipes name models and data sets.

use std::path::{Path, PathBuf};

use super::HubError;

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// In a folder.
    Folder(PathBuf),
    /// On the hub.
    Hub {
        /// `org/name`, or `name` for the oldest models.
        id: String,
        /// Branch, tag or commit; `None` is `main`.
        revision: Option<String>,
    },
}

/// A split of a data set on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetReference {
    /// `org/name`, or `name` for the oldest data sets.
    pub id: String,
    /// Branch, tag or commit; `None` is `main`.
    pub revision: Option<String>,
    /// `split`, or `config/split`.
    pub split: String,
}

const MODEL: &str = "a folder nor a model of the hub (`org/name`, `org/name@revision`)";
const DATASET: &str =
    "a file nor a data set of the hub (`hf://datasets/org/name/split`, `org/name@revision/split`)";

/// Reads a model's path: a folder that exists wins, then `org/name`, `name`, with `@revision`.
///
/// # Errors
/// [`HubError::BadReference`] says what was tried.
pub fn parse_model_reference(text: &str) -> Result<ModelReference, HubError> {
    let bad = |reason: String| HubError::BadReference { text: text.to_owned(), expected: MODEL, reason };
    let path = Path::new(text);
    if path.is_dir() {
        return Ok(ModelReference::Folder(path.to_owned()));
    }
    if path.is_file() {
        return Err(bad("it is a file; give the folder that it is in".to_owned()));
    }
    let (id, revision) = split_revision(text.strip_prefix("hf://").unwrap_or(text));
    check_id(id)
        .and_then(|()| check_revision(revision.as_deref()))
        .map_err(|reason| bad(format!("there is no such folder, and {reason}")))?;
    Ok(ModelReference::Hub { id: id.to_owned(), revision })
}

/// Reads `hf://datasets/org/name[@revision]/split`; the prefix marks the hub, so it must be there.
///
/// A split of a data set without organisation is `hf://datasets/name/split`; one of several
/// configurations is `.../name/config/split`. A slash in a revision is written `%2F`.
///
/// # Errors
/// [`HubError::BadReference`] says which part is wrong.
pub fn parse_dataset_reference(text: &str) -> Result<DatasetReference, HubError> {
    let bad = |reason: String| HubError::BadReference { text: text.to_owned(), expected: DATASET, reason };
    let rest = text
        .strip_prefix("hf://datasets/")
        .ok_or_else(|| bad("it does not start with `hf://datasets/`".to_owned()))?;
    let parts: Vec<&str> = rest.split('/').collect();
    let id_parts = match parts.as_slice() {
        // `name@revision/...` or `name/split`: no organisation.
        [first, ..] if first.contains('@') => 1,
        [_, _] => 1,
        [_, _, _, ..] => 2,
        _ => return Err(bad("the split is missing, such as `/train`".to_owned())),
    };
    let (id, split) = parts.split_at(id_parts);
    let (id, split) = (id.join("/"), split.join("/"));
    let (id, revision) = split_revision(&id);
    if split.split('/').any(str::is_empty) {
        return Err(bad("the split is missing, such as `/train`".to_owned()));
    }
    check_id(id).and_then(|()| check_revision(revision.as_deref())).map_err(bad)?;
    Ok(DatasetReference { id: id.to_owned(), revision, split })
}

fn split_revision(text: &str) -> (&str, Option<String>) {
    match text.split_once('@') {
        Some((id, revision)) => {
            let revision = revision.replace("%2F", "/").replace("%2f", "/");
            (id, Some(revision))
        }
        None => (text, None),
    }
}

/// The hub's own rule for ids, which also keeps them harmless as folder names.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let parts: Vec<&str> = id.split('/').collect();
    let part_is_valid = |part: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty()
            && part.chars().all(allowed)
            && !part.contains("..")
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
    };
    if parts.len() > 2 || id.len() > 96 || !parts.iter().all(part_is_valid) {
        return Err(format!("`{id}` is no id of the hub"));
    }
    Ok(())
}

/// A revision becomes a file name below `refs`, so it must stay there.
pub(super) fn check_revision(revision: Option<&str>) -> Result<(), String> {
    let Some(revision) = revision else {
        return Ok(());
    };
    let harmless = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\\?*:~^#%".contains(c);
    if revision.split('/').all(harmless) && revision.chars().all(plain) {
        Ok(())
    } else {
        Err(format!("`{revision}` is no branch, tag or commit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(id: &str, revision: Option<&str>) -> ModelReference {
        ModelReference::Hub { id: id.to_owned(), revision: revision.map(str::to_owned) }
    }

    #[test]
    fn a_folder_wins() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        assert_eq!(parse_model_reference(text).unwrap(), ModelReference::Folder(folder.path().to_owned()));
    }

    #[test]
    fn models_on_the_hub() {
        let parse = |text| parse_model_reference(text).unwrap();
        assert_eq!(parse("no-such/model"), hub("no-such/model", None));
        assert_eq!(parse("bert-base-uncased"), hub("bert-base-uncased", None));
        assert_eq!(parse("o/m@v1.0"), hub("o/m", Some("v1.0")));
        assert_eq!(parse("hf://o/m@refs/pr/3"), hub("o/m", Some("refs/pr/3")));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["./missing", "/no/such/folder", "a/b/c", "", "o/m@", "o/m@../x", "o//m", "o/ m"] {
            let message = parse_model_reference(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{text}` is neither a folder nor")), "{message}");
            assert!(message.contains("there is no such folder, and"), "{message}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = parse_model_reference(file.path().to_str().unwrap()).unwrap_err();
        assert!(message.to_string().ends_with("it is a file; give the folder that it is in"));
    }

    #[test]
    fn data_sets_on_the_hub() {
        let parse = |text| {
            let found = parse_dataset_reference(text).unwrap();
            (found.id, found.revision, found.split)
        };
        let expected = |id: &str, revision: Option<&str>, split: &str| {
            (id.to_owned(), revision.map(str::to_owned), split.to_owned())
        };
        assert_eq!(parse("hf://datasets/o/d/train"), expected("o/d", None, "train"));
        assert_eq!(parse("hf://datasets/d/train"), expected("d", None, "train"));
        assert_eq!(parse("hf://datasets/o/d@v1/c/test"), expected("o/d", Some("v1"), "c/test"));
        assert_eq!(parse("hf://datasets/d@v1/test"), expected("d", Some("v1"), "test"));
        assert_eq!(
            parse("hf://datasets/o/d@refs%2Fconvert%2Fparquet/test"),
            expected("o/d", Some("refs/convert/parquet"), "test")
        );
        for text in ["datasets/o/d/train", "hf://datasets/o", "hf://datasets/o/d/", "hf://datasets//d/t"] {
            assert!(parse_dataset_reference(text).is_err(), "{text}");
        }
    }
}
