//! Credentials for a token that somebody else keeps fresh in a file: IAM roles for service accounts.

use super::Environment;
use super::profile::{Profile, read};
use crate::{Error, Kind, Result, Secret};

/// Longest token, in bytes; STS itself takes 20,000 characters.
const MAX_TOKEN: u64 = 64 * 1024;

/// What STS is told instead of a signature (botocore's `AssumeRoleWithWebIdentityProvider`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WebIdentity {
    file: String,
    pub(super) role: String,
    pub(super) session: Option<String>,
}

impl WebIdentity {
    /// As environment or profile have it: each of its parts from the environment first.
    pub(super) fn of(environment: &Environment, profile: &Profile) -> Result<Option<Self>> {
        let part =
            |variable, name| environment.get(variable).or_else(|| profile.get(name)).map(str::to_owned);
        let Some(file) = part("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file") else {
            return Ok(None);
        };
        let role = part("AWS_ROLE_ARN", "role_arn").ok_or_else(|| {
            let why = "get credentials: a web identity token, and no role for it (AWS_ROLE_ARN)";
            Error::new(Kind::Invalid, why)
        })?;
        Ok(Some(Self { file, role, session: part("AWS_ROLE_SESSION_NAME", "role_session_name") }))
    }

    /// The token as it stands in the file now.
    pub(super) async fn token(&self) -> Result<Secret> {
        let failed = |why: &str| Error::new(Kind::Denied, format!("read the web identity token: {why}"));
        match read(&self.file, MAX_TOKEN).await {
            Ok(Some(token)) if !token.reveal().trim().is_empty() => Ok(Secret::new(token.reveal().trim())),
            Ok(Some(_)) => Err(failed("the file is empty")),
            Ok(None) => Err(failed("there is no such file")),
            Err(why) => Err(failed(&why)),
        }
    }
}
