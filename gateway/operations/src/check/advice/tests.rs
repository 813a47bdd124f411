//! Each failure that operators meet has a cause and a fix of its own.

use std::io::{self, ErrorKind};

use backends::{Error, Kind};
use proptest::prelude::*;
use rustls::{CertificateError, InvalidMessage};

use super::*;

fn zone(driver: &str) -> Peer {
    Peer {
        driver: Some(driver.to_owned()),
        bucket: Some("bucket `blobs`".to_owned()),
        tls: true,
        proxy: None,
    }
}

fn registry() -> Peer {
    Peer { driver: None, bucket: None, tls: true, proxy: None }
}

fn of_code(step: StepName, driver: &str, kind: Kind, code: &str) -> Advice {
    advise(step, &zone(driver), &StepError::Store(Error::new(kind, "get x").with_code(code)))
}

fn of_tls(peer: &Peer, error: rustls::Error) -> Advice {
    advise(
        StepName::Tls,
        peer,
        &StepError::Tls("a.corp".into(), io::Error::new(ErrorKind::InvalidData, error)),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn codes_of_stores() {
    use StepName::{Authenticate, Put};
    for (step, driver, kind, code, cause, fix) in [
        (
            Authenticate,
            "S3Storage",
            Kind::Denied,
            "InvalidAccessKeyId",
            "does not know this access key",
            "`s3_access_key`",
        ),
        (
            Authenticate,
            "RadosGWStorage",
            Kind::Denied,
            "SignatureDoesNotMatch",
            "secret key is wrong",
            "`secret_key`",
        ),
        (
            Authenticate,
            "S3Storage",
            Kind::Denied,
            "AuthorizationHeaderMalformed",
            "another region",
            "`s3_region`",
        ),
        (Authenticate, "RHOCSStorage", Kind::Invalid, "PermanentRedirect", "another region", "`region_name`"),
        (Authenticate, "S3Storage", Kind::Denied, "RequestTimeTooSkewed", "clocks", "NTP"),
        (
            Authenticate,
            "S3Storage",
            Kind::Denied,
            "NoSuchBucket",
            "there is no bucket `blobs`",
            "create bucket `blobs`",
        ),
        (
            Authenticate,
            "SwiftStorage",
            Kind::Denied,
            "NoSuchContainer",
            "there is no bucket `blobs`",
            "`swift_user`",
        ),
        (
            Authenticate,
            "AzureStorage",
            Kind::Denied,
            "ContainerNotFound",
            "there is no bucket `blobs`",
            "`azure_account_key`",
        ),
        (
            Authenticate,
            "SwiftStorage",
            Kind::Denied,
            "401",
            "Keystone does not know",
            "`tenant_name` or `tenant_id`",
        ),
        (
            Authenticate,
            "AzureStorage",
            Kind::Denied,
            "AuthenticationFailed",
            "secret key is wrong",
            "`azure_account_key`",
        ),
        (
            Authenticate,
            "AzureStorage",
            Kind::Denied,
            "AuthorizationFailure",
            "firewall refuses this machine",
            "network rules",
        ),
        (
            Authenticate,
            "S3Storage",
            Kind::Denied,
            "AccessDenied",
            "may not read bucket `blobs`",
            "s3:ListBucket",
        ),
        (Put, "S3Storage", Kind::Denied, "AccessDenied", "read-only key", "s3:PutObject"),
        (Put, "SwiftStorage", Kind::Denied, "403", "read-only key", "writing objects in bucket `blobs`"),
        (Put, "RadosGWStorage", Kind::Denied, "QuotaExceeded", "quota is used up", "raise the quota"),
        (Put, "SwiftStorage", Kind::Invalid, "413", "quota is used up", "raise the quota"),
        (
            Authenticate,
            "S3Storage",
            Kind::Denied,
            "ExpiredToken",
            "temporary credentials have expired",
            "session token",
        ),
        (Authenticate, "S3Storage", Kind::Unavailable, "502", "internal error", "store's log"),
        (
            Authenticate,
            "S3Storage",
            Kind::Invalid,
            "405",
            "not as a store of this driver",
            "lead to the store itself",
        ),
        (
            Authenticate,
            "S3Storage",
            Kind::Throttled { retry_after: None },
            "SlowDown",
            "rate of requests",
            "later",
        ),
    ] {
        let advice = of_code(step, driver, kind, code);
        assert!(advice.cause.contains(cause) && advice.fix.contains(fix), "{driver} {code}: {advice:?}");
    }
}

#[test]
fn messages_of_drivers() {
    let of = |step, driver: &str, kind, message: &str| {
        advise(step, &zone(driver), &StepError::Store(Error::new(kind, message)))
    };
    let sse =
        of(StepName::Put, "S3Storage", Kind::Invalid, "put x: … ask for encryption at rest (AES256), …");
    assert!(sse.fix.contains("RadosGWStorage"), "{sse:?}");
    let read_only = of(
        StepName::Put,
        "SwiftStorage",
        Kind::Invalid,
        "temp_url_key without swift_password allows only reads",
    );
    assert!(read_only.fix.contains("`swift_password`"), "{read_only:?}");
    let region =
        of(StepName::Authenticate, "SwiftStorage", Kind::Denied, "log in: Keystone's catalogue has no x");
    assert!(region.fix.contains("`region_name`"), "{region:?}");
    let keys = of(StepName::Authenticate, "S3Storage", Kind::Denied, "get credentials: neither in …");
    assert!(keys.cause.contains("no credentials"), "{keys:?}");
    let broke = of(StepName::Authenticate, "STSS3Storage", Kind::Unavailable, "assume the role arn:x");
    assert!(
        broke.cause.contains("cannot be reached") && broke.fix.contains("AWS_ENDPOINT_URL_STS"),
        "{broke:?}"
    );
    let hangs =
        of(StepName::Authenticate, "S3Storage", Kind::Timeout, "get credentials: no result within 20s");
    assert!(hangs.cause.contains("gives this machine or pod its credentials"), "{hangs:?}");
    let pod =
        of(StepName::Authenticate, "S3Storage", Kind::Timeout, "ask the container's service for credentials");
    assert!(pod.cause.contains("gives this machine or pod its credentials"), "{pod:?}");
    let role = Error::new(Kind::Denied, "assume the role arn:aws:iam::1:role/quay").with_code("AccessDenied");
    let role = advise(StepName::Authenticate, &zone("STSS3Storage"), &StepError::Store(role));
    assert!(role.cause.contains("may not assume the role") && role.fix.contains("trust policy"), "{role:?}");
    let broke = of(StepName::Authenticate, "S3Storage", Kind::Unavailable, "probe");
    assert!(broke.cause.contains("closed the connection"), "{broke:?}");
    let altered = of(StepName::ReadBack, "S3Storage", Kind::Corrupt, "other bytes");
    assert!(altered.cause.contains("other bytes than were written"), "{altered:?}");
    let folder = of(StepName::Put, "LocalStorage", Kind::Denied, "put");
    assert!(folder.cause.contains("may not write"), "{folder:?}");
}

#[test]
fn certificates() {
    let of = |peer: &Peer, why| of_tls(peer, rustls::Error::InvalidCertificate(why));
    let (rados, swift) = (zone("RadosGWStorage"), zone("SwiftStorage"));
    assert!(of(&rados, CertificateError::UnknownIssuer).fix.contains("`ca`"));
    assert!(of(&swift, CertificateError::UnknownIssuer).fix.contains("`ca_cert_path`"));
    assert!(of(&rados, CertificateError::Expired).cause.contains("has expired"));
    assert!(of(&rados, CertificateError::NotValidYet).cause.contains("clock is behind"));
    let other = of(&registry(), CertificateError::NotValidForName);
    assert!(
        other.cause.contains("not for a.corp") && other.fix.contains("`registry.server_name`"),
        "{other:?}"
    );
    let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
    assert!(of_tls(&rados, plain.clone()).fix.contains("`is_secure: false`"));
    assert!(of_tls(&registry(), plain).fix.contains("`http://` in `registry.url`"));
    let cut = StepError::Tls("a.corp".into(), ErrorKind::UnexpectedEof.into());
    assert!(advise(StepName::Tls, &rados, &cut).cause.contains("does not speak TLS"));
}

#[test]
fn network_errors() {
    let of = |kind: ErrorKind| {
        advise(StepName::Connect, &zone("RadosGWStorage"), &StepError::Connect("h".into(), 1, kind.into()))
    };
    assert!(of(ErrorKind::ConnectionRefused).cause.contains("nothing listens"));
    assert!(of(ErrorKind::TimedOut).cause.contains("firewall"));
    assert!(of(ErrorKind::HostUnreachable).cause.contains("no route to its network"));
    let unknown = StepError::Resolve("rgw.corp".into(), "no record".into());
    assert!(advise(StepName::Resolve, &zone("S3Storage"), &unknown).fix.contains("getent hosts rgw.corp"));
    let late = |step| advise(step, &registry(), &StepError::Timeout(Duration::from_secs(1))).cause;
    assert!(late(StepName::Connect).contains("firewall") && late(StepName::Health).contains("too slow"));
}

proptest! {
    #[test]
    fn every_error_has_a_cause_and_a_fix(
        code in "[A-Za-z0-9]{0,20}",
        message in ".{0,40}",
        kind in prop_oneof![
            Just(Kind::Denied), Just(Kind::Unavailable), Just(Kind::Timeout), Just(Kind::Corrupt),
            Just(Kind::Invalid), Just(Kind::Source), Just(Kind::Exhausted), Just(Kind::Throttled { retry_after: None })
        ],
        driver in prop_oneof![Just("S3Storage"), Just("SwiftStorage"), Just("AzureStorage"), Just("LocalStorage")],
        step in prop_oneof![Just(StepName::Authenticate), Just(StepName::Put), Just(StepName::Head), Just(StepName::ReadBack)],
    ) {
        let error = Error::new(kind, message).with_code(code);
        let advice = advise(step, &zone(driver), &StepError::Store(error));
        prop_assert!(!advice.cause.is_empty() && !advice.fix.is_empty());
    }
}
