//! Parameters of Quay's `AzureStorage` (`storage/azurestorage.py`), interpreted as Quay does.

use url::Url;

use super::sign::AccountKey;
use crate::params::{Params, Reason};
use crate::{Secret, key};

/// One container of Azure Blob Storage.
#[derive(Debug, Clone)]
pub struct AzureConfig {
    /// The URL of the account, without container and blob. An emulator has the account in the path.
    pub endpoint: Url,
    /// The name of the account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The root of all names: Quay's `storage_path` without leading slashes.
    pub root: String,
    /// How the gateway authenticates itself.
    pub credentials: Credentials,
}

/// How the gateway authenticates itself to Azure.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// The account's key, which signs each request.
    Key(AccountKey),
    /// A shared access signature: a query, without `?`, that is added to each request.
    Sas(Secret),
    /// None. Quay would send anonymous requests. The gateway reads such a configuration but builds no store
    /// from it.
    Missing,
}

pub(crate) const PARAMS: &[&str] = &[
    "azure_container",
    "storage_path",
    "azure_account_name",
    "azure_account_key",
    "sas_token",
    "endpoint_url",
];

impl AzureConfig {
    /// Reads the parameters of `AzureStorage`. The key is preferred to the token, which Quay accepts but
    /// never uses.
    pub(crate) fn read(params: &mut Params) -> Result<Self, Reason> {
        let account = params.text("azure_account_name")?;
        if !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(params.wrong("azure_account_name", "letters and digits"));
        }
        let container = params.text("azure_container")?;
        if container.contains('/') || key::has_dot_segment(&container) {
            return Err(params.wrong("azure_container", "a name without `/`"));
        }
        let key = params.optional_secret("azure_account_key")?;
        let sas = params.optional_secret("sas_token")?;
        let credentials = match (key, sas) {
            (Some(key), _) => Credentials::Key(AccountKey::parse(&key).ok_or_else(|| {
                params.wrong("azure_account_key", "base64, as Azure shows it under \"Access keys\"")
            })?),
            (None, Some(sas)) => Credentials::Sas(sas_token(params, &sas)?),
            (None, None) => Credentials::Missing,
        };
        let endpoint = params
            .optional_text("endpoint_url")?
            .unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
        Ok(Self {
            endpoint: params.plain_url("endpoint_url", &endpoint)?,
            root: root(params)?,
            account,
            container,
            credentials,
        })
    }

    /// The location: endpoint with its account, container and root. The number of slashes in the root does
    /// not matter.
    pub(crate) fn location(&self) -> String {
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        format!("{endpoint}/{}/{}", self.container, self.root.trim_matches('/'))
    }

    /// A summary for operators.
    pub(crate) fn summary(&self) -> Vec<(&'static str, String)> {
        let credentials = match self.credentials {
            Credentials::Key(_) => "account key",
            Credentials::Sas(_) => "shared access signature",
            Credentials::Missing => "none",
        };
        vec![
            ("endpoint", self.endpoint.as_str().trim_end_matches('/').to_owned()),
            ("account", self.account.clone()),
            ("container", self.container.clone()),
            ("root", self.root.clone()),
            ("credentials", credentials.to_owned()),
        ]
    }
}

/// `AzureStorage.__init__` strips every leading `/`; `_blob_name_from_path` refuses `..`.
fn root(params: &mut Params) -> Result<String, Reason> {
    let path = params.text_or_empty("storage_path")?;
    let root = path.trim_start_matches('/');
    if key::has_dot_segment(root) {
        return Err(params.wrong("storage_path", "a path without `.` and `..`"));
    }
    Ok(root.to_owned())
}

/// The token as users copy it: with or without the `?` of a URL.
fn sas_token(params: &Params, token: &Secret) -> Result<Secret, Reason> {
    let query = token.reveal().trim_start_matches('?');
    let signed = query.split('&').any(|pair| pair.strip_prefix("sig=").is_some_and(|sig| !sig.is_empty()));
    if !signed || !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(params.wrong("sas_token", "a query such as `sv=…&sig=…`"));
    }
    Ok(Secret::new(query))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
