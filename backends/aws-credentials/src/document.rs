//! Parses the JSON documents in which the services of a machine return credentials.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use serde::Deserialize;
use store_answers::timestamp::timestamp;

/// The answer of the container's or the instance's service.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// The instance's error answer, which also has status 200.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorDocument {
    code: String,
}

/// The credentials in a document, or the reason that it gives instead.
pub(crate) fn credentials(body: &[u8], source: &'static str) -> Result<Credentials, String> {
    let Ok(found) = serde_json::from_slice::<Document>(body) else {
        // The parser's own error may quote the document.
        return Err(match serde_json::from_slice::<ErrorDocument>(body) {
            Ok(refusal) => format!("the answer has no credentials ({})", refusal.code),
            Err(_) => "the answer has no credentials".to_owned(),
        });
    };
    if found.access_key_id.is_empty() || found.secret_access_key.is_empty() {
        return Err("the answer has empty credentials".to_owned());
    }
    let expiry = match found.expiration.as_deref() {
        Some(text) => Some(time(text).ok_or("the expiration of the credentials is not a valid time")?),
        None => None,
    };
    Ok(Credentials::new(found.access_key_id, found.secret_access_key, found.token, expiry, source))
}

/// Parses a time in the form of Amazon's services, in UTC.
pub(crate) fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    match text.strip_suffix("+00:00") {
        Some(text) => timestamp(&format!("{text}Z")),
        None => timestamp(text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_of_the_services() {
        // Answers of IMDS and ECS, from Amazon's documentation.
        let body = br#"{"Code": "Success", "LastUpdated": "2012-04-26T16:39:16Z", "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "hunter2", "Token": "token",
            "Expiration": "2017-05-17T15:09:54Z"}"#;
        let found = credentials(body, "test").expect("credentials");
        assert_eq!(found.access_key_id(), "ASIAIOSFODNN7EXAMPLE");
        assert_eq!(found.session_token(), Some("token"));
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(1_495_033_794);
        assert_eq!(found.expiry(), Some(expiry));
        assert_eq!(time("2017-05-17T15:09:54+00:00"), Some(expiry));
        for (body, error) in [
            (
                r#"{"Code": "AssumeRoleUnauthorizedAccess", "Message": "hunter2"}"#,
                "(AssumeRoleUnauthorizedAccess)",
            ),
            (r#"{"AccessKeyId": "a", "SecretAccessKey": 5}"#, "no credentials"),
            (r#"{"AccessKeyId": "", "SecretAccessKey": "hunter2"}"#, "empty"),
            (
                r#"{"AccessKeyId": "a", "SecretAccessKey": "hunter2", "Expiration": "soon"}"#,
                "not a valid time",
            ),
            ("<html>hunter2", "no credentials"),
        ] {
            let found = credentials(body.as_bytes(), "test").expect_err(body);
            assert!(found.contains(error) && !found.contains("hunter"), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = credentials(&body, "test");
        }
    }
}
