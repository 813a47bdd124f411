//! The default chain: looks for credentials in the same places and order as boto3
//! (`botocore/credentials.py:create_credential_resolver`).

use std::sync::Arc;

use aws_credential_types::Credentials;
use store_answers::{Error, Kind, Result};

use super::profile::{Profile, Profiles};
use super::sts::Role;
use super::{Environment, Http, container, environment, imds, sts, web_identity};

/// Looks for credentials anew each time, so that a changed file or token takes effect.
///
/// Single sign-on and `credential_process` of boto's chain are not supported: a profile that uses them is
/// refused with an error that names them. The files of boto's predecessors (`~/.boto`, `AWS_CREDENTIAL_FILE`)
/// are not read.
#[derive(Debug)]
pub(crate) struct Chain {
    environment: Environment,
    http: Arc<dyn Http>,
}

impl Chain {
    pub(crate) fn new(environment: Environment, http: Arc<dyn Http>) -> Self {
        Self { environment, http }
    }

    /// The first credentials that are found.
    pub(crate) async fn find(&self) -> Result<Credentials> {
        if let Some(found) = environment::keys(&self.environment)? {
            return Ok(found);
        }
        let profiles = Profiles::read(&self.environment).await?;
        let profile = profiles.chosen()?;
        if let Some(role) = profile.role() {
            return self.assume_for(&profiles, profile, role).await;
        }
        if let Some(identity) = web_identity::WebIdentity::of(&self.environment, profile)? {
            return self.sts(profile)?.assume_with(&identity).await;
        }
        if let Some(found) = profiles.keys()? {
            return Ok(found);
        }
        if let Some(found) = container::credentials(&self.environment, &*self.http).await? {
            return Ok(found);
        }
        imds::credentials(&self.environment, &*self.http).await.map_err(|error| {
            let looked = "get credentials: neither in the configuration nor in AWS_ACCESS_KEY_ID, \
                          AWS_WEB_IDENTITY_TOKEN_FILE, the shared files or \
                          AWS_CONTAINER_CREDENTIALS_FULL_URI, and the instance gives none";
            Error::new(Kind::Denied, looked).with_cause(error)
        })
    }

    /// Assumes a role with the keys of another identity.
    pub(crate) async fn assume(&self, role: &Role, keys: &Credentials) -> Result<Credentials> {
        let profiles = Profiles::read(&self.environment).await?;
        self.sts(profiles.chosen()?)?.assume(role, keys).await
    }

    /// Assumes the role of a profile, by `source_profile` (which must have keys) or `credential_source`.
    async fn assume_for(&self, profiles: &Profiles, profile: &Profile, role: Role) -> Result<Credentials> {
        let wrong =
            |why: String| Err(Error::new(Kind::Invalid, format!("get credentials for a role: {why}")));
        if profile.get("mfa_serial").is_some() {
            return wrong("the profile has mfa_serial, which needs a user to answer".to_owned());
        }
        let keys = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(source), None) => match profiles.named(source).map(Profile::keys).transpose()?.flatten() {
                Some(keys) => keys,
                None => return wrong(format!("source_profile {source} has no keys of its own")),
            },
            (None, Some("Environment")) => match environment::keys(&self.environment)? {
                Some(keys) => keys,
                None => {
                    return wrong(
                        "credential_source is Environment, but AWS_ACCESS_KEY_ID is not set".to_owned(),
                    );
                }
            },
            (None, Some("EcsContainer")) => {
                match container::credentials(&self.environment, &*self.http).await? {
                    Some(keys) => keys,
                    None => {
                        return wrong(
                            "credential_source is EcsContainer, but there is no such service".to_owned(),
                        );
                    }
                }
            }
            (None, Some("Ec2InstanceMetadata")) => imds::credentials(&self.environment, &*self.http).await?,
            (None, Some(other)) => return wrong(format!("credential_source {other} is unknown")),
            (Some(_), Some(_)) => {
                return wrong("the profile has both source_profile and credential_source".to_owned());
            }
            (None, None) => {
                return wrong("the profile has neither source_profile nor credential_source".to_owned());
            }
        };
        self.sts(profile)?.assume(&role, &keys).await
    }

    fn sts(&self, profile: &Profile) -> Result<sts::Sts> {
        sts::Sts::of(&self.environment, profile, &self.http)
    }
}
