//! `DB_URI` and `DB_CONNECTION_ARGS` of Quay's `config.yaml`: Quay's database.

use std::path::{Path, PathBuf};

use backends::Secret;
use percent_encoding::percent_decode_str;
use postgres_connection::{Address, Database, InvalidUrl, Mode};
use serde::Deserialize;

use super::quay::RawValue;

/// Why Quay's database cannot be used. The message repeats no part of the URI, because it holds a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuayDatabaseError {
    #[error("DB_CONNECTION_ARGS: sslmode and sslrootcert must be strings")]
    Arguments,
    #[error(
        "sslmode in DB_CONNECTION_ARGS is neither `verify-full` nor `disable`: with any other value, the \
         password could be sent to a server that was not verified"
    )]
    SslMode,
    #[error("sslcert in DB_CONNECTION_ARGS: a client certificate is not supported")]
    ClientCertificate,
    #[error("DB_URI {0}")]
    Uri(#[from] UriError),
    #[error(transparent)]
    Database(#[from] InvalidUrl),
}

/// Why a `DB_URI` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UriError {
    #[error("is not of the form postgresql://user:password@host:port/database")]
    Malformed,
    #[error("names a MySQL database: placements can only be written to PostgreSQL")]
    MySql,
    #[error("names an SQLite database: placements can only be written to PostgreSQL")]
    Sqlite,
}

/// The keys of `DB_CONNECTION_ARGS` that protect the connection. The driver uses the others.
#[derive(Debug, Default, Deserialize)]
struct ConnectionArguments {
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    sslcert: Option<PathBuf>,
}

/// Quay's database, and the file with further roots for its certificate.
#[derive(Debug)]
pub(super) struct QuayDatabaseSettings {
    pub(super) database: Database,
    pub(super) root: Option<PathBuf>,
    /// Whether `sslmode` is missing.
    pub(super) sslmode_missing: bool,
}

/// Reads `DB_URI` and `DB_CONNECTION_ARGS`.
///
/// The URI is parsed as SQLAlchemy does (`sqlalchemy/engine/url.py`). Quay uses its host, port, user,
/// password and database (`data/database.py:_db_from_url`).
///
/// # Errors
/// The URI is malformed or is not PostgreSQL's, or `DB_CONNECTION_ARGS` asks for something that is not
/// supported.
pub(super) fn from_quay_config(
    uri: &Secret,
    arguments: Option<&RawValue>,
) -> Result<QuayDatabaseSettings, QuayDatabaseError> {
    let arguments: ConnectionArguments = match arguments {
        Some(arguments) => arguments.read().ok_or(QuayDatabaseError::Arguments)?,
        None => ConnectionArguments::default(),
    };
    let mode = match arguments.sslmode.as_deref() {
        // A missing sslmode means the same as for a journal.
        None | Some("verify-full" | "verify-ca") => Mode::Verified,
        Some("disable") => Mode::Plain,
        Some(_) => return Err(QuayDatabaseError::SslMode),
    };
    if arguments.sslcert.is_some() {
        return Err(QuayDatabaseError::ClientCertificate);
    }
    let parts = parse(uri.reveal())?;
    let address = Address {
        host: &parts.host,
        port: parts.port,
        user: &parts.user,
        password: parts.password.as_ref(),
        database: &parts.database,
    };
    let sslmode_missing = arguments.sslmode.is_none();
    Ok(QuayDatabaseSettings {
        database: Database::at(&address, mode)?,
        root: arguments.sslrootcert,
        sslmode_missing,
    })
}

/// Finds a file of Quay's container on this machine: at the same path, or else in the folder of Quay's
/// `config.yaml` (which is `/conf/stack` in the container).
pub(super) fn locate(config: &Path, file: &Path) -> Option<PathBuf> {
    let sibling = config.parent().unwrap_or(Path::new("")).join(file.file_name()?);
    [file.to_owned(), sibling].into_iter().find(|path| path.is_file())
}

struct UriParts {
    user: String,
    password: Option<Secret>,
    host: String,
    port: Option<u16>,
    database: String,
}

fn parse(uri: &str) -> Result<UriParts, UriError> {
    let (scheme, rest) = uri.split_once("://").ok_or(UriError::Malformed)?;
    match scheme {
        "postgresql" | "postgresql+psycopg2" => {}
        _ if scheme.starts_with("mysql") => return Err(UriError::MySql),
        _ if scheme.starts_with("sqlite") => return Err(UriError::Sqlite),
        _ => return Err(UriError::Malformed),
    }
    let (user, password, rest) = credentials(rest);
    let (host, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or(UriError::Malformed)?,
        None => rest.split_at(rest.find(['/', ':', '?']).unwrap_or(rest.len())),
    };
    let (port, rest) = match rest.strip_prefix(':') {
        Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let port = match port {
        "" => None,
        port => Some(port.parse().map_err(|_| UriError::Malformed)?),
    };
    // Quay ignores what follows a question mark.
    let database = rest.strip_prefix('/').map(|rest| rest.split('?').next().unwrap_or_default());
    let (user, database) = (user.map(decoded).unwrap_or_default(), database.unwrap_or_default().to_owned());
    // A host with an `@` contains the end of a password, and a host is shown.
    let missing = host.is_empty() || host.contains('@') || user.is_empty() || database.is_empty();
    let texts = [host, &user, &database];
    if missing || texts.iter().any(|text| text.contains('\0')) {
        return Err(UriError::Malformed);
    }
    let password = password.map(|password| Secret::new(decoded(password)));
    Ok(UriParts { user, password, host: host.to_owned(), port, database })
}

/// The user, the password, and what follows the `@`. A password may contain a slash, but no `@`.
fn credentials(rest: &str) -> (Option<&str>, Option<&str>, &str) {
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let password = rest[end..].strip_prefix(':').and_then(|password| password.split_once('@'));
    if let Some((password, after)) = password {
        return (Some(&rest[..end]), Some(password), after);
    }
    match rest[..end].rfind('@') {
        Some(at) => (Some(&rest[..at]), None, &rest[at + 1..]),
        None => (None, None, rest),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(uri: &str, arguments: &serde_json::Value) -> Result<QuayDatabaseSettings, QuayDatabaseError> {
        let arguments = RawValue::of(arguments.clone());
        from_quay_config(&Secret::new(uri), Some(&arguments))
    }

    #[test]
    fn uris_are_parsed_as_sqlalchemy_does() {
        let plain = serde_json::json!({"sslmode": "disable", "threadlocals": true, "autorollback": true});
        for (uri, shown) in [
            ("postgresql://quay:hunter2@db.example.com/quay", "db.example.com:5432/quay as quay, no TLS"),
            ("postgresql+psycopg2://u:hunter2@h:6000/q", "h:6000/q as u, no TLS"),
            ("postgresql://u:hunter2/:?#x@h/q?sslmode=require", "h:5432/q as u, no TLS"),
            ("postgresql://a%40b:hunter2@[::1]:7/q", "[::1]:7/q as a@b, no TLS"),
            ("postgresql://a@b@h/q", "h:5432/q as a@b, no TLS"),
        ] {
            let named = named(uri, &plain).expect(uri);
            assert_eq!(named.database.to_string(), format!("PostgreSQL {shown}"));
            assert!(!format!("{named:?}").contains("hunter2"));
        }
        let verified = serde_json::json!({"sslmode": "verify-ca", "sslrootcert": "/conf/stack/database.pem"});
        for arguments in [verified, serde_json::json!({})] {
            let named = named("postgresql://u:p@h/q", &arguments).expect("fine");
            assert!(named.database.to_string().contains("TLS, verified"));
        }
    }

    #[test]
    fn an_error_repeats_no_part_of_the_uri() {
        let none = serde_json::json!({});
        for (uri, expected) in [
            ("mysql+pymysql://u:hunter2@h/q", UriError::MySql),
            ("sqlite:///hunter2.db", UriError::Sqlite),
            ("postgres://u:hunter2@h/q", UriError::Malformed),
            ("postgresql://u:hunter2@h", UriError::Malformed),
            ("postgresql://u:hunter2@h:x/q", UriError::Malformed),
            ("postgresql://u:pass@hunter2@h/q", UriError::Malformed),
            ("postgresql://u:hunter2@/q", UriError::Malformed),
            ("postgresql://h/hunter2", UriError::Malformed),
            ("hunter2", UriError::Malformed),
        ] {
            let error = named(uri, &none).expect_err(uri);
            assert_eq!(error, QuayDatabaseError::Uri(expected), "{uri}");
            assert!(!error.to_string().contains("hunter2"), "{uri}: {error}");
        }
        for (arguments, expected) in [
            (serde_json::json!({"sslmode": "require"}), QuayDatabaseError::SslMode),
            (
                serde_json::json!({"sslmode": "disable", "sslcert": "/c"}),
                QuayDatabaseError::ClientCertificate,
            ),
            (serde_json::json!({"sslmode": 7}), QuayDatabaseError::Arguments),
        ] {
            let error = named("postgresql://u:hunter2@h/q", &arguments).expect_err("refused");
            assert_eq!(error, expected);
        }
    }

    proptest! {
        #[test]
        fn a_uri_is_parsed_to_its_parts(user in "[^:/@%\0]{1,20}", password in "[^@%]{0,20}", database in "[^?\0]{1,20}", port in any::<u16>()) {
            let parts = parse(&format!("postgresql://{user}:{password}@h:{port}/{database}")).expect("parses");
            prop_assert_eq!((parts.user, parts.port, parts.database), (user, Some(port), database));
            prop_assert_eq!(parts.password, Some(Secret::new(password)));
        }

        #[test]
        fn no_uri_panics_or_is_repeated(rest in "(?s).{0,60}") {
            if let Err(why) = parse(&format!("postgresql://hunter2{rest}")) {
                prop_assert!(!why.to_string().contains("hunter2"));
            }
        }
    }
}
