//! Configurations in the form of Quay's `config.yaml`.

use std::collections::BTreeMap;

use super::*;

fn read(yaml: &str) -> Result<StoreConfig, String> {
    // A snippet of the text might contain a secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let config: StoreConfig =
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| error.to_string())?;
    match config.unusable() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(config),
    }
}

/// The summary as `endpoint bucket root region style`.
fn summary(yaml: &str) -> String {
    let config = read(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let values: BTreeMap<_, _> = config.summary().into_iter().collect();
    ["endpoint", "bucket", "root", "region", "style"].map(|name| values[name].as_str()).join(" ")
}

#[test]
fn endpoints_as_quay_builds_them() {
    let s3 = "s3_access_key: a, s3_secret_key: s, s3_bucket: blobs, storage_path: /reg";
    let keys = "access_key: a, secret_key: s, bucket_name: blobs, storage_path: /reg";
    for (yaml, expected) in [
        (format!("[S3Storage, {{{s3}}}]"), "https://s3.amazonaws.com blobs reg us-east-1 virtual-host"),
        (
            format!(
                "[S3Storage, {{{s3}, s3_region: eu-west-1, host: ignored, endpoint_url: 'http://ignored'}}]"
            ),
            "https://s3.eu-west-1.amazonaws.com blobs reg eu-west-1 path",
        ),
        (
            format!("[S3Storage, {{{s3}, s3_region: cn-north-1}}]"),
            "https://s3.cn-north-1.amazonaws.com.cn blobs reg cn-north-1 path",
        ),
        (
            format!("[S3Storage, {{{s3}, host: s3.eu-central-1.amazonaws.com}}]"),
            "https://s3.eu-central-1.amazonaws.com blobs reg eu-central-1 path",
        ),
        (
            format!("[S3Storage, {{{s3}, host: s3.corp, port: 9000}}]"),
            "https://s3.corp:9000 blobs reg us-east-1 path",
        ),
        (
            format!("[S3Storage, {{{s3}, host: s3.corp, endpoint_url: 'http://127.0.0.1:9000'}}]"),
            "http://127.0.0.1:9000 blobs reg us-east-1 path",
        ),
        (
            format!("[S3Storage, {{{s3}, host: null, port: null}}]"),
            "https://s3.amazonaws.com blobs reg us-east-1 virtual-host",
        ),
        (
            format!("[RadosGWStorage, {{{keys}, hostname: rgw.corp, is_secure: true}}]"),
            "https://rgw.corp blobs reg us-east-1 path",
        ),
        (
            format!(
                "[RadosGWStorage, {{{keys}, hostname: rgw.corp, is_secure: false, port: 8080, region_name: here}}]"
            ),
            "http://rgw.corp:8080 blobs reg here path",
        ),
        (
            format!(
                "[RadosGWStorage, {{{keys}, hostname: 'rgw.corp:7480', is_secure: false, port: '8080'}}]"
            ),
            "http://rgw.corp:7480 blobs reg us-east-1 path",
        ),
        (
            format!("[RadosGWStorage, {{{keys}, hostname: 127.0.0.1, is_secure: false, port: 8080}}]"),
            "http://127.0.0.1:8080 blobs reg us-east-1 path",
        ),
        (
            format!("[RHOCSStorage, {{{keys}, hostname: 'http://s3.svc', is_secure: true, port: 0}}]"),
            "http://s3.svc blobs reg us-east-1 path",
        ),
        (
            format!("[IBMCloudStorage, {{{keys}, hostname: s3.eu.cloud, is_secure: true, port: null}}]"),
            "https://s3.eu.cloud blobs reg us-east-1 path",
        ),
        (format!("[GoogleCloudStorage, {{{keys}}}]"), "https://storage.googleapis.com blobs reg auto path"),
    ] {
        assert_eq!(summary(&yaml), expected, "{yaml}");
    }
}

#[test]
fn the_s3_behind_others() {
    let s3 = "s3_access_key: a, s3_secret_key: s, s3_bucket: blobs, storage_path: /reg, s3_region: eu-west-1";
    for yaml in [
        format!(
            "[CloudFrontedS3Storage, {{{s3}, cloudfront_distribution_domain: d, cloudfront_key_id: k, \
             cloudfront_privatekey_filename: f, cloudfront_distribution_org_overrides: {{org: other}}}}]"
        ),
        format!(
            "[CloudFlareStorage, {{{s3}, cloudflare_domain: d, cloudflare_privatekey_filename: f, \
             maximum_chunk_size_gb: 5, minimum_chunk_size_mb: 5, signature_version: s3v4, port: 443}}]"
        ),
        format!("[AkamaiS3Storage, {{{s3}, akamai_domain: d, akamai_shared_secret: hunter2}}]"),
        format!(
            "[MultiCDNStorage, {{storage_config: {{{s3}}}, default_provider: cf, \
             providers: {{cf: [CloudFlareStorage, {{cloudflare_domain: d}}]}}, \
             rules: [{{namespace: n, target: cf}}]}}]"
        ),
        "[STSS3Storage, {sts_role_arn: 'arn:r', sts_user_access_key: a, sts_user_secret_key: s, \
          s3_bucket: blobs, storage_path: /reg, s3_region: eu-west-1, endpoint_url: 'http://ignored', \
          maximum_chunk_size_gb: 5, signature_version: s3v4}]"
            .to_owned(),
    ] {
        assert_eq!(summary(&yaml), "https://s3.eu-west-1.amazonaws.com blobs reg eu-west-1 path", "{yaml}");
        assert!(!format!("{:?}", read(&yaml)).contains("hunter"));
    }
}

#[test]
fn the_summary_shows_where_credentials_come_from() {
    let role = "STSS3Storage, {sts_role_arn: 'arn:r', s3_bucket: b, storage_path: r";
    let looked_for = "looked for in the environment, profile, container and instance";
    for (yaml, expected) in [
        (
            "[S3Storage, {s3_bucket: b, storage_path: r, s3_access_key: a, s3_secret_key: s}]".to_owned(),
            "keys in the configuration".to_owned(),
        ),
        ("[S3Storage, {s3_bucket: b, storage_path: r}]".to_owned(), format!("keys {looked_for}")),
        (
            format!("[{role}, sts_user_access_key: '', sts_user_secret_key: ''}}]"),
            format!("role arn:r, assumed with keys {looked_for}"),
        ),
        (
            format!("[{role}, sts_user_access_key: a, sts_user_secret_key: s}}]"),
            "role arn:r, assumed with keys in the configuration".to_owned(),
        ),
    ] {
        let summary: BTreeMap<_, _> = read(&yaml).expect("parses").summary().into_iter().collect();
        assert_eq!(summary["credentials"], expected);
    }
}

#[test]
fn a_bucket_that_is_no_valid_host_name_goes_into_the_path() {
    for bucket in ["with.dots", "UPPER", "un_der", "-dash", "ab"] {
        let yaml = format!(
            "[S3Storage, {{s3_access_key: a, s3_secret_key: s, s3_bucket: {bucket}, storage_path: reg}}]"
        );
        assert_eq!(summary(&yaml), format!("https://s3.amazonaws.com {bucket} reg us-east-1 path"));
    }
}

#[test]
fn one_slash_is_stripped_from_the_root() {
    for (path, root) in [("/a/b", "a/b"), ("a/b/", "a/b/"), ("//a", "/a"), ("a", "a"), ("/", "")] {
        let yaml = format!(
            "[GoogleCloudStorage, {{access_key: a, secret_key: s, bucket_name: b, storage_path: '{path}'}}]"
        );
        assert_eq!(summary(&yaml), format!("https://storage.googleapis.com b {root} auto path"));
    }
}

#[test]
fn every_parameter_that_quay_accepts_is_accepted() {
    let config = read(
        "[S3Storage, {storage_path: /r, s3_bucket: b, s3_access_key: a, s3_secret_key: s, s3_region: null, \
         host: h, port: 443, endpoint_url: null, maximum_chunk_size_gb: 5, minimum_chunk_size_mb: 5, \
         aws_session_token: t, signature_version: s3v4}]",
    );
    assert!(config.is_ok(), "{config:?}");
    let config = read(
        "[RHOCSStorage, {hostname: h, is_secure: true, storage_path: /r, access_key: a, secret_key: s, \
         bucket_name: b, region_name: null, signature_version: null, port: 443, minimum_chunk_size_mb: 5, \
         maximum_chunk_size_mb: 100, server_side_assembly: false}]",
    );
    assert!(config.is_ok(), "{config:?}");
    let config = read(
        "[GoogleCloudStorage, {storage_path: /r, access_key: a, secret_key: s, bucket_name: b, \
         boto_timeout: 60, minimum_chunk_size_mb: 5, signature_version: null}]",
    );
    assert!(config.is_ok(), "{config:?}");
    let config = read("- LocalStorage\n- storage_path: /datastorage/registry\n").expect("parses");
    assert_eq!(config.driver(), "LocalStorage");
    assert_eq!(config.summary(), [("root", "/datastorage/registry".to_owned())]);
}

#[test]
fn errors_name_what_is_wrong() {
    for (yaml, expected) in [
        ("[RadosGwStorage, {}]", "did you mean `RadosGWStorage`?"),
        ("[SwiftStorage, {swift_container: c}]", "SwiftStorage: `"),
        ("[MultiCDNStorage, {}]", "MultiCDNStorage: `default_provider` is missing"),
        ("[MultiCDNStorage, {default_provider: cf}]", "`default_provider` must be one of `providers`"),
        (
            "[MultiCDNStorage, {default_provider: cf, providers: {cf: []}, storage_config: {s3_bukket: b}}]",
            "MultiCDNStorage has no parameter `s3_bukket`; did you mean `s3_bucket`?",
        ),
        ("[MultiCDNStorage, {default_provider: cf, providers: [cf]}]", "`providers` must be a map"),
        (
            "[MultiCDNStorage, {default_provider: cf, providers: {cf: []}}]",
            "MultiCDNStorage: `s3_bucket` is missing",
        ),
        ("[CloudFlareStorage, {s3_bucket: b}]", "CloudFlareStorage: `cloudflare_domain` is missing"),
        (
            "[AkamaiS3Storage, {akamai_domain: d, akamai_shared_secret: s, s3_bucket: b}]",
            "AkamaiS3Storage: `s3_region` is missing",
        ),
        ("[STSS3Storage, {s3_bucket: b, storage_path: r}]", "STSS3Storage: `sts_role_arn` is missing"),
        (
            "[STSS3Storage, {sts_role_arn: a, s3_bucket: b, sts_role_session_name: x}]",
            "STSS3Storage has no parameter `sts_role_session_name`",
        ),
        (
            "[STSS3Storage, {sts_role_arn: a, s3_bucket: b, storage_path: r, sts_user_access_key: hunter2}]",
            "`sts_user_secret_key` must be there, as `sts_user_access_key` is",
        ),
        (
            "[S3Storage, {s3_bucket: b, storage_path: r, s3_secret_key: hunter2}]",
            "`s3_access_key` must be there, as `s3_secret_key` is",
        ),
        ("[Nonsense, {}]", "supported are S3Storage, RadosGWStorage,"),
        (
            "[LocalStorage, {storage_paht: /x}]",
            "has no parameter `storage_paht`; did you mean `storage_path`?",
        ),
        ("[LocalStorage, {colour: red}]", "it has storage_path"),
        ("[LocalStorage, {}]", "LocalStorage: `storage_path` is missing"),
        ("[LocalStorage, {storage_path: null}]", "LocalStorage: `storage_path` is missing"),
        ("[LocalStorage, {storage_path: 5}]", "`storage_path` must be a string: put it in quotes"),
        ("[LocalStorage]", "a list of two, as in Quay: the name of a driver, and a map of its parameters"),
        ("[LocalStorage, {storage_path: /x}, {}]", "a list of two, as in Quay"),
        ("[LocalStorage, {storage_path: ''}]", "LocalStorage: `storage_path` is empty"),
        ("[S3Storage, {s3_bucket: '', storage_path: ''}]", "S3Storage: `s3_bucket` is empty"),
        (
            "[LocalStorage, {storage_paht: /x, colour: red}]",
            "LocalStorage has no parameters `colour`, `storage_paht` (did you mean `storage_path`?); it has storage_path",
        ),
        (
            "[S3Storage, {s3_bucket: b, storage_path: r, port: 70000}]",
            "S3Storage: `port` must be a port, at most 65535",
        ),
        (
            "[S3Storage, {s3_bucket: b, storage_path: ../r}]",
            "`storage_path` must be a path without `.` and `..`",
        ),
        (
            "[RadosGWStorage, {hostname: 'http://u:p@h', is_secure: true}]",
            "`hostname` must be a host, or an http or https URL",
        ),
        ("[RadosGWStorage, {hostname: h, is_secure: 'yes'}]", "`is_secure` must be true or false"),
        ("[RadosGWStorage, {is_secure: true}]", "`hostname` is missing"),
    ] {
        let error = read(yaml).expect_err(yaml);
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[test]
fn an_unusable_store_gives_its_reason_and_no_values() {
    let yaml = "[SwiftStorag, {swift_password: hunter2, swift_container: null}]";
    let config: StoreConfig = serde_saphyr::from_str(yaml).expect("reads");
    assert_eq!(config.driver(), "SwiftStorag");
    assert!(config.unusable().expect("is unusable").contains("did you mean `SwiftStorage`?"));
    assert!(config.has("swift_password") && !config.has("swift_container") && !config.has("other"));
    assert_eq!((config.endpoints(), config.location()), (Vec::new(), None));
    assert!(!format!("{config:?} {:?}", config.summary()).contains("hunter2"));
    let tls = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let error = config
        .build(&Transport::new(std::sync::Arc::new(tls), crate::Timeouts::default()))
        .expect_err("is not built");
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn locations_and_endpoints() {
    let keys = "access_key: a, secret_key: s, bucket_name: blobs";
    for (yaml, dialled, place) in [
        (
            "[S3Storage, {s3_bucket: blobs, storage_path: /reg/}]".to_owned(),
            "https://blobs.s3.amazonaws.com/",
            "https://s3.amazonaws.com/blobs/reg",
        ),
        (
            format!(
                "[RadosGWStorage, {{{keys}, hostname: RGW.corp, is_secure: true, port: 443, storage_path: reg}}]"
            ),
            "https://rgw.corp/",
            "https://rgw.corp/blobs/reg",
        ),
        ("[LocalStorage, {storage_path: /data//x/}]".to_owned(), "", "/data/x"),
    ] {
        let config = read(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let endpoints: Vec<String> = config.endpoints().iter().map(ToString::to_string).collect();
        assert_eq!(endpoints.join(" "), dialled, "{yaml}");
        assert_eq!(config.location().as_deref(), Some(place), "{yaml}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let yaml = "[S3Storage, {storage_path: r, s3_bucket: b, s3_access_key: hunter1, s3_secret_key: hunter2, \
                aws_session_token: hunter3}]";
    let config = read(yaml).expect("parses");
    assert!(!format!("{config:?} {:?}", config.summary()).contains("hunter"));
    let wrong = read("[RadosGWStorage, {hostname: h, is_secure: true, secret_key: [hunter2]}]");
    assert!(!wrong.expect_err("not a text").contains("hunter"));
}

/// The bucket itself is the root, as in Quay.
#[test]
fn an_empty_path_is_the_bucket_itself() {
    for yaml in [
        "[S3Storage, {s3_bucket: b, storage_path: ''}]",
        "[AzureStorage, {azure_container: b, storage_path: '', azure_account_name: a}]",
        "[SwiftStorage, {swift_container: b, storage_path: '', auth_url: 'http://k', auth_version: 1, swift_user: u, swift_password: p}]",
    ] {
        let config = read(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        assert!(config.summary().contains(&("root", String::new())), "{yaml}");
    }
}
