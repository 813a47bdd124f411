//! Roles that the S3 driver assumes, with keys or with a web identity.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use backends::s3::{Environment, Role};
use backends::{Kind, Source, Store};
use bytes::Bytes;
use support::credentials::*;
use support::service::{Asked, Service, reply};

fn role() -> Role {
    Role {
        arn: "arn:aws:iam::1:role/quay".to_owned(),
        session: Some("quay".to_owned()),
        external_id: None,
        seconds: None,
    }
}

fn sts(server: &Service) -> Environment {
    let url = format!("http://{}/sts", server.address);
    environment(&[("AWS_ENDPOINT_URL_STS", &url), ("AWS_DEFAULT_REGION", "eu-west-1")])
}

#[tokio::test]
async fn a_role_is_assumed_with_the_users_keys() {
    let server = everybody().await;
    let store = with_role(&server, Some(&role()), "AKUSER", &sts(&server));
    store.head(&key()).await.expect("answers");
    store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written");
    let asked = server.below("/sts");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].credential()[2..], ["eu-west-1", "sts", "aws4_request"]);
    assert_eq!(asked[0].key(), "AKUSER");
    for (name, value) in
        [("Version", "2011-06-15"), ("RoleArn", "arn:aws:iam::1:role/quay"), ("RoleSessionName", "quay")]
    {
        assert_eq!(asked[0].field(name).as_deref(), Some(value));
    }
    for asked in server.below("/bucket") {
        assert_eq!(
            (asked.key().as_str(), asked.header("x-amz-security-token")),
            ("AKROLE", Some("token of AKROLE"))
        );
    }
    // If the store has no keys, the keys of the chain are used.
    let variables = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let url = format!("http://{}/sts", server.address);
    let environment = environment(&[&variables[..], &[("AWS_ENDPOINT_URL_STS", &url)]].concat());
    with_role(&server, Some(&role()), "", &environment).head(&key()).await.expect("answers");
    assert_eq!(server.below("/sts")[1].key(), "AKENV");
}

#[tokio::test]
async fn the_refusal_of_a_role_is_reported() {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>hunter2</Message></Error>\
                </ErrorResponse>";
    for (status, body, kind, text) in [
        (403, body, Kind::Denied, "assume the role arn:aws:iam::1:role/quay: denied (AccessDenied)"),
        (503, "hunter2", Kind::Unavailable, "assume the role arn:aws:iam::1:role/quay: unavailable (503)"),
        (200, "<html>hunter2</html>", Kind::Unavailable, "the answer has no credentials"),
    ] {
        let server = Service::start(move |_| reply(status, body)).await;
        let store = with_role(&server, Some(&role()), "AKUSER", &sts(&server));
        let error = store.head(&key()).await.expect_err("no credentials");
        assert_eq!(error.kind(), kind);
        assert!(said(&error).contains(text), "{error}");
    }
}

#[tokio::test]
async fn requests_are_signed_with_the_clock_of_the_service() {
    let there = SystemTime::now() + Duration::from_secs(86_400);
    let date = httpdate::fmt_http_date(there);
    let server = Service::start(move |asked| {
        let day = |date: &str| date[5..7].to_owned();
        let signed = asked.header("x-amz-date").expect("signed")[6..8].to_owned();
        match asked.path.as_str() {
            "/sts" if signed == day(&date) => assumed("AssumeRole", "AKROLE", HOUR),
            "/sts" => reply(403, "").with("date", date.as_str()),
            _ => fine(asked),
        }
    })
    .await;
    with_role(&server, Some(&role()), "AKUSER", &sts(&server)).head(&key()).await.expect("answers");
    assert_eq!(server.below("/sts").len(), 2);
}

/// The expiry of a role's credentials is given by the service's clock, which may be a day behind ours.
#[tokio::test]
async fn credentials_expire_by_the_clock_of_the_service() {
    let (day, life) = (Duration::from_secs(86_400), Duration::from_secs(900));
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/sts" => {
            let date = httpdate::fmt_http_date(SystemTime::now() - day);
            assumed_until("AssumeRole", "AKROLE", SystemTime::now() + life - day).with("date", date)
        }
        _ => fine(asked),
    })
    .await;
    let store = with_role(&server, Some(&role()), "AKUSER", &sts(&server));
    for _ in 0..3 {
        store.head(&key()).await.expect("answers");
    }
    assert_eq!(server.below("/sts").len(), 1);
}

/// The user's own credentials can expire too.
#[tokio::test]
async fn a_users_expired_token_is_renewed_as_well() {
    let given = AtomicUsize::new(0);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/container" => document(&format!("AK{}", given.fetch_add(1, Ordering::Relaxed)), HOUR),
        "/sts" if asked.key() == "AK0" => {
            reply(403, "<ErrorResponse><Error><Code>ExpiredTokenException</Code></Error></ErrorResponse>")
        }
        "/sts" => assumed("AssumeRole", "AKROLE", HOUR),
        _ => fine(asked),
    })
    .await;
    let (container, url) =
        (format!("http://{}/container", server.address), format!("http://{}/sts", server.address));
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()), ("AWS_ENDPOINT_URL", &url)];
    let store = with_role(&server, Some(&role()), "", &environment(&variables));
    store.head(&key()).await.expect("answers");
    assert_eq!(server.below("/sts").iter().map(Asked::key).collect::<Vec<_>>(), ["AK0", "AK1"]);
}

#[tokio::test]
async fn a_web_identity_token_is_read_again_for_each_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "token", "first");
    let revoked = Arc::new(AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/sts" => {
            let token = asked.field("WebIdentityToken").expect("a token");
            assumed("AssumeRoleWithWebIdentity", &format!("AK-{token}"), HOUR)
        }
        _ if is_revoked.load(Ordering::Relaxed) && asked.key() == "AK-first" => expired(),
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}/sts", server.address);
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.as_str()),
        ("AWS_ROLE_ARN", "arn:w"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
        ("AWS_ENDPOINT_URL_STS", &url),
    ];
    let store = store(&server, &environment(&variables));
    store.delete(&key()).await.expect("deleted");
    revoked.store(true, Ordering::Relaxed);
    std::fs::write(&file, "second").expect("rotated");
    store.delete(&key()).await.expect("deleted");
    assert_eq!(server.below("/bucket").last().expect("asked").key(), "AK-second");
    assert!(
        server.below("/sts").iter().all(|asked| asked.field("RoleSessionName").as_deref() == Some("pod"))
    );
    std::fs::remove_file(&file).expect("removed");
    let gone = self::store(&server, &environment(&variables)).head(&key()).await.expect_err("no token");
    assert!(said(&gone).contains("read the web identity token: the file does not exist"), "{gone}");
}
