//! Which database, and how to connect to it.

use std::fmt;
use std::time::Duration;

use backends::Secret;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::address::{Address, InvalidUrl, Mode};
use crate::purpose::CONNECT_TIMEOUT;

/// TCP keepalive: the idle time before the first probe, the number of probes, and the time between them.
const KEEPALIVE: (Duration, u32, Duration) = (Duration::from_secs(10), 3, Duration::from_secs(3));

/// If sent bytes are not acknowledged for this long, the connection breaks.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// The default port.
pub(super) const PORT: u16 = 5432;

/// A PostgreSQL database. Neither its `Debug` nor its `Display` shows the password.
#[derive(Clone)]
pub struct Database {
    config: Config,
    verified: bool,
    place: String,
}

impl Database {
    /// Reads a URL such as `postgres://user:password@host:5432/database?sslmode=verify-full`.
    ///
    /// `sslmode` may be `verify-full` (TLS; the certificate's chain and name are verified) or `disable`. The
    /// default is `verify-full`, and `disable` for a Unix socket. Several hosts, `connect_timeout`, `options`
    /// and `application_name` work as in libpq; only a host that accepts writes is used.
    ///
    /// # Errors
    /// The URL is malformed, or its `sslmode` is not supported.
    pub fn parse(url: &Secret) -> Result<Self, InvalidUrl> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.reveal().starts_with(scheme)) {
            return Err(InvalidUrl::Malformed);
        }
        let (rest, mode) = without_sslmode(url.reveal());
        let mode = mode.map(str::to_owned);
        // The parser's own message may contain a piece of a password that is not encoded.
        let config: Config = rest.parse().map_err(|_| InvalidUrl::Malformed)?;
        let local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if config.get_hosts().is_empty() || config.get_user().is_none() || config.get_dbname().is_none() {
            return Err(InvalidUrl::Malformed);
        }
        // If an `@` of the password is not encoded, the end of the password is in the host, which is printed.
        let odd = |host: &Host| matches!(host, Host::Tcp(name) if name.contains(['@', '/']));
        if config.get_hosts().iter().any(odd) {
            return Err(InvalidUrl::Malformed);
        }
        let verified = match mode.as_deref() {
            None => !local,
            Some("verify-full") => true,
            Some("disable") => false,
            Some(_) => return Err(InvalidUrl::SslMode),
        };
        if verified && local {
            return Err(InvalidUrl::SocketTls);
        }
        Ok(Self::finished(config, verified))
    }

    /// From its parts, none of them percent-encoded.
    ///
    /// # Errors
    /// Only a build without the driver has one.
    pub fn at(address: &Address<'_>, mode: Mode) -> Result<Self, InvalidUrl> {
        let mut config = Config::new();
        config.host(address.host).user(address.user).dbname(address.database);
        config.port(address.port.unwrap_or(PORT));
        if let Some(password) = address.password {
            config.password(password.reveal());
        }
        Ok(Self::finished(config, mode == Mode::Verified))
    }

    fn finished(mut config: Config, verified: bool) -> Self {
        let (idle, retries, interval) = KEEPALIVE;
        config
            .ssl_mode(if verified { SslMode::Require } else { SslMode::Disable })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .keepalives_idle(idle)
            .keepalives_retries(retries)
            .keepalives_interval(interval)
            .tcp_user_timeout(UNACKNOWLEDGED);
        if config.get_connect_timeout().is_none_or(|given| given.is_zero() || *given > CONNECT_TIMEOUT) {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("quay-gateway");
        }
        let place = place(&config);
        Self { config, verified, place }
    }

    /// Where it is: `host:port/database`, or several hosts.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A text that differs from that of every other database or login. It holds the password, so it serves comparisons
    /// only.
    #[must_use]
    pub fn compared(&self) -> Secret {
        Secret::new(format!("{:?} {:?}", self.config, self.config.get_password()))
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.config.get_user().unwrap_or_default();
        let tls = if self.verified { "TLS, verified" } else { "no TLS" };
        write!(f, "PostgreSQL {} as {user}, {tls}", self.place)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

/// The URL without its `sslmode`, and the `sslmode`. If there are several, the last one counts.
fn without_sslmode(url: &str) -> (String, Option<&str>) {
    let Some((front, query)) = url.rsplit_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("sslmode=") {
            Some(value) => mode = Some(value),
            None => kept.push(pair),
        }
    }
    let query = kept.join("&");
    (if query.is_empty() { front.to_owned() } else { format!("{front}?{query}") }, mode)
}

fn place(config: &Config) -> String {
    let port = |at: usize| match config.get_ports() {
        [] => PORT,
        [one] => *one,
        several => several.get(at).copied().unwrap_or(PORT),
    };
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| match host {
        Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", port(at)),
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        Host::Unix(folder) => folder.display().to_string(),
    });
    format!("{}/{}", hosts.collect::<Vec<_>>().join(","), config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Database, InvalidUrl> {
        Database::parse(&Secret::new(url))
    }

    #[test]
    fn shown_without_the_password() {
        for (url, shown) in [
            (
                "postgres://quay:hunter2@db.example.com/quay",
                "db.example.com:5432/quay as quay, TLS, verified",
            ),
            ("postgresql://u:hunter2@[::1]:6000/q?sslmode=verify-full", "[::1]:6000/q as u, TLS, verified"),
            ("postgres://u:hunter2@a,b:7/q?sslmode=disable&application_name=x", "a:5432,b:7/q as u, no TLS"),
            ("postgres://u:hunter2@%2Frun%2Fpostgresql/q", "/run/postgresql/q as u, no TLS"),
            ("postgres://u:hunter2?&@h/d?sslmode=disable", "h:5432/d as u, no TLS"),
        ] {
            let database = parse(url).unwrap();
            assert_eq!(database.to_string(), format!("PostgreSQL {shown}"));
            assert!(!format!("{database:?} {database:#?} {database}").contains("hunter2"));
        }
    }

    #[test]
    fn refused_without_a_part_of_the_url() {
        for url in [
            "",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h",
            "postgres://h/d",
            "postgres://u@hunter2@h/d?x",
            "postgres://u:pass@hunter2@h/d",
            "postgres://u:pass@hunter2@h,other/d",
            "postgres://u:hunter2@h/d?sslmode=require",
            "postgres://u:hunter2@h/d?sslmode=prefer",
            "postgres://u:hunter2@h/d?sslrootcert=/x",
            "postgres://u:hunter2@%2Frun/d?sslmode=verify-full",
            "host=h user=u password=hunter2 dbname=d",
        ] {
            let why = parse(url).unwrap_err().to_string();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
