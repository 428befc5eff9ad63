//! The cache folder, in the layout of the Python client.
//!
//! ```text
//! models--org--name/
//!   blobs/ETAG               the bytes, under the name the hub gives them
//!   refs/main                the commit of a branch
//!   snapshots/COMMIT/FILE    a link into blobs
//!   .incoming/               downloads that are not yet whole or not yet checked
//!   .listing/COMMIT.json     the file list of a commit
//! ```
//! The last two are ours; the Python client passes over them. Its locks are used as well
//! (`.locks/models--org--name/ETAG.lock`), so that both can download at the same time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::HubError;
use super::listing::{ListedFile, Listing};

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    folder: PathBuf,
    repo: CacheRepo,
}

impl RepoCache {
    pub(super) fn new(root: &Path, repo: Repo) -> Self {
        Self {
            root: root.to_owned(),
            folder: root.join(repo.folder_name()),
            repo: Cache::new(root.to_owned()).repo(repo),
        }
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, sha: &str) -> PathBuf {
        self.repo.pointer_path(sha)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo.blob_path(etag)
    }

    /// Where downloads stay until they are checked; a cache of its own to `hf-hub`.
    pub(super) fn incoming(&self) -> PathBuf {
        self.folder.join(".incoming")
    }

    /// The commit that a revision stood for when it was last fetched.
    pub(super) fn resolve(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let sha = fs::read_to_string(self.reference(revision)).ok()?;
        let sha = sha.trim();
        let plain = !sha.is_empty() && sha.chars().all(|c| c.is_ascii_alphanumeric());
        plain.then(|| sha.to_owned())
    }

    pub(super) fn write_reference(&self, revision: &str, sha: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        write_whole(&self.reference(revision), sha.as_bytes())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    pub(super) fn write_listing(&self, listing: &Listing) -> Result<(), HubError> {
        let path = self.listing_path(&listing.sha);
        match serde_json::to_vec(listing) {
            Ok(json) => write_whole(&path, &json),
            Err(error) => Err(HubError::Disk { path, source: error.into() }),
        }
    }

    /// The kept list of a commit, or what its folder holds (a cache that Python filled).
    pub(super) fn listing(&self, sha: &str) -> Option<Listing> {
        let kept = fs::read(self.listing_path(sha)).ok();
        if let Some(listing) = kept.and_then(|json| serde_json::from_slice(&json).ok()) {
            return Some(listing);
        }
        let snapshot = self.snapshot(sha);
        let mut files = Vec::new();
        walk(&snapshot, "", &mut files).ok()?;
        files.sort();
        Some(Listing {
            sha: sha.to_owned(),
            files: files.into_iter().map(|path| ListedFile { path, size: None }).collect(),
            configs: Vec::new(),
            complete: false,
        })
    }

    fn listing_path(&self, sha: &str) -> PathBuf {
        self.folder.join(".listing").join(format!("{sha}.json"))
    }

    /// Waits until no other process downloads this blob; the lock ends with the handle.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        let name = self.folder.file_name().unwrap_or_default();
        let path = self.root.join(".locks").join(name).join(format!("{etag}.lock"));
        make_parent(&path)?;
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        lock.map_err(|source| HubError::Disk { path, source })
    }

    /// Takes a checked download over and links it into its snapshot.
    pub(super) fn adopt(&self, staged: &Path, etag: &str) -> Result<(), HubError> {
        let blob = self.blob(etag);
        make_parent(&blob)?;
        // The bytes must be on disk before the name is, or a power cut leaves a hole.
        let durable = File::open(staged).and_then(|file| file.sync_all());
        durable
            .and_then(|()| fs::rename(staged, &blob))
            .map_err(|source| HubError::Disk { path: blob, source })
    }

    /// Makes the blob of a file without content.
    pub(super) fn write_empty(&self, blob: &Path) -> Result<(), HubError> {
        write_whole(blob, &[])
    }

    /// Makes `snapshots/SHA/FILE` point at a blob.
    pub(super) fn link(&self, etag: &str, sha: &str, file: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(sha).join(file);
        make_parent(&path)?;
        // As many steps up as the file is deep below the repository's folder.
        let up = "../".repeat(2 + file.matches('/').count());
        let temporary = path.with_file_name(temporary_name(&path));
        let linked = link_file(&format!("{up}blobs/{etag}"), &self.blob(etag), &temporary)
            .and_then(|()| fs::rename(&temporary, &path));
        match linked {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = fs::remove_file(&temporary);
                Err(HubError::Disk { path, source })
            }
        }
    }

    /// Removes what downloads leave in the staging folder, unless another one is under way there.
    pub(super) fn tidy(&self) {
        remove_empty_folders(&self.incoming());
    }
}

/// A full commit hash, which never changes its meaning.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(unix)]
fn link_file(relative: &str, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

#[cfg(not(unix))]
fn link_file(_relative: &str, blob: &Path, link: &Path) -> std::io::Result<()> {
    // Symbolic links need a privilege on Windows.
    fs::hard_link(blob, link)
}

fn temporary_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().display();
    format!(".{name}.{}.tmp", std::process::id())
}

/// Writes a small file so that it is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    make_parent(path)?;
    let temporary = path.with_file_name(temporary_name(path));
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        HubError::Disk { path: path.to_owned(), source }
    })
}

fn make_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|source| HubError::Disk { path: parent.to_owned(), source })
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if !name.ends_with(".tmp") && entry.path().exists() {
            files.push(path);
        }
    }
    Ok(())
}

fn remove_empty_folders(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_folders(&entry.path());
        }
    }
    // Fails, as it should, where something is left.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(root: &Path) -> RepoCache {
        RepoCache::new(root, Repo::dataset("org/name".to_owned()))
    }

    #[test]
    fn links_reach_the_blob_from_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let blob = cache.blob("etag");
        write_whole(&blob, b"bytes").unwrap();
        assert!(blob.starts_with(root.path().join("datasets--org--name")));
        for file in ["a.csv", "b/a.csv", "b/c/a.csv", "a.csv"] {
            let path = cache.link("etag", "sha", file).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"bytes");
        }
        let listing = cache.listing("sha").unwrap();
        assert!(!listing.complete);
        assert_eq!(listing.paths().collect::<Vec<_>>(), ["a.csv", "b/a.csv", "b/c/a.csv"]);
        assert_eq!(cache.listing("other"), None);
    }

    #[test]
    fn revisions_are_remembered_and_commits_stand_for_themselves() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(cache.resolve("refs/convert/parquet"), None);
        cache.write_reference("refs/convert/parquet", "abc").unwrap();
        assert_eq!(cache.resolve("refs/convert/parquet").as_deref(), Some("abc"));
        assert_eq!(cache.resolve(commit).as_deref(), Some(commit));
        // A commit stands for itself, so there is nothing to remember.
        cache.write_reference(commit, commit).unwrap();
        assert!(!cache.reference(commit).exists());
        fs::write(cache.reference("bad"), "../../etc").unwrap();
        assert_eq!(cache.resolve("bad"), None);
    }

    #[test]
    fn tidying_keeps_what_is_under_way() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let part = cache.incoming().join("blobs/etag.part");
        write_whole(&part, b"half").unwrap();
        fs::create_dir_all(cache.incoming().join("snapshots/sha")).unwrap();
        cache.tidy();
        assert!(part.exists() && !cache.incoming().join("snapshots").exists());
        fs::remove_file(&part).unwrap();
        cache.tidy();
        assert!(!cache.incoming().exists());
    }
}
