//! Credentials from the environment of the process.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use store_answers::{Error, Kind, Result, Secret};

use super::document::time;

/// The environment variables that concern credentials, read once.
///
/// They are `HOME` and the `AWS_…` variables, with boto3's names. An empty variable counts as absent.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// The present variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let known = |name: &str| name.starts_with("AWS_") || name == "HOME";
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| known(name))
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::reveal).filter(|value| !value.is_empty())
    }

    /// Whether a variable is true in Python's sense: `true` in any case.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }
}

/// The keys in the environment, if there are any (botocore's `EnvProvider`).
pub(crate) fn keys(environment: &Environment) -> Result<Option<Credentials>> {
    let Some(access_key) = environment.get("AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let secret_key = environment.get("AWS_SECRET_ACCESS_KEY").ok_or_else(|| {
        Error::new(Kind::Invalid, "get credentials: AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY")
    })?;
    let token = environment.get("AWS_SECURITY_TOKEN").or_else(|| environment.get("AWS_SESSION_TOKEN"));
    let expiry = match environment.get("AWS_CREDENTIAL_EXPIRATION") {
        Some(text) => Some(time(text).ok_or_else(|| {
            Error::new(Kind::Invalid, "get credentials: AWS_CREDENTIAL_EXPIRATION is not a valid time")
        })?),
        None => None,
    };
    let token = token.map(str::to_owned);
    Ok(Some(Credentials::new(access_key, secret_key, token, expiry, "environment")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_are_read_as_in_botocore() {
        let (id, key) = (("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "hunter2"));
        let both = ("AWS_SECURITY_TOKEN", "old");
        let found = |pairs: &[_]| keys(&of(pairs)).expect("reads").expect("there");
        assert!(keys(&of(&[key])).expect("reads").is_none());
        assert!(keys(&of(&[("AWS_ACCESS_KEY_ID", ""), key])).expect("reads").is_none());
        assert_eq!(keys(&of(&[id])).expect_err("half of it").kind(), Kind::Invalid);
        assert_eq!(found(&[id, key]).session_token(), None);
        assert_eq!(found(&[id, key, ("AWS_SESSION_TOKEN", "t")]).session_token(), Some("t"));
        assert_eq!(found(&[id, key, ("AWS_SESSION_TOKEN", "t"), both]).session_token(), Some("old"));
        assert!(found(&[id, key, ("AWS_CREDENTIAL_EXPIRATION", "2030-01-01T00:00:00Z")]).expiry().is_some());
        assert!(keys(&of(&[id, key, ("AWS_CREDENTIAL_EXPIRATION", "soon")])).is_err());
    }

    #[test]
    fn no_value_is_printed() {
        let printed = format!("{:?}", of(&[("AWS_SECRET_ACCESS_KEY", "hunter2")]));
        assert!(printed.contains("AWS_SECRET_ACCESS_KEY") && !printed.contains("hunter2"), "{printed}");
    }
}
