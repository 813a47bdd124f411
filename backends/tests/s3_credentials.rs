//! Where the S3 driver finds credentials.

mod support;

use std::collections::BTreeMap;

use backends::s3::S3Store;
use backends::{Kind, Secret, Source, Store, Timeouts};
use bytes::Bytes;
use support::credentials::*;
use support::service::{Service, reply};

#[tokio::test]
async fn the_chain_has_the_documented_order() {
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
    // The sources are listed in reverse order. Each one is found after those before it are removed.
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

/// A server that verifies signatures accepts those made with the keys from the chain.
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
async fn instances_without_session_tokens_and_without_answer() {
    // A service that is too old for session tokens.
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
    // A packet with too small a hop limit is lost, so nobody answers.
    let silent = support::Scripted::start(vec![support::Answer::Ignore]).await;
    let url = format!("http://{}", silent.address);
    let store = store(&old, &environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    let error = store.head(&key()).await.expect_err("silent");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(said(&error).contains("hop limit must be 2 or more"), "{error}");
    assert_eq!(silent.requests().len(), 2);
}

#[tokio::test]
async fn an_instance_with_missing_or_expired_credentials() {
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
        .expect("expired credentials are used while the service has no others");
    let refused = Service::start(|asked| match asked.path.as_str() {
        "/latest/api/token" => reply(200, "session"),
        IMDS => reply(200, "../../x"),
        _ => fine(asked),
    })
    .await;
    let url = format!("http://{}", refused.address);
    let store = store(&refused, &environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]));
    assert!(said(&store.head(&key()).await.expect_err("no role")).contains("the answer names no role"));
    assert_eq!(refused.below("/").len(), 2);
}

#[tokio::test]
async fn the_error_names_the_places_that_were_searched() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = write(folder.path(), "config", "[profile sso]\nsso_account_id = 1\nsso_role_name = r\n");
    let server = Service::start(fine).await;
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    for (variables, kind, text) in [
        (vec![off], Kind::Denied, "get credentials: neither in the configuration nor in AWS_ACCESS_KEY_ID"),
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
