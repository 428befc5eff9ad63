//! What goes over the wire: requests and their answers, as OpenAI's API reference has them.
use serde::Deserialize;
use serde_json::{Value, json};

use super::EndpointConfig;
use crate::cost::{Usage, estimated_tokens};
use crate::prompt::{Content, SEPARATOR};
use crate::teacher::Reply;

/// How an endpoint calls the most tokens of a reply: models that think before they answer know the second
/// name alone, most servers the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitName {
    MaxTokens,
    MaxCompletionTokens,
}

/// The path of a request below the base address.
pub(super) fn path(content: &Content) -> &'static str {
    match content {
        Content::Chat(_) => "/chat/completions",
        Content::Plain(_) => "/completions",
    }
}

/// The body of a request.
pub(super) fn body(content: &Content, config: &EndpointConfig, limit: LimitName) -> Value {
    let mut body = match content {
        Content::Chat(messages) => json!({"model": config.model, "messages": messages}),
        Content::Plain(text) => {
            json!({"model": config.model, "prompt": text, "stop": [format!("\n{SEPARATOR}")]})
        }
    };
    let limit = match (limit, content) {
        (LimitName::MaxCompletionTokens, Content::Chat(_)) => "max_completion_tokens",
        _ => "max_tokens",
    };
    body[limit] = config.max_tokens.into();
    if let Some(temperature) = config.temperature {
        body["temperature"] = temperature.into();
    }
    body
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Written>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// The reply in an answer; tokens that it does not count are estimated.
///
/// # Errors
/// What the answer is not, or lacks.
pub(super) fn reply(answer: &str, content: &Content) -> Result<Reply, WrongAnswer> {
    let value: Value =
        serde_json::from_str(answer).map_err(|error| WrongAnswer::NoJson(error.to_string()))?;
    // Some gateways report a fault of the model behind them with status 200.
    if let Some(fault) = value.get("error").filter(|fault| !fault.is_null()) {
        return Err(WrongAnswer::Fault(server_words(&json!({"error": fault}).to_string())));
    }
    let answer: Answer =
        serde_json::from_value(value).map_err(|error| WrongAnswer::OtherJson(error.to_string()))?;
    let choice = answer.choices.into_iter().next();
    let choice = choice.ok_or_else(|| WrongAnswer::OtherJson("`choices` is empty".into()))?;
    let text = match (content, choice.message, choice.text) {
        (Content::Chat(_), Some(message), _) => message.content.unwrap_or_default(),
        (Content::Plain(_), _, Some(text)) => text,
        (Content::Chat(_), None, _) => {
            return Err(WrongAnswer::OtherJson("no `message` in `choices`".into()));
        }
        (Content::Plain(_), _, None) => return Err(WrongAnswer::OtherJson("no `text` in `choices`".into())),
    };
    let usage = match answer.usage {
        Some(counts) => Usage { input_tokens: counts.prompt_tokens, output_tokens: counts.completion_tokens },
        None => Usage { input_tokens: content.estimated_tokens(), output_tokens: estimated_tokens(&text) },
    };
    Ok(Reply { text, finish_reason: choice.finish_reason, usage })
}

/// An answer that is no reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WrongAnswer {
    /// Most often a page of something that stands between; may pass.
    NoJson(String),
    /// JSON of another kind, which it will be next time.
    OtherJson(String),
    /// A fault that the server tells; may pass.
    Fault(String),
}

/// The code of a fault, such as `insufficient_quota`.
pub(super) fn fault_code(body: &str) -> Option<String> {
    let value: Value = serde_json::from_str(body).ok()?;
    Some(value.get("error")?.get("code")?.as_str()?.to_owned())
}

/// What a server says about a fault, in one line and not too long: the message of an error as OpenAI has
/// it, or else the beginning of the body.
pub(super) fn server_words(body: &str) -> String {
    const LONGEST: usize = 300;
    let value: Option<Value> = serde_json::from_str(body).ok();
    let message = value.as_ref().and_then(|value| {
        let error = value.get("error").unwrap_or(value);
        error.as_str().or_else(|| ["message", "detail"].iter().find_map(|key| error.get(key)?.as_str()))
    });
    let words = message.unwrap_or(body).split_whitespace().collect::<Vec<_>>().join(" ");
    let words: String = words.chars().filter(|c| !c.is_control()).collect();
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Address;
    use crate::retry::RetryPolicy;
    use distill_data::{Message, Role};
    use std::time::Duration;

    fn config() -> EndpointConfig {
        EndpointConfig {
            address: Address::parse("http://localhost").unwrap(),
            model: "m".into(),
            temperature: Some(0.5),
            max_tokens: 7,
            timeout: Duration::from_secs(1),
            concurrency: 1,
            requests_per_minute: None,
            retry: RetryPolicy::default(),
            api_key: None,
        }
    }

    fn chat() -> Content {
        Content::Chat(vec![Message::new(Role::User, "hi")])
    }

    #[test]
    fn requests_are_as_the_reference_has_them() {
        let body_of_chat = body(&chat(), &config(), LimitName::MaxTokens);
        let expected = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7, "temperature": 0.5,
        });
        assert_eq!(body_of_chat, expected);
        let other = EndpointConfig { temperature: None, ..config() };
        let body_of_chat = body(&chat(), &other, LimitName::MaxCompletionTokens);
        let expected = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 7});
        assert_eq!(body_of_chat, expected);
        let plain = body(&Content::Plain("a".into()), &other, LimitName::MaxCompletionTokens);
        assert_eq!(plain, json!({"model": "m", "prompt": "a", "stop": ["\n###"], "max_tokens": 7}));
    }

    #[test]
    fn replies_are_read_and_their_tokens_counted() {
        let answer = r#"{"choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}"#;
        let expected = Reply {
            text: "ok".into(),
            finish_reason: Some("stop".into()),
            usage: Usage { input_tokens: 9, output_tokens: 2 },
        };
        assert_eq!(reply(answer, &chat()), Ok(expected));
        let plain = reply(r#"{"choices": [{"text": "four"}]}"#, &Content::Plain("12345".into())).unwrap();
        assert_eq!((plain.text.as_str(), plain.usage), ("four", Usage { input_tokens: 2, output_tokens: 1 }));
        let refused = r#"{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}"#;
        assert_eq!(reply(refused, &chat()).unwrap().text, "");
    }

    #[test]
    fn wrong_answers_are_told_apart() {
        assert!(matches!(reply("<html>", &chat()), Err(WrongAnswer::NoJson(_))));
        assert!(matches!(reply("{\"choices\": [", &chat()), Err(WrongAnswer::NoJson(_))));
        for other in
            ["[]", "{}", r#"{"choices": []}"#, r#"{"choices": [{"text": "a"}]}"#, r#"{"choices": 1}"#]
        {
            assert!(matches!(reply(other, &chat()), Err(WrongAnswer::OtherJson(_))), "{other}");
        }
        let fault = reply(r#"{"error": {"message": "overloaded"}}"#, &chat());
        assert_eq!(fault, Err(WrongAnswer::Fault("overloaded".into())));
    }

    #[test]
    fn servers_are_quoted_in_a_line() {
        for (body, words) in [
            (r#"{"error": {"message": "no\n such model", "code": "model_not_found"}}"#, "no such model"),
            (r#"{"error": "no such model"}"#, "no such model"),
            (r#"{"detail": "Not Found"}"#, "Not Found"),
            ("<p>\n Bad\u{1b} gateway</p>", "<p> Bad gateway</p>"),
            ("", ""),
        ] {
            assert_eq!(server_words(body), words);
        }
        assert_eq!(server_words(&"ä".repeat(400)), format!("{} ...", "ä".repeat(300)));
        assert_eq!(fault_code(r#"{"error": {"code": "a"}}"#).as_deref(), Some("a"));
        assert_eq!(fault_code(r#"{"error": {"code": 3}}"#), None);
    }
}
