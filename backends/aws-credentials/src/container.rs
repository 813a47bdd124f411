//! Credentials from the service beside a container: ECS, and EKS Pod Identity.

use std::net::IpAddr;
use std::time::Duration;

use aws_credential_types::Credentials;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Request};
use store_answers::answer::refused;
use store_answers::{Error, Kind, Result, Secret};
use tokio::time::sleep;
use url::{Host, Url};

use super::profile::read;
use super::{Environment, Http, document};

/// The base of `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
const ECS: &str = "http://169.254.170.2";

/// The hosts that may be asked, beside loopback addresses (botocore's `ContainerMetadataFetcher`). The token
/// must not go to another host.
const ALLOWED: [&str; 4] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost"];

/// The timeout for the headers of the answer. The body has the same timeout again.
const BOUND: Duration = Duration::from_secs(2);

/// How often the service is asked.
const TRIES: u32 = 3;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest token, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

const WHAT: &str = "ask the container's service for credentials";

/// The credentials of the container. `None` if no such service is configured.
pub(crate) async fn credentials(environment: &Environment, http: &dyn Http) -> Result<Option<Credentials>> {
    let Some(url) = address(environment)? else { return Ok(None) };
    let mut tries = 1;
    loop {
        match ask(&url, environment, http).await {
            Err(error) if error.is_transient() && tries < TRIES => {
                tries += 1;
                sleep(PAUSE).await;
            }
            answer => return answer.map(Some),
        }
    }
}

fn address(environment: &Environment) -> Result<Option<Url>> {
    let relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let text = match (relative, environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        (Some(path), _) if path.starts_with('/') => format!("{ECS}{path}"),
        (None, Some(url)) => url.to_owned(),
        (None, None) => return Ok(None),
        (Some(_), _) => return Err(wrong("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /")),
    };
    let url =
        Url::parse(&text).map_err(|_| wrong("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a valid URL"))?;
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        _ => false,
    };
    if !matches!(url.scheme(), "http" | "https")
        || !(loopback || url.host_str().is_some_and(|host| ALLOWED.contains(&host)))
    {
        return Err(wrong(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither loopback nor a service of Amazon's",
        ));
    }
    Ok(Some(url))
}

/// The value of `Authorization`. It is read anew each time, because the token in a file is rotated.
async fn token(environment: &Environment) -> Result<Option<Secret>> {
    let Some(file) = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
        return Ok(environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new));
    };
    match read(file, MAX_TOKEN).await {
        Ok(Some(token)) => Ok(Some(Secret::new(token.reveal().trim_end()))),
        Ok(None) => Err(wrong("the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE does not exist")),
        Err(why) => Err(wrong(&format!("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {why}"))),
    }
}

async fn ask(url: &Url, environment: &Environment, http: &dyn Http) -> Result<Credentials> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = token(environment).await? {
        let mut token = HeaderValue::from_str(token.reveal())
            .map_err(|_| wrong("the authorization token is not valid in a header"))?;
        token.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, token);
    }
    let mut request = Request::new(Method::GET, url.clone());
    *request.headers_mut() = headers;
    let answer = http.send_near(WHAT, request, BOUND).await?;
    if answer.status() != StatusCode::OK {
        return Err(refused(WHAT, answer.status(), answer.headers(), None));
    }
    let body = http.read_whole(WHAT, answer, BOUND).await?;
    document::credentials(&body, "container")
        .map_err(|why| Error::new(Kind::Denied, format!("{WHAT}: {why}")))
}

fn wrong(why: &str) -> Error {
    Error::new(Kind::Invalid, format!("{WHAT}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, value: &str) -> Result<Option<Url>> {
        let name = format!("AWS_CONTAINER_CREDENTIALS_{name}_URI");
        address(&[(name, value.to_owned())].into_iter().collect())
    }

    #[test]
    fn only_who_may_be_asked() {
        assert_eq!(address(&Environment::default()).expect("reads"), None);
        let relative = asked("RELATIVE", "/v2/credentials/x?id=1").expect("reads").expect("there");
        assert_eq!(relative.as_str(), "http://169.254.170.2/v2/credentials/x?id=1");
        for url in [
            "http://127.0.0.1:1338/x",
            "http://127.3.2.1/x",
            "http://[::1]:80/",
            "http://localhost/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert!(asked("FULL", url).expect(url).is_some());
        }
        for url in [
            "http://169.254.169.254/",
            "https://evil.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "file:///etc/passwd",
            "no URL",
        ] {
            assert_eq!(asked("FULL", url).expect_err(url).kind(), Kind::Invalid);
        }
        assert!(asked("RELATIVE", "@evil.example/").is_err());
    }
}
