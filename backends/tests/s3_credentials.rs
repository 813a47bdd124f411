//! Where the S3 driver finds credentials, and how it keeps them fresh.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use backends::s3::{Environment, Role, S3Store};
use backends::{Key, Kind, Secret, Source, Store, Timeouts};
use bytes::Bytes;
use support::service::{Asked, Reply, Service, reply};

const IMDS: &str = "/latest/meta-data/iam/security-credentials/";

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A store without keys of its own.
fn store(server: &Service, environment: &Environment) -> S3Store {
    with_role(server, None, "", environment)
}

fn with_role(server: &Service, role: Option<&Role>, access_key: &str, environment: &Environment) -> S3Store {
    let mut config = support::config(server.address);
    config.access_key = Secret::new(access_key);
    let transport = support::transport(Timeouts::default());
    S3Store::with_environment(&config, role, environment, &transport).expect("builds")
}

/// A container's environment: `server` gives the credentials.
fn container(server: &Service) -> Environment {
    let url = format!("http://{}/container", server.address);
    environment(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)])
}

/// A time from now, to the second above.
fn from_now(life: Duration) -> String {
    let seconds =
        (SystemTime::now() + life).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + 1));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == &date[8..11]).expect("a month") + 1;
    format!("{}-{month:02}-{}T{}Z", &date[12..16], &date[5..7], &date[17..25])
}

fn document(key: &str, life: Duration) -> Reply {
    let expiration = from_now(life);
    reply(
        200,
        format!(
            r#"{{"Code": "Success", "AccessKeyId": "{key}", "SecretAccessKey": "hunter2",
            "Token": "token of {key}", "Expiration": "{expiration}"}}"#
        ),
    )
}

fn assumed(action: &str, key: &str, life: Duration) -> Reply {
    let expiration = from_now(life);
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

/// A store's answer to anything.
fn fine(asked: &Asked) -> Reply {
    if asked.method == "HEAD" { reply(200, "").with("content-length", "5") } else { reply(200, "") }
}

fn expired() -> Reply {
    reply(400, "<Error><Code>ExpiredToken</Code><Message>hunter2</Message></Error>")
}

/// What an error says, having looked for what it must not say.
fn said(error: &backends::Error) -> String {
    let text = error.to_string();
    assert!(!text.contains("hunter") && !text.contains("127.0.0.1"), "{text}");
    text
}

const HOUR: Duration = Duration::from_secs(3600);

/// Everybody that gives credentials, and a store.
async fn everybody() -> Service {
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

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("a text").to_owned()
}

#[tokio::test]
async fn the_chain_in_its_order() {
    let server = everybody().await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = |path: &str| format!("http://{}{path}", server.address);
    let shared = write(
        folder.path(),
        "credentials",
        "[default]\naws_access_key_id = AKSHARED\naws_secret_access_key = hunter2\naws_session_token = token of AKSHARED\n\
         [role]\nrole_arn = arn:r\nsource_profile = default\n",
    );
    let config = write(
        folder.path(),
        "config",
        "[default]\naws_access_key_id = AKCONFIG\naws_secret_access_key = hunter2\naws_session_token = token of AKCONFIG\n",
    );
    let token = write(folder.path(), "token", "a.web.token\n");
    // What comes first stands last: each is found once those before it are gone.
    let steps: [(&str, Vec<(&str, String)>); 7] = [
        ("AKINSTANCE", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url(""))]),
        ("AKCONTAINER", vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", url("/container"))]),
        ("AKCONFIG", vec![("AWS_CONFIG_FILE", config)]),
        ("AKSHARED", vec![("AWS_SHARED_CREDENTIALS_FILE", shared)]),
        (
            "AKWEB",
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
                ("AWS_ROLE_ARN", "arn:w".to_owned()),
                ("AWS_ENDPOINT_URL_STS", url("/sts")),
            ],
        ),
        ("AKROLE", vec![("AWS_PROFILE", "role".to_owned())]),
        (
            "AKENV",
            vec![
                ("AWS_ACCESS_KEY_ID", "AKENV".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
                ("AWS_SESSION_TOKEN", "token of AKENV".to_owned()),
            ],
        ),
    ];
    let mut variables = BTreeMap::new();
    for (expected, more) in steps {
        variables.extend(more);
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let store = store(&server, &environment);
        assert!(!format!("{store:?}").contains("hunter"));
        store.head(&key()).await.expect(expected);
        let asked = server.below("/bucket").pop().expect("asked");
        assert_eq!(asked.key(), expected);
        assert_eq!(asked.header("x-amz-security-token"), Some(&*format!("token of {expected}")));
    }
    let sts = server.below("/sts");
    assert_eq!(sts.len(), 2);
    assert_eq!(sts[0].field("WebIdentityToken").as_deref(), Some("a.web.token"));
    assert_eq!((sts[0].field("RoleArn").as_deref(), sts[0].header("authorization")), (Some("arn:w"), None));
    assert_eq!((sts[1].field("RoleArn").as_deref(), sts[1].key().as_str()), (Some("arn:r"), "AKSHARED"));
    let instance = server.below("/latest");
    assert_eq!(instance.len(), 3);
    assert_eq!(
        (instance[0].method.as_str(), instance[0].header("x-aws-ec2-metadata-token-ttl-seconds")),
        ("PUT", Some("21600"))
    );
    assert!(instance[1..].iter().all(|asked| asked.header("x-aws-ec2-metadata-token") == Some("session")));
}

/// A server that verifies signatures takes those made with what the chain found.
#[tokio::test]
async fn keys_of_the_environment_sign_for_a_real_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = support::config(support::s3_server(folder.path()).await);
    for (secret, works) in [(support::SECRET_KEY, true), ("wrong", false)] {
        config.access_key = Secret::new("");
        let variables = [("AWS_ACCESS_KEY_ID", support::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", secret)];
        let transport = support::transport(Timeouts::default());
        let store =
            S3Store::with_environment(&config, None, &environment(&variables), &transport).expect("builds");
        assert_eq!(store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.is_ok(), works);
    }
}

#[tokio::test]
async fn nothing_is_asked_before_the_first_request_and_one_fetch_serves_all() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => {
            std::thread::sleep(Duration::from_millis(100));
            document("AK", HOUR)
        }
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    assert_eq!(server.below("/").len(), 0);
    let key = key();
    let all = futures_util::future::join_all((0..20).map(|_| store.head(&key))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((server.below("/container").len(), server.below("/bucket").len()), (1, 20));
}

#[tokio::test]
async fn a_fetch_goes_on_for_the_others_when_who_began_it_has_left() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => {
            std::thread::sleep(Duration::from_millis(300));
            document("AK", HOUR)
        }
        _ => fine(asked),
    })
    .await;
    let store = Arc::new(store(&server, &container(&server)));
    let hurried = tokio::time::timeout(Duration::from_millis(100), store.head(&key())).await;
    assert!(hurried.is_err());
    store.head(&key()).await.expect("answers");
    assert_eq!(server.below("/container").len(), 1);
}

#[tokio::test]
async fn a_failed_fetch_fails_all_who_wait_for_it() {
    let server = Service::start(|asked| match asked.path.as_str() {
        "/container" => reply(500, "hunter2"),
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    let key = key();
    for error in futures_util::future::join_all((0..20).map(|_| store.head(&key))).await {
        let error = error.expect_err("no credentials");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(said(&error).contains("ask the container's service for credentials"), "{error}");
    }
    assert_eq!((server.below("/container").len(), server.below("/bucket").len()), (3, 0));
}

/// Keys `AK0`, `AK1`, … each good for a while, asked for with the token that a file holds now.
#[tokio::test]
async fn renewed_before_they_expire_with_the_token_of_the_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "token", "day 0\n");
    let given = AtomicUsize::new(0);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/container" => {
            let index = given.fetch_add(1, Ordering::Relaxed);
            let today = if index == 0 { "day 0" } else { "day 1" };
            let known = asked.header("authorization") == Some(today);
            if known { document(&format!("AK{index}"), Duration::from_secs(3)) } else { reply(401, "") }
        }
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}/container", server.address);
    let store = store(
        &server,
        &environment(&[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file),
        ]),
    );
    store.head(&key()).await.expect("answers");
    std::fs::write(&file, "day 1").expect("rotated");
    for _ in 0..45 {
        store.head(&key()).await.expect("answers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut keys: Vec<_> = server.below("/bucket").iter().map(Asked::key).collect();
    keys.dedup();
    // They were good for 3 to 4 seconds, and were renewed at half of it.
    assert!((3..=4).contains(&keys.len()), "{keys:?}");
    assert!(server.below("/container").len() <= 4);
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_old_until_they_expire() {
    let given = AtomicUsize::new(0);
    let server = Service::start(move |asked| match asked.path.as_str() {
        "/container" if given.fetch_add(1, Ordering::Relaxed) > 0 => reply(500, ""),
        "/container" => document("AK", Duration::from_secs(3)),
        _ => fine(asked),
    })
    .await;
    let store = store(&server, &container(&server));
    let start = std::time::SystemTime::now();
    let mut last = None;
    while start.elapsed().expect("time goes on") < Duration::from_secs(5) {
        let at = start.elapsed().expect("time goes on");
        match store.head(&key()).await {
            // Before they expire every request is served.
            Err(error) => {
                assert!(at > Duration::from_millis(2500), "{at:?}: {error}");
                last = Some(error);
            }
            Ok(_) => assert!(last.is_none()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(last.expect("they have expired").kind(), Kind::Unavailable);
    assert!(server.below("/container").len() > 3, "nobody tried");
}

/// A store that no longer takes the first keys that were given.
async fn changing(takes: fn(&str) -> bool) -> Service {
    let given = AtomicUsize::new(0);
    Service::start(move |asked| match asked.path.as_str() {
        "/container" => document(&format!("AK{}", given.fetch_add(1, Ordering::Relaxed)), HOUR),
        _ if takes(&asked.key()) => fine(asked),
        // A HEAD has no body to say why.
        _ if asked.method == "HEAD" => reply(400, ""),
        _ => expired(),
    })
    .await
}

#[tokio::test]
async fn a_token_refused_as_expired_is_renewed_once_and_the_request_repeated() {
    for method in ["HEAD", "DELETE", "PUT"] {
        let server = changing(|key| key != "AK0").await;
        let store = store(&server, &container(&server));
        match method {
            "HEAD" => drop(store.head(&key()).await.expect("answers")),
            "DELETE" => store.delete(&key()).await.expect("deleted"),
            _ => store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written"),
        }
        let keys: Vec<_> = server.below("/bucket").iter().map(Asked::key).collect();
        assert_eq!(keys, ["AK0", "AK1"], "{method}");
    }
    // All at once: one renewal.
    let server = changing(|key| key != "AK0").await;
    let store = store(&server, &container(&server));
    let key = key();
    let all = futures_util::future::join_all((0..20).map(|_| store.delete(&key))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.below("/container").len(), 2);
}

#[tokio::test]
async fn a_store_that_is_never_content_costs_one_renewal() {
    let server = changing(|_| false).await;
    let store = store(&server, &container(&server));
    for requests in [2, 3, 4] {
        let error = store.delete(&key()).await.expect_err("refused");
        assert_eq!((error.kind(), error.code()), (Kind::Denied, Some("ExpiredToken")), "{}", said(&error));
        assert_eq!(server.below("/bucket").len(), requests);
    }
    assert_eq!(server.below("/container").len(), 2);
    // Keys of the configuration cannot be renewed.
    let fixed = with_role(&server, None, "AKFIXED", &container(&server));
    assert_eq!(fixed.delete(&key()).await.expect_err("refused").kind(), Kind::Denied);
    assert_eq!(server.below("/bucket").len(), 5);
}

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
    // Without keys, with those of the chain.
    let variables = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let url = format!("http://{}/sts", server.address);
    let environment = environment(&[&variables[..], &[("AWS_ENDPOINT_URL_STS", &url)]].concat());
    with_role(&server, Some(&role()), "", &environment).head(&key()).await.expect("answers");
    assert_eq!(server.below("/sts")[1].key(), "AKENV");
}

#[tokio::test]
async fn a_role_that_is_refused_is_an_error_that_says_so() {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>hunter2</Message></Error>\
                </ErrorResponse>";
    for (status, body, kind, text) in [
        (403, body, Kind::Denied, "assume the role arn:aws:iam::1:role/quay: denied (AccessDenied)"),
        (503, "hunter2", Kind::Unavailable, "assume the role arn:aws:iam::1:role/quay: unavailable (503)"),
        (200, "<html>hunter2</html>", Kind::Unavailable, "an answer without credentials"),
    ] {
        let server = Service::start(move |_| reply(status, body)).await;
        let store = with_role(&server, Some(&role()), "AKUSER", &sts(&server));
        let error = store.head(&key()).await.expect_err("no credentials");
        assert_eq!(error.kind(), kind);
        assert!(said(&error).contains(text), "{error}");
    }
}

#[tokio::test]
async fn the_clock_of_the_service_is_heeded() {
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

/// The user's own credentials expire too.
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
async fn a_web_identity_token_is_read_anew() {
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
    assert!(said(&gone).contains("read the web identity token: there is no such file"), "{gone}");
}

#[tokio::test]
async fn instances_old_and_silent() {
    // Older than session tokens.
    let old = Service::start(|asked| match asked.path.as_str() {
        "/latest/api/token" => reply(404, ""),
        IMDS => reply(200, "a-role"),
        path if path.starts_with(IMDS) => document("AKINSTANCE", HOUR),
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}", old.address);
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    store(&old, &environment(&[endpoint])).head(&key()).await.expect("answers");
    let strict = environment(&[endpoint, ("AWS_EC2_METADATA_V1_DISABLED", "true")]);
    let error = store(&old, &strict).head(&key()).await.expect_err("too old");
    assert!(said(&error).contains("the instance gives none"), "{error}");
    // Nobody answers a request that is one hop too far.
    let silent = support::Scripted::start(vec![support::Answer::Ignore]).await;
    let url = format!("http://{}", silent.address);
    let store = store(&old, &environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    let error = store.head(&key()).await.expect_err("silent");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(said(&error).contains("hop limit must be 2 or more"), "{error}");
    assert_eq!(silent.requests().len(), 2);
}

#[tokio::test]
async fn an_instance_whose_credentials_are_refused_or_stale() {
    let stale = Service::start(|asked| match asked.path.as_str() {
        "/latest/api/token" => reply(200, "session"),
        IMDS => reply(200, "a-role"),
        path if path.starts_with(IMDS) => reply(
            200,
            r#"{"AccessKeyId": "AKSTALE", "SecretAccessKey": "hunter2", "Token": "t",
            "Expiration": "2020-01-01T00:00:00Z"}"#,
        ),
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}", stale.address);
    store(&stale, &environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]))
        .head(&key())
        .await
        .expect("stale ones are used while the service has no others");
    let refused = Service::start(|asked| match asked.path.as_str() {
        "/latest/api/token" => reply(200, "session"),
        IMDS => reply(200, "../../x"),
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}", refused.address);
    let store = store(&refused, &environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    assert!(said(&store.head(&key()).await.expect_err("no role")).contains("it names no role"));
    assert_eq!(refused.below("/").len(), 2);
}

#[tokio::test]
async fn where_nothing_is_found_it_is_said_where_was_looked() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = write(folder.path(), "config", "[profile sso]\nsso_account_id = 1\nsso_role_name = r\n");
    let server = Service::start(fine).await;
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    for (variables, kind, text) in [
        (vec![off], Kind::Denied, "no credentials: neither in the configuration nor in AWS_ACCESS_KEY_ID"),
        (vec![off, ("AWS_ACCESS_KEY_ID", "hunter1")], Kind::Invalid, "without AWS_SECRET_ACCESS_KEY"),
        (vec![off, ("AWS_PROFILE", "nobody")], Kind::Invalid, "there is no profile nobody"),
        (
            vec![off, ("AWS_PROFILE", "sso"), ("AWS_CONFIG_FILE", config.as_str())],
            Kind::Invalid,
            "profile sso has single sign-on (sso_…), which is not supported",
        ),
        (
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/")],
            Kind::Invalid,
            "neither loopback nor a service of Amazon's",
        ),
    ] {
        let error = store(&server, &environment(&variables)).head(&key()).await.expect_err("no credentials");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(said(&error).contains(text), "{error}");
    }
    assert_eq!(server.below("/").len(), 0);
}
