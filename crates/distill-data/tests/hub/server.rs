//! A hub on 127.0.0.1: the API's lists, `resolve` with redirects, ETags and ranges, and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// What a repository holds at one revision.
#[derive(Clone)]
pub struct Files {
    pub revision: String,
    pub token: Option<String>,
    sha: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    bytes: Vec<u8>,
    /// Sent in place of `bytes`.
    false_bytes: Option<Vec<u8>>,
    /// On the CDN, behind a redirect, named by its SHA-256.
    large: bool,
    vanished: bool,
}

impl Files {
    pub fn new(sha: &str) -> Self {
        Self { revision: "main".to_owned(), token: None, sha: sha.to_owned(), files: BTreeMap::new() }
    }

    pub fn small(&mut self, name: &str, bytes: &[u8]) {
        self.insert(name, bytes.to_vec(), false);
    }

    pub fn large(&mut self, name: &str, bytes: Vec<u8>) {
        self.insert(name, bytes, true);
    }

    fn insert(&mut self, name: &str, bytes: Vec<u8>, large: bool) {
        let entry = Entry { bytes, false_bytes: None, large, vanished: false };
        self.files.insert(name.to_owned(), entry);
    }

    /// Listed, but 404.
    pub fn vanish(&mut self, name: &str) {
        self.files.get_mut(name).unwrap().vanished = true;
    }

    /// Other bytes are sent than the ETag promises.
    pub fn falsify(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.get_mut(name).unwrap().false_bytes = Some(bytes);
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.files[name].bytes
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct State {
    /// `models/ID` or `datasets/ID`, then revision.
    repositories: BTreeMap<String, BTreeMap<String, Files>>,
    cut_once: BTreeSet<String>,
    cut_always: BTreeSet<String>,
    /// Ranges of downloads, by file.
    ranges: Vec<(String, String)>,
    requests: usize,
    failures: usize,
    silent: bool,
    stopped: bool,
}

pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let mut workers = Vec::new();
            for stream in listener.incoming() {
                if shared.lock().unwrap().stopped {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let state = Arc::clone(&shared);
                // A broken pipe is the client's affair.
                workers.push(std::thread::spawn(move || drop(answer(stream, address, &state))));
            }
            for worker in workers {
                worker.join().unwrap();
            }
        });
        Self { address, state, thread: Mutex::new(Some(thread)) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn add(&self, repository: &str, files: Files) {
        let mut state = self.state.lock().unwrap();
        let revisions = state.repositories.entry(repository.to_owned()).or_default();
        revisions.insert(files.revision.clone(), files);
    }

    pub fn cut_once(&self, file: &str) {
        self.state.lock().unwrap().cut_once.insert(file.to_owned());
    }

    pub fn cut_always(&self, file: &str) {
        self.state.lock().unwrap().cut_always.insert(file.to_owned());
    }

    pub fn cut_never(&self) {
        self.state.lock().unwrap().cut_always.clear();
    }

    pub fn fail_next(&self, requests: usize) {
        self.state.lock().unwrap().failures = requests;
    }

    pub fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }

    pub fn ranges(&self, file: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_file = state.ranges.iter().filter(|(name, _)| name == file);
        of_file.map(|(_, range)| range.clone()).collect()
    }

    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    pub fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

struct Request {
    path: String,
    range: Option<String>,
    token: Option<String>,
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let (mut range, mut token) = (None, None);
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_lowercase().as_str() {
            "range" => range = Some(value.trim().to_owned()),
            "authorization" => token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    Ok(Request { path, range, token })
}

fn answer(stream: TcpStream, address: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    if state.lock().unwrap().silent {
        // Longer than the client waits, shorter than a test may hang.
        std::thread::sleep(Duration::from_secs(2));
        return Ok(());
    }
    let mut state = state.lock().unwrap();
    state.requests += 1;
    if state.failures > 0 {
        state.failures -= 1;
        return send(&stream, "503 Service Unavailable", &[], b"busy");
    }
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(api) = path.strip_prefix("/api/") {
        return list(&stream, &state, &request, api);
    }
    if let Some(sha256) = path.strip_prefix("/cdn/") {
        let found = state
            .repositories
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|files| &files.files)
            .find(|(_, entry)| entry.large && self::sha256(&entry.bytes) == sha256)
            .map(|(name, entry)| (name.clone(), entry.clone()));
        let Some((name, entry)) = found else {
            return send(&stream, "404 Not Found", &[], b"");
        };
        let headers = [("etag", "\"of-the-cdn\"".to_owned())];
        return send_range(&stream, &mut state, &request, &name, &entry, &headers);
    }
    resolve(&stream, address, &mut state, &request, path)
}

fn list(stream: &TcpStream, state: &State, request: &Request, api: &str) -> std::io::Result<()> {
    let Some((repository, revision)) = api.split_once("/revision/") else {
        return send(stream, "404 Not Found", &[], b"");
    };
    let code = |code: &str| [("x-error-code", code.to_owned())];
    let Some(revisions) = state.repositories.get(repository) else {
        return send(stream, "404 Not Found", &code("RepoNotFound"), b"{}");
    };
    let Some(files) = find_revision(revisions, &decode(revision)) else {
        return send(stream, "404 Not Found", &code("RevisionNotFound"), b"{}");
    };
    if files.token.is_some() && files.token != request.token {
        return send(stream, "401 Unauthorized", &code("RepoNotFound"), b"{}");
    }
    let siblings: Vec<serde_json::Value> = files
        .files
        .iter()
        .map(|(name, entry)| serde_json::json!({ "rfilename": name, "size": entry.bytes.len() }))
        .collect();
    let answer = serde_json::json!({ "sha": files.sha, "siblings": siblings, "private": false });
    let headers = [("content-type", "application/json".to_owned())];
    send(stream, "200 OK", &headers, answer.to_string().as_bytes())
}

fn resolve(
    stream: &TcpStream,
    address: SocketAddr,
    state: &mut State,
    request: &Request,
    path: &str,
) -> std::io::Result<()> {
    let parts = path.trim_start_matches('/').split_once("/resolve/");
    let Some((repository, rest)) = parts else {
        return send(stream, "404 Not Found", &[], b"");
    };
    let repository = match repository.strip_prefix("datasets/") {
        Some(id) => format!("datasets/{id}"),
        None => format!("models/{repository}"),
    };
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    let file = decode(file);
    let found = state
        .repositories
        .get(&repository)
        .and_then(|revisions| find_revision(revisions, &decode(revision)))
        .filter(|files| files.token.is_none() || files.token == request.token)
        .and_then(|files| Some((files.sha.clone(), files.files.get(&file)?.clone())));
    let Some((sha, entry)) = found.filter(|(_, entry)| !entry.vanished) else {
        let headers = [("x-error-code", "EntryNotFound".to_owned())];
        return send(stream, "404 Not Found", &headers, b"Entry not found");
    };
    let commit = ("x-repo-commit", sha);
    if entry.large {
        let sha256 = sha256(&entry.bytes);
        let headers = [
            commit,
            ("x-linked-etag", format!("\"{sha256}\"")),
            ("x-linked-size", entry.bytes.len().to_string()),
            ("location", format!("http://{address}/cdn/{sha256}")),
        ];
        return send(stream, "302 Found", &headers, b"");
    }
    // The hub's name of a small file is its git hash; here any 40 digits do.
    let etag = format!("\"{}\"", &sha256(&entry.bytes)[..40]);
    send_range(stream, state, request, &file, &entry, &[commit, ("etag", etag)])
}

fn find_revision<'a>(revisions: &'a BTreeMap<String, Files>, name: &str) -> Option<&'a Files> {
    revisions.get(name).or_else(|| revisions.values().find(|files| files.sha == name))
}

fn send_range(
    stream: &TcpStream,
    state: &mut State,
    request: &Request,
    name: &str,
    entry: &Entry,
    headers: &[(&str, String)],
) -> std::io::Result<()> {
    let bytes = entry.false_bytes.as_ref().unwrap_or(&entry.bytes);
    let mut headers = headers.to_vec();
    headers.push(("accept-ranges", "bytes".to_owned()));
    let Some(range) = &request.range else {
        return send(stream, "200 OK", &headers, bytes);
    };
    let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let last = end.parse().unwrap_or(bytes.len().saturating_sub(1));
    if start >= bytes.len() {
        return send(stream, "416 Range Not Satisfiable", &headers, b"");
    }
    let total = bytes.len();
    headers.push(("content-range", format!("bytes {start}-{last}/{total}")));
    let body = &bytes[start..=last];
    let download = end.is_empty();
    if download {
        state.ranges.push((name.to_owned(), range.clone()));
    }
    if download && (state.cut_once.remove(name) || state.cut_always.contains(name)) {
        // The length of the whole, half of the bytes, and the connection is gone.
        write_head(stream, "206 Partial Content", &headers, body.len())?;
        let mut stream = stream;
        stream.write_all(&body[..body.len() / 2])?;
        return stream.flush();
    }
    send(stream, "206 Partial Content", &headers, body)
}

fn send(stream: &TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    write_head(stream, status, headers, body.len())?;
    let mut stream = stream;
    stream.write_all(body)?;
    stream.flush()
}

fn write_head(
    mut stream: &TcpStream,
    status: &str,
    headers: &[(&str, String)],
    length: usize,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())
}

fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            decoded.push(u8::from_str_radix(&path[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).unwrap()
}
