//! Stores without keys of their own, and services that provide credentials.

use std::path::Path;
use std::time::{Duration, SystemTime};

use backends::s3::{Environment, Role, S3Store};
use backends::{Key, Secret, Timeouts};

use super::service::{Asked, Reply, Service, reply};

pub const IMDS: &str = "/latest/meta-data/iam/security-credentials/";

pub fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

pub fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A store without keys of its own.
pub fn store(server: &Service, environment: &Environment) -> S3Store {
    with_role(server, None, "", environment)
}

pub fn with_role(
    server: &Service,
    role: Option<&Role>,
    access_key: &str,
    environment: &Environment,
) -> S3Store {
    let mut config = super::config(server.address);
    config.access_key = Secret::new(access_key);
    let transport = super::transport(Timeouts::default());
    S3Store::with_environment(&config, role, environment, &transport).expect("builds")
}

/// The environment of a container whose credentials come from `server`.
pub fn container(server: &Service) -> Environment {
    let url = format!("http://{}/container", server.address);
    environment(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)])
}

/// A time in the future, rounded up to the second.
pub fn from_now(life: Duration) -> String {
    to_the_second(SystemTime::now() + life)
}

fn to_the_second(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + 1));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == &date[8..11]).expect("a month") + 1;
    format!("{}-{month:02}-{}T{}Z", &date[12..16], &date[5..7], &date[17..25])
}

pub fn document(key: &str, life: Duration) -> Reply {
    let expiration = from_now(life);
    reply(
        200,
        format!(
            r#"{{"Code": "Success", "AccessKeyId": "{key}", "SecretAccessKey": "hunter2",
            "Token": "token of {key}", "Expiration": "{expiration}"}}"#
        ),
    )
}

pub fn assumed(action: &str, key: &str, life: Duration) -> Reply {
    assumed_until(action, key, SystemTime::now() + life)
}

pub fn assumed_until(action: &str, key: &str, expiration: SystemTime) -> Reply {
    let expiration = to_the_second(expiration);
    reply(
        200,
        format!(
            r#"<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>
            <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey>
            <SessionToken>token of {key}</SessionToken><Expiration>{expiration}</Expiration>
            </Credentials></{action}Result></{action}Response>"#
        ),
    )
}

/// The answer of a store to any request.
pub fn fine(asked: &Asked) -> Reply {
    if asked.method == "HEAD" { reply(200, "").with("content-length", "5") } else { reply(200, "") }
}

pub fn expired() -> Reply {
    reply(400, "<Error><Code>ExpiredToken</Code><Message>hunter2</Message></Error>")
}

/// The text of an error. Panics if the text contains a secret.
pub fn said(error: &backends::Error) -> String {
    let text = error.to_string();
    assert!(!text.contains("hunter") && !text.contains("127.0.0.1"), "{text}");
    text
}

pub const HOUR: Duration = Duration::from_secs(3600);

/// A server that plays all services that provide credentials, and a store.
pub async fn everybody() -> Service {
    Service::start(|asked| match asked.path.as_str() {
        "/container" => document("AKCONTAINER", HOUR),
        "/latest/api/token" => reply(200, "session"),
        IMDS => reply(200, "a-role\n"),
        path if path.starts_with(IMDS) => document("AKINSTANCE", HOUR),
        "/sts" => {
            let action = asked.field("Action").expect("an action");
            assumed(&action, if action == "AssumeRole" { "AKROLE" } else { "AKWEB" }, HOUR)
        }
        _ => fine(asked),
    })
    .await
}

pub fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("a text").to_owned()
}
