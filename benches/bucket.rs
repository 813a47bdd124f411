//! The configuration of a bucket at Amazon.

use backends::Secret;
use backends::s3::{S3Config, Style};

pub(crate) fn config() -> S3Config {
    S3Config {
        endpoint: "https://s3.eu-central-1.amazonaws.com".parse().expect("a URL"),
        style: Style::Path,
        bucket: "quay".into(),
        root: "datastorage/registry".into(),
        region: "eu-central-1".into(),
        access_key: Secret::new("AKIAIOSFODNN7EXAMPLE"),
        secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        encrypt: true,
    }
}
