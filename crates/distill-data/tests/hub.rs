//! Models and data sets from a local server that behaves like the hub, through the real client.

#[path = "hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use distill_data::hub::{Download, HubClient, HubConfig, HubError};
use server::{Files, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Bytes that look like nothing in particular and differ everywhere.
fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

fn model() -> Files {
    let mut files = Files::new(COMMIT);
    files.small("config.json", br#"{"model_type": "bert"}"#);
    files.small("tokenizer.json", br#"{"version": "1.0"}"#);
    files.small("vocab.txt", b"[PAD]\n[UNK]\n");
    files.small("README.md", b"# a model");
    files.large("model.safetensors", content(300_000, 1));
    files.large("pytorch_model.bin", content(10, 2));
    files
}

fn client(server: &Server, home: &Path) -> HubClient {
    HubClient::new(config(server, home))
}

fn config(server: &Server, home: &Path) -> HubConfig {
    HubConfig {
        endpoint: Some(server.endpoint()),
        max_retries: 2,
        retry_wait: Duration::from_millis(1),
        ..HubConfig::new(home.join("hub"))
    }
}

fn offline(server: &Server, home: &Path) -> HubClient {
    HubClient::new(HubConfig { offline: true, ..config(server, home) })
}

fn quiet(_: Download<'_>) {}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn assert_nothing_half_written(home: &Path) {
    for path in walk(home) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let half = name.ends_with(".part") || name.ends_with(".tmp");
        assert!(!half && !path.to_str().unwrap().contains(".incoming"), "{}", path.display());
    }
}

#[test]
fn a_model_survives_a_cut_connection_and_works_offline() {
    let server = Server::start();
    server.add("models/org/tiny", model());
    server.cut_once("model.safetensors");
    let home = tempfile::tempdir().unwrap();
    let mut steps: Vec<(String, u64, u64)> = Vec::new();
    let folder = client(&server, home.path())
        .model_files("org/tiny", None, &mut |download| {
            steps.push((download.file.to_owned(), download.bytes, download.total));
        })
        .unwrap();

    let files = model();
    for name in ["config.json", "tokenizer.json", "vocab.txt", "model.safetensors"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), files.bytes(name), "{name}");
    }
    for name in ["README.md", "pytorch_model.bin"] {
        assert!(!folder.join(name).exists(), "{name} is not needed");
    }
    assert_nothing_half_written(home.path());

    // The second attempt went on where the first broke off.
    let ranges = server.ranges("model.safetensors");
    assert_eq!(ranges.first().map(String::as_str), Some("bytes=0-"));
    let [_, resumed] = ranges.as_slice() else {
        panic!("expected one retry, found {ranges:?}");
    };
    let start: u64 = resumed["bytes=".len()..resumed.len() - 1].parse().unwrap();
    assert!(start > 0 && start <= 150_000, "{resumed}");
    let weights: Vec<_> = steps.iter().filter(|(file, ..)| file == "model.safetensors").collect();
    assert_eq!(weights.last().unwrap().1, 300_000);
    assert!(weights.iter().all(|(_, bytes, total)| bytes <= total && *total == 300_000));

    // The layout of the Python client.
    let repository = home.path().join("hub/models--org--tiny");
    assert_eq!(folder, repository.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let blob = fs::read_link(folder.join("model.safetensors")).unwrap();
    let sha256 = server::sha256(files.bytes("model.safetensors"));
    assert_eq!(blob, Path::new("../../blobs").join(sha256));

    // Again, with a connection: the list is asked for, no file is.
    let before = server.requests();
    let again = client(&server, home.path()).model_files("org/tiny", None, &mut quiet);
    assert_eq!(again.unwrap(), folder);
    assert_eq!(server.requests() - before, 1);

    // A commit is not even asked for.
    let pinned = client(&server, home.path()).model_files("org/tiny", Some(COMMIT), &mut quiet);
    assert_eq!(pinned.unwrap(), folder);
    assert_eq!(server.requests() - before, 1);

    // Without a server: offline by setting, and by a connection that is refused.
    server.stop();
    for client in [offline(&server, home.path()), client(&server, home.path())] {
        assert_eq!(client.model_files("org/tiny", None, &mut quiet).unwrap(), folder);
    }
    let error = offline(&server, home.path()).model_files("org/other", None, &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("lacks every file of `org/other` at revision `main`"), "{message}");
    let error = client(&server, home.path()).model_files("org/other", None, &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains(&server.endpoint()), "{error}");
}

#[test]
fn a_data_set_with_odd_names_is_fetched_by_split() {
    let server = Server::start();
    let mut files = Files::new(COMMIT);
    files.small("README.md", b"# data");
    files.large("data/train-00000-of-00002.parquet", content(5000, 3));
    files.large("data/train-00001-of-00002.parquet", content(6000, 4));
    files.small("data/test-00000-of-00001.parquet", b"PAR1");
    files.small("extra/held out (test).csv", b"text,label\na,1\n");
    files.small("extra/train.csv", b"");
    server.add("datasets/org/news", files.clone());
    server.cut_once("data/train-00001-of-00002.parquet");
    let home = tempfile::tempdir().unwrap();
    let get = |client: &HubClient, split: &str| client.dataset_files("org/news", None, split, &mut quiet);
    let online = client(&server, home.path());
    let train = get(&online, "train").unwrap();
    assert_eq!(train.len(), 2);
    for (path, name) in
        train.iter().zip(["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"])
    {
        assert!(path.ends_with(name));
        assert_eq!(fs::read(path).unwrap(), files.bytes(name));
    }
    let odd = get(&online, "extra/test").unwrap();
    assert_eq!(fs::read(&odd[0]).unwrap(), b"text,label\na,1\n");
    let empty = get(&online, "extra/train").unwrap();
    assert_eq!(fs::read(&empty[0]).unwrap(), b"");

    let error = get(&online, "dev").unwrap_err();
    assert!(matches!(error, HubError::UnknownSplit { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "`datasets/org/news` has no split `dev`, found `default/test`, `default/train`, \
         `extra/test`, `extra/train`"
    );
    assert_nothing_half_written(home.path());

    server.stop();
    let offline = offline(&server, home.path());
    assert_eq!(get(&offline, "train").unwrap(), train);
    let error = get(&offline, "test").unwrap_err();
    let message = error.to_string();
    assert!(message.contains("lacks `data/test-00000-of-00001.parquet`"), "{message}");
}

#[test]
fn a_loading_script_is_read_from_the_conversion() {
    let server = Server::start();
    let mut script = Files::new(COMMIT);
    script.small("news.py", b"import datasets");
    server.add("datasets/org/news", script);
    let home = tempfile::tempdir().unwrap();
    let client = client(&server, home.path());
    let error = client.dataset_files("org/news", None, "train", &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::NoDataFiles { .. }), "{error}");
    assert!(error.to_string().contains("found `news.py`"), "{error}");

    let mut converted = Files::new("fedcba9876543210fedcba9876543210fedcba98");
    converted.revision = "refs/convert/parquet".to_owned();
    converted.large("default/train/0000.parquet", content(100, 5));
    server.add("datasets/org/news", converted.clone());
    let files = client.dataset_files("org/news", None, "train", &mut quiet).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), converted.bytes("default/train/0000.parquet"));
    let again = offline(&server, home.path()).dataset_files("org/news", None, "train", &mut quiet);
    // The script's own revision was never taken whole, but its list is known.
    assert_eq!(again.unwrap(), files);
}

#[test]
fn shards_come_with_their_index() {
    let server = Server::start();
    let mut files = Files::new(COMMIT);
    files.small("config.json", b"{}");
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    files.small("model.safetensors.index.json", index);
    files.large("model-1.safetensors", content(100, 6));
    files.large("model-2.safetensors", content(200, 7));
    server.add("models/sharded", files.clone());
    let home = tempfile::tempdir().unwrap();
    let client = client(&server, home.path());
    let folder = client.model_files("sharded", Some("main"), &mut quiet).unwrap();
    for name in ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), files.bytes(name));
    }

    let mut files = Files::new(COMMIT);
    files.small("config.json", b"{}");
    files.small("model.safetensors.index.json", index);
    files.large("model-1.safetensors", content(100, 6));
    server.add("models/torn", files);
    let error = client.model_files("torn", None, &mut quiet).unwrap_err();
    assert!(error.to_string().contains("it names `model-2.safetensors`"), "{error}");
}

#[test]
fn errors_say_what_is_wrong() {
    let server = Server::start();
    server.add("models/org/tiny", model());
    let mut torch = Files::new(COMMIT);
    torch.small("config.json", b"{}");
    torch.large("pytorch_model.bin", content(10, 2));
    server.add("models/org/torch", torch);
    let mut vanished = model();
    vanished.vanish("model.safetensors");
    server.add("models/org/vanished", vanished);
    let mut private = model();
    private.token = Some("hf_right".to_owned());
    server.add("models/org/private", private);
    let mut other = Files::new(COMMIT);
    other.small("README.md", b"");
    server.add("models/org/readme", other);

    let home = tempfile::tempdir().unwrap();
    let client = client(&server, home.path());
    let error = |id: &str, revision| client.model_files(id, revision, &mut quiet).unwrap_err();

    let found = error("org/none", None);
    assert!(matches!(found, HubError::RepoNotFound { .. }), "{found}");
    let found = error("org/tiny", Some("v9"));
    assert_eq!(found.to_string(), "`org/tiny` has no revision `v9`; leave `@v9` out for `main`");
    let found = error("org/torch", None);
    assert!(matches!(found, HubError::NoSafetensors { .. }), "{found}");
    assert!(found.to_string().contains("found `pytorch_model.bin`; convert it"), "{found}");
    let found = error("org/readme", None);
    assert!(matches!(found, HubError::NoConfig { .. }), "{found}");
    let found = error("org/vanished", None);
    assert!(matches!(&found, HubError::FileNotFound { file, .. } if file == "model.safetensors"), "{found}");
    let found = error("org/private", None);
    assert!(matches!(found, HubError::Unauthorised { status: 401, .. }), "{found}");
    assert!(found.to_string().contains("set `HF_TOKEN`"), "{found}");
    let found = error("../etc", None);
    assert!(matches!(found, HubError::BadReference { .. }), "{found}");

    let with = |token: &str| {
        HubClient::new(HubConfig { token: Some(token.to_owned()), ..config(&server, home.path()) })
            .model_files("org/private", None, &mut quiet)
    };
    let found = with("hf_wrong").unwrap_err();
    assert!(found.to_string().contains("the token in `HF_TOKEN` gives no access"), "{found}");
    assert!(with("hf_right").is_ok());
    assert_nothing_half_written(home.path());
}

#[test]
fn what_was_cut_for_good_is_not_trusted_and_resumed_later() {
    let server = Server::start();
    server.add("models/org/tiny", model());
    server.cut_always("model.safetensors");
    let home = tempfile::tempdir().unwrap();
    let impatient = HubClient::new(HubConfig { max_retries: 0, ..config(&server, home.path()) });
    let error = impatient.model_files("org/tiny", None, &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains("`model.safetensors` of `org/tiny`"), "{error}");
    let repository = home.path().join("hub/models--org--tiny");
    assert!(!repository.join("snapshots").join(COMMIT).join("model.safetensors").exists());
    assert!(!repository.join("refs/main").exists());
    let error = offline(&server, home.path()).model_files("org/tiny", Some(COMMIT), &mut quiet).unwrap_err();
    assert!(error.to_string().contains("lacks `model.safetensors` of"), "{error}");

    server.cut_never();
    let folder = impatient.model_files("org/tiny", None, &mut quiet).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), model().bytes("model.safetensors"));
    assert_ne!(server.ranges("model.safetensors").last().unwrap(), "bytes=0-");
    assert_nothing_half_written(home.path());
}

#[test]
fn wrong_bytes_never_enter_the_cache() {
    let server = Server::start();
    let mut files = model();
    files.falsify("model.safetensors", content(300_000, 99));
    server.add("models/org/tiny", files);
    let home = tempfile::tempdir().unwrap();
    let client = client(&server, home.path());
    let error = client.model_files("org/tiny", None, &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("expected SHA-256"), "{error}");
    assert_nothing_half_written(home.path());
    let sha256 = server::sha256(model().bytes("model.safetensors"));
    let repository = home.path().join("hub/models--org--tiny");
    assert!(!repository.join("blobs").join(&sha256).exists());

    // A part of other bytes, left by whatever: noticed once it is whole, then fetched anew.
    server.add("models/org/tiny", model());
    let staging = repository.join(".incoming/models--org--tiny/blobs");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join(format!("{sha256}.part")), content(1000, 8)).unwrap();
    let folder = client.model_files("org/tiny", None, &mut quiet).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), model().bytes("model.safetensors"));
    assert_nothing_half_written(home.path());

    // A file that was damaged in the cache is fetched again; offline it is reported.
    fs::write(repository.join("blobs").join(&sha256), b"short").unwrap();
    let error = offline(&server, home.path()).model_files("org/tiny", None, &mut quiet).unwrap_err();
    assert!(matches!(error, HubError::Corrupt { .. }), "{error}");
    let folder = client.model_files("org/tiny", None, &mut quiet).unwrap();
    assert_eq!(fs::metadata(folder.join("model.safetensors")).unwrap().len(), 300_000);
}

#[test]
fn a_server_error_passes_and_a_silent_one_ends() {
    let server = Server::start();
    server.add("models/org/tiny", model());
    server.fail_next(2);
    let home = tempfile::tempdir().unwrap();
    assert!(client(&server, home.path()).model_files("org/tiny", None, &mut quiet).is_ok());

    server.fall_silent();
    let start = Instant::now();
    let fresh = tempfile::tempdir().unwrap();
    let error = HubClient::new(HubConfig {
        stall_timeout: Duration::from_millis(300),
        ..config(&server, fresh.path())
    })
    .model_files("org/tiny", None, &mut quiet)
    .unwrap_err();
    assert!(error.to_string().contains("no data for 0.3 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_branch_moves_only_once_all_is_there() {
    let server = Server::start();
    server.add("models/org/tiny", model());
    let home = tempfile::tempdir().unwrap();
    let old = client(&server, home.path()).model_files("org/tiny", None, &mut quiet).unwrap();

    let mut newer = Files::new("1111111111111111111111111111111111111111");
    newer.small("config.json", br#"{"model_type": "roberta"}"#);
    newer.large("model.safetensors", content(400_000, 10));
    server.add("models/org/tiny", newer.clone());
    server.cut_always("model.safetensors");
    assert!(client(&server, home.path()).model_files("org/tiny", None, &mut quiet).is_err());
    let kept = offline(&server, home.path()).model_files("org/tiny", None, &mut quiet);
    assert_eq!(kept.unwrap(), old);

    server.cut_never();
    let new = client(&server, home.path()).model_files("org/tiny", None, &mut quiet).unwrap();
    assert_ne!(new, old);
    assert_eq!(fs::read(new.join("model.safetensors")).unwrap(), newer.bytes("model.safetensors"));
    assert!(old.join("model.safetensors").exists());
}
