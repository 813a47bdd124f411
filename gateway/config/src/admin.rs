//! `admin`: where the admin API listens, and who may give commands there.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use backends::Secret;

use super::ConfigError;
use super::file::AdminEntry;
use super::files::secret_file;
use super::hostnames::without_port;
use super::located::Located;

const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9090));

/// The fewest and the most characters of a token: fewer can be guessed, more do not fit in a header.
const TOKEN_MIN: usize = 16;
const TOKEN_MAX: usize = 1024;

/// The most names in `admin.hosts`.
const HOSTS_MAX: usize = 64;

/// The settings of the admin API.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Host names that requests may use, in lower case. Loopback and the listen address are always allowed. With `tls`,
    /// the names that clients dial are among them: a page of another site has no certificate for them.
    pub hosts: Vec<String>,
    /// The bearer token of commands. Without one, commands are accepted only if `listen` is a loopback address.
    pub token: Option<Secret>,
    /// Whether the admin API speaks TLS, with the certificates that clients see.
    pub tls: bool,
}

impl AdminSettings {
    /// Whether commands are accepted at all.
    #[must_use]
    pub fn takes_commands(&self) -> bool {
        self.token.is_some() || self.listen.ip().to_canonical().is_loopback()
    }
}

/// Checks `admin` and reads its token. `hostnames` are those that clients dial.
pub(super) fn admin<'a>(
    path: &Path,
    admin: &AdminEntry,
    hostnames: impl Iterator<Item = &'a String>,
) -> Result<AdminSettings, ConfigError> {
    let tls = admin.tls.unwrap_or_default();
    let dialled = hostnames.map(|name| without_port(name).to_ascii_lowercase()).filter(|_| tls);
    let hosts = hosts(path, admin.hosts.as_ref())?.into_iter().chain(dialled).collect();
    Ok(AdminSettings {
        listen: admin.listen.unwrap_or(LISTEN),
        hosts,
        token: admin.token_file.as_ref().map(|file| token(path, file)).transpose()?,
        tls,
    })
}

fn hosts(path: &Path, hosts: Option<&Located<Vec<String>>>) -> Result<Vec<String>, ConfigError> {
    let Some(hosts) = hosts else { return Ok(Vec::new()) };
    let fail = |why: String| ConfigError::new(path, hosts.line, format!("admin.hosts: {why}"));
    if hosts.value.len() > HOSTS_MAX {
        return Err(fail(format!("{} names, but the limit is {HOSTS_MAX}", hosts.value.len())));
    }
    let plain = |name: &String| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let has_port = name.parse::<http::uri::Authority>().map_or(true, |name| name.port().is_some());
        !name.is_empty() && name.bytes().all(known) && !has_port
    };
    match hosts.value.iter().all(plain) {
        true => Ok(hosts.value.iter().map(|name| name.to_ascii_lowercase()).collect()),
        false => {
            Err(fail("must be a list of host names or addresses, without a scheme and without a port".into()))
        }
    }
}

fn token(path: &Path, file: &Located<std::path::PathBuf>) -> Result<Secret, ConfigError> {
    let token = secret_file(path, "admin.token_file", file)?;
    let length = token.reveal().len();
    let plain = token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    if plain && (TOKEN_MIN..=TOKEN_MAX).contains(&length) {
        return Ok(token);
    }
    let why = format!(
        "admin.token_file: the file must hold {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters without \
         spaces; `openssl rand -hex 32` makes such a token"
    );
    Err(ConfigError::new(path, file.line, why))
}
