//! A server that behaves like an endpoint for models, well or badly, and remembers what it was asked.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Value,
}

impl Request {
    /// What the user asks last, or the plain prompt.
    pub fn question(&self) -> String {
        let last = self.body["messages"].as_array().and_then(|messages| messages.last());
        let text = last.map_or(&self.body["prompt"], |message| &message["content"]);
        text.as_str().unwrap_or_default().to_owned()
    }
}

/// What the server does about a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answers with this text, in the form of the request.
    Say(String),
    /// Answers with a status, headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Reads the request and closes the connection.
    Cut,
    /// Sends half of an answer and closes the connection.
    CutHalfway,
    /// Says nothing until the client goes away.
    Stall,
    /// Waits until so many requests have been under way at once, then says this.
    Gather(usize, String),
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    under_way: usize,
    most_under_way: usize,
}

/// A running server; it ends with the test process.
pub struct Server {
    pub address: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Server {
    /// Starts a server; `act` is given a request and how often its question was asked before.
    pub fn start(act: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let (shared, act) = (Arc::clone(&state), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, act) = (Arc::clone(&shared), Arc::clone(&act));
                std::thread::spawn(move || serve(&stream.unwrap(), &shared, act.as_ref()));
            }
        });
        Self { address, state }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.0.lock().unwrap().requests.clone()
    }

    /// How often each question was asked.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.requests() {
            *counts.entry(request.question()).or_default() += 1;
        }
        counts
    }

    pub fn most_under_way(&self) -> usize {
        self.state.0.lock().unwrap().most_under_way
    }
}

fn serve(
    mut stream: &TcpStream,
    (state, changed): &(Mutex<State>, Condvar),
    act: &(dyn Fn(&Request, usize) -> Action + Send + Sync),
) {
    let Some(request) = read(stream) else { return };
    let before = {
        let mut state = state.lock().unwrap();
        let before = state.requests.iter().filter(|other| other.question() == request.question()).count();
        state.requests.push(request.clone());
        state.under_way += 1;
        state.most_under_way = state.most_under_way.max(state.under_way);
        changed.notify_all();
        before
    };
    let answer = match act(&request, before) {
        Action::Say(text) => ok(&request, &text),
        Action::Status(status, headers, body) => response(status, &headers, &body),
        Action::Cut => String::new(),
        Action::CutHalfway => {
            let whole = ok(&request, "So it is.\nAnswer: 4");
            whole[..whole.len() - 20].to_owned()
        }
        Action::Stall => {
            // Ends when the client closes its side.
            let _ = stream.read(&mut [0]);
            String::new()
        }
        Action::Gather(count, text) => {
            let locked = state.lock().unwrap();
            let few = |state: &mut State| state.most_under_way < count;
            drop(changed.wait_timeout_while(locked, Duration::from_secs(20), few).unwrap());
            ok(&request, &text)
        }
    };
    // Before the answer: once the client has it, the next request may come.
    state.lock().unwrap().under_way -= 1;
    let _ = stream.write_all(answer.as_bytes());
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    input.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: serde_json::from_slice(&body).ok()? })
}

fn ok(request: &Request, text: &str) -> String {
    let choice = match request.path.ends_with("/chat/completions") {
        true => json!({"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}),
        false => json!({"text": text, "finish_reason": "stop"}),
    };
    let body = json!({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
    response(200, &[("content-type", "application/json".to_owned())], &body.to_string())
}

fn response(status: u16, headers: &[(&str, String)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
