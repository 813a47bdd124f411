//! What the registry tells a client without a token, and which names it gives itself in it. Pure.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

use crate::check::advice::{Advice, Trouble};
use crate::check::step::Note;
use config::{RegistryKind, Settings};
use registry::Bearer;

/// Whether it is the registry that the configuration speaks of, and what of it clients are told.
pub(super) fn judge(settings: &Settings, status: StatusCode, headers: &HeaderMap) -> Result<Note, Trouble> {
    let bearer = Bearer::of(headers);
    match (settings.registry_kind, bearer) {
        (RegistryKind::Quay, Some(bearer)) => quay(settings, &bearer),
        (RegistryKind::Quay, None) => Err(Trouble::Told(
            format!("GET /v2/: {status} without a Bearer challenge"),
            Advice::new("what answers there is no Quay", "mend `registry.url`, or set `registry.kind`"),
        )),
        (RegistryKind::Distribution, bearer) => distribution(settings, status, headers, bearer),
    }
}

fn quay(settings: &Settings, bearer: &Bearer) -> Result<Note, Trouble> {
    let own = &settings.registry_hostname;
    for (what, name) in [("realm", bearer.authority()), ("service", bearer.service.as_str())] {
        if !name.eq_ignore_ascii_case(own) {
            return Err(Trouble::Told(
                format!("GET /v2/: its {what} names {name}, the configuration {own}"),
                Advice::new(
                    "this Quay has another SERVER_HOSTNAME than the configuration says, so its tokens and URLs \
                     lead past the gateway",
                    "give `registry.config` the config.yaml that this Quay runs with; restart Quay if it was \
                     changed",
                ),
            ));
        }
    }
    if settings.names_differ() {
        let path = bearer.realm.split_once(bearer.authority()).map_or("", |(_, path)| path);
        return Ok(Note::Info(format!(
            "clients are sent for tokens to https://{}{path} instead of {}, and `Location` is rewritten likewise",
            settings.hostname, bearer.realm
        )));
    }
    if bearer.realm.starts_with("http://") {
        return Ok(Note::Warning(format!(
            "clients are sent for tokens to {}, without TLS: set PREFERRED_URL_SCHEME: https in Quay's \
             config.yaml and restart it",
            bearer.realm
        )));
    }
    Ok(Note::Info(format!("{own} is the registry's name and the gateway's: nothing is rewritten")))
}

fn distribution(
    settings: &Settings,
    status: StatusCode,
    headers: &HeaderMap,
    bearer: Option<Bearer>,
) -> Result<Note, Trouble> {
    match bearer {
        Some(bearer) if bearer.authority().eq_ignore_ascii_case(&settings.registry_hostname) => {
            Ok(Note::Info(format!("tokens come from {}, through the gateway", bearer.realm)))
        }
        Some(bearer) => {
            Ok(Note::Info(format!("tokens come from {}, which clients must reach themselves", bearer.realm)))
        }
        None if status == StatusCode::OK => Ok(Note::Info("everyone may pull and push".to_owned())),
        None if headers.contains_key(WWW_AUTHENTICATE) => {
            Ok(Note::Info("the registry asks for passwords itself".to_owned()))
        }
        None => Err(Trouble::Told(
            format!("GET /v2/: {status}"),
            Advice::new("what answers there is no registry", "mend `registry.url`"),
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
    fn the_names_are_compared_and_the_rewriting_is_told() {
        let judged = |hostname: &str, realm: &str, service: &str| {
            judge(&settings("quay.corp", hostname), StatusCode::UNAUTHORIZED, &quays(realm, service))
        };
        let edge = judged("edge.corp:8443", "https://quay.corp/v2/auth", "quay.corp").expect("is sound");
        assert!(edge.text().contains("https://edge.corp:8443/v2/auth instead of https://quay.corp/v2/auth"));
        let one = judged("QUAY.corp", "https://quay.corp/v2/auth", "quay.corp").expect("is sound");
        assert!(matches!(&one, Note::Info(text) if text.contains("nothing is rewritten")), "{one:?}");
        let plain = judged("quay.corp", "http://quay.corp/v2/auth", "quay.corp").expect("passes");
        assert!(matches!(plain, Note::Warning(_)), "{plain:?}");
        for (realm, service) in
            [("https://other.corp/v2/auth", "quay.corp"), ("https://quay.corp/v2/auth", "x")]
        {
            let trouble = judged("quay.corp", realm, service).expect_err("is another");
            assert!(trouble.to_string().contains("the configuration quay.corp"), "{trouble}");
        }
        let none = judge(&settings("q", "q"), StatusCode::OK, &HeaderMap::new()).expect_err("is none");
        assert!(none.to_string().contains("200 OK without a Bearer challenge"), "{none}");
    }
}
