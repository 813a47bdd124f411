//! Signature Version 4, with the settings that S3 needs.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credentials::Scope;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody};
use reqwest::Request;

use super::config::S3Config;
use crate::{Digest, Result};

/// What a signature says about the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload {
    /// The digest of the body, in S3's own header.
    Signed(Digest),
    /// Nothing (`UNSIGNED-PAYLOAD`), in the same header. The sender verifies the body in another way.
    Unsigned,
}

/// Signs requests to one store.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// A signer with the keys and the region of `config`.
    #[must_use]
    pub fn new(config: &S3Config) -> Self {
        Self { credentials: keys(config), region: config.region.clone() }
    }

    /// Signs a request whose body has this digest. All headers that are set before are signed.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the keys, the bucket or the path are not valid in a header.
    pub fn sign(&self, request: &mut Request, body: Digest, now: SystemTime) -> Result<()> {
        sign(request, Payload::Signed(body), &self.credentials, &self.region, now)
    }
}

/// The keys in a configuration.
pub(super) fn keys(config: &S3Config) -> Credentials {
    let token = config.session_token.as_ref().map(|token| token.reveal().to_owned());
    Credentials::new(config.access_key.reveal(), config.secret_key.reveal(), token, None, "configuration")
}

/// Signs a request. All headers that are set before are signed.
pub(super) fn sign(
    request: &mut Request,
    body: Payload,
    credentials: &Credentials,
    region: &str,
    now: SystemTime,
) -> Result<()> {
    let body = match body {
        Payload::Signed(digest) => SignableBody::Precomputed(digest.hex()),
        Payload::Unsigned => SignableBody::UnsignedPayload,
    };
    let scope = Scope { service: "s3", region, time: now };
    aws_credentials::sign(request, body, credentials, scope, PayloadChecksumKind::XAmzSha256)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::Method;

    use super::*;
    use crate::Secret;
    use crate::s3::Style;

    fn example() -> S3Config {
        S3Config {
            endpoint: "https://s3.amazonaws.com".parse().expect("a URL"),
            style: Style::VirtualHost,
            bucket: "examplebucket".to_owned(),
            root: String::new(),
            region: "us-east-1".to_owned(),
            access_key: Secret::new("AKIAIOSFODNN7EXAMPLE"),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            encrypt: false,
        }
    }

    /// The examples in Amazon's "Authenticating Requests: Using the Authorization Header".
    #[test]
    fn signs_as_amazon_documents() {
        // 20130524T000000Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let put: &[(&str, &str)] =
            &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        for (method, path, headers, body, signed, signature) in [
            (
                Method::GET,
                "test.txt",
                &[("range", "bytes=0-9")][..],
                &b""[..],
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                Method::PUT,
                "test%24file.text",
                put,
                b"Welcome to Amazon S3.",
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                Method::GET,
                "?lifecycle",
                &[],
                b"",
                "host;x-amz-content-sha256;x-amz-date",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                Method::GET,
                "?max-keys=2&prefix=J",
                &[],
                b"",
                "host;x-amz-content-sha256;x-amz-date",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let url = format!("https://examplebucket.s3.amazonaws.com/{path}").parse().expect("a URL");
            let mut request = Request::new(method, url);
            for (name, value) in headers {
                request.headers_mut().insert(*name, value.parse().expect("a value"));
            }
            Signer::new(&example()).sign(&mut request, Digest::of(body), now).expect("signs");
            assert_eq!(request.headers()["x-amz-date"], "20130524T000000Z");
            assert_eq!(
                request.headers()["authorization"].to_str().expect("a text"),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                     SignedHeaders={signed}, Signature={signature}"
                ),
                "{path}"
            );
            assert!(request.headers()["authorization"].is_sensitive());
        }
    }

    #[test]
    fn the_signed_part_of_a_body() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        for (body, header, scope) in [
            (Payload::Signed(Digest::EMPTY), Some(Digest::EMPTY.hex()), "/eu-west-1/s3/aws4_request"),
            (Payload::Unsigned, Some("UNSIGNED-PAYLOAD".to_owned()), "/eu-west-1/s3/aws4_request"),
        ] {
            let mut request = Request::new(Method::POST, "https://host/".parse().expect("a URL"));
            sign(&mut request, body, &keys(&example()), "eu-west-1", now).expect("signs");
            let found = request.headers().get("x-amz-content-sha256");
            assert_eq!(found.map(|found| found.to_str().expect("a text").to_owned()), header);
            assert!(request.headers()["authorization"].to_str().expect("a text").contains(scope));
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let credentials = Credentials::new("AKID", "hunter2", Some("hunter3".to_owned()), None, "test");
        let printed = format!("{:?}", Signer { credentials, region: "r".to_owned() });
        assert!(!printed.contains("hunter"), "{printed}");
    }
}
