//! Checks the registry's answer to a client without a token, and the names in it. Pure.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

use crate::check::advice::{Advice, StepError};
use crate::check::step::StepNote;
use config::{RegistryKind, Settings};
use registry::Bearer;

/// Checks that the answer is from the registry in the configuration. The note says where clients get tokens.
pub(super) fn check_challenge(
    settings: &Settings,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<StepNote, StepError> {
    let bearer = Bearer::of(headers);
    match (settings.registry_kind, bearer) {
        (RegistryKind::Quay, Some(bearer)) => quay(settings, &bearer),
        (RegistryKind::Quay, None) => Err(StepError::Explained(
            format!("GET /v2/: {status} without a Bearer challenge"),
            Advice::new("the server is not Quay", "correct `registry.url`, or set `registry.kind`"),
        )),
        (RegistryKind::Distribution | RegistryKind::Oci, bearer) => {
            distribution(settings, status, headers, bearer)
        }
    }
}

fn quay(settings: &Settings, bearer: &Bearer) -> Result<StepNote, StepError> {
    let own = &settings.registry_hostname;
    for (what, name) in [("realm", bearer.authority()), ("service", bearer.service.as_str())] {
        if !name.eq_ignore_ascii_case(own) {
            return Err(StepError::Explained(
                format!("GET /v2/: its {what} names {name}, but the configuration names {own}"),
                Advice::new(
                    "this Quay has another SERVER_HOSTNAME than the configuration, so its tokens and URLs bypass \
                     the gateway",
                    "set `registry.config` to the config.yaml of this Quay; if that file was changed, restart Quay",
                ),
            ));
        }
    }
    if settings.names_differ() {
        let path = bearer.realm.split_once(bearer.authority()).map_or("", |(_, path)| path);
        return Ok(StepNote::Info(format!(
            "clients get tokens from https://{}{path} instead of {}, and `Location` is rewritten in the same way",
            settings.hostname, bearer.realm
        )));
    }
    if bearer.realm.starts_with("http://") {
        return Ok(StepNote::Warning(format!(
            "clients get tokens from {}, without TLS: set PREFERRED_URL_SCHEME: https in Quay's config.yaml and \
             restart Quay",
            bearer.realm
        )));
    }
    Ok(StepNote::Info(format!(
        "the registry and the gateway have the same name, {own}: nothing is rewritten"
    )))
}

fn distribution(
    settings: &Settings,
    status: StatusCode,
    headers: &HeaderMap,
    bearer: Option<Bearer>,
) -> Result<StepNote, StepError> {
    match bearer {
        Some(bearer) if bearer.authority().eq_ignore_ascii_case(&settings.registry_hostname) => {
            Ok(StepNote::Info(format!("tokens come from {}, through the gateway", bearer.realm)))
        }
        Some(bearer) => Ok(StepNote::Info(format!(
            "tokens come from {}, which clients must reach directly",
            bearer.realm
        ))),
        None if status == StatusCode::OK => Ok(StepNote::Info("the registry requires no login".to_owned())),
        None if headers.contains_key(WWW_AUTHENTICATE) => {
            Ok(StepNote::Info("the registry checks passwords itself".to_owned()))
        }
        None => Err(StepError::Explained(
            format!("GET /v2/: {status}"),
            Advice::new("the server is not a registry", "correct `registry.url`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(challenge: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().expect("a header"));
        headers
    }

    fn quays(realm: &str, service: &str) -> HeaderMap {
        headers(&format!(r#"Bearer realm="{realm}",service="{service}""#))
    }

    fn settings(quay: &str, hostname: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("gateway.yaml");
        let text = format!(
            "hostname: '{hostname}'\nregistry: {{url: 'http://127.0.0.1:1', server_name: '{quay}'}}\n\
             zones: {{a: [LocalStorage, {{storage_path: /a}}]}}\n"
        );
        std::fs::write(&path, text).expect("writes");
        config::load_with(&path, std::iter::empty()).expect("is sound")
    }

    #[test]
    fn the_names_are_compared_and_the_note_says_what_is_rewritten() {
        let checked = |hostname: &str, realm: &str, service: &str| {
            check_challenge(
                &settings("quay.corp", hostname),
                StatusCode::UNAUTHORIZED,
                &quays(realm, service),
            )
        };
        let edge = checked("edge.corp:8443", "https://quay.corp/v2/auth", "quay.corp").expect("is sound");
        assert!(edge.text().contains("https://edge.corp:8443/v2/auth instead of https://quay.corp/v2/auth"));
        let one = checked("QUAY.corp", "https://quay.corp/v2/auth", "quay.corp").expect("is sound");
        assert!(matches!(&one, StepNote::Info(text) if text.contains("nothing is rewritten")), "{one:?}");
        let plain = checked("quay.corp", "http://quay.corp/v2/auth", "quay.corp").expect("passes");
        assert!(matches!(plain, StepNote::Warning(_)), "{plain:?}");
        for (realm, service) in
            [("https://other.corp/v2/auth", "quay.corp"), ("https://quay.corp/v2/auth", "x")]
        {
            let error = checked("quay.corp", realm, service).expect_err("is another");
            assert!(error.to_string().contains("the configuration names quay.corp"), "{error}");
        }
        let none =
            check_challenge(&settings("q", "q"), StatusCode::OK, &HeaderMap::new()).expect_err("is none");
        assert!(none.to_string().contains("200 OK without a Bearer challenge"), "{none}");
    }
}
