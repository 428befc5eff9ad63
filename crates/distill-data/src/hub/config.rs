//! Where the hub and its cache are, from the variables that the Python client reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::HubError;

/// How the hub is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Folder of the cache, `$HF_HOME/hub`.
    pub cache: PathBuf,
    /// Address of the hub, `HF_ENDPOINT`; `None` is the client's own default.
    pub endpoint: Option<String>,
    /// Access token, `HF_TOKEN` or the file that a login leaves.
    pub token: Option<String>,
    /// Whether the cache alone is used, `HF_HUB_OFFLINE=1`.
    pub offline: bool,
    /// How often a request or a broken download is tried again; default 5.
    pub max_retries: u32,
    /// Wait before the first retry, doubled for each further one; default 0.5 s.
    pub retry_wait: Duration,
    /// Longest silence of a connection; default 60 s.
    pub stall_timeout: Duration,
}

impl HubConfig {
    /// The defaults around a cache folder: no token, the client's own endpoint.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: None,
            token: None,
            offline: false,
            max_retries: 5,
            retry_wait: Duration::from_millis(500),
            stall_timeout: Duration::from_secs(60),
        }
    }

    /// From `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE` and `XDG_CACHE_HOME`.
    ///
    /// # Errors
    /// [`HubError::NoCacheFolder`] if neither a variable nor a home folder says where to put it.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        user_home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
        let home = variable("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("huggingface")))
            .or_else(|| Some(user_home?.join(".cache/huggingface")));
        let cache = variable("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .ok_or(HubError::NoCacheFolder)?;
        let token_file = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let token = variable("HF_TOKEN")
            .or_else(|| std::fs::read_to_string(token_file?).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str()));
        Ok(Self { endpoint: variable("HF_ENDPOINT"), token, offline, ..Self::new(cache) })
    }
}

// A token must not reach a log.
impl fmt::Debug for HubConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubConfig")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> HubConfig {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        HubConfig::from_variables(variable, Some("/home/u".into())).unwrap()
    }

    #[test]
    fn cache_folder_follows_the_python_client() {
        let cache = |variables: &[(&str, &str)]| config(variables).cache;
        assert_eq!(cache(&[]), PathBuf::from("/home/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), PathBuf::from("/c"));
        assert!(HubConfig::from_variables(|_| None, None).is_err());
    }

    #[test]
    fn token_comes_from_the_variable_or_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        assert_eq!(config(&[("HF_HOME", path)]).token, None);
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(config(&[("HF_HOME", path)]).token.as_deref(), Some("hf_file"));
        let both = config(&[("HF_HOME", path), ("HF_TOKEN", "hf_variable")]);
        assert_eq!(both.token.as_deref(), Some("hf_variable"));
        assert!(!format!("{both:?}").contains("hf_variable"));
    }

    #[test]
    fn offline_is_a_flag() {
        for (value, expected) in [("1", true), ("TRUE", true), ("0", false), ("", false)] {
            assert_eq!(config(&[("HF_HUB_OFFLINE", value)]).offline, expected);
        }
    }
}
