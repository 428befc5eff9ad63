//! One request and its answer.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::Agent;
use ureq::http::Response;

use super::EndpointConfig;
use super::wire::{LimitName, WrongAnswer, body, fault_code, path, reply, server_words};
use crate::http_date::since_1970;
use crate::prompt::Content;
use crate::retry::is_retried;
use crate::teacher::{Reply, TeacherError};

/// Most bytes of an answer.
const LARGEST_ANSWER: u64 = 16 << 20;

/// Sends requests.
pub(super) struct Client {
    agent: Agent,
    config: EndpointConfig,
    /// Whether the endpoint wants the limit of a reply by its newer name.
    newer_limit: AtomicBool,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may be answered next time.
    Passing {
        reason: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// Nobody is there; if somebody was before, that may pass.
    Unreachable(TeacherError),
    /// This row will not be answered.
    Row(String),
    /// No row will be answered.
    Every(TeacherError),
    /// The same request is to be sent at once: it will be put in other words.
    OtherWords,
}

impl Client {
    pub(super) fn new(config: &EndpointConfig) -> Self {
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(config.concurrency)
            .max_idle_connections_per_host(config.concurrency)
            .timeout_global(Some(config.timeout));
        if config.address.is_local() {
            // What proxies there are reach other machines.
            builder = builder.proxy(None);
        }
        let agent = builder.build().new_agent();
        Self { agent, config: config.clone(), newer_limit: AtomicBool::new(false) }
    }

    /// Asks once.
    pub(super) fn request(&self, content: &Content) -> Result<Reply, Fault> {
        let newer_limit = self.newer_limit.load(Ordering::SeqCst);
        let limit = if newer_limit { LimitName::MaxCompletionTokens } else { LimitName::MaxTokens };
        let mut request =
            self.agent.post(self.config.address.with(path(content))).content_type("application/json");
        if let Some(key) = &self.config.api_key {
            request = request.header("authorization", key.header());
        }
        let body = body(content, &self.config, limit).to_string();
        let response = request.send(body).map_err(|error| self.broken(&error))?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
        let location =
            response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let answer =
            response.into_body().into_with_config().limit(LARGEST_ANSWER).lossy_utf8(true).read_to_string();
        let answer = answer.map_err(|error| self.broken(&error))?;
        match status {
            200..=299 => reply(&answer, content).map_err(|wrong| self.wrong(wrong, &answer)),
            300..=399 => Err(Fault::Every(self.redirected(status, location.as_deref()))),
            _ => Err(self.status(status, retry_after, &answer, newer_limit)),
        }
    }

    fn broken(&self, error: &ureq::Error) -> Fault {
        let address = &self.config.address;
        let help = "check the address, and that a server listens there";
        let every = |reason: &str| {
            TeacherError::new(format!("cannot reach `{address}`: {reason}"), Some(help.to_owned()))
        };
        match error {
            ureq::Error::Timeout(_) => {
                let seconds = self.config.timeout.as_secs_f64();
                Fault::passing(format!("no answer from `{address}` within {seconds} s"))
            }
            ureq::Error::HostNotFound => Fault::Unreachable(every("no such host")),
            ureq::Error::ConnectionFailed => Fault::Unreachable(every("no connection")),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Fault::Unreachable(every("connection refused"))
            }
            ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::InvalidProxyUrl => Fault::Every(every(&error.to_string())),
            ureq::Error::BodyExceedsLimit(limit) => {
                Fault::Row(format!("the answer of `{address}` is larger than {limit} bytes"))
            }
            error => Fault::passing(format!("the connection to `{address}` broke: {error}")),
        }
    }

    fn wrong(&self, wrong: WrongAnswer, answer: &str) -> Fault {
        let address = &self.config.address;
        match wrong {
            WrongAnswer::NoJson(error) => Fault::passing(format!(
                "the answer of `{address}` is not JSON ({error}): {}",
                self.quoted(answer)
            )),
            WrongAnswer::OtherJson(error) => Fault::Row(format!(
                "the answer of `{address}` is not that of an OpenAI-compatible endpoint ({error}): {}",
                self.quoted(answer)
            )),
            WrongAnswer::Fault(words) => {
                Fault::passing(format!("`{address}` answers with a fault: {}", self.hidden(&words)))
            }
        }
    }

    fn redirected(&self, status: u16, location: Option<&str>) -> TeacherError {
        let to = location.map(|location| format!(" to `{}`", self.hidden(location))).unwrap_or_default();
        TeacherError::new(
            format!("`{}` redirects{to} (status {status})", self.config.address),
            Some(
                "redirects are not followed, for the key goes to nobody else; give the address itself".into(),
            ),
        )
    }

    fn status(&self, status: u16, retry_after: Option<Duration>, answer: &str, newer_limit: bool) -> Fault {
        let code = fault_code(answer);
        let reason =
            format!("`{}` answers with status {status}: {}", self.config.address, self.quoted(answer));
        match (status, code.as_deref()) {
            (429, Some("insufficient_quota")) => Fault::Every(TeacherError::new(
                reason,
                Some(
                    "the account has no credit left: what was answered is kept, run again when it has".into(),
                ),
            )),
            (status, _) if is_retried(status) => Fault::Passing { reason, retry_after },
            (400, _) if !newer_limit && answer.contains("max_completion_tokens") => {
                self.newer_limit.store(true, Ordering::SeqCst);
                Fault::OtherWords
            }
            (400, Some("context_length_exceeded" | "content_filter")) => Fault::Row(reason),
            (400..=405, _) => Fault::Every(TeacherError::new(reason, Some(self.help(status, answer)))),
            _ => Fault::Row(reason),
        }
    }

    fn help(&self, status: u16, answer: &str) -> String {
        let model = &self.config.model;
        match status {
            400 if answer.contains("temperature") => {
                "the model takes no temperature: write `--temperature default`".into()
            }
            400 => {
                "change the settings of the request to what the endpoint accepts (`--model`, `--max-tokens`, \
                    `--temperature`, `--form`)"
                    .into()
            }
            401 if self.config.api_key.is_some() => {
                "check the key in the variable that `--api-key-env` names (else `OPENAI_API_KEY`)".into()
            }
            401 => "no key was sent: put it into a variable, and name that by `--api-key-env`".into(),
            402 => "the account has no credit left: what was answered is kept, run again when it has".into(),
            403 => format!("the key may not use `{model}`, or not from here"),
            _ => format!(
                "check `--model` (`{model}`) and the address: it is the base, such as `https://api.openai.com/v1`, and \
                 `/chat/completions` is added (`/completions` with `--form plain`)"
            ),
        }
    }

    fn quoted(&self, answer: &str) -> String {
        match self.hidden(&server_words(&self.hidden(answer))) {
            words if words.is_empty() => "no text".to_owned(),
            words => words,
        }
    }

    fn hidden(&self, text: &str) -> String {
        self.config.api_key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }
}

impl Fault {
    fn passing(reason: String) -> Self {
        Self::Passing { reason, retry_after: None }
    }
}

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110, §10.2.3).
fn retry_after<T>(response: &Response<T>) -> Option<Duration> {
    let text = response.headers().get("retry-after")?.to_str().ok()?.trim();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    wait_of(text, now)
}

fn wait_of(text: &str, now: Duration) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => Some(since_1970(text)?.saturating_sub(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Duration::from_secs(784_111_700);
        for (text, seconds) in [
            ("3", Some(3.0)),
            ("0.5", Some(0.5)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(77.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            assert_eq!(wait_of(text, now).map(|wait| wait.as_secs_f64()), seconds, "{text}");
        }
    }
}
