//! Asking an endpoint that behaves well, and one that does not.
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distill_data::DataSpec;
use distill_eval::answers::Compare;
use distill_rationales::journal::Start;
use distill_rationales::{
    Address, ApiKey, Clock, Columns, Ended, Endpoint, EndpointConfig, Event, Form, Journal, Keep, Limits,
    OutputColumns, Prices, PromptSettings, Prompter, RationaleError, ReplyReader, RetryPolicy, Rows, Session,
    Stopped, Summary, Teacher, write_output,
};
use serde_json::Value;
use server::{Action, Request, Server};

/// A clock on which sleeping is all that takes time.
#[derive(Debug, Default)]
struct Stepped(Mutex<Duration>);

impl Clock for Stepped {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
        std::thread::yield_now();
    }
}

fn good(_: &Request, _: usize) -> Action {
    Action::Say("Two and two are four.\nAnswer: 4".into())
}

/// Rows `q0`, `q1`, ... with the gold answer 4, or 5 for every fourth.
fn data(folder: &Path, rows: usize) -> Rows {
    let path = folder.join("rows.jsonl");
    let line = |row: usize| {
        let answer = if row % 4 == 3 { 5 } else { 4 };
        format!("{{\"question\": \"q{row}\", \"answer\": \"{answer}\", \"id\": {row}}}\n")
    };
    std::fs::write(&path, (0..rows).map(line).collect::<String>()).unwrap();
    Rows::read(&DataSpec::new([path.display().to_string()], Vec::new()), &Columns::default()).unwrap()
}

fn config(server: &Server) -> EndpointConfig {
    EndpointConfig {
        address: Address::parse(&server.address).unwrap(),
        model: "big".into(),
        temperature: Some(0.0),
        max_tokens: 50,
        timeout: Duration::from_secs(20),
        concurrency: 1,
        requests_per_minute: None,
        retry: RetryPolicy::default(),
        api_key: None,
    }
}

/// All that a test can look at after asking.
struct Asking {
    folder: tempfile::TempDir,
    rows: Rows,
    prompter: Prompter,
    clock: Arc<Stepped>,
    limits: Limits,
    events: Vec<Event>,
}

impl Asking {
    fn new(rows: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = PromptSettings { instructions: Some("Think.".into()), ..PromptSettings::default() };
        Self {
            rows: data(folder.path(), rows),
            prompter: Prompter::new(settings, Vec::new(), Compare::Expression),
            folder,
            clock: Arc::default(),
            limits: Limits { prices: None, limit_cost: None, max_tokens: 50 },
            events: Vec::new(),
        }
    }

    fn output(&self) -> std::path::PathBuf {
        self.folder.path().join("out.jsonl")
    }

    /// Asks; stops when `stop_after` replies came, or requests are to be tried again.
    fn ask(&mut self, config: EndpointConfig, stop_after: usize) -> Result<Ended, RationaleError> {
        let mut endpoint = Endpoint::new(config, Arc::clone(&self.clock) as Arc<dyn Clock>)?;
        let (output, digest) = (self.output(), self.prompter.digest());
        let mut journal = Journal::open(&output, &endpoint.identity(), &digest, Start::Resume)?;
        let session = Session::new(&self.rows, &self.prompter, &[], None)?;
        session.check(&journal)?;
        let stop = AtomicBool::new(false);
        let (mut replies, events) = (0, &mut self.events);
        session.ask(&mut endpoint, &mut journal, &self.limits, &stop, &mut |event| {
            replies += usize::from(!matches!(event, Event::Failed { .. }));
            stop.store(replies >= stop_after, Ordering::SeqCst);
            events.push(event);
        })
    }

    fn write(&self, config: EndpointConfig) -> Summary {
        let endpoint = Endpoint::new(config, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap();
        let (output, digest) = (self.output(), self.prompter.digest());
        let journal = Journal::open(&output, &endpoint.identity(), &digest, Start::Resume).unwrap();
        let session = Session::new(&self.rows, &self.prompter, &[], None).unwrap();
        let reader = ReplyReader::new("Answer:", Compare::Expression);
        let columns = OutputColumns::default();
        write_output(&output, &session, &journal, &reader, &columns, Keep::All).unwrap()
    }

    fn retries(&self) -> Vec<(String, f64)> {
        let retry = |event: &Event| match event {
            Event::Retry { reason, wait, .. } => Some((reason.clone(), *wait)),
            _ => None,
        };
        self.events.iter().filter_map(retry).collect()
    }

    fn failures(&self) -> Vec<String> {
        let failed = |event: &Event| match event {
            Event::Failed { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.events.iter().filter_map(failed).collect()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks for one row and returns the requests that it took, and what was heard.
fn one_row(act: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> (usize, Asking) {
    let server = Server::start(act);
    let mut asking = Asking::new(1);
    let mut config = config(&server);
    config.timeout = Duration::from_millis(300);
    asking.ask(config, usize::MAX).unwrap();
    (server.requests().len(), asking)
}

fn refusal(status: u16, body: &'static str) -> (usize, RationaleError) {
    let server = Server::start(move |_, _| Action::Status(status, Vec::new(), body.into()));
    let mut asking = Asking::new(3);
    let error = asking.ask(config(&server), usize::MAX).unwrap_err();
    (server.requests().len(), error)
}

#[test]
fn rows_are_asked_and_written_in_their_order() {
    let server = Server::start(good);
    let mut asking = Asking::new(9);
    let config = EndpointConfig { concurrency: 3, ..config(&server) };
    let ended = asking.ask(config.clone(), usize::MAX).unwrap();
    assert_eq!(ended, Ended { failed: Vec::new(), missing: 0, stopped: None });
    let summary = asking.write(config);
    assert_eq!((summary.rows, summary.parsed, summary.written), (9, 9, 9));
    assert_eq!((summary.with_gold, summary.agreeing), (9, 7));
    assert_eq!((summary.usage.input_tokens, summary.usage.output_tokens), (900, 90));
    let rows = lines(&asking.output());
    let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (0..9).collect::<Vec<_>>());
    assert_eq!(
        (&rows[3]["rationale"], &rows[3]["teacher_answer"]),
        (&"Two and two are four.".into(), &"4".into())
    );
    let keys: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["question", "answer", "id", "rationale", "teacher_answer"]);
    assert!(!asking.folder.path().join("out.unparsed.jsonl").exists());

    let requests = server.requests();
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].body["model"], "big");
    assert_eq!(requests[0].body["max_tokens"], 50);
    assert_eq!(requests[0].body["messages"][0]["content"], "Think.");
    assert!(!requests[0].headers.contains_key("authorization"));
}

#[test]
fn plain_prompts_go_to_completions() {
    let server = Server::start(good);
    let mut asking = Asking::new(1);
    let settings = PromptSettings { form: Form::Plain, ..PromptSettings::default() };
    asking.prompter = Prompter::new(settings, Vec::new(), Compare::Expression);
    asking.ask(config(&server), usize::MAX).unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/completions");
    assert!(request.body["prompt"].as_str().unwrap().ends_with("###\n\nq0\n\n"));
    assert_eq!(request.body["stop"][0], "\n###");
    assert_eq!(asking.write(config(&server)).parsed, 1);
}

#[test]
fn a_row_that_was_answered_is_never_asked_again() {
    let server = Server::start(good);
    let mut asking = Asking::new(40);
    let config = EndpointConfig { concurrency: 3, ..config(&server) };
    for _ in 0..3 {
        let ended = asking.ask(config.clone(), 5).unwrap();
        assert_eq!(ended.stopped, Some(Stopped::Interrupted));
        // As after a kill in the middle of a line.
        let partial = asking.folder.path().join("out.jsonl.partial");
        let mut content = std::fs::read(&partial).unwrap();
        content.extend(b"{\"row\": 39, \"pro");
        std::fs::write(&partial, content).unwrap();
    }
    assert_eq!(asking.ask(config.clone(), usize::MAX).unwrap().missing, 0);
    let counts = server.counts();
    assert_eq!(counts.len(), 40);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(asking.write(config).written, 40);
}

#[test]
fn another_model_or_row_is_noticed_before_anything_is_asked() {
    let server = Server::start(good);
    let mut asking = Asking::new(2);
    asking.ask(config(&server), usize::MAX).unwrap();
    let other = EndpointConfig { model: "bigger".into(), ..config(&server) };
    let error = asking.ask(other, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("`model` = `\"big\"`, which is `\"bigger\"` now"), "{error}");
    asking.rows.rows[1].question = "another".into();
    let error = asking.ask(config(&server), usize::MAX).unwrap_err();
    assert!(error.to_string().contains("the question of row 2 is another"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn too_many_requests_wait_as_long_as_the_server_asks() {
    let (requests, asking) = one_row(|request, before| match before {
        0 => Action::Status(
            429,
            vec![("retry-after", "17".into())],
            "{\"error\": {\"message\": \"slow\"}}".into(),
        ),
        _ => good(request, before),
    });
    assert_eq!(requests, 2);
    let retries = asking.retries();
    assert_eq!(retries.len(), 1);
    assert!(retries[0].0.contains("status 429: slow"), "{retries:?}");
    assert_eq!((retries[0].1, asking.clock.now()), (17.0, Duration::from_secs(17)));
}

#[test]
fn a_wait_beyond_all_bounds_is_not_waited_for() {
    let (requests, asking) =
        one_row(|_, _| Action::Status(503, vec![("retry-after", "86400".into())], String::new()));
    assert_eq!((requests, asking.failures().len()), (1, 1));
    assert!(asking.failures()[0].contains("it asks to wait 86400 s"), "{:?}", asking.failures());
}

#[test]
fn a_wait_is_given_up_when_somebody_stops() {
    let server =
        Server::start(|_, _| Action::Status(429, vec![("retry-after", "500".into())], String::new()));
    let mut asking = Asking::new(4);
    let config = EndpointConfig { concurrency: 2, ..config(&server) };
    let ended = asking.ask(config, 1).unwrap();
    assert_eq!((ended.stopped, ended.missing, ended.failed), (Some(Stopped::Interrupted), 4, Vec::new()));
    assert!(asking.clock.now() < Duration::from_secs(500), "{:?}", asking.clock.now());
}

#[test]
fn what_may_pass_is_tried_again_after_growing_waits() {
    for status in [408, 409, 425, 429, 500, 502, 503] {
        let (requests, asking) = one_row(move |request, before| match before {
            0..3 => Action::Status(status, Vec::new(), "<p>oops</p>".into()),
            _ => good(request, before),
        });
        assert_eq!(requests, 4, "{status}");
        let waits: Vec<f64> = asking.retries().iter().map(|(_, wait)| *wait).collect();
        assert!((0.5..=1.0).contains(&waits[0]) && (2.0..=4.0).contains(&waits[2]), "{waits:?}");
        assert_eq!(asking.failures().len(), 0, "{status}");
    }
}

#[test]
fn connections_that_break_or_stall_and_pages_that_are_no_json_are_tried_again() {
    let html = || Action::Status(200, Vec::new(), "<html>Please log in</html>".into());
    let fault = || Action::Status(200, Vec::new(), "{\"error\": {\"message\": \"overloaded\"}}".into());
    let cases: [(Action, &str); 5] = [
        (Action::Cut, "the connection to `http://127.0.0.1:"),
        (Action::CutHalfway, "the connection to `http://127.0.0.1:"),
        (Action::Stall, "within 0.3 s"),
        (html(), "<html>Please log in</html>"),
        (fault(), "answers with a fault: overloaded"),
    ];
    for (action, words) in cases {
        let first = action.clone();
        let (requests, asking) = one_row(move |request, before| match before {
            0 => first.clone(),
            _ => good(request, before),
        });
        assert_eq!(requests, 2, "{action:?}");
        assert!(asking.retries()[0].0.contains(words), "{action:?}: {:?}", asking.retries());
        assert_eq!(asking.failures().len(), 0);
    }
}

#[test]
fn a_row_that_never_succeeds_fails_and_the_others_go_on() {
    let server = Server::start(|request, before| match request.question().as_str() {
        "q1" => Action::Status(500, Vec::new(), String::new()),
        "q2" => Action::Status(200, Vec::new(), "{\"choices\": []}".into()),
        "q3" => Action::Status(413, Vec::new(), "too long".into()),
        _ => good(request, before),
    });
    let mut asking = Asking::new(6);
    let ended = asking.ask(config(&server), usize::MAX).unwrap();
    assert_eq!(ended.missing, 3);
    let rows: Vec<usize> = ended.failed.iter().map(|(row, _)| *row).collect();
    assert_eq!((rows, ended.stopped), (vec![1, 2, 3], None));
    assert!(ended.failed[0].1.ends_with("status 500: no text (asked 7 times)"), "{ended:?}");
    assert!(ended.failed[1].1.contains("`choices` is empty"), "{ended:?}");
    assert_eq!(server.counts()["q2"], 1);
    // They are asked again next time, and nothing else is.
    asking.ask(config(&server), usize::MAX).unwrap();
    let counts = server.counts();
    assert_eq!((counts["q0"], counts["q1"], counts["q2"]), (1, 14, 2));
    let summary = asking.write(config(&server));
    assert_eq!((summary.written, summary.failed), (3, 3));
    let side = lines(&asking.folder.path().join("out.unparsed.jsonl"));
    assert_eq!((&side[0]["row"], &side[0]["reason"]), (&2.into(), &"no reply".into()));
}

#[test]
fn replies_that_cannot_be_read_go_to_the_side_file() {
    let server = Server::start(|request, before| match request.question().as_str() {
        "q0" => Action::Say("I cannot say.".into()),
        "q2" => Action::Say(String::new()),
        _ => good(request, before),
    });
    let mut asking = Asking::new(4);
    asking.ask(config(&server), usize::MAX).unwrap();
    let summary = asking.write(config(&server));
    assert_eq!((summary.parsed, summary.unparsed, summary.failed), (2, 2, 0));
    assert_eq!(
        summary.reasons.into_iter().collect::<Vec<_>>(),
        [("empty".into(), 1), ("no marker".into(), 1)]
    );
    let side = lines(&asking.folder.path().join("out.unparsed.jsonl"));
    assert_eq!(side[0]["reply"], "I cannot say.");
    assert_eq!(side[0]["reason"], "no `Answer:` in the reply");
    assert_eq!(side[0]["columns"]["question"], "q0");
    assert_eq!((side.len(), side[1]["row"].as_i64()), (2, Some(3)));
}

#[test]
fn what_every_row_would_meet_stops_at_once() {
    let wrong = "{\"error\": {\"message\": \"no\", \"code\": null}}";
    for (status, help) in [
        (400, "--max-tokens"),
        (401, "no key was sent"),
        (403, "may not use `big`"),
        (404, "check `--model` (`big`)"),
    ] {
        let (requests, error) = refusal(status, wrong);
        assert_eq!(requests, 1, "{status}");
        assert!(error.to_string().ends_with(&format!("answers with status {status}: no")), "{error}");
        assert!(error.help().unwrap().contains(help), "{:?}", error.help());
    }
    let (requests, error) =
        refusal(429, "{\"error\": {\"message\": \"pay\", \"code\": \"insufficient_quota\"}}");
    assert_eq!(requests, 1);
    assert!(error.help().unwrap().contains("no credit"), "{:?}", error.help());
    let (requests, error) = refusal(400, "{\"error\": {\"message\": \"'temperature' does not support 0\"}}");
    assert_eq!(requests, 1);
    assert!(error.help().unwrap().contains("--temperature default"), "{:?}", error.help());
    let (requests, error) = refusal(308, "");
    assert_eq!(requests, 1);
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[test]
fn nobody_there_is_told_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(good);
    let address = Address::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let mut asking = Asking::new(1);
    let error = asking.ask(EndpointConfig { address, ..config(&server) }, usize::MAX).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach `http://127.0.0.1:{port}/v1`: connection refused"));
}

#[test]
fn an_endpoint_that_fails_row_after_row_is_left_alone() {
    let server = Server::start(|_, _| Action::Status(413, Vec::new(), "no".into()));
    let mut asking = Asking::new(40);
    let error = asking.ask(config(&server), usize::MAX).unwrap_err();
    assert!(error.to_string().starts_with("5 rows failed one after the other at"), "{error}");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_model_that_wants_the_newer_name_of_the_limit_gets_it() {
    let server = Server::start(|request, before| match request.body.get("max_tokens") {
        Some(_) => Action::Status(400, Vec::new(), "use 'max_completion_tokens' instead".into()),
        None => good(request, before),
    });
    let mut asking = Asking::new(3);
    assert_eq!(asking.ask(config(&server), usize::MAX).unwrap().missing, 0);
    assert_eq!(server.requests().len(), 4);
    assert_eq!(server.requests()[3].body["max_completion_tokens"], 50);
}

#[test]
fn the_key_is_sent_and_shown_nowhere() {
    const KEY: &str = "sk-very-secret";
    let server = Server::start(|request, before| match (request.question().as_str(), before) {
        ("q1", 0) => Action::Status(500, Vec::new(), format!("bad key {KEY}")),
        ("q2", _) => {
            Action::Status(401, Vec::new(), format!("{{\"error\": {{\"message\": \"wrong: {KEY}\"}}}}"))
        }
        _ => good(request, before),
    });
    let mut asking = Asking::new(3);
    let address = Address::parse(&server.address).unwrap();
    let api_key = ApiKey::from_environment(Some("K"), &address, |_| Some(KEY.into())).unwrap();
    let config = EndpointConfig { api_key, ..config(&server) };
    let error = asking.ask(config.clone(), usize::MAX).unwrap_err();
    assert!(error.to_string().ends_with("status 401: wrong: [key]"), "{error}");
    assert!(
        server.requests().iter().all(|request| request.headers["authorization"] == format!("Bearer {KEY}"))
    );
    let shown = format!("{error:?} {config:?} {:?}", asking.events);
    assert!(shown.contains("bad key [key]") && !shown.contains(KEY), "{shown}");
    for entry in std::fs::read_dir(asking.folder.path()).unwrap() {
        let content = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!content.contains(KEY), "{content}");
    }
}

#[test]
fn as_many_requests_are_under_way_as_allowed() {
    let server = Server::start(|_, _| Action::Gather(4, "So.\nAnswer: 4".into()));
    let mut asking = Asking::new(16);
    let config = EndpointConfig { concurrency: 4, ..config(&server) };
    assert_eq!(asking.ask(config, usize::MAX).unwrap().missing, 0);
    assert_eq!((server.most_under_way(), server.requests().len()), (4, 16));
}

#[test]
fn requests_keep_to_the_rate() {
    let server = Server::start(good);
    let mut asking = Asking::new(7);
    let config = EndpointConfig { requests_per_minute: Some(30.0), concurrency: 3, ..config(&server) };
    asking.ask(config, usize::MAX).unwrap();
    assert!(asking.clock.now() >= Duration::from_secs(12), "{:?}", asking.clock.now());
}

#[test]
fn the_cost_never_passes_its_limit() {
    let server = Server::start(good);
    let mut asking = Asking::new(20);
    // A reply costs 100 x 1 + 10 x 10 = 200 millionths, and at most about 5 + 50 x 10.
    let prices = Some(Prices::new(1.0, 10.0).unwrap());
    asking.limits = Limits { prices, limit_cost: Some(0.0015), max_tokens: 50 };
    let ended = asking.ask(config(&server), usize::MAX).unwrap();
    assert_eq!(ended.stopped, Some(Stopped::CostLimit));
    // 4 x 200 + 506 is within 1,500, 5 x 200 + 506 is not.
    assert_eq!((server.requests().len(), ended.missing), (5, 15));
    // What was spent before counts.
    let ended = asking.ask(config(&server), usize::MAX).unwrap();
    assert_eq!((ended.stopped, server.requests().len()), (Some(Stopped::CostLimit), 5));
    asking.limits.limit_cost = None;
    assert_eq!(asking.ask(config(&server), usize::MAX).unwrap().missing, 0);
}

#[test]
fn settings_out_of_range_are_refused() {
    let server = Server::start(good);
    let message = |config: EndpointConfig| Asking::new(1).ask(config, 1).unwrap_err().to_string();
    let config = || config(&server);
    let cases = [
        (
            EndpointConfig { temperature: Some(3.0), ..config() },
            "`temperature` must be between 0 and 2, found `3`",
        ),
        (
            EndpointConfig { requests_per_minute: Some(0.0), ..config() },
            "`requests-per-minute` must be above 0, found `0`",
        ),
        (EndpointConfig { max_tokens: 0, ..config() }, "`max-tokens` must be at least 1, found `0`"),
        (EndpointConfig { concurrency: 0, ..config() }, "`concurrency` must be between 1 and 256, found `0`"),
        (EndpointConfig { model: String::new(), ..config() }, "an endpoint needs the name of a model"),
    ];
    for (config, expected) in cases {
        assert_eq!(message(config), expected);
    }
    assert!(server.requests().is_empty());
}
