//! Credentials from the metadata service of an EC2 instance, version 2.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::{Method, Request};
use store_answers::answer::refused;
use store_answers::{Error, Kind, Result, Secret};
use url::Url;

use super::{Environment, Http, document};

const IPV4: &str = "http://169.254.169.254/";
const IPV6: &str = "http://[fd00:ec2::254]/";
const TOKEN: &str = "latest/api/token";
const ROLE: &str = "latest/meta-data/iam/security-credentials/";

/// The timeout for the headers of the answer. The body has the same timeout again (botocore's
/// `DEFAULT_METADATA_SERVICE_TIMEOUT`).
const BOUND: Duration = Duration::from_secs(1);

/// How often each request is sent. Botocore sends it once.
const TRIES: u32 = 2;

/// The requested lifetime of the session token, in seconds.
const TOKEN_SECONDS: &str = "21600";

/// The longest name of a role, in bytes.
const MAX_ROLE: usize = 256;

/// If an instance returns only expired credentials, they are meant to be used. They then count as valid for
/// this long, and are asked for again afterwards.
const EXTENSION: Duration = Duration::from_secs(20 * 60);

const WHAT: &str = "ask the instance for credentials";

/// The credentials of the instance's role.
pub(crate) async fn credentials(environment: &Environment, http: &dyn Http) -> Result<Credentials> {
    if environment.is_true("AWS_EC2_METADATA_DISABLED") {
        return Err(Error::new(Kind::Denied, format!("{WHAT}: AWS_EC2_METADATA_DISABLED")));
    }
    let service = MetadataService { http, base: base(environment)? };
    let token = service.token(environment.is_true("AWS_EC2_METADATA_V1_DISABLED")).await?;
    let role = service.ask(Method::GET, ROLE, token.as_ref()).await?;
    let role = std::str::from_utf8(&role).map(str::trim).unwrap_or_default();
    if role.is_empty() || role.len() > MAX_ROLE || role.contains(['/', '?', '#', '\\']) || role == ".." {
        return Err(Error::new(Kind::Denied, format!("{WHAT}: the answer names no role")));
    }
    let document = service.ask(Method::GET, &format!("{ROLE}{role}"), token.as_ref()).await?;
    let found = document::credentials(&document, "instance")
        .map_err(|why| Error::new(Kind::Denied, format!("{WHAT}: {why}")))?;
    Ok(extended(found, SystemTime::now()))
}

fn base(environment: &Environment) -> Result<Url> {
    let ipv6 = environment
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let text = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(if ipv6 { IPV6 } else { IPV4 });
    let base = Url::parse(&format!("{}/", text.trim_end_matches('/')));
    base.ok().filter(|base| matches!(base.scheme(), "http" | "https") && base.has_host()).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!("{WHAT}: AWS_EC2_METADATA_SERVICE_ENDPOINT is not a valid http URL"),
        )
    })
}

fn extended(found: Credentials, now: SystemTime) -> Credentials {
    match found.expiry() {
        Some(expiry) if expiry <= now => {
            tracing::warn!("the instance returned expired credentials; they are used for a limited time");
            let token = found.session_token().map(str::to_owned);
            let (id, key) = (found.access_key_id(), found.secret_access_key());
            Credentials::new(id, key, token, Some(now + EXTENSION), "instance")
        }
        _ => found,
    }
}

struct MetadataService<'a> {
    http: &'a dyn Http,
    base: Url,
}

impl MetadataService<'_> {
    /// The session token. `None` if the service is too old to have session tokens.
    async fn token(&self, required: bool) -> Result<Option<Secret>> {
        match self.ask(Method::PUT, TOKEN, None).await {
            Ok(token) => match std::str::from_utf8(&token) {
                Ok(token) => Ok(Some(Secret::new(token.trim()))),
                Err(_) => Err(Error::new(Kind::Unavailable, format!("{WHAT}: the token is not text"))),
            },
            Err(error) if !required && matches!(error.code(), Some("403" | "404" | "405")) => Ok(None),
            Err(error) if error.kind() == Kind::Timeout => {
                let hint = "no answer to the request for a token; in a container on EC2, the instance's \
                            metadata hop limit must be 2 or more";
                Err(Error::new(Kind::Timeout, hint).with_cause(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&Secret>) -> Result<Bytes> {
        let mut tries = 1;
        loop {
            match self.ask_once(method.clone(), path, token).await {
                Err(error) if error.is_transient() && tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn ask_once(&self, method: Method, path: &str, token: Option<&Secret>) -> Result<Bytes> {
        let unfit = || Error::new(Kind::Denied, format!("{WHAT}: the answer is not valid in a request"));
        let mut request = Request::new(method.clone(), self.base.join(path).map_err(|_| unfit())?);
        if method == Method::PUT {
            let name = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
            request.headers_mut().insert(name, HeaderValue::from_static(TOKEN_SECONDS));
            request.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| unfit())?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static("x-aws-ec2-metadata-token"), value);
        }
        let answer = self.http.send_near(WHAT, request, BOUND).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(WHAT, answer.status(), answer.headers(), None));
        }
        self.http.read_whole(WHAT, answer, BOUND).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_address_of_the_service() {
        let (mode, endpoint) =
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_EC2_METADATA_SERVICE_ENDPOINT");
        for (pairs, expected) in [
            (&[][..], "http://169.254.169.254/"),
            (&[(mode, "IPv6")], "http://[fd00:ec2::254]/"),
            (&[(mode, "ipv6"), (endpoint, "http://127.0.0.1:1")], "http://127.0.0.1:1/"),
            (&[(endpoint, "http://127.0.0.1:1/x/")], "http://127.0.0.1:1/x/"),
        ] {
            assert_eq!(base(&of(pairs)).expect("a URL").as_str(), expected);
        }
        assert!(base(&of(&[(endpoint, "ftp://host")])).is_err());
    }

    #[test]
    fn only_expired_credentials_are_extended() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (expiry, expected) in [(999, 1000 + 1200), (1001, 1001)] {
            let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(expiry);
            let found = extended(Credentials::new("a", "s", None, Some(expiry), "instance"), now);
            assert_eq!(found.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(expected)));
        }
    }
}
