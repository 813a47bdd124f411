//! Parameters of Quay's `SwiftStorage` (`storage/swift.py`), interpreted as Quay and python-swiftclient
//! (`client.py:get_auth`) do.

use std::path::PathBuf;

use url::Url;

use crate::params::{Params, Reason};
use crate::{Secret, key};

/// Keystone's own domain, which clients use if none is named.
const DEFAULT_DOMAIN: &str = "default";

/// One container of a Swift server.
#[derive(Debug, Clone)]
pub struct SwiftConfig {
    /// How the gateway authenticates itself.
    pub access: Access,
    /// The account's URL, which replaces the one in the catalogue (`object_storage_url`).
    pub storage_url: Option<Url>,
    /// The endpoint of the catalogue that is used.
    pub service: Service,
    /// The container.
    pub container: String,
    /// The prefix of all keys: Quay's `storage_path` without leading slashes.
    pub root: String,
    /// Whether root and key are concatenated without a slash between them.
    pub simple_path_concat: bool,
    /// A PEM file of root certificates. If it is given, only these are trusted for this store, like `verify`
    /// of `requests`.
    pub ca_file: Option<PathBuf>,
}

/// How the gateway authenticates itself.
#[derive(Debug, Clone)]
pub enum Access {
    /// A token from a login.
    Login(Box<Login>),
    /// Temporary URLs, signed with the account's key. They only allow reads.
    TempUrl(Secret),
}

/// Where to log in, and with which identity.
#[derive(Debug, Clone)]
pub struct Login {
    /// Quay's `auth_url`. For Keystone it ends with the version.
    pub url: Url,
    /// The identity.
    pub identity: Identity,
}

/// The identity for a login.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Swift's first protocol (`auth_version` 1), which RadosGW also supports.
    V1 {
        /// Often `account:user`.
        user: String,
        /// The password.
        key: Secret,
    },
    /// Keystone v2.
    V2(Account),
    /// Keystone v3.
    V3(Account),
    /// Keystone v3 with an application credential, which has its own project.
    ApplicationCredential {
        /// The id of the credential.
        id: String,
        /// The secret of the credential.
        secret: Secret,
    },
}

/// A Keystone user, and the scope of the token.
#[derive(Debug, Clone)]
pub struct Account {
    /// The user.
    pub user: Named,
    /// The password.
    pub password: Option<Secret>,
    /// A token to be exchanged (`auth_token`).
    pub token: Option<Secret>,
    /// The project. If there is none, Keystone v3 uses the user's default.
    pub project: Option<Named>,
}

/// A user or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By id.
    Id(String),
    /// By name within a domain.
    Name {
        /// The name.
        name: String,
        /// The domain. Version 2 has none.
        domain: Domain,
    },
}

impl Named {
    fn as_text(&self) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::Name { name, domain: Domain::Id(domain) | Domain::Name(domain) } => {
                format!("{domain}:{name}")
            }
        }
    }
}

/// A domain of Keystone v3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// The endpoint of the catalogue that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service type, usually `object-store`.
    pub kind: String,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The region, if one is configured.
    pub region: Option<String>,
}

pub(crate) const PARAMS: &[&str] = &[
    "swift_container",
    "storage_path",
    "auth_url",
    "swift_user",
    "swift_password",
    "auth_version",
    "os_options",
    "ca_cert_path",
    "temp_url_key",
    "simple_path_concat",
    "connect_timeout",
    "retry_count",
    "retry_on_ratelimit",
];

impl SwiftConfig {
    pub(crate) fn read(params: &mut Params) -> Result<Self, Reason> {
        // These parameters control Quay's own requests. The gateway has its own timeouts.
        params.optional_number("connect_timeout")?;
        params.optional_number("retry_count")?;
        params.optional_flag("retry_on_ratelimit")?;
        // Swiftclient ignores all other options as well.
        let mut options = params.map("os_options")?;
        let storage_url = match options.optional_text("object_storage_url")? {
            Some(url) => Some(params.plain_url("object_storage_url", &url)?),
            None => None,
        };
        let interface = options.optional_text("endpoint_type")?.unwrap_or_else(|| "public".to_owned());
        let service = Service {
            kind: options.optional_text("service_type")?.unwrap_or_else(|| "object-store".to_owned()),
            interface: interface.strip_suffix("URL").unwrap_or(&interface).to_owned(),
            region: options.optional_text("region_name")?,
        };
        let access = access(params, &mut options, storage_url.is_some())?;
        let root = params.text_or_empty("storage_path")?.trim_start_matches('/').to_owned();
        if key::has_dot_segment(&root) {
            return Err(params.wrong("storage_path", "a path without `.` and `..`"));
        }
        let container = params.text("swift_container")?;
        if container.contains('/') || key::has_dot_segment(&container) {
            return Err(params.wrong("swift_container", "the name of a container, without slashes"));
        }
        Ok(Self {
            access,
            storage_url,
            service,
            container,
            root,
            simple_path_concat: params.optional_flag("simple_path_concat")?.unwrap_or_default(),
            ca_file: params.optional_text("ca_cert_path")?.map(PathBuf::from),
        })
    }

    /// The URLs that are dialled first: the login, or the account itself.
    pub(crate) fn endpoints(&self) -> Vec<Url> {
        match &self.access {
            Access::Login(login) => vec![login.url.clone()],
            Access::TempUrl(_) => self.storage_url.iter().cloned().collect(),
        }
    }

    /// The location: account, container and root. The account is its configured URL, or else the login URL
    /// and the project. All users of a project share its containers, so the user counts only if the project
    /// is unknown.
    pub(crate) fn location(&self) -> String {
        let account = match (&self.access, &self.storage_url) {
            (_, Some(url)) => url.as_str().trim_end_matches('/').to_owned(),
            (Access::Login(login), None) => {
                let region = self.service.region.as_deref().unwrap_or_default();
                let url = login.url.as_str().trim_end_matches('/');
                format!("{url}/{}/{region}", login.identity.account())
            }
            (Access::TempUrl(_), None) => String::new(),
        };
        format!("{account}/{}/{}", self.container, self.root.trim_matches('/'))
    }

    /// A summary for operators.
    pub(crate) fn summary(&self) -> Vec<(&'static str, String)> {
        let (endpoint, auth) = match &self.access {
            Access::Login(login) => (Some(&login.url), login.identity.protocol()),
            Access::TempUrl(_) => (self.storage_url.as_ref(), "temporary URLs, read only"),
        };
        let endpoint = endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned());
        let mut summary = vec![
            ("endpoint", endpoint.unwrap_or_default()),
            ("container", self.container.clone()),
            ("root", self.root.clone()),
            ("auth", auth.to_owned()),
        ];
        summary.extend(self.service.region.clone().map(|region| ("region", region)));
        summary
    }
}

impl Identity {
    /// The configured token, if there is one.
    pub(super) fn token(&self) -> Option<&Secret> {
        match self {
            Self::V2(account) | Self::V3(account) => account.token.as_ref(),
            Self::V1 { .. } | Self::ApplicationCredential { .. } => None,
        }
    }

    /// The owner of the containers, as far as the configuration names it.
    fn account(&self) -> String {
        match self {
            Self::V1 { user, .. } => user.split(':').next().unwrap_or_default().to_owned(),
            Self::V2(account) | Self::V3(account) => {
                account.project.as_ref().unwrap_or(&account.user).as_text()
            }
            Self::ApplicationCredential { id, .. } => id.clone(),
        }
    }

    /// The protocol of the login, in words.
    fn protocol(&self) -> &'static str {
        match self {
            Self::V1 { .. } => "v1",
            Self::V2(_) => "Keystone v2",
            Self::V3(_) => "Keystone v3",
            Self::ApplicationCredential { .. } => "Keystone v3, application credential",
        }
    }
}

fn access(params: &mut Params, options: &mut Params, has_storage_url: bool) -> Result<Access, Reason> {
    let version = params.optional_number("auth_version")?.unwrap_or(2);
    let url = params.text("auth_url")?;
    let user = params.optional_text("swift_user")?;
    let password = params.optional_secret("swift_password")?;
    let temp_url_key = params.optional_secret("temp_url_key")?;
    let token = options.optional_secret("auth_token")?;
    let credential = application_credential(options)?;
    if password.is_none() && token.is_none() && credential.is_none() {
        let key = temp_url_key.ok_or_else(|| params.missing("swift_password"))?;
        if !has_storage_url {
            let why = "`temp_url_key` without `swift_password` needs `object_storage_url` in `os_options`";
            return Err(format!("SwiftStorage: {why}"));
        }
        return Ok(Access::TempUrl(key));
    }
    let user = || user.ok_or_else(|| params.missing("swift_user"));
    let (identity, suffix) = match (version, credential) {
        (1, _) => {
            let key = password.ok_or_else(|| params.missing("swift_password"))?;
            (Identity::V1 { user: user()?, key }, None)
        }
        (2 | 3, Some(identity)) => (identity, Some("v3")),
        (2, None) => (Identity::V2(account(user, password, token, options)?), Some("v2.0")),
        (3, None) => (Identity::V3(account(user, password, token, options)?), Some("v3")),
        _ => return Err(params.wrong("auth_version", "1, 2 or 3")),
    };
    if let (Identity::V2(account), true) = (&identity, version == 2)
        && account.project.is_none()
    {
        return Err("SwiftStorage: `os_options` must have `tenant_name` or `tenant_id`".to_owned());
    }
    let mut url = params.plain_url("auth_url", &url)?;
    if let Some(suffix) = suffix.filter(|_| !is_versioned(&url)) {
        let path = format!("{}/{suffix}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(Access::Login(Box::new(Login { url, identity })))
}

fn application_credential(options: &mut Params) -> Result<Option<Identity>, Reason> {
    let id = options.optional_text("application_credential_id")?;
    let secret = options.optional_secret("application_credential_secret")?;
    match options.optional_text("auth_type")?.as_deref() {
        None | Some("password" | "v2password" | "v3password") => Ok(None),
        Some("v3applicationcredential") => Ok(Some(Identity::ApplicationCredential {
            id: id.ok_or_else(|| options.missing("application_credential_id"))?,
            secret: secret.ok_or_else(|| options.missing("application_credential_secret"))?,
        })),
        Some(_) => Err(options.wrong("auth_type", "password or v3applicationcredential")),
    }
}

/// User and project, with the precedence of `get_auth_keystone` and keystoneclient: ids before names, newer
/// parameters before older ones, and the domain `default` if none is named.
fn account(
    user: impl FnOnce() -> Result<String, Reason>,
    password: Option<Secret>,
    token: Option<Secret>,
    options: &mut Params,
) -> Result<Account, Reason> {
    let user_domain = domain(options, "user_domain_id", "user_domain_name")?;
    let project_domain = domain(options, "project_domain_id", "project_domain_name")?;
    let project_id = options.optional_text("project_id")?;
    let project_id = project_id.or(options.optional_text("tenant_id")?);
    let project_name = options.optional_text("project_name")?;
    let mut tenant_name = options.optional_text("tenant_name")?;
    let user = match options.optional_text("user_id")? {
        Some(id) => Named::Id(id),
        None => {
            let mut name = user()?;
            if let Some((tenant, user)) = name.split_once(':') {
                if user.contains(':') {
                    return Err(options.wrong("swift_user", "`user` or `tenant:user`"));
                }
                tenant_name = Some(tenant.to_owned());
                name = user.to_owned();
            }
            Named::Name { name, domain: user_domain }
        }
    };
    let named = |name| Named::Name { name, domain: project_domain };
    let project = project_id.map(Named::Id).or_else(|| project_name.or(tenant_name).map(named));
    Ok(Account { user, password, token, project })
}

fn domain(options: &mut Params, id: &'static str, name: &'static str) -> Result<Domain, Reason> {
    let (id, name) = (options.optional_text(id)?, options.optional_text(name)?);
    Ok(match (id, name) {
        (Some(id), _) => Domain::Id(id),
        (None, Some(name)) => Domain::Name(name),
        (None, None) => Domain::Id(DEFAULT_DOMAIN.to_owned()),
    })
}

/// `VERSIONFUL_AUTH_PATH` of swiftclient: the path ends in `v2`, `v2.0`, `v3` or `v3.0`.
fn is_versioned(url: &Url) -> bool {
    let last = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    matches!(last, "v2" | "v2.0" | "v3" | "v3.0")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
