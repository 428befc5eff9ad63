//! Which files of a data set belong to which split.
//!
//! The data card's `configs` decide; without them the names do, much as the `datasets` library
//! reads them: `data/train-00000-of-00002.parquet`, `train.csv`, `config/train/0000.parquet`. What
//! names no split at all is `train`.

use std::collections::BTreeMap;

use glob::{MatchOptions, Pattern};

use super::HubError;
use super::error::name_list;
use super::listing::Listing;
use super::repository::Repository;

/// Formats in order of preference: typed and compact first.
const FORMATS: &[&str] = &["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "txt"];

/// Names that stand for a split, the first of each being what it is called here.
const SPLITS: &[&[&str]] = &[
    &["train", "training"],
    &["validation", "valid", "val", "dev"],
    &["test", "testing", "eval", "evaluation"],
];

/// Files that look like data and are not.
const NOT_DATA: &[&str] = &[
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "requirements.txt",
    "license.txt",
    "licence.txt",
    "readme.txt",
    "croissant.json",
];

/// The revision in which the hub keeps its own conversion of a data set.
const CONVERTED: &str = "refs/convert/parquet";

/// A configuration and a split; the configuration is `default` if nothing names one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Split {
    pub(super) config: String,
    pub(super) split: String,
}

const DEFAULT: &str = "default";

/// Files by split.
pub(super) type Splits = BTreeMap<Split, Vec<String>>;

/// The hub's Parquet conversion of a data set that has no readable file of its own.
pub(super) fn converted<'a>(repository: &Repository<'a>) -> Result<Repository<'a>, HubError> {
    let nothing =
        || HubError::NoDataFiles { repo: repository.name(), found: name_list(repository.listing.paths()) };
    let converted = match repository.at(CONVERTED) {
        Ok(converted) => converted,
        Err(HubError::RevisionNotFound { .. } | HubError::RepoNotFound { .. }) => {
            return Err(nothing());
        }
        Err(error) => return Err(error),
    };
    if find(&converted.listing).is_empty() {
        return Err(nothing());
    }
    tracing::info!(repo = converted.name(), "no data file of its own, using the hub's conversion to parquet");
    Ok(converted)
}

/// The files of the split that was asked for.
pub(super) fn select(repository: &Repository<'_>, wanted: &str) -> Result<Vec<String>, HubError> {
    let splits = find(&repository.listing);
    let declared_default =
        repository.listing.configs.iter().find(|config| config.is_default).map(|config| config.name.as_str());
    let files = choose(&splits, declared_default, wanted).map_err(|found| {
        let (repo, split) = (repository.name(), wanted.to_owned());
        match found {
            NotChosen::Unknown(found) => HubError::UnknownSplit { repo, split, found },
            NotChosen::Several(found) => HubError::SeveralConfigs { repo, split, found },
        }
    })?;
    if !repository.listing.complete {
        repository.require(&missing_parts(files))?;
    }
    Ok(files.to_vec())
}

enum NotChosen {
    Unknown(String),
    Several(String),
}

fn choose<'a>(
    splits: &'a Splits,
    declared_default: Option<&str>,
    wanted: &str,
) -> Result<&'a [String], NotChosen> {
    let (config, split) = match wanted.rsplit_once('/') {
        Some((config, split)) => (Some(config), split),
        None => (None, wanted),
    };
    // As written if there is such a split, otherwise by what it stands for (`dev`, `val`).
    let standard = standard_split(split);
    let matching = |split: &str| -> Vec<(&'a Split, &'a Vec<String>)> {
        splits
            .iter()
            .filter(|(found, _)| found.split == split)
            .filter(|(found, _)| config.is_none_or(|config| found.config == config))
            .collect()
    };
    let mut found = matching(split);
    if found.is_empty()
        && let Some(standard) = standard
    {
        found = matching(standard);
    }
    let is_default = |config: &str| Some(config) == declared_default || config == DEFAULT;
    match found.as_slice() {
        [] => Err(NotChosen::Unknown(split_list(splits, splits.keys()))),
        [(_, files)] => Ok(files),
        several => several
            .iter()
            .find(|(found, _)| is_default(&found.config))
            .map(|(_, files)| files.as_slice())
            .ok_or_else(|| NotChosen::Several(split_list(splits, several.iter().map(|(found, _)| *found)))),
    }
}

/// Names as they can be written in a recipe: with the configuration where there are several.
fn split_list<'a>(splits: &Splits, shown: impl Iterator<Item = &'a Split>) -> String {
    let first = splits.keys().next().map(|split| &split.config);
    let one_config = splits.keys().all(|split| Some(&split.config) == first);
    let names: Vec<String> = shown
        .map(|found| match one_config {
            true => found.split.clone(),
            false => format!("{}/{}", found.config, found.split),
        })
        .collect();
    name_list(names.iter().map(String::as_str))
}

/// All splits of a data set with their files, each in the best of its formats.
pub(super) fn find(listing: &Listing) -> Splits {
    let data: Vec<&str> = listing.paths().filter(|path| is_data(path)).collect();
    let mut splits = from_card(listing, &data);
    if splits.is_empty() {
        splits = from_names(&data);
    }
    for files in splits.values_mut() {
        let best = FORMATS.iter().find(|format| files.iter().any(|file| extension(file) == Some(**format)));
        files.retain(|file| extension(file) == best.copied());
        files.sort();
        files.dedup();
    }
    splits
}

fn from_card(listing: &Listing, data: &[&str]) -> Splits {
    let mut splits = Splits::new();
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
    for config in &listing.configs {
        for (split, patterns) in &config.splits {
            let patterns: Vec<Pattern> = patterns
                .iter()
                .filter_map(|pattern| Pattern::new(pattern.trim_start_matches("./")).ok())
                .collect();
            let files: Vec<String> = data
                .iter()
                .filter(|path| patterns.iter().any(|pattern| pattern.matches_with(path, options)))
                .map(|path| (*path).to_owned())
                .collect();
            if !files.is_empty() {
                let split = Split { config: config.name.clone(), split: split.clone() };
                splits.entry(split).or_default().extend(files);
            }
        }
    }
    splits
}

fn from_names(data: &[&str]) -> Splits {
    let mut splits = Splits::new();
    for path in data {
        if let Some(split) = split_of(path) {
            splits.entry(split).or_default().push((*path).to_owned());
        }
    }
    if splits.is_empty() && !data.is_empty() {
        let train = Split { config: DEFAULT.to_owned(), split: SPLITS[0][0].to_owned() };
        splits.insert(train, data.iter().map(|path| (*path).to_owned()).collect());
    }
    splits
}

/// Configuration and split from a path; `None` if it names no split.
fn split_of(path: &str) -> Option<Split> {
    let mut folders: Vec<&str> = path.split('/').collect();
    let name = folders.pop()?;
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let split = if let Some((split, _, _)) = part_of(name) {
        split.to_owned()
    } else if let Some(split) = words(stem).find_map(standard_split) {
        split.to_owned()
    } else if stem.bytes().all(|byte| byte.is_ascii_digit()) && folders.len() > 1 {
        // `config/split/0000.parquet`, whatever the split is called.
        folders.pop()?.to_owned()
    } else {
        let depth =
            folders.iter().position(|folder| words(folder).any(|word| standard_split(word).is_some()))?;
        let split = words(folders[depth]).find_map(standard_split)?;
        folders.truncate(depth);
        split.to_owned()
    };
    // `data/` holds data, and `train/train.csv` says the same thing twice.
    folders.retain(|folder| *folder != "data" && standard_split(folder) != Some(&split));
    let config = match folders.as_slice() {
        [] => DEFAULT.to_owned(),
        folders => folders.join("/"),
    };
    Some(Split { config, split })
}

/// Split, number and count of `train-00000-of-00002.parquet`.
fn part_of(name: &str) -> Option<(&str, usize, usize)> {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    // The hub may add a hash of the content at the end.
    let (front, count) = stem.split_once("-of-")?;
    let count = count.split('-').next()?;
    let (split, number) = front.rsplit_once('-')?;
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if split.is_empty() || !digits(number) || !digits(count) {
        return None;
    }
    Some((split, number.parse().ok()?, count.parse().ok()?))
}

/// Parts that the numbers in the names promise and that are not among the files.
fn missing_parts(files: &[String]) -> Vec<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let parts: Vec<(String, usize, usize)> = files
        .iter()
        .filter_map(|file| {
            let name = name(file);
            let (split, number, count) = part_of(&name)?;
            Some((split.to_owned(), number, count))
        })
        .collect();
    let Some((split, _, count)) = parts.first() else {
        return Vec::new();
    };
    (0..*count)
        .filter(|wanted| !parts.iter().any(|(_, number, _)| number == wanted))
        .map(|number| format!("{split}-{number:05}-of-{count:05}"))
        .collect()
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphabetic())
}

fn standard_split(word: &str) -> Option<&'static str> {
    let names = SPLITS.iter().find(|names| names.iter().any(|name| name.eq_ignore_ascii_case(word)))?;
    names.first().copied()
}

fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let (_, extension) = name.rsplit_once('.')?;
    FORMATS.iter().find(|format| format.eq_ignore_ascii_case(extension)).copied()
}

fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    extension(path).is_some() && !name.starts_with('.') && !NOT_DATA.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::listing::{DataConfig, ListedFile};
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        Listing {
            sha: "abc".to_owned(),
            files: paths.iter().map(|path| ListedFile { path: (*path).to_owned(), size: None }).collect(),
            configs: Vec::new(),
            complete: true,
        }
    }

    fn pick(listing: &Listing, wanted: &str) -> Result<Vec<String>, String> {
        let declared = listing.configs.iter().find(|config| config.is_default);
        let declared = declared.map(|config| config.name.as_str());
        choose(&find(listing), declared, wanted).map(<[String]>::to_vec).map_err(|error| match error {
            NotChosen::Unknown(found) => format!("unknown: {found}"),
            NotChosen::Several(found) => format!("several: {found}"),
        })
    }

    #[test]
    fn names_tell_the_split() {
        let cases = [
            ("data/train-00000-of-00001.parquet", "default", "train"),
            ("data/train-00000-of-00001-1a2b3c.parquet", "default", "train"),
            ("data/unsupervised-00000-of-00001.parquet", "default", "unsupervised"),
            ("sst2/train-00000-of-00001.parquet", "sst2", "train"),
            ("sst2/train/0000.parquet", "sst2", "train"),
            ("default/partial-train/0000.parquet", "default", "partial-train"),
            ("train.csv", "default", "train"),
            ("train.jsonl", "default", "train"),
            ("ag_news_test.csv", "default", "test"),
            ("data/dev.tsv", "default", "validation"),
            ("train/a.csv", "default", "train"),
            ("train/0000.parquet", "default", "train"),
            ("main/train/train.json", "main", "train"),
            ("cfg/data/val.csv", "cfg", "validation"),
            ("Train.csv", "default", "train"),
        ];
        for (path, config, split) in cases {
            let expected = Split { config: config.to_owned(), split: split.to_owned() };
            assert_eq!(split_of(path), Some(expected), "{path}");
        }
        for path in ["restrained.csv", "contest.csv", "all.csv", "a/b.csv"] {
            assert_eq!(split_of(path), None, "{path}");
        }
    }

    #[test]
    fn the_best_format_is_taken() {
        let repository = listing(&[
            "README.md",
            "data/test.csv",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "requirements.txt",
            "train.csv",
        ]);
        assert_eq!(
            pick(&repository, "train").unwrap(),
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
        );
        assert_eq!(pick(&repository, "test").unwrap(), ["data/test.csv"]);
        assert_eq!(pick(&repository, "eval").unwrap(), ["data/test.csv"]);
        assert_eq!(pick(&repository, "dev").unwrap_err(), "unknown: `test`, `train`");
    }

    #[test]
    fn one_of_several_configs_must_be_named() {
        let repository = listing(&["cola/train.csv", "sst2/train.csv", "sst2/test.csv"]);
        assert_eq!(pick(&repository, "sst2/train").unwrap(), ["sst2/train.csv"]);
        assert_eq!(pick(&repository, "test").unwrap(), ["sst2/test.csv"]);
        assert_eq!(pick(&repository, "train").unwrap_err(), "several: `cola/train`, `sst2/train`");
        assert_eq!(
            pick(&repository, "mnli/train").unwrap_err(),
            "unknown: `cola/train`, `sst2/test`, `sst2/train`"
        );
        let with_default = listing(&["default/train/0.parquet", "other/train/0.parquet"]);
        assert_eq!(pick(&with_default, "train").unwrap(), ["default/train/0.parquet"]);
    }

    #[test]
    fn the_data_card_decides() {
        let mut repository = listing(&["a.csv", "b.csv", "deep/c.csv", "x/train.csv"]);
        let config = |name: &str, is_default, splits: &[(&str, &str)]| DataConfig {
            name: name.to_owned(),
            is_default,
            splits: splits
                .iter()
                .map(|(split, pattern)| ((*split).to_owned(), vec![(*pattern).to_owned()]))
                .collect(),
        };
        repository.configs = vec![
            config("one", false, &[("train", "a.csv")]),
            config("two", true, &[("train", "*.csv"), ("test", "**/c.csv")]),
        ];
        assert_eq!(pick(&repository, "train").unwrap(), ["a.csv", "b.csv"]);
        assert_eq!(pick(&repository, "one/train").unwrap(), ["a.csv"]);
        assert_eq!(pick(&repository, "test").unwrap(), ["deep/c.csv"]);
    }

    #[test]
    fn files_without_a_split_are_train() {
        let repository = listing(&["README.md", "tickets.jsonl", "more.jsonl", "LICENSE.txt"]);
        assert_eq!(pick(&repository, "train").unwrap(), ["more.jsonl", "tickets.jsonl"]);
        assert!(find(&listing(&["README.md", "script.py"])).is_empty());
    }

    #[test]
    fn missing_parts_are_noticed() {
        let files = ["data/train-00000-of-00003.parquet", "data/train-00002-of-00003.parquet"];
        assert_eq!(missing_parts(&files.map(str::to_owned)), ["train-00001-of-00003"]);
        assert!(missing_parts(&["train.csv".to_owned()]).is_empty());
    }
}
