//! The OpenAPI document.

use super::answer::{Answer, json_text};

/// The document. It describes all [`ROUTES`](super::routes::ROUTES).
const DOCUMENT: &str = include_str!("openapi.json");

/// Sends the document.
pub(super) fn openapi() -> Answer {
    json_text(DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;
    use crate::admin::routes::{Access, PREFIX, ROUTES};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("JSON")
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let routes: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| {
                let prefix = if route.is_below_prefix { PREFIX } else { "" };
                (format!("{prefix}{}", route.path), route.method.as_str().to_ascii_lowercase())
            })
            .collect();
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("methods").keys().filter(|key| *key != "parameters");
                methods.map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(routes, described);
    }

    #[test]
    fn commands_are_described_with_their_rights() {
        let document = document();
        for route in ROUTES.iter().filter(|route| route.access == Access::Command) {
            let operation = &document["paths"][format!("{PREFIX}{}", route.path)]["post"];
            for status in ["401", "403"] {
                assert!(operation["responses"][status].is_object(), "{}: {status}", route.path);
            }
            assert!(operation["security"].is_array(), "{}", route.path);
        }
    }
}
