//! OpenStack Keystone (PyPI `keystone`) in waitress, with an SQLite database.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::ports::free_port;
use super::process::{Program, plain_client};
use super::store_process::StoreProcess;

const COMMAND_BOUND: Duration = Duration::from_secs(120);
const ADMIN_PASSWORD: &str = "keystone-admin";
const REGION: &str = "RegionOne";
/// Keystone parses the program's arguments and has no server of its own.
const SERVE: &str = "import sys, waitress
port, sys.argv = sys.argv[1], ['keystone']
from keystone.wsgi.api import application
waitress.serve(application, listen='127.0.0.1:' + port, threads=4)";

/// A Keystone v3 with the users and the catalogue that Swift and its users need.
#[derive(Debug)]
pub struct Keystone {
    /// The server's process, which can be stopped and suspended.
    pub process: StoreProcess,
    port: u16,
    /// The id of [`Keystone::PROJECT`].
    pub project_id: String,
    /// The id of [`Keystone::USER`].
    pub user_id: String,
    folder: TempDir,
}

impl Keystone {
    /// The project whose containers the user may use.
    pub const PROJECT: &'static str = "registry";
    /// The user.
    pub const USER: &'static str = "quay";
    /// The user's password.
    pub const PASSWORD: &'static str = "quay-password";
    /// The user with which Swift verifies tokens.
    pub(super) const SERVICE_USER: &'static str = "swift";
    /// Its password.
    pub(super) const SERVICE_PASSWORD: &'static str = "swift-password";
    /// The region of all endpoints.
    pub const REGION: &'static str = REGION;

    /// Starts Keystone. `swift` is the port of the Swift proxy in the catalogue.
    ///
    /// # Errors
    /// Keystone is not installed or does not start.
    pub async fn start(swift: u16) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("keystone-").tempdir()?;
        let port = free_port();
        let root = format!("http://127.0.0.1:{port}/v3");
        for repository in ["tokens", "credentials"] {
            write_keys(&folder.path().join(repository))?;
        }
        write_configuration(folder.path(), Duration::from_secs(3600))?;
        manage(folder.path(), &["db_sync"]).await?;
        let bootstrap =
            ["bootstrap", "--bootstrap-region-id", REGION, "--bootstrap-password", ADMIN_PASSWORD]
                .map(str::to_owned);
        let endpoints = ["public", "internal", "admin"].map(|name| format!("--bootstrap-{name}-url={root}"));
        manage(folder.path(), &[&bootstrap[..], &endpoints].concat()).await?;
        let program = Program::python("openstack")?
            .named("keystone")
            .env("OS_KEYSTONE_CONFIG_FILES", configuration(folder.path()))
            .args(["-c", SERVE, &port.to_string()]);
        let process = StoreProcess::start(program, folder.path(), root, &[200]).await?;
        let mut keystone = Self { process, port, project_id: String::new(), user_id: String::new(), folder };
        keystone.fill(swift).await.context("filling Keystone")?;
        Ok(keystone)
    }

    /// The URL, without a version.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Restarts Keystone with another lifetime for new tokens, in whole seconds.
    ///
    /// # Errors
    /// Keystone does not start.
    pub async fn set_token_lifetime(&mut self, lifetime: Duration) -> Result<()> {
        write_configuration(self.folder.path(), lifetime)?;
        self.process.restart().await
    }

    /// Creates an application credential of [`Keystone::USER`]. Returns its id and its secret.
    ///
    /// # Errors
    /// Keystone refuses.
    pub async fn application_credential(&self) -> Result<(String, String)> {
        let user = log_in(&self.url(), Self::USER, Self::PASSWORD, Self::PROJECT).await?;
        let path = format!("/users/{}/application_credentials", self.user_id);
        let wanted = json!({ "application_credential": { "name": "gateway" } });
        let made = user.call(Method::POST, &path, Some(&wanted)).await?;
        let made = &made["application_credential"];
        Ok((id(made)?, made["secret"].as_str().context("no secret")?.to_owned()))
    }

    /// Creates users, roles and the catalogue.
    async fn fill(&mut self, swift: u16) -> Result<()> {
        let admin = log_in(&self.url(), "admin", ADMIN_PASSWORD, "admin").await?;
        let made = async |what: &str, value: Value| -> Result<String> {
            let one = what.trim_end_matches('s');
            let answer = admin.call(Method::POST, &format!("/{what}"), Some(&json!({ one: value }))).await?;
            id(&answer[one])
        };
        let service_project = made("projects", json!({ "name": "service", "domain_id": "default" })).await?;
        self.project_id = made("projects", json!({ "name": Self::PROJECT, "domain_id": "default" })).await?;
        let user = |name, password| json!({ "name": name, "password": password, "domain_id": "default" });
        let service_user = made("users", user(Self::SERVICE_USER, Self::SERVICE_PASSWORD)).await?;
        self.user_id = made("users", user(Self::USER, Self::PASSWORD)).await?;
        let operator = made("roles", json!({ "name": "swiftoperator" })).await?;
        let roles = admin.call(Method::GET, "/roles?name=admin", None).await?;
        for (project, user, role) in [
            (&service_project, &service_user, &id(&roles["roles"][0])?),
            (&self.project_id, &self.user_id, &operator),
        ] {
            let path = format!("/projects/{project}/users/{user}/roles/{role}");
            admin.call(Method::PUT, &path, None).await?;
        }
        let service = made("services", json!({ "type": "object-store", "name": "swift" })).await?;
        let url = format!("http://127.0.0.1:{swift}/v1/AUTH_%(tenant_id)s");
        for interface in ["public", "internal"] {
            let endpoint =
                json!({ "service_id": service, "interface": interface, "region_id": REGION, "url": url });
            made("endpoints", endpoint).await?;
        }
        Ok(())
    }
}

/// A token for a project of the default domain.
///
/// # Errors
/// Keystone refuses.
pub(super) async fn token(url: &str, user: &str, password: &str, project: &str) -> Result<String> {
    Ok(log_in(url, user, password, project).await?.token)
}

/// A token, and the URL at which it is valid.
struct Session {
    root: String,
    token: String,
}

async fn log_in(url: &str, user: &str, password: &str, project: &str) -> Result<Session> {
    let domain = json!({ "id": "default" });
    let user = json!({ "name": user, "password": password, "domain": domain });
    let body = json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": user } },
        "scope": { "project": { "name": project, "domain": domain } },
    }});
    let root = format!("{url}/v3");
    let answer = plain_client()
        .post(format!("{root}/auth/tokens"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    ensure!(answer.status() == 201, "Keystone refuses {}: {}", user["name"], answer.status());
    let token = answer.headers().get("x-subject-token").context("no token")?.to_str()?.to_owned();
    Ok(Session { root, token })
}

impl Session {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = plain_client()
            .request(method, format!("{}{path}", self.root))
            .header("x-auth-token", &self.token)
            .header("content-type", "application/json");
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        let bytes = answer.bytes().await?;
        Ok(if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? })
    }
}

fn id(value: &Value) -> Result<String> {
    Ok(value["id"].as_str().context("no id")?.to_owned())
}

async fn manage(folder: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<()> {
    Program::find("keystone-manage")?
        .arg("--config-file")
        .arg(configuration(folder))
        .args(arguments)
        .run(COMMAND_BOUND)
        .await
        .map(drop)
}

/// Writes two Fernet keys, like `keystone-manage fernet_setup`.
fn write_keys(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)?;
    for name in ["0", "1"] {
        let key: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        std::fs::write(folder.join(name), URL_SAFE.encode(key))?;
    }
    Ok(())
}

fn configuration(folder: &Path) -> std::path::PathBuf {
    folder.join("keystone.conf")
}

/// Writes the configuration. Password hashes are cheap, because security does not matter here.
fn write_configuration(folder: &Path, lifetime: Duration) -> Result<()> {
    let mut text = String::new();
    write!(
        text,
        "[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{folder}/keystone.db
[token]
provider = fernet
expiration = {lifetime}
allow_expired_window = 0
[fernet_tokens]
key_repository = {folder}/tokens
[fernet_receipts]
key_repository = {folder}/tokens
[credential]
key_repository = {folder}/credentials
[cache]
enabled = false
[identity]
password_hash_rounds = 4
",
        folder = folder.display(),
        lifetime = lifetime.as_secs(),
    )?;
    std::fs::write(configuration(folder), text)?;
    Ok(())
}
