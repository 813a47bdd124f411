//! Signature Version 4, computed by aws-sigv4 with the settings that S3 needs.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    self, PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use reqwest::Request;

use super::config::S3Config;
use crate::{Digest, Error, Kind, Result};

/// What a signature says about the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload {
    /// The digest of the body, in S3's own header.
    Signed(Digest),
    /// Nothing (`UNSIGNED-PAYLOAD`), in the same header. The sender verifies the body in another way.
    Unsigned,
    /// The digest of the body, without a header, as the query services such as STS expect it.
    Query(Digest),
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
    /// [`Kind::Invalid`] if the keys, the bucket or the path are not valid in a header.
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
    let mut settings = SigningSettings::default();
    // S3 signs the path as it is sent, and requires the body's digest in a header.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let (service, body) = match body {
        Payload::Signed(digest) => ("s3", SignableBody::Precomputed(digest.hex())),
        Payload::Unsigned => ("s3", SignableBody::UnsignedPayload),
        Payload::Query(digest) => ("sts", SignableBody::Precomputed(digest.hex())),
    };
    if service == "s3" {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|_| unsigned())?
        .into();
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| value.to_str().map(|value| (name.as_str(), value)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unsigned())?;
    let signable =
        SignableRequest::new(request.method().as_str(), request.url().as_str(), headers.into_iter(), body)
            .map_err(|_| unsigned())?;
    // A signing error may print the canonical request, so it is not passed on.
    let (instructions, _) = http_request::sign(signable, &params).map_err(|_| unsigned())?.into_parts();
    for header in instructions.into_parts().0 {
        let mut value = http::HeaderValue::from_str(header.value()).map_err(|_| unsigned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header.name(), value);
    }
    Ok(())
}

fn unsigned() -> Error {
    Error::new(Kind::Invalid, "sign a request: keys, bucket or path are not valid in a header")
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
            (Payload::Query(Digest::EMPTY), None, "/eu-west-1/sts/aws4_request"),
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
