//! A teacher behind an endpoint as OpenAI's: `POST .../chat/completions` for conversations and
//! `POST .../completions` for plain texts, which vLLM, llama.cpp, Ollama and most providers offer too.
mod address;
mod api_key;
mod client;
mod wire;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::error::RationaleError;
use crate::pace::{Clock, Pace, wait};
use crate::prompt::Prompt;
use crate::retry::RetryPolicy;
use crate::teacher::{Asked, Heard, Reply, Teacher, TeacherError};
pub use address::Address;
pub use api_key::{ApiKey, DEFAULT_API_KEY_ENV};
use client::{Client, Fault};

/// After as many rows that failed one after the other no further one is begun: the endpoint is ill.
const MOST_FAILURES_IN_A_ROW: usize = 5;

/// How an endpoint is asked.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Where it is.
    pub address: Address,
    /// The model's name there.
    pub model: String,
    /// Sampling temperature; `None` leaves it to the model.
    pub temperature: Option<f64>,
    /// Most tokens of a reply.
    pub max_tokens: u32,
    /// Longest time from a request to the end of its answer.
    pub timeout: Duration,
    /// Most requests that are under way at a time.
    pub concurrency: usize,
    /// Most requests a minute, tries included; `None` is no limit.
    pub requests_per_minute: Option<f64>,
    /// What is tried again.
    pub retry: RetryPolicy,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<ApiKey>,
}

/// A model behind an endpoint.
pub struct Endpoint {
    config: EndpointConfig,
    client: Client,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

/// What became of a prompt.
enum Outcome {
    Reply(Reply),
    Failed(String),
    GivenUp,
    Refused(TeacherError),
}

/// What the threads that ask know of each other.
#[derive(Default)]
struct Together {
    next: AtomicUsize,
    /// Whether the endpoint has ever answered.
    answered: AtomicBool,
    failures_in_a_row: AtomicUsize,
    over: AtomicBool,
}

/// The way to the thread that listens, from those that ask.
#[derive(Clone)]
struct Listener(Sender<(Told, Sender<()>)>);

type Told = Result<Heard, TeacherError>;

impl Listener {
    /// Returns when it was heard: a reply is kept before its thread asks for another, so that a kill costs
    /// no more than what is under way.
    fn tell(&self, told: Told) {
        let (done, is_done) = channel();
        if self.0.send((told, done)).is_ok() {
            // An error means that the listener dropped it, and that is heard, too.
            let _ = is_done.recv();
        }
    }
}

impl Endpoint {
    /// Prepares requests; none is sent.
    ///
    /// # Errors
    /// [`RationaleError::Range`] for a setting out of its range.
    pub fn new(config: EndpointConfig, clock: Arc<dyn Clock>) -> Result<Self, RationaleError> {
        config.check()?;
        let pace = Pace::new(config.requests_per_minute);
        Ok(Self { client: Client::new(&config), config, pace, clock })
    }

    /// Takes prompts until there are none; `listener` hears of each.
    fn work(&self, asked: &Asked<'_>, together: &Together, listener: &Listener) {
        let hurry = || together.over.load(Ordering::SeqCst) || (asked.hurry)();
        loop {
            let index = together.next.fetch_add(1, Ordering::SeqCst);
            if index >= asked.len || hurry() || !(asked.may_begin)(index) {
                return;
            }
            let retry = |reason, time: Duration| {
                listener.tell(Ok(Heard::Retry { index, reason, wait: time.as_secs_f64() }));
            };
            let outcome = self.answer(&(asked.prompt)(index), together, &hurry, &retry);
            let told = match outcome {
                Outcome::Reply(reply) => {
                    together.answered.store(true, Ordering::SeqCst);
                    together.failures_in_a_row.store(0, Ordering::SeqCst);
                    Ok(Heard::Reply { index, reply })
                }
                Outcome::Failed(reason) => {
                    let failures = together.failures_in_a_row.fetch_add(1, Ordering::SeqCst) + 1;
                    if failures >= MOST_FAILURES_IN_A_ROW && !together.over.swap(true, Ordering::SeqCst) {
                        listener.tell(Err(self.ill(failures, &reason)));
                    }
                    Ok(Heard::Failed { index, reason })
                }
                Outcome::GivenUp => Ok(Heard::GivenUp { index }),
                Outcome::Refused(error) => {
                    together.over.store(true, Ordering::SeqCst);
                    // Its reservation is to be released like that of any other.
                    listener.tell(Ok(Heard::GivenUp { index }));
                    Err(error)
                }
            };
            listener.tell(told);
        }
    }

    fn answer(
        &self,
        prompt: &Prompt,
        together: &Together,
        hurry: &dyn Fn() -> bool,
        retry: &dyn Fn(String, Duration),
    ) -> Outcome {
        let policy = self.config.retry;
        let mut tried = 0;
        loop {
            if !self.pace.take(self.clock.as_ref(), hurry) {
                return Outcome::GivenUp;
            }
            let (reason, asked_for) = match self.client.request(&prompt.content) {
                Ok(reply) => return Outcome::Reply(reply),
                Err(Fault::Row(reason)) => return Outcome::Failed(reason),
                Err(Fault::Every(error)) => return Outcome::Refused(error),
                Err(Fault::OtherWords) => continue,
                Err(Fault::Unreachable(error)) if !together.answered.load(Ordering::SeqCst) => {
                    return Outcome::Refused(error);
                }
                Err(Fault::Unreachable(error)) => (error.to_string(), None),
                Err(Fault::Passing { reason, retry_after }) => (reason, retry_after),
            };
            if tried >= policy.max_retries {
                let times = tried + 1;
                return Outcome::Failed(format!(
                    "{reason} (asked {times} {})",
                    plural(times, "time", "times")
                ));
            }
            let time = match asked_for {
                Some(time) if time > policy.longest_retry_after => {
                    let (time, longest) = (time.as_secs(), policy.longest_retry_after.as_secs());
                    return Outcome::Failed(format!(
                        "{reason}; it asks to wait {time} s, at most {longest} s are"
                    ));
                }
                Some(time) => {
                    self.pace.pause(self.clock.as_ref(), time);
                    time
                }
                None => policy.wait(prompt.row, tried),
            };
            retry(reason, time);
            tried += 1;
            if !wait(self.clock.as_ref(), time, hurry) {
                return Outcome::GivenUp;
            }
        }
    }

    fn ill(&self, failures: usize, reason: &str) -> TeacherError {
        TeacherError::new(
            format!(
                "{failures} rows failed one after the other at {}; the last: {reason}",
                self.config.address
            ),
            Some("run the command again when the endpoint is well: what was answered is kept".into()),
        )
    }
}

impl EndpointConfig {
    fn check(&self) -> Result<(), RationaleError> {
        let range = |name, allowed, found: &dyn Display| {
            Err(RationaleError::Range { name, allowed, found: found.to_string() })
        };
        self.retry.check()?;
        if let Some(temperature) = self.temperature.filter(|t| !(0.0..=2.0).contains(t)) {
            return range("temperature", "between 0 and 2", &temperature);
        }
        if let Some(rate) = self.requests_per_minute.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return range("requests-per-minute", "above 0", &rate);
        }
        if self.max_tokens == 0 {
            return range("max-tokens", "at least 1", &self.max_tokens);
        }
        if self.concurrency == 0 || self.concurrency > 256 {
            return range("concurrency", "between 1 and 256", &self.concurrency);
        }
        if self.timeout.is_zero() {
            return range("timeout", "above 0", &self.timeout.as_secs());
        }
        if self.model.is_empty() {
            return Err(RationaleError::Needs {
                setting: "an endpoint",
                needed: "the name of a model",
                help: "give it by `--model NAME`",
            });
        }
        Ok(())
    }
}

impl Teacher for Endpoint {
    fn identity(&self) -> serde_json::Value {
        json!({
            "endpoint": self.config.address.to_string(),
            "model": self.config.model,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        })
    }

    fn ask(&mut self, asked: &Asked<'_>, heard: &mut dyn FnMut(Heard)) -> Result<(), TeacherError> {
        let (together, endpoint) = (Together::default(), &*self);
        let (tell, told) = channel();
        let listener = Listener(tell);
        thread::scope(|scope| {
            let mut fault = None;
            for _ in 0..self.config.concurrency.min(asked.len) {
                let (listener, together) = (listener.clone(), &together);
                let worker = thread::Builder::new().name("endpoint".into());
                if let Err(error) =
                    worker.spawn_scoped(scope, move || endpoint.work(asked, together, &listener))
                {
                    together.over.store(true, Ordering::SeqCst);
                    let help = Some("lower `--concurrency`".into());
                    fault = Some(TeacherError::new(format!("cannot start a thread: {error}"), help));
                    break;
                }
            }
            drop(listener);
            for (told, done) in told {
                match told {
                    Ok(told) => heard(told),
                    Err(error) => fault = fault.or(Some(error)),
                }
                let _ = done.send(());
            }
            fault.map_or(Ok(()), Err)
        })
    }
}

fn plural(count: u32, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}
