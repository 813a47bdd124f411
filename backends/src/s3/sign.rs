//! Signature Version 4, by aws-sigv4 with the settings that S3 differs in.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use reqwest::Request;

use super::config::S3Config;
use crate::{Digest, Error, Kind, Result};

/// Signs requests to one store.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    /// Signs with the keys, for the region, of `config`.
    #[must_use]
    pub fn new(config: &S3Config) -> Self {
        let token = config.session_token.as_ref().map(|token| token.reveal().to_owned());
        let credentials = Credentials::new(
            config.access_key.reveal(),
            config.secret_key.reveal(),
            token,
            None,
            "configuration",
        );
        Self { credentials, region: config.region.clone() }
    }

    /// Signs a request whose body has this digest. Every header set so far is signed along.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if keys, bucket or path do not fit into a header.
    pub fn sign(&self, request: &mut Request, body: Digest, now: SystemTime) -> Result<()> {
        let mut settings = SigningSettings::default();
        // S3 signs the path as it is sent, and wants the body's digest as a header.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
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
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.url().as_str(),
            headers.into_iter(),
            SignableBody::Precomputed(body.hex()),
        )
        .map_err(|_| unsigned())?;
        // A signing error may print the canonical request, so it goes no further.
        let (instructions, _) = sign(signable, &params).map_err(|_| unsigned())?.into_parts();
        for header in instructions.into_parts().0 {
            let mut value = http::HeaderValue::from_str(header.value()).map_err(|_| unsigned())?;
            value.set_sensitive(true);
            request.headers_mut().insert(header.name(), value);
        }
        Ok(())
    }
}

fn unsigned() -> Error {
    Error::new(Kind::Invalid, "sign a request: keys, bucket or path do not fit into a header")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::Method;

    use super::*;
    use crate::Secret;
    use crate::s3::Style;

    /// Amazon's own example: "Authenticating Requests: Using the Authorization Header", GET Object.
    #[test]
    fn signs_as_amazon_documents() {
        let config = S3Config {
            endpoint: "https://s3.amazonaws.com".parse().expect("a URL"),
            style: Style::VirtualHost,
            bucket: "examplebucket".to_owned(),
            root: String::new(),
            region: "us-east-1".to_owned(),
            access_key: Secret::new("AKIAIOSFODNN7EXAMPLE"),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            encrypt: false,
        };
        let url = "https://examplebucket.s3.amazonaws.com/test.txt".parse().expect("a URL");
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert("range", "bytes=0-9".parse().expect("a value"));
        // 20130524T000000Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        Signer::new(&config).sign(&mut request, Digest::EMPTY, now).expect("signs");
        assert_eq!(request.headers()["x-amz-date"], "20130524T000000Z");
        assert_eq!(
            request.headers()["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(request.headers()["authorization"].is_sensitive());
    }

    #[test]
    fn prints_no_secret() {
        let credentials = Credentials::new("AKID", "hunter2", Some("hunter3".to_owned()), None, "test");
        let printed = format!("{:?}", Signer { credentials, region: "r".to_owned() });
        assert!(!printed.contains("hunter"), "{printed}");
    }
}
