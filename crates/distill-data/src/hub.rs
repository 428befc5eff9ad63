//! Models and data sets from the Hugging Face hub.
//!
//! Requests go through the `hf-hub` crate (0.5, blocking, rustls). Its 1.0 needs an async runtime
//! and the Xet stack and restarts a broken download; 0.5 is small and resumes. What 0.5 leaves
//! open is closed here: a download is checked against size and SHA-256 *before* it enters the
//! cache, all files of a call come from one commit, a connection that falls silent ends in an
//! error, and the file list of each commit is kept, so that `HF_HUB_OFFLINE=1` can say what is
//! missing. The cache has the layout of the Python client (`blobs`, `refs`, `snapshots`) and is
//! shared with it.

mod cache;
mod config;
mod error;
mod listing;
mod model_files;
mod reference;
mod remote;
mod repository;
mod splits;

use std::path::PathBuf;

use hf_hub::RepoType;

pub use config::HubConfig;
pub use error::HubError;
pub use reference::{DatasetReference, ModelReference, parse_dataset_reference, parse_model_reference};
use repository::Repository;

/// How far the download of one file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download<'a> {
    /// Path of the file in its repository.
    pub file: &'a str,
    /// Bytes that are here, those of an earlier attempt included.
    pub bytes: u64,
    /// Size of the file in bytes.
    pub total: u64,
}

/// Told about each piece of a download as it arrives; files in the cache are not reported.
pub type Progress<'a> = dyn FnMut(Download<'_>) + 'a;

/// The hub as one configuration sees it.
#[derive(Debug, Clone)]
pub struct HubClient {
    config: HubConfig,
}

impl HubClient {
    /// A client; nothing is requested yet.
    pub fn new(config: HubConfig) -> Self {
        Self { config }
    }

    /// Fetches what a model needs to be loaded; returns the folder that holds it.
    ///
    /// `revision` is a branch, a tag or a commit; default `main`. The folder has `config.json`,
    /// `model.safetensors` (or the shards and their index) and the tokenizer files that the
    /// repository has.
    ///
    /// # Errors
    /// [`HubError::NoSafetensors`] and [`HubError::NoConfig`] for a repository of another kind;
    /// otherwise what stands in the way: see [`HubError`].
    pub fn model_files(
        &self,
        id: &str,
        revision: Option<&str>,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        let repository = Repository::open(&self.config, RepoType::Model, id, revision)?;
        let mut wanted = model_files::select(&repository)?;
        if let Some(index) = wanted.index.take() {
            let fetched = repository.fetch(std::slice::from_ref(&index), progress)?;
            let path = fetched.first().map(PathBuf::as_path);
            wanted.files.extend(model_files::shards(&repository, &index, path)?);
        }
        repository.fetch(&wanted.files, progress)?;
        repository.finish()
    }

    /// Fetches the files of one split of a data set, in the order of their names.
    ///
    /// `split` is `train`, or `config/train` where the data set has several configurations.
    /// Parquet is preferred to JSON lines, CSV, TSV and text. A data set that is only a loading
    /// script is read from the hub's own conversion to Parquet.
    ///
    /// # Errors
    /// [`HubError::UnknownSplit`] and [`HubError::SeveralConfigs`] list what there is;
    /// [`HubError::NoDataFiles`] if nothing can be read; otherwise see [`HubError`].
    pub fn dataset_files(
        &self,
        id: &str,
        revision: Option<&str>,
        split: &str,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PathBuf>, HubError> {
        let mut repository = Repository::open(&self.config, RepoType::Dataset, id, revision)?;
        if splits::find(&repository.listing).is_empty() {
            let converted = splits::converted(&repository)?;
            // Offline the way to the conversion is through this revision again.
            repository.finish()?;
            repository = converted;
        }
        let wanted = splits::select(&repository, split)?;
        let files = repository.fetch(&wanted, progress)?;
        repository.finish()?;
        Ok(files)
    }
}

/// [`HubClient::model_files`] with the configuration of the environment.
///
/// # Errors
/// As [`HubClient::model_files`].
pub fn model_files(
    id: &str,
    revision: Option<&str>,
    progress: &mut Progress<'_>,
) -> Result<PathBuf, HubError> {
    HubClient::new(HubConfig::from_env()?).model_files(id, revision, progress)
}

/// [`HubClient::dataset_files`] with the configuration of the environment.
///
/// # Errors
/// As [`HubClient::dataset_files`].
pub fn dataset_files(
    id: &str,
    revision: Option<&str>,
    split: &str,
    progress: &mut Progress<'_>,
) -> Result<Vec<PathBuf>, HubError> {
    HubClient::new(HubConfig::from_env()?).dataset_files(id, revision, split, progress)
}
