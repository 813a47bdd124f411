//! Credentials for a token in a file that another process keeps fresh: IAM roles for service accounts.

use store_answers::{Error, Kind, Result, Secret};

use super::Environment;
use super::profile::{Profile, read};

/// The longest token, in bytes. STS accepts 20,000 characters.
const MAX_TOKEN: u64 = 64 * 1024;

/// What STS gets instead of a signature (botocore's `AssumeRoleWithWebIdentityProvider`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebIdentity {
    file: String,
    pub(crate) role: String,
    pub(crate) session: Option<String>,
}

impl WebIdentity {
    /// Reads the settings. Each one is taken from the environment, or else from the profile.
    pub(crate) fn of(environment: &Environment, profile: &Profile) -> Result<Option<Self>> {
        let part =
            |variable, name| environment.get(variable).or_else(|| profile.get(name)).map(str::to_owned);
        let Some(file) = part("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file") else {
            return Ok(None);
        };
        let role = part("AWS_ROLE_ARN", "role_arn").ok_or_else(|| {
            let why = "get credentials: there is a web identity token but no role (AWS_ROLE_ARN)";
            Error::new(Kind::Invalid, why)
        })?;
        Ok(Some(Self { file, role, session: part("AWS_ROLE_SESSION_NAME", "role_session_name") }))
    }

    /// The token that is in the file now.
    pub(crate) async fn token(&self) -> Result<Secret> {
        let failed = |why: &str| Error::new(Kind::Denied, format!("read the web identity token: {why}"));
        match read(&self.file, MAX_TOKEN).await {
            Ok(Some(token)) if !token.reveal().trim().is_empty() => Ok(Secret::new(token.reveal().trim())),
            Ok(Some(_)) => Err(failed("the file is empty")),
            Ok(None) => Err(failed("the file does not exist")),
            Err(why) => Err(failed(&why)),
        }
    }
}
