//! A repository at one commit: its file list, and its files in the cache.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};
use sha2::{Digest, Sha256};

use super::cache::RepoCache;
use super::error::name_list;
use super::listing::Listing;
use super::reference::{check_id, check_revision};
use super::remote::{Failure, Remote, RemoteFile};
use super::{HubConfig, HubError, Progress};

const DEFAULT_REVISION: &str = "main";

/// SHA-256 of nothing: the blob of every empty file.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A repository at one commit.
pub(super) struct Repository<'a> {
    config: &'a HubConfig,
    /// `None` if the network must not be used.
    remote: Option<Remote<'a>>,
    cache: RepoCache,
    repo_type: RepoType,
    id: String,
    revision: String,
    /// What the repository holds.
    pub(super) listing: Listing,
}

impl<'a> Repository<'a> {
    /// Finds the commit of a revision and lists its files.
    pub(super) fn open(
        config: &'a HubConfig,
        repo_type: RepoType,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Self, HubError> {
        check_id(id).and_then(|()| check_revision(revision)).map_err(|reason| HubError::BadReference {
            text: revision.map_or_else(|| id.to_owned(), |revision| format!("{id}@{revision}")),
            expected: "`org/name` nor `org/name@revision`",
            reason,
        })?;
        let revision = revision.unwrap_or(DEFAULT_REVISION).to_owned();
        let repo = Repo::with_revision(id.to_owned(), repo_type, revision.clone());
        let cache = RepoCache::new(&config.cache, repo.clone());
        let mut repository = Self {
            config,
            remote: None,
            cache,
            repo_type,
            id: id.to_owned(),
            revision,
            listing: Listing::default(),
        };
        let kept = repository.kept_listing();
        if config.offline {
            repository.listing = kept.ok_or_else(|| repository.offline("every file".to_owned()))?;
            return Ok(repository);
        }
        let remote = Remote::new(config, repository.cache.incoming())
            .map_err(|failure| repository.explain(failure, None, ""))?;
        let endpoint = remote.endpoint();
        // What a commit holds never changes, so a kept list of one needs no question.
        let pinned = super::cache::is_commit(&repository.revision);
        repository.listing = match kept {
            Some(kept) if pinned && kept.complete => kept,
            kept => match remote.info(&repo) {
                Ok(answer) => Listing::from_answer(&answer).ok_or_else(|| {
                    let message = "the answer is not that of a hub".to_owned();
                    repository.network(&endpoint, None, message)
                })?,
                Err(Failure::Network { message, .. }) if kept.is_some() => {
                    tracing::warn!(%message, repo = id, "no connection to the hub, using the cache");
                    kept.unwrap_or_default()
                }
                Err(failure) => {
                    let failure = repository.which_is_missing(&remote, failure);
                    return Err(repository.explain(failure, None, &endpoint));
                }
            },
        };
        repository.remote = Some(remote);
        if repository.listing.complete {
            repository.cache.write_listing(&repository.listing)?;
        }
        Ok(repository)
    }

    /// The same repository at another revision.
    pub(super) fn at(&self, revision: &str) -> Result<Self, HubError> {
        Self::open(self.config, self.repo_type, &self.id, Some(revision))
    }

    /// The id as messages show it.
    pub(super) fn name(&self) -> String {
        match self.repo_type {
            RepoType::Dataset => format!("datasets/{}", self.id),
            _ => self.id.clone(),
        }
    }

    /// Brings files into the cache; returns their paths in the snapshot, in the order asked for.
    pub(super) fn fetch(
        &self,
        files: &[String],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PathBuf>, HubError> {
        let Some(remote) = &self.remote else {
            return self.cached(files);
        };
        let fetch = |file: &String| match self.present(file) {
            Some(path) => Ok(path),
            None => self.fetch_one(remote, file, &mut *progress),
        };
        files.iter().map(fetch).collect()
    }

    /// An error if something is known to be missing from a cache that another client filled.
    ///
    /// With a connection the hub's own list is there, and nothing can be missing from that.
    pub(super) fn require(&self, missing: &[String]) -> Result<(), HubError> {
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.offline(name_list(missing.iter().map(String::as_str))))
    }

    /// Notes that the revision stands for this commit; returns the folder of the commit.
    ///
    /// Done last, so that a revision is never moved to a commit that is not wholly there.
    pub(super) fn finish(&self) -> Result<PathBuf, HubError> {
        if self.remote.is_some() {
            self.cache.write_reference(&self.revision, &self.listing.sha)?;
            self.cache.tidy();
        }
        Ok(self.cache.snapshot(&self.listing.sha))
    }

    fn kept_listing(&self) -> Option<Listing> {
        self.cache.listing(&self.cache.resolve(&self.revision)?)
    }

    /// The file's path, if it is in the snapshot with the right size.
    fn present(&self, file: &str) -> Option<PathBuf> {
        let path = self.cache.snapshot(&self.listing.sha).join(file);
        let found = fs::metadata(&path).ok()?;
        let expected = self.listing.file(file).and_then(|listed| listed.size);
        expected.is_none_or(|expected| expected == found.len()).then_some(path)
    }

    fn cached(&self, files: &[String]) -> Result<Vec<PathBuf>, HubError> {
        let snapshot = self.cache.snapshot(&self.listing.sha);
        let missing: Vec<&str> =
            files.iter().map(String::as_str).filter(|file| !snapshot.join(file).exists()).collect();
        if !missing.is_empty() {
            return Err(self.offline(name_list(missing)));
        }
        let present = |file: &String| {
            self.present(file).ok_or_else(|| HubError::Corrupt {
                repo: self.name(),
                file: file.clone(),
                message: "its size in the cache is not that on the hub".to_owned(),
                help: "run once without `HF_HUB_OFFLINE` to fetch it again".to_owned(),
            })
        };
        files.iter().map(present).collect()
    }

    fn fetch_one(
        &self,
        remote: &Remote<'_>,
        file: &str,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, HubError> {
        let explain = |failure| self.explain(failure, Some(file), &remote.endpoint());
        let sha = &self.listing.sha;
        if self.listing.file(file).and_then(|listed| listed.size) == Some(0) {
            // The hub cannot serve a range of nothing, which is how the client asks for a size.
            let blob = self.cache.blob(EMPTY);
            self.cache.write_empty(&blob)?;
            return self.cache.link(EMPTY, sha, file);
        }
        // The commit, not the branch: all files of a call belong together.
        let repo = Repo::with_revision(self.id.clone(), self.repo_type, sha.clone());
        let found = remote.metadata(&repo, file).map_err(explain)?;
        let _lock = self.cache.lock(&found.etag)?;
        let blob = self.cache.blob(&found.etag);
        if length(&blob) != Some(found.size) {
            self.download(remote, &repo, file, &found, progress)?;
            self.cache.adopt(&found.staged, &found.etag)?;
        }
        self.cache.link(&found.etag, sha, file)
    }

    /// Downloads until the content is what the hub says; a resumed part gets a second chance.
    fn download(
        &self,
        remote: &Remote<'_>,
        repo: &Repo,
        file: &str,
        found: &RemoteFile,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        let mut message = String::new();
        for _ in 0..2 {
            // A file that an earlier process downloaded but did not come to check.
            if length(&found.staged) != Some(found.size) {
                remote
                    .with_retries(|| remote.download(repo, file, found, &mut *progress))
                    .map_err(|failure| self.explain(failure, Some(file), &remote.endpoint()))?;
            }
            let disk = |source| HubError::Disk { path: found.staged.clone(), source };
            match mismatch(found).map_err(disk)? {
                None => return Ok(()),
                Some(found) => message = found,
            }
            tracing::warn!(file, message, "download is corrupt");
            fs::remove_file(&found.staged).map_err(disk)?;
        }
        Err(HubError::Corrupt {
            repo: self.name(),
            file: file.to_owned(),
            message,
            help: format!("{} sent it twice, try again later", remote.endpoint()),
        })
    }

    fn offline(&self, missing: String) -> HubError {
        HubError::Offline {
            repo: self.name(),
            revision: self.revision.clone(),
            missing,
            cache: self.config.cache.clone(),
        }
    }

    fn network(&self, endpoint: &str, file: Option<&str>, message: String) -> HubError {
        let repo = self.name();
        HubError::Network {
            endpoint: endpoint.to_owned(),
            what: file.map_or_else(|| format!("`{repo}`"), |file| format!("`{file}` of `{repo}`")),
            message,
        }
    }

    /// A plain 404 for a revision: asks for the repository alone to know which of the two it is.
    fn which_is_missing(&self, remote: &Remote<'_>, failure: Failure) -> Failure {
        let plain = matches!(failure, Failure::Status { status: 404, code: None });
        if !plain || self.revision == DEFAULT_REVISION {
            return failure;
        }
        let main = Repo::new(self.id.clone(), self.repo_type);
        let code = remote.info(&main).is_ok().then(|| "RevisionNotFound".to_owned());
        Failure::Status { status: 404, code }
    }

    fn explain(&self, failure: Failure, file: Option<&str>, endpoint: &str) -> HubError {
        let repo = self.name();
        match failure {
            Failure::Status { status: 404, code } => match (file, code.as_deref()) {
                (Some(file), _) => {
                    HubError::FileNotFound { repo, revision: self.revision.clone(), file: file.to_owned() }
                }
                (None, Some("RevisionNotFound")) => {
                    HubError::RevisionNotFound { repo, revision: self.revision.clone() }
                }
                _ => HubError::RepoNotFound { repo, endpoint: endpoint.to_owned() },
            },
            Failure::Status { status: status @ (401 | 403), .. } => HubError::Unauthorised {
                repo,
                status,
                help: match self.config.token {
                    None => "it does not exist, is private or gated; check the spelling, set `HF_TOKEN`",
                    Some(_) => {
                        "the token in `HF_TOKEN` gives no access; check it, and accept the terms \
                         on the repository's page if it is gated"
                    }
                },
            },
            Failure::Status { status, .. } => {
                self.network(endpoint, file, format!("the hub answered with status {status}"))
            }
            Failure::Network { message, .. } => self.network(endpoint, file, message),
            Failure::Disk(source) => HubError::Disk { path: self.cache.incoming(), source },
        }
    }
}

fn length(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.len())
}

/// What is wrong with a staged file, by its size and, where the ETag is one, its SHA-256.
fn mismatch(found: &RemoteFile) -> std::io::Result<Option<String>> {
    let mut file = File::open(&found.staged)?;
    let size = file.metadata()?.len();
    if size != found.size {
        let expected = found.size;
        return Ok(Some(format!("expected {expected} bytes, found {size}")));
    }
    if found.etag.len() != 64 || !found.etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let sha256: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = found.etag.to_lowercase();
    Ok((sha256 != expected).then(|| format!("expected SHA-256 {expected}, found {sha256}")))
}
