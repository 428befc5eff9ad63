//! Rationales asked of a teacher: an endpoint that behaves well or badly, and a model on this machine.

#[path = "../crates/distill-rationales/tests/server/mod.rs"]
#[allow(dead_code, reason = "its own tests use the rest")]
mod server;
mod support;

use serde_json::Value;
use server::{Action, Request, Server};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Outcome, distill, folder, run, wait_until, write};

const ROWS: usize = 12;

/// Questions `q0`, `q1`, ... with the gold answer 4, or 5 for every fourth, and a rationale for every third.
fn write_rows(folder: &Path) {
    let mut text = String::new();
    for row in 0..ROWS {
        let answer = if row % 4 == 3 { 5 } else { 4 };
        let why = (row % 3 == 0).then_some("Why so.");
        let line = serde_json::json!({"question": format!("q{row}"), "answer": answer, "why": why});
        let _ = writeln!(text, "{line}");
    }
    write(folder.join("rows.jsonl"), text);
}

fn good(_: &Request, _: usize) -> Action {
    Action::Say("Two and two are four.\nAnswer: 4".into())
}

/// The command in `folder`, with this endpoint and no key in the environment.
fn command(folder: &Path, server: &Server, arguments: &[&str]) -> Command {
    let fixed = ["rationales", "--teacher", &server.address, "--model", "big", "--data", "rows.jsonl"];
    let mut command = distill(folder, &[&fixed[..], &["--output", "out.jsonl"], arguments].concat());
    command.env_remove("OPENAI_API_KEY");
    command
}

fn ask(folder: &Path, server: &Server, arguments: &[&str]) -> Outcome {
    command(folder, server, arguments).output().expect("the binary starts").into()
}

fn lines(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path.as_ref()).expect("reads");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn data_folder() -> tempfile::TempDir {
    let folder = folder();
    write_rows(folder.path());
    folder
}

#[test]
fn rows_get_rationales_and_the_summary_says_what_came_of_it() {
    let folder = data_folder();
    let server = Server::start(|request, before| match request.question().as_str() {
        "q1" => Action::Say("No idea.".into()),
        _ => good(request, before),
    });
    let prices = ["--price-input", "1", "--price-output", "10", "--keep", "correct"];
    let outcome = ask(folder.path(), &server, &prices).success();
    let note = "asking about 12 rows: about ";
    assert!(outcome.stderr.contains(note) && outcome.stderr.contains(", cost "), "{}", outcome.stderr);
    let words = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "rows 12",
        "parsed 11 (91.67%)",
        "unparsed 1 (8.33%), in `out.unparsed.jsonl`: no marker 1",
        "agreement 72.73% with gold, 8 of 11",
        "tokens 1,200 in, 120 out",
        "cost 0.00240",
        "left out 3 (25.00%) that the teacher got wrong, in `out.wrong.jsonl`",
        "written 8 rows to `out.jsonl`",
    ] {
        assert!(words.contains(expected), "{expected}: {}", outcome.stdout);
    }
    let rows = lines(folder.path().join("out.jsonl"));
    let questions: Vec<&str> = rows.iter().filter_map(|row| row["question"].as_str()).collect();
    assert_eq!(questions, ["q0", "q2", "q4", "q5", "q6", "q8", "q9", "q10"]);
    assert_eq!(rows[0]["rationale"], "Two and two are four.");
    assert_eq!(rows[0]["teacher_answer"], "4");
    assert_eq!(lines(folder.path().join("out.wrong.jsonl")).len(), 3);
    assert_eq!(lines(folder.path().join("out.unparsed.jsonl"))[0]["columns"]["question"], "q1");
    assert!(!folder.path().join("out.jsonl.partial").exists());

    // A finished output is not paid for twice by mistake.
    let stderr = ask(folder.path(), &server, &[]).refusal();
    assert!(stderr.contains("`out.jsonl` exists already") && stderr.contains("--restart"), "{stderr}");
    assert_eq!(server.requests().len(), ROWS);
    let json = ask(folder.path(), &server, &["--restart", "--format", "json"]).success().stdout;
    let summary: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&summary["written"], &summary["cost"]), (&11.into(), &Value::Null));
    assert!(!folder.path().join("out.wrong.jsonl").exists());
}

#[test]
fn a_killed_command_goes_on_and_asks_no_row_twice() {
    let folder = data_folder();
    let healed = Arc::new(AtomicBool::new(false));
    let heals = Arc::clone(&healed);
    let server = Server::start(move |request, before| match request.question().as_str() {
        "q7" if !heals.load(Ordering::SeqCst) => Action::Stall,
        _ => good(request, before),
    });
    let mut child = command(folder.path(), &server, &["--concurrency", "1"]).spawn().expect("starts");
    assert!(wait_until(&mut child, || server.requests().len() == 8));
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert!(!folder.path().join("out.jsonl").exists());
    healed.store(true, Ordering::SeqCst);

    // Another model would answer otherwise.
    let fixed = ["rationales", "--teacher", &server.address, "--data", "rows.jsonl", "--output", "out.jsonl"];
    let stderr = run(folder.path(), &[&fixed[..], &["--model", "bigger"]].concat()).refusal();
    assert!(stderr.contains("holds 7 replies") && stderr.contains("`model` = `\"big\"`"), "{stderr}");

    let outcome = ask(folder.path(), &server, &["--concurrency", "1"]).success();
    assert!(
        outcome.stderr.contains("asking about 5 rows (7 have a reply from before)"),
        "{}",
        outcome.stderr
    );
    for (question, times) in server.counts() {
        assert_eq!(times, if question == "q7" { 2 } else { 1 }, "{question}");
    }
    assert_eq!(lines(folder.path().join("out.jsonl")).len(), ROWS);
}

#[cfg(unix)]
#[test]
fn an_interrupted_command_waits_for_what_is_under_way() {
    let folder = data_folder();
    let told = Arc::new(AtomicBool::new(false));
    let is_told = Arc::clone(&told);
    let server = Server::start(move |request, before| {
        while matches!(request.question().as_str(), "q3" | "q4") && !is_told.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        good(request, before)
    });
    let mut child = command(folder.path(), &server, &["--concurrency", "2"]).spawn().expect("starts");
    assert!(wait_until(&mut child, || server.requests().len() == 5));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let mut text = String::new();
    while !text.contains("waiting for the replies that are under way") {
        assert!(stderr.read_line(&mut text).expect("reads") > 0, "{text}");
    }
    told.store(true, Ordering::SeqCst);
    stderr.read_to_string(&mut text).expect("reads");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    assert!(text.contains("interrupted: 5 of 12 rows have a reply"), "{text}");
    assert_eq!(lines(folder.path().join("out.jsonl.partial")).len(), 1 + 5);
    assert!(!folder.path().join("out.jsonl").exists());
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn rows_that_fail_can_be_left_out_or_asked_again() {
    let folder = data_folder();
    let server = Server::start(|request, before| match request.question().as_str() {
        "q2" => Action::Status(413, Vec::new(), "too long".into()),
        _ => good(request, before),
    });
    let outcome = ask(folder.path(), &server, &[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.contains("warning: row 3 has no reply: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("error: 11 of 12 rows have a reply"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--skip-missing"), "{}", outcome.stderr);
    let outcome = ask(folder.path(), &server, &["--skip-missing"]).success();
    assert!(outcome.stdout.contains("written    11 rows"), "{}", outcome.stdout);
    assert_eq!(server.counts()["q1"], 1);
    assert_eq!(lines(folder.path().join("out.unparsed.jsonl"))[0]["reason"], "no reply");
}

#[test]
fn the_cost_has_a_limit() {
    let folder = data_folder();
    let server = Server::start(good);
    let limit =
        ["--price-input", "1", "--price-output", "10", "--max-tokens", "50", "--limit-cost", "0.0015"];
    let outcome = ask(folder.path(), &server, &[&limit[..], &["--concurrency", "1"]].concat());
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("the limit of the cost is reached: "), "{}", outcome.stderr);
    let asked = server.requests().len();
    assert!((1..ROWS).contains(&asked) && asked as f64 * 0.0002 <= 0.0015, "{asked}");
    let more = ["--price-input", "1", "--price-output", "10", "--max-tokens", "50", "--limit-cost", "1"];
    ask(folder.path(), &server, &more).success();
    assert_eq!(server.requests().len(), ROWS);
}

#[test]
fn the_prompt_is_what_the_arguments_say() {
    let folder = data_folder();
    let server = Server::start(good);
    write(folder.path().join("instructions.txt"), "Think hard.\n");
    let prompt = [
        "--prompt-template",
        "Question: {question}\\nGo on.",
        "--instructions",
        "@instructions.txt",
        "--shots",
        "2",
        "--example-rationale",
        "why",
        "--show-gold",
        "--dry-run",
    ];
    let shown = ask(folder.path(), &server, &prompt).success().stdout;
    assert!(shown.starts_with("rows      10\n"), "two serve as examples: {shown}");
    let hint = "Question: q1\nGo on.\n\nThe correct answer is: 4\n";
    assert!(shown.contains("[system]\nThink hard.\n") && shown.contains(hint), "{shown}");
    assert_eq!(shown.matches("[assistant]\nWhy so.\nAnswer: ").count(), 2, "{shown}");
    assert!(server.requests().is_empty() && !folder.path().join("out.jsonl.partial").exists());

    write(
        folder.path().join("shots.jsonl"),
        "{\"question\": \"1 + 1?\", \"answer\": \"2\", \"rationale\": \"1 and 1 are 2.\"}\n",
    );
    let plain =
        ["--examples", "shots.jsonl", "--form", "plain", "--max-rows", "3", "--temperature", "default"];
    ask(folder.path(), &server, &plain).success();
    let requests = server.requests();
    assert_eq!((requests.len(), requests[0].path.as_str()), (3, "/v1/completions"));
    let text = requests[0].body["prompt"].as_str().expect("a text");
    assert!(text.contains("1 + 1?\n\n1 and 1 are 2.\nAnswer: 2\n\n###\n\nq"), "{text}");
    assert!(requests[0].body.get("temperature").is_none());
    assert_eq!(lines(folder.path().join("out.jsonl")).len(), 3);
}

#[test]
fn the_key_is_sent_and_shown_nowhere() {
    const KEY: &str = "sk-very-secret";
    let folder = data_folder();
    let server = Server::start(|request, before| match request.question().as_str() {
        "q5" => Action::Status(401, Vec::new(), format!("{{\"error\": \"wrong key {KEY}\"}}")),
        _ => good(request, before),
    });
    let mut command = command(folder.path(), &server, &["--concurrency", "1", "--api-key-env", "MY_KEY"]);
    let outcome = Outcome::from(command.env("MY_KEY", KEY).output().expect("the binary starts"));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("status 401: wrong key [key]"), "{}", outcome.stderr);
    assert!(
        server.requests().iter().all(|request| request.headers["authorization"] == format!("Bearer {KEY}"))
    );
    assert!(!outcome.stderr.contains(KEY) && !outcome.stdout.contains(KEY));
    for (path, content) in support::tree(folder.path()) {
        assert!(!String::from_utf8_lossy(&content).contains(KEY), "{}", path.display());
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let folder = data_folder();
    let server = Server::start(good);
    let refused = |arguments: &[&str]| ask(folder.path(), &server, arguments).refusal();
    for (arguments, message) in [
        (&["--limit-cost", "1"][..], "`limit-cost` needs prices"),
        (&["--api-key-env", "NO_SUCH_KEY"], "the variable `NO_SUCH_KEY` is not set"),
        (&["--question", "ask"], "no column `ask`"),
        (&["--rationale-column", "why"], "the rows have a column `why` already"),
        (&["--rationale-column", "x", "--answer-column", "x"], "both to be written to the column `x`"),
        (&["--shots", "9", "--example-rationale", "why"], "4 rows can be drawn"),
        (&["--prompt-template", "{question"], "a `{` is never closed"),
        (&["--instructions", "@nothing.txt"], "cannot read `nothing.txt`"),
        (&["--temperature", "hot"], "or `default`"),
        (&["--concurrency", "0"], "`concurrency` must be between 1 and 256"),
        (&["--answer-marker", " "], "`--answer-marker` is empty"),
        (&["--price-input", "1"], "--price-output"),
    ] {
        let stderr = refused(arguments);
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
    let no_gold = folder.path().join("bare.jsonl");
    write(&no_gold, "{\"question\": \"a\"}\n");
    let bare = |arguments: &[&str]| {
        let fixed = ["rationales", "--teacher", &server.address, "--model", "m", "--data", "bare.jsonl"];
        run(folder.path(), &[&fixed[..], &["--output", "bare.out.jsonl"], arguments].concat()).refusal()
    };
    assert!(bare(&["--show-gold"]).contains("`--show-gold` needs gold answers"));
    assert!(bare(&["--keep", "correct"]).contains("`--keep correct` needs gold answers"));
    let address = |address: &str, arguments: &[&str]| {
        let fixed = ["rationales", "--data", "rows.jsonl", "--output", "out.jsonl", "--teacher", address];
        run(folder.path(), &[&fixed[..], arguments].concat()).refusal()
    };
    assert!(address("http://a.b/v1", &[]).contains("an endpoint needs the name of a model"));
    assert!(address("http://me:secret@a.b/v1", &[]).contains("it holds a name or a password"));
    assert!(address("no/such/model/here", &["--model", "m"]).contains("is for endpoints"));
    assert!(server.requests().is_empty());
}

/// A small decoder that has learnt to answer any question in the form that is asked for.
fn train_teacher(folder: &Path) {
    let mut rows = String::new();
    for row in 0..120 {
        let target = if row % 2 == 0 { "Even it is.\nAnswer: 4" } else { "Odd it is.\nAnswer: 5" };
        let line = serde_json::json!({"question": format!("q{}", row % 12), "target": target});
        let _ = writeln!(rows, "{line}");
    }
    write(folder.join("train.jsonl"), rows);
    write(
        folder.join("teacher.toml"),
        "name = \"teacher\"\nseed = 5\noutput_dir = \"teacher\"\n[task]\nkind = \"seq2seq\"\nmax_new_tokens = 24\n[model]\n\
         architecture = \"llama\"\nhidden_size = 32\nnum_hidden_layers = 2\nnum_attention_heads = 4\n[tokenizer]\n\
         train = { kind = \"gpt2\", vocab_size = 300 }\n[data]\ntrain = \"train.jsonl\"\nprompt_template = \"{question}\\n\\n\"\n\
         target = \"target\"\nmax_length = 48\nvalidation_fraction = 0\n[train]\nepochs = 12\nbatch_size = 4\n\
         learning_rate = 5e-3\ndtype = \"f32\"\n",
    );
    run(folder, &["run", "teacher.toml"]).success();
}

#[test]
fn a_model_on_this_machine_is_a_teacher_too() {
    let folder = data_folder();
    train_teacher(folder.path());
    let local = |output: &str, arguments: &[&str]| {
        let fixed = ["rationales", "--teacher", "teacher", "--data", "rows.jsonl", "--instructions", ""];
        let rest = ["--output", output, "--dtype", "f32", "--max-tokens", "40"];
        run(folder.path(), &[&fixed[..], &rest, arguments].concat())
    };
    let outcome = local("all.jsonl", &[]).success();
    let all = lines(folder.path().join("all.jsonl"));
    assert_eq!(all.len(), ROWS, "{}", outcome.stdout);
    let answers: Vec<&str> = all.iter().filter_map(|row| row["teacher_answer"].as_str()).collect();
    let right = answers.iter().enumerate().filter(|(row, answer)| **answer == ["4", "5"][row % 2]).count();
    assert!(right >= 10, "{answers:?}");
    assert_eq!(all[0]["rationale"], "Even it is.");

    // The same texts in parts, whatever the batches.
    local("parts.jsonl", &["--max-rows", "5", "--batch-size", "2"]).success();
    let parts = lines(folder.path().join("parts.jsonl"));
    assert_eq!(parts[..], all[..5]);
    let stderr = local("chat.jsonl", &["--form", "chat"]).refusal();
    assert!(stderr.contains("has no chat template") && stderr.contains("--form plain"), "{stderr}");
}

#[test]
fn a_local_teacher_goes_on_with_the_same_draws() {
    let folder = data_folder();
    train_teacher(folder.path());
    let local = |output: &str, arguments: &[&str]| {
        let fixed = ["rationales", "--teacher", "teacher", "--data", "rows.jsonl", "--instructions", ""];
        let drawn = ["--temperature", "1.5", "--seed", "3", "--max-tokens", "20", "--dtype", "f32"];
        run(folder.path(), &[&fixed[..], &drawn, &["--output", output], arguments].concat())
    };
    local("whole.jsonl", &[]).success();
    // Stopped on the way, as far as a limit of the cost lets it go.
    let limit = ["--price-input", "0", "--price-output", "1000", "--limit-cost", "0.1"];
    let outcome = local("parts.jsonl", &[&limit[..], &["--batch-size", "2"]].concat());
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let kept = lines(folder.path().join("parts.jsonl.partial")).len() - 1;
    assert!((2..ROWS).contains(&kept), "{kept}");
    local("parts.jsonl", &["--batch-size", "1"]).success();
    let bytes = |name: String| std::fs::read(folder.path().join(name)).unwrap_or_default();
    for end in [".jsonl", ".unparsed.jsonl"] {
        assert_eq!(bytes(format!("whole{end}")), bytes(format!("parts{end}")), "{end}");
    }
}
