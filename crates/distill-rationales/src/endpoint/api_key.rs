//! Keys of endpoints: sent, and never shown.
use std::fmt;

use super::address::Address;
use crate::teacher::TeacherError;

/// The variable of the key where nobody names another.
pub const DEFAULT_API_KEY_ENV: &str = "OPENAI_API_KEY";

/// A key; it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key in the variable `named`, or in [`DEFAULT_API_KEY_ENV`] where none is named; `environment`
    /// looks a variable up.
    ///
    /// A variable that is not named is not used for an address that others on the way can read: its key
    /// is most likely another provider's.
    ///
    /// # Errors
    /// A variable that is named and not set, or a key that no header can hold.
    pub fn from_environment(
        named: Option<&str>,
        address: &Address,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TeacherError> {
        let variable = named.unwrap_or(DEFAULT_API_KEY_ENV);
        if named.is_none() && address.is_open() {
            return Ok(None);
        }
        let key = environment(variable).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        match key {
            Some(key) if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(Self(key))),
            Some(_) => Err(TeacherError::new(
                format!("the key in `{variable}` holds a character that no key has"),
                Some("copy it again, without spaces and line breaks".into()),
            )),
            None if named.is_some() => Err(TeacherError::new(
                format!("the variable `{variable}` is not set, or empty"),
                Some(format!("set it to the key (`export {variable}=...`), or leave out `--api-key-env`")),
            )),
            None => Ok(None),
        }
    }

    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The text without the key, which some servers repeat in their errors.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(named: Option<&str>, address: &str, set: &[(&str, &str)]) -> Result<Option<ApiKey>, TeacherError> {
        let address = Address::parse(address).unwrap();
        ApiKey::from_environment(named, &address, |variable| {
            set.iter().find(|(name, _)| *name == variable).map(|(_, key)| (*key).to_owned())
        })
    }

    #[test]
    fn the_default_variable_may_be_missing_and_a_named_one_may_not() {
        let set = [("OPENAI_API_KEY", "sk-1\n"), ("MINE", "sk-2")];
        assert_eq!(key(None, "https://a.b", &set).unwrap(), Some(ApiKey("sk-1".into())));
        assert_eq!(key(Some("MINE"), "https://a.b", &set).unwrap(), Some(ApiKey("sk-2".into())));
        assert_eq!(key(None, "https://a.b", &[]).unwrap(), None);
        let error = key(Some("MINE"), "https://a.b", &[("MINE", " ")]).unwrap_err();
        assert_eq!(error.to_string(), "the variable `MINE` is not set, or empty");
    }

    #[test]
    fn a_key_that_nobody_named_is_not_sent_in_the_open() {
        let set = [("OPENAI_API_KEY", "sk-1")];
        assert_eq!(key(None, "http://10.0.0.1", &set).unwrap(), None);
        assert!(key(Some("OPENAI_API_KEY"), "http://10.0.0.1", &set).unwrap().is_some());
        assert!(key(None, "http://localhost:8000", &set).unwrap().is_some());
    }

    #[test]
    fn keys_are_not_shown() {
        let found = key(None, "https://a.b", &[("OPENAI_API_KEY", "sk-1")]).unwrap().unwrap();
        assert_eq!(format!("{found:?}"), "ApiKey(..)");
        assert_eq!(found.hidden_in("wrong key sk-1."), "wrong key [key].");
        let error = key(None, "https://a.b", &[("OPENAI_API_KEY", "sk 1")]).unwrap_err();
        assert!(!error.to_string().contains("sk"), "{error}");
    }
}
