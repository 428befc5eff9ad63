//! Where an endpoint is.
use std::fmt;

use ureq::http::Uri;

use crate::teacher::TeacherError;

/// The base address of an endpoint, as `base_url` of OpenAI's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    base: String,
    host: String,
    is_https: bool,
}

impl Address {
    /// Whether a text is meant as an address.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("http://") || text.starts_with("https://")
    }

    /// Reads an address such as `https://api.openai.com/v1`. `/v1` is added where there is no path, and a
    /// final `/chat/completions` or `/completions` is left out.
    ///
    /// # Errors
    /// A text that is no such address, or one with a password or a query: both may be secrets, and an
    /// address is shown and kept.
    pub fn parse(text: &str) -> Result<Self, TeacherError> {
        let fault = |reason: &str, help: &str| {
            let shown = text.split(['?', '#']).next().unwrap_or_default();
            let shown = shown.rsplit_once('@').map_or(shown.to_owned(), |(_, host)| format!("...@{host}"));
            Err(TeacherError::new(
                format!("`{shown}` is no address of an endpoint: {reason}"),
                Some(help.into()),
            ))
        };
        const EXAMPLE: &str = "give the base address, such as `http://localhost:8000/v1`";
        if !Self::is_one(text) {
            return fault("it begins with neither `http://` nor `https://`", EXAMPLE);
        }
        if text.contains('@') {
            return fault(
                "it holds a name or a password",
                "put the key into the variable that `--api-key-env` names",
            );
        }
        if text.contains(['?', '#']) {
            return fault("it has a query", EXAMPLE);
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return fault("it cannot be read", EXAMPLE);
        };
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            return fault("it has no host", EXAMPLE);
        };
        let path = uri.path().trim_end_matches('/');
        let path =
            path.strip_suffix("/completions").map_or(path, |path| path.strip_suffix("/chat").unwrap_or(path));
        let path = if path.is_empty() { "/v1" } else { path };
        let is_https = uri.scheme_str() == Some("https");
        let (scheme, authority) = (if is_https { "https" } else { "http" }, uri.authority());
        let authority = authority.map(ToString::to_string).unwrap_or_default();
        Ok(Self { base: format!("{scheme}://{authority}{path}"), host: host.to_owned(), is_https })
    }

    /// The address of `path`, which begins with a slash.
    pub(super) fn with(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_open(&self) -> bool {
        !self.is_https && !self.is_local()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_found() {
        for (text, base) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("http://localhost:8080", "http://localhost:8080/v1"),
            ("http://localhost:8080/", "http://localhost:8080/v1"),
            ("https://a.b/api/v1/chat/completions", "https://a.b/api/v1"),
            ("https://a.b/v1/completions/", "https://a.b/v1"),
            ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), base, "{text}");
        }
        assert_eq!(Address::parse("http://a").unwrap().with("/completions"), "http://a/v1/completions");
    }

    #[test]
    fn addresses_on_this_machine_are_told() {
        let local = |text| Address::parse(text).unwrap().is_local();
        assert!(local("http://localhost:1") && local("http://127.0.0.1") && local("http://[::1]:9/v1"));
        assert!(!local("http://localhost.example.org") && !local("http://10.0.0.1"));
        assert!(Address::parse("http://10.0.0.1").unwrap().is_open());
        assert!(!Address::parse("https://10.0.0.1").unwrap().is_open());
    }

    #[test]
    fn secrets_in_addresses_are_refused_and_not_shown() {
        for text in ["https://me:hunter2@a.b/v1", "https://a.b/v1?key=hunter2", "https://a.b/v1#hunter2"] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.help().is_some());
        }
        for text in ["ftp://a", "http://", "https:// a", "a.b/v1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
