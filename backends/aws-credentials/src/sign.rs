//! Signature Version 4, computed by aws-sigv4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    self, PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use reqwest::Request;
use store_answers::{Error, Kind, Result};

/// The scope of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The service, such as `s3`.
    pub service: &'a str,
    /// The region.
    pub region: &'a str,
    /// The time, by the server's clock.
    pub time: SystemTime,
}

/// Signs a request: all headers that are already set, and the path as it is sent. `checksum` says whether the digest of
/// the body also goes into its own header, as S3 demands.
///
/// # Errors
/// [`Kind::Invalid`] if the keys or the request are not valid in a header.
pub fn sign(
    request: &mut Request,
    body: SignableBody<'_>,
    credentials: &Credentials,
    scope: Scope<'_>,
    checksum: PayloadChecksumKind,
) -> Result<()> {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = checksum;
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
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
    use super::*;

    #[test]
    fn a_service_of_queries_gets_no_digest_in_a_header() {
        let credentials = Credentials::new("AKID", "hunter2", None, None, "test");
        let scope = Scope { service: "sts", region: "eu-west-1", time: SystemTime::UNIX_EPOCH };
        let mut request = Request::new(reqwest::Method::POST, "https://host/".parse().expect("a URL"));
        sign(&mut request, SignableBody::Bytes(b""), &credentials, scope, PayloadChecksumKind::NoHeader)
            .expect("signs");
        assert_eq!(request.headers().get("x-amz-content-sha256"), None);
        let authorization = request.headers()["authorization"].to_str().expect("a text");
        assert!(authorization.contains("/19700101/eu-west-1/sts/aws4_request"), "{authorization}");
    }
}
