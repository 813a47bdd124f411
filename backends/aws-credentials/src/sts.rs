//! Credentials from the Security Token Service.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use quick_xml::de::from_str;
use reqwest::{Method, Request, Response};
use serde::Deserialize;
use store_answers::answer::refused;
use store_answers::clock;
use store_answers::persist::persist;
use store_answers::{Error, Kind, Result};
use url::{Url, form_urlencoded};

use super::document::time;
use super::profile::Profile;
use super::sign::{Scope, sign};
use super::web_identity::WebIdentity;
use super::{Environment, Http};

const VERSION: &str = "2011-06-15";

/// The global endpoint, and the region that it is signed for.
const GLOBAL: (&str, &str) = ("https://sts.amazonaws.com", "us-east-1");

/// Regions that use the global endpoint by default (`botocore/args.py:LEGACY_GLOBAL_STS_REGIONS`, the default
/// of the boto3 version that Quay pins).
const LEGACY: [&str; 16] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "aws-global",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The Amazon Resource Name of the role.
    pub arn: String,
    /// The name of the session in the account's logs. If it is `None`, the name is `quay-gateway`.
    pub session: Option<String>,
    /// The external id that the role's owner requires, if there is one.
    pub external_id: Option<String>,
    /// The requested validity of the credentials, in seconds. STS uses 3600 by default.
    pub seconds: Option<u32>,
}

/// The service of one region.
#[derive(Debug)]
pub(crate) struct Sts {
    endpoint: Url,
    region: String,
    http: Arc<dyn Http>,
}

impl Sts {
    /// The endpoint that botocore would use: `AWS_ENDPOINT_URL_STS`, then `AWS_ENDPOINT_URL`, then Amazon's
    /// endpoint for the region in `AWS_DEFAULT_REGION` or in the profile.
    pub(crate) fn of(environment: &Environment, profile: &Profile, http: &Arc<dyn Http>) -> Result<Self> {
        let (endpoint, region) = endpoint(environment, profile);
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::new(Kind::Invalid, "the endpoint of STS is not a valid http URL"))?;
        Ok(Self { endpoint, region, http: Arc::clone(http) })
    }

    /// Calls AssumeRole, signed with `keys`.
    pub(crate) async fn assume(&self, role: &Role, keys: &Credentials) -> Result<Credentials> {
        let seconds = role.seconds.map(|seconds| seconds.to_string());
        let more = [("ExternalId", role.external_id.as_deref()), ("DurationSeconds", seconds.as_deref())];
        let form = form("AssumeRole", &role.arn, role.session.as_deref(), &more);
        self.ask(&format!("assume the role {}", role.arn), form, Some(keys)).await
    }

    /// Calls AssumeRoleWithWebIdentity, which needs only the token.
    pub(crate) async fn assume_with(&self, identity: &WebIdentity) -> Result<Credentials> {
        let token = identity.token().await?;
        let more = [("WebIdentityToken", Some(token.reveal()))];
        let form = form("AssumeRoleWithWebIdentity", &identity.role, identity.session.as_deref(), &more);
        let what = format!("assume the role {} with a web identity", identity.role);
        self.ask(&what, form, None).await
    }

    async fn ask(&self, what: &str, form: String, keys: Option<&Credentials>) -> Result<Credentials> {
        let form = Bytes::from(form);
        persist(|| self.ask_once(what, &form, keys)).await
    }

    async fn ask_once(&self, what: &str, form: &Bytes, keys: Option<&Credentials>) -> Result<Credentials> {
        let answer = self.send(what, form, keys, 0).await?;
        let offset = clock::changed_offset(answer.headers(), 0);
        let answer = match offset.filter(|_| answer.status() == StatusCode::FORBIDDEN) {
            // The request was signed with a wrong clock.
            Some(offset) => self.send(what, form, keys, offset).await?,
            None => answer,
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.http.read_whole(what, answer, self.http.body_bound()).await?;
        if status != StatusCode::OK {
            return Err(refused(what, status, &headers, code(&body).as_deref()));
        }
        let found =
            credentials(&body).map_err(|why| Error::new(Kind::Unavailable, format!("{what}: {why}")))?;
        Ok(with_our_clock(found, clock::changed_offset(&headers, 0).unwrap_or_default()))
    }

    async fn send(
        &self,
        what: &str,
        form: &Bytes,
        keys: Option<&Credentials>,
        offset: i64,
    ) -> Result<Response> {
        let mut request = Request::new(Method::POST, self.endpoint.clone());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(keys) = keys {
            let scope = Scope { service: "sts", region: &self.region, time: clock::store_time(offset) };
            sign(&mut request, SignableBody::Bytes(form), keys, scope, PayloadChecksumKind::NoHeader)?;
        }
        *request.body_mut() = Some(form.clone().into());
        self.http.send(what, request, self.http.answer_bound()).await
    }
}

fn form(action: &str, arn: &str, session: Option<&str>, more: &[(&str, Option<&str>)]) -> String {
    let session = session.unwrap_or("quay-gateway");
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("Action", action),
            ("Version", VERSION),
            ("RoleArn", arn),
            ("RoleSessionName", session),
        ])
        .extend_pairs(more.iter().filter_map(|(name, value)| value.map(|value| (name, value))))
        .finish()
}

fn endpoint(environment: &Environment, profile: &Profile) -> (String, String) {
    let region = environment.get("AWS_DEFAULT_REGION").or_else(|| profile.get("region"));
    let configured = environment.get("AWS_ENDPOINT_URL_STS").or_else(|| environment.get("AWS_ENDPOINT_URL"));
    let ignored = environment.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    if let Some(url) = configured.filter(|_| !ignored) {
        return (url.to_owned(), region.unwrap_or(GLOBAL.1).to_owned());
    }
    let choice =
        environment.get("AWS_STS_REGIONAL_ENDPOINTS").or_else(|| profile.get("sts_regional_endpoints"));
    let regional = choice.is_some_and(|choice| choice.eq_ignore_ascii_case("regional"));
    match region {
        Some(region) if region != "aws-global" && (regional || !LEGACY.contains(&region)) => {
            let china = if region.starts_with("cn-") { ".cn" } else { "" };
            (format!("https://sts.{region}.amazonaws.com{china}"), region.to_owned())
        }
        _ => (GLOBAL.0.to_owned(), GLOBAL.1.to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    #[serde(alias = "AssumeRoleWithWebIdentityResult")]
    assume_role_result: AssumeResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeResult {
    credentials: Given,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

/// The credentials in an answer of either call. The error does not quote the answer.
fn credentials(body: &[u8]) -> Result<Credentials, &'static str> {
    let assumed: Assumed = xml(body).ok_or("the answer has no credentials")?;
    let given = assumed.assume_role_result.credentials;
    let expiry = time(&given.expiration).ok_or("the expiration of the credentials is not a valid time")?;
    if given.access_key_id.is_empty() || given.secret_access_key.is_empty() {
        return Err("the answer has empty credentials");
    }
    let (id, key) = (given.access_key_id, given.secret_access_key);
    Ok(Credentials::new(id, key, Some(given.session_token), Some(expiry), "role"))
}

/// Converts the expiry of credentials to our clock, if the server's clock is `offset` seconds ahead.
fn with_our_clock(given: Credentials, offset: i64) -> Credentials {
    let expiry = given.expiry().map(|expiry| clock::to_our_clock(expiry, offset));
    let token = given.session_token().map(str::to_owned);
    Credentials::new(given.access_key_id(), given.secret_access_key(), token, expiry, "role")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: ErrorBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    code: String,
}

fn code(body: &[u8]) -> Option<String> {
    xml::<ErrorResponse>(body).map(|refusal| refusal.error.code)
}

/// Parses XML. The name of the outermost element is not checked; a missing field is an error.
fn xml<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Option<T> {
    from_str(std::str::from_utf8(body).ok()?.trim_start()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_endpoint_is_botocores() {
        let (region, choice) = ("AWS_DEFAULT_REGION", "AWS_STS_REGIONAL_ENDPOINTS");
        let (url, sts) = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS");
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        for (pairs, expected) in [
            (&[][..], "https://sts.amazonaws.com us-east-1"),
            (&[(region, "eu-west-1")], "https://sts.amazonaws.com us-east-1"),
            (&[(region, "aws-global"), (choice, "regional")], "https://sts.amazonaws.com us-east-1"),
            (&[(region, "eu-west-1"), (choice, "regional")], "https://sts.eu-west-1.amazonaws.com eu-west-1"),
            (&[(region, "eu-south-1")], "https://sts.eu-south-1.amazonaws.com eu-south-1"),
            (&[(region, "cn-north-1")], "https://sts.cn-north-1.amazonaws.com.cn cn-north-1"),
            (&[(url, "http://a"), (region, "here")], "http://a here"),
            (&[(url, "http://a"), (sts, "http://b")], "http://b us-east-1"),
            (&[(url, "http://a"), ignored], "https://sts.amazonaws.com us-east-1"),
        ] {
            let (endpoint, region) = endpoint(&of(pairs), &Profile::default());
            assert_eq!(format!("{endpoint} {region}"), expected);
        }
    }

    /// The examples in Amazon's reference of AssumeRole and AssumeRoleWithWebIdentity.
    #[test]
    fn answers_of_sts() {
        for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
            let body = format!(
                r#"<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
                <{action}Result><SourceIdentity>Alice</SourceIdentity>
                <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/TestAR</Arn>
                <AssumedRoleId>ARO123EXAMPLE123:TestAR</AssumedRoleId></AssumedRoleUser>
                <Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
                <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
                <SessionToken>AQoDYXdz+/==</SessionToken>
                <Expiration>2019-11-09T13:34:41Z</Expiration></Credentials>
                <PackedPolicySize>6</PackedPolicySize></{action}Result>
                <ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata></{action}Response>"#
            );
            let found = credentials(body.as_bytes()).expect("credentials");
            assert_eq!(found.access_key_id(), "ASIAIOSFODNN7EXAMPLE");
            assert_eq!(found.secret_access_key(), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY");
            assert_eq!(found.session_token(), Some("AQoDYXdz+/=="));
            assert_eq!(found.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_573_306_481)));
        }
        let body = br#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
            <Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>
            <RequestId>1</RequestId></ErrorResponse>"#;
        assert_eq!(code(body).as_deref(), Some("AccessDenied"));
        assert_eq!(code(b"<html/>"), None);
    }

    #[test]
    fn the_form_of_a_request() {
        let more = [("ExternalId", Some("e&f")), ("DurationSeconds", None)];
        assert_eq!(
            form("AssumeRole", "arn:aws:iam::1:role/a b", None, &more),
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa+b\
             &RoleSessionName=quay-gateway&ExternalId=e%26f"
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(body in "(<[A-Z][a-zA-Z]{0,12}>|</[A-Z][a-zA-Z]{0,12}>|[a-z0-9&;]{0,8}){0,20}") {
            let _ = (credentials(body.as_bytes()).is_ok(), code(body.as_bytes()));
        }
    }
}
