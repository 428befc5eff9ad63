//! Requests to the hub through `hf-hub`, tried again where that can help.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};
use serde_json::Value;

use super::{Download, HubConfig, Progress};

/// Largest file list that is read, in bytes; one of a million files is near it.
const MAX_ANSWER: u64 = 256 << 20;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The hub answered with an error.
    Status { status: u16, code: Option<String> },
    /// There was no answer, or it broke off.
    Network { message: String, may_pass: bool },
    /// The staging folder cannot be written.
    Disk(std::io::Error),
}

impl Failure {
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Network { may_pass, .. } => *may_pass,
            Self::Disk(_) => false,
        }
    }

    fn lasting(message: impl ToString) -> Self {
        Self::Network { message: message.to_string(), may_pass: false }
    }
}

/// What the hub says about a file before it is downloaded.
#[derive(Debug)]
pub(super) struct RemoteFile {
    /// Name of the content, without quotes and `W/`.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: u64,
    /// Where the client puts the content in the staging folder.
    pub(super) staged: PathBuf,
    /// The link that the client makes to it.
    pointer: PathBuf,
}

/// The hub, with one staging folder.
pub(super) struct Remote<'a> {
    config: &'a HubConfig,
    api: Api,
    staging: PathBuf,
}

impl<'a> Remote<'a> {
    pub(super) fn new(config: &'a HubConfig, staging: PathBuf) -> Result<Self, Failure> {
        let mut builder = ApiBuilder::from_cache(Cache::new(staging.clone()))
            .with_token(config.token.clone())
            .with_progress(false)
            // Its own retries can append to the wrong place of a resumed file; ours start over.
            .with_retries(0)
            .with_user_agent("distill", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = builder.build().map_err(classify)?;
        Ok(Self { config, api, staging })
    }

    /// The address of the hub, which only the client knows if none was set.
    pub(super) fn endpoint(&self) -> String {
        let url = self.api.model("m".to_owned()).url("f");
        url.strip_suffix("/m/resolve/main/f").unwrap_or(&url).to_owned()
    }

    /// The answer of the API about a repository.
    pub(super) fn info(&self, repo: &Repo) -> Result<Value, Failure> {
        self.with_retries(|| {
            let repo = repo.clone();
            let timeout = self.config.stall_timeout;
            self.supervised(&mut |_| {}, move |api, _| {
                let mut response = api
                    .repo(repo)
                    .info_request()
                    .query("blobs", "true")
                    .config()
                    .http_status_as_error(false)
                    .timeout_connect(Some(timeout))
                    .build()
                    .call()
                    .map_err(|error| classify(ApiError::RequestError(Box::new(error))))?;
                let status = response.status().as_u16();
                if status >= 400 {
                    let code = response
                        .headers()
                        .get("x-error-code")
                        .and_then(|code| Some(code.to_str().ok()?.to_owned()));
                    return Err(Failure::Status { status, code });
                }
                response
                    .body_mut()
                    .with_config()
                    .limit(MAX_ANSWER)
                    .read_json()
                    .map_err(|error| classify(ApiError::RequestError(Box::new(error))))
            })
        })
    }

    /// ETag and size of a file.
    pub(super) fn metadata(&self, repo: &Repo, file: &str) -> Result<RemoteFile, Failure> {
        self.with_retries(|| {
            let (repo, file) = (repo.clone(), encode_path(file));
            let staging = Cache::new(self.staging.clone()).repo(repo.clone());
            self.supervised(&mut |_| {}, move |api, _| {
                let url = api.repo(repo).url(&file);
                let found = api.metadata(&url).map_err(classify)?;
                let name = |text: &str| {
                    !text.is_empty()
                        && !text.starts_with('.')
                        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                };
                // Both become file names.
                let etag = found.etag().trim_start_matches("W/");
                if !name(etag) || !name(found.commit_hash()) {
                    return Err(Failure::lasting("the answer has no usable ETag or commit"));
                }
                Ok(RemoteFile {
                    etag: etag.to_owned(),
                    size: found.size() as u64,
                    staged: staging.blob_path(found.etag()),
                    pointer: staging.pointer_path(found.commit_hash()).join(&file),
                })
            })
        })
    }

    /// Downloads a file into the staging folder, once; continues what an earlier attempt left.
    pub(super) fn download(
        &self,
        repo: &Repo,
        file: &str,
        remote: &RemoteFile,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let part = remote.staged.with_extension("part");
        // A part that is whole or too long cannot be continued: the range would be empty.
        if std::fs::metadata(&part).is_ok_and(|found| found.len() >= remote.size) {
            std::fs::remove_file(&part).map_err(Failure::Disk)?;
        }
        // The client does not replace a link, not even a broken one.
        let _ = std::fs::remove_file(&remote.pointer);
        let job = {
            let (repo, file) = (repo.clone(), encode_path(file));
            move |api: Api, events: &Sender<(u64, u64)>| {
                let progress = Reporter { events: events.clone(), bytes: 0, total: 0 };
                let pointer = api.repo(repo).download_with_progress(&file, progress);
                pointer.map_err(classify)
            }
        };
        let mut report = |(bytes, total)| progress(Download { file, bytes, total });
        self.supervised(&mut report, job)?;
        // What the client leaves beside the content has done its work.
        let folder = self.staging.join(repo.folder_name());
        let reference = folder.join("refs").join(repo.revision());
        for left in [&remote.pointer, &remote.staged.with_extension("lock"), &reference] {
            let _ = std::fs::remove_file(left);
        }
        Ok(())
    }

    /// Runs `attempt` again while its failure may pass.
    pub(super) fn with_retries<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            match attempt() {
                Err(failure) if failure.may_pass() && tried < self.config.max_retries => {
                    tracing::warn!(?failure, attempt = tried + 1, "request to the hub failed");
                    std::thread::sleep(self.wait(tried));
                    tried += 1;
                }
                result => return result,
            }
        }
    }

    fn wait(&self, tried: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        self.config.retry_wait.saturating_mul(1 << tried.min(16)).min(LONGEST)
    }

    /// Runs a blocking job on a thread of its own, and gives up when it falls silent.
    ///
    /// The client has no timeouts and can panic on answers that are not a hub's; on another thread
    /// both become errors. A silent job keeps its thread, and its part of the file, to the end of
    /// the process, so it is not tried again.
    fn supervised<T: Send + 'static>(
        &self,
        report: &mut dyn FnMut((u64, u64)),
        job: impl FnOnce(Api, &Sender<(u64, u64)>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (events, received) = channel();
        let api = self.api.clone();
        let worker = std::thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || job(api, &events))
            .map_err(Failure::Disk)?;
        loop {
            match received.recv_timeout(self.config.stall_timeout) {
                Ok(event) => report(event),
                // The sender goes with the job: it has ended.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.config.stall_timeout.as_secs_f32();
                    return Err(Failure::lasting(format!("no data for {seconds} s")));
                }
            }
        }
        worker.join().unwrap_or_else(|_| Err(Failure::lasting("the answer is not that of a hub")))
    }
}

/// Sends the client's progress to the thread that shows it.
struct Reporter {
    events: Sender<(u64, u64)>,
    bytes: u64,
    total: u64,
}

impl hf_hub::api::Progress for Reporter {
    fn init(&mut self, size: usize, _file: &str) {
        (self.bytes, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.bytes += size as u64;
        // Nobody listens any more once the download counts as silent.
        let _ = self.events.send((self.bytes, self.total));
    }

    fn finish(&mut self) {}
}

/// Percent-encodes what a URL path cannot hold; the client takes names as they are.
fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/=+".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

fn classify(error: ApiError) -> Failure {
    match error {
        ApiError::RequestError(error) => classify_request(*error),
        ApiError::IoError(error) => classify_io(error),
        ApiError::TooManyRetries(error) => classify(*error),
        ApiError::LockAcquisition(path) => {
            Failure::Network { message: format!("`{}` is locked", path.display()), may_pass: true }
        }
        error => Failure::lasting(format!("the answer is not that of a hub: {error}")),
    }
}

fn classify_request(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::StatusCode(status) => Failure::Status { status, code: None },
        ureq::Error::Io(error) => classify_io(error),
        ureq::Error::HostNotFound | ureq::Error::BadUri(_) | ureq::Error::Tls(_) => Failure::lasting(error),
        ureq::Error::Rustls(_) | ureq::Error::Json(_) => Failure::lasting(error),
        error => Failure::Network { message: error.to_string(), may_pass: true },
    }
}

/// Reading the network and writing the file end in the same error type.
fn classify_io(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory => Failure::Disk(error),
        kind => {
            let message = error.to_string();
            // The standard library has no kind for a name that cannot be resolved.
            let no_such_host = message.contains("lookup address");
            let no_way = matches!(
                kind,
                ErrorKind::ConnectionRefused | ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable
            );
            Failure::Network { message, may_pass: !no_such_host && !no_way }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_byte_by_byte() {
        assert_eq!(encode_path("data/a-b_c.1=2.csv"), "data/a-b_c.1=2.csv");
        assert_eq!(encode_path("a b#ä.csv"), "a%20b%23%C3%A4.csv");
    }

    #[test]
    fn a_full_disk_is_not_tried_again() {
        assert!(!classify_io(ErrorKind::StorageFull.into()).may_pass());
        assert!(classify_io(ErrorKind::UnexpectedEof.into()).may_pass());
        assert!(!classify_io(ErrorKind::ConnectionRefused.into()).may_pass());
        let lookup = std::io::Error::other("failed to lookup address information: no such name");
        assert!(!classify_io(lookup).may_pass());
        for (status, expected) in [(404, false), (401, false), (429, true), (503, true)] {
            assert_eq!(Failure::Status { status, code: None }.may_pass(), expected);
        }
    }
}
