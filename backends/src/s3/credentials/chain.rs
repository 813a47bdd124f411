//! The default chain: where boto3 looks for credentials, in its order
//! (`botocore/credentials.py:create_credential_resolver`).

use aws_credential_types::Credentials;

use super::profile::{Profile, Profiles};
use super::sts::Role;
use super::{Environment, container, environment, imds, sts, web_identity};
use crate::transport::HttpClient;
use crate::{Error, Kind, Result};

/// Looks anew each time, so that a file or a token that was changed is seen.
///
/// Of boto's chain, single sign-on and `credential_process` are not followed: a profile that has
/// them is refused by name. Nor are the files of boto's predecessors (`~/.boto`,
/// `AWS_CREDENTIAL_FILE`) read.
#[derive(Debug)]
pub(super) struct Chain {
    environment: Environment,
    http: HttpClient,
}

impl Chain {
    pub(super) fn new(environment: Environment, http: HttpClient) -> Self {
        Self { environment, http }
    }

    /// The first credentials found.
    pub(super) async fn find(&self) -> Result<Credentials> {
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
        if let Some(found) = container::credentials(&self.environment, &self.http).await? {
            return Ok(found);
        }
        imds::credentials(&self.environment, &self.http).await.map_err(|error| {
            let looked = "get credentials: neither in the configuration nor in AWS_ACCESS_KEY_ID, \
                          AWS_WEB_IDENTITY_TOKEN_FILE, the shared files or \
                          AWS_CONTAINER_CREDENTIALS_FULL_URI, and the instance gives none";
            Error::new(Kind::Denied, looked).with_cause(error)
        })
    }

    /// A role's credentials, with the keys of somebody else.
    pub(super) async fn assume(&self, role: &Role, keys: &Credentials) -> Result<Credentials> {
        let profiles = Profiles::read(&self.environment).await?;
        self.sts(profiles.chosen()?)?.assume(role, keys).await
    }

    /// A role of a profile, by `source_profile` (which must have keys) or `credential_source`.
    async fn assume_for(&self, profiles: &Profiles, profile: &Profile, role: Role) -> Result<Credentials> {
        let wrong =
            |why: String| Err(Error::new(Kind::Invalid, format!("get credentials for a role: {why}")));
        if profile.get("mfa_serial").is_some() {
            return wrong("the profile has mfa_serial, which nobody is there to answer".to_owned());
        }
        let keys = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(source), None) => match profiles.named(source).map(Profile::keys).transpose()?.flatten() {
                Some(keys) => keys,
                None => return wrong(format!("source_profile {source} has no keys of its own")),
            },
            (None, Some("Environment")) => match environment::keys(&self.environment)? {
                Some(keys) => keys,
                None => return wrong("credential_source Environment, and no AWS_ACCESS_KEY_ID".to_owned()),
            },
            (None, Some("EcsContainer")) => {
                match container::credentials(&self.environment, &self.http).await? {
                    Some(keys) => keys,
                    None => return wrong("credential_source EcsContainer, and no such service".to_owned()),
                }
            }
            (None, Some("Ec2InstanceMetadata")) => imds::credentials(&self.environment, &self.http).await?,
            (None, Some(other)) => return wrong(format!("credential_source {other} is not known")),
            (Some(_), Some(_)) => return wrong("both source_profile and credential_source".to_owned()),
            (None, None) => return wrong("neither source_profile nor credential_source".to_owned()),
        };
        self.sts(profile)?.assume(&role, &keys).await
    }

    fn sts(&self, profile: &Profile) -> Result<sts::Sts> {
        sts::Sts::of(&self.environment, profile, &self.http)
    }
}
