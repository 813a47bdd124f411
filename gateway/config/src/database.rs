//! Quay's database, as its own `config.yaml` names it: `DB_URI` and `DB_CONNECTION_ARGS`.

use std::path::{Path, PathBuf};

use backends::Secret;
use percent_encoding::percent_decode_str;
use postgres_connection::{Address, Database, Mode};
use serde::Deserialize;

use super::quay::Untyped;

/// What a URI must be; no part of one is ever said.
const EXPECTED: &str = "is not of the form postgresql://user:password@host:port/database";

/// Of `DB_CONNECTION_ARGS` what says how the line is protected; the others are the driver's business.
#[derive(Debug, Default, Deserialize)]
struct Arguments {
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    sslcert: Option<PathBuf>,
}

/// Quay's database, and the file of roots that its certificate is verified with beside the others.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) database: Database,
    pub(super) root: Option<PathBuf>,
    /// Nothing says how the line is protected.
    pub(super) sslmode_missing: bool,
}

/// Reads `DB_URI` as SQLAlchemy does (`sqlalchemy/engine/url.py`), of which Quay takes host, port,
/// user, password and database (`data/database.py:_db_from_url`), and `DB_CONNECTION_ARGS`.
///
/// # Errors
/// In words, without any part of the URI.
pub(super) fn quays_own(uri: &Secret, arguments: Option<&Untyped>) -> Result<Named, String> {
    let arguments: Arguments = match arguments {
        Some(arguments) => arguments
            .read()
            .map_err(|()| "DB_CONNECTION_ARGS: sslmode and sslrootcert are texts".to_owned())?,
        None => Arguments::default(),
    };
    let mode = match arguments.sslmode.as_deref() {
        // What a journal means without one.
        None | Some("verify-full" | "verify-ca") => Mode::Verified,
        Some("disable") => Mode::Plain,
        Some(_) => {
            return Err("sslmode in DB_CONNECTION_ARGS is neither `verify-full` nor `disable`: the others \
                        would send the password to whoever answers"
                .to_owned());
        }
    };
    if arguments.sslcert.is_some() {
        return Err("sslcert in DB_CONNECTION_ARGS: a client's certificate is not supported".to_owned());
    }
    let parts = parse(uri.reveal()).map_err(|why| format!("DB_URI {why}"))?;
    let address = Address {
        host: &parts.host,
        port: parts.port,
        user: &parts.user,
        password: parts.password.as_ref(),
        database: &parts.database,
    };
    let sslmode_missing = arguments.sslmode.is_none();
    Ok(Named { database: Database::at(&address, mode), root: arguments.sslrootcert, sslmode_missing })
}

/// A path in Quay's container, here: as it is where there is such a file, else by its name beside
/// Quay's `config.yaml` (`/conf/stack` there).
pub(super) fn found(config: &Path, file: &Path) -> Option<PathBuf> {
    let beside = config.parent().unwrap_or(Path::new("")).join(file.file_name()?);
    [file.to_owned(), beside].into_iter().find(|path| path.is_file())
}

struct Parts {
    user: String,
    password: Option<Secret>,
    host: String,
    port: Option<u16>,
    database: String,
}

fn parse(uri: &str) -> Result<Parts, String> {
    let (scheme, rest) = uri.split_once("://").ok_or(EXPECTED)?;
    match scheme {
        "postgresql" | "postgresql+psycopg2" => {}
        _ if scheme.starts_with("mysql") => {
            return Err("is a MySQL: placements are written to PostgreSQL alone".to_owned());
        }
        _ if scheme.starts_with("sqlite") => {
            return Err("is an SQLite: placements are written to PostgreSQL alone".to_owned());
        }
        _ => return Err(EXPECTED.to_owned()),
    }
    let (user, password, rest) = credentials(rest);
    let (host, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or(EXPECTED)?,
        None => rest.split_at(rest.find(['/', ':', '?']).unwrap_or(rest.len())),
    };
    let (port, rest) = match rest.strip_prefix(':') {
        Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let port = match port {
        "" => None,
        port => Some(port.parse().map_err(|_| EXPECTED)?),
    };
    // What follows a question mark Quay does not read.
    let database = rest.strip_prefix('/').map(|rest| rest.split('?').next().unwrap_or_default());
    let (user, database) = (user.map(decoded).unwrap_or_default(), database.unwrap_or_default().to_owned());
    // A host with an `@` is the end of a password, which would be shown.
    let missing = host.is_empty() || host.contains('@') || user.is_empty() || database.is_empty();
    let texts = [host, &user, &database];
    if missing || texts.iter().any(|text| text.contains('\0')) {
        return Err(EXPECTED.to_owned());
    }
    let password = password.map(|password| Secret::new(decoded(password)));
    Ok(Parts { user, password, host: host.to_owned(), port, database })
}

/// User, password, and what follows the `@`. A password may hold a slash as it is, but no `@`.
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

    fn named(uri: &str, arguments: &serde_json::Value) -> Result<Named, String> {
        let arguments = Untyped::of(arguments.clone());
        quays_own(&Secret::new(uri), Some(&arguments))
    }

    #[test]
    fn as_sqlalchemy_reads_it() {
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
    fn refused_without_a_part_of_it() {
        let none = serde_json::json!({});
        for (uri, why) in [
            ("mysql+pymysql://u:hunter2@h/q", "is a MySQL"),
            ("sqlite:///hunter2.db", "is an SQLite"),
            ("postgres://u:hunter2@h/q", EXPECTED),
            ("postgresql://u:hunter2@h", EXPECTED),
            ("postgresql://u:hunter2@h:x/q", EXPECTED),
            ("postgresql://u:pass@hunter2@h/q", EXPECTED),
            ("postgresql://u:hunter2@/q", EXPECTED),
            ("postgresql://h/hunter2", EXPECTED),
            ("hunter2", EXPECTED),
        ] {
            let said = named(uri, &none).expect_err(uri);
            assert!(said.contains(why) && !said.contains("hunter2"), "{uri}: {said}");
        }
        for (arguments, why) in [
            (serde_json::json!({"sslmode": "require"}), "neither `verify-full` nor `disable`"),
            (serde_json::json!({"sslmode": "disable", "sslcert": "/c"}), "client's certificate"),
            (serde_json::json!({"sslmode": 7}), "are texts"),
        ] {
            let said = named("postgresql://u:hunter2@h/q", &arguments).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(user in "[^:/@%\0]{1,20}", password in "[^@%]{0,20}", database in "[^?\0]{1,20}", port in any::<u16>()) {
            let parts = parse(&format!("postgresql://{user}:{password}@h:{port}/{database}")).expect("parses");
            prop_assert_eq!((parts.user, parts.port, parts.database), (user, Some(port), database));
            prop_assert_eq!(parts.password, Some(Secret::new(password)));
        }

        #[test]
        fn nothing_breaks_it_and_nothing_of_it_is_said(rest in "(?s).{0,60}") {
            if let Err(why) = parse(&format!("postgresql://hunter2{rest}")) {
                prop_assert!(!why.contains("hunter2"));
            }
        }
    }
}
