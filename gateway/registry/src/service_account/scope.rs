//! Scopes of tokens, and how many scopes fit into one token. Pure.

/// The most bytes of a token for several scopes: nginx and gunicorn accept header fields up to 8 KiB
/// (`large_client_header_buffers`, `limit_request_field_size`).
const TOKEN_MAX: usize = 6000;

/// The most bytes of scopes in the URL that requests a token: gunicorn accepts a request line of up to 4094
/// bytes (`limit_request_line`).
const SCOPES_MAX: usize = 3400;

/// The bytes that a scope adds to a token besides its name: Quay writes an entry of `access` and one of
/// `com.apostille.roots` for each scope.
const SCOPE_COST: usize = 100;

/// What a token permits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Reading this repository.
    Pull(String),
    /// A login without a scope. Quay lists repositories with such a token, and answers 400 to the scope below
    /// (`endpoints/v2/v2auth.py:generate_registry_jwt`).
    Login,
    /// Listing repositories at other registries.
    Catalog,
}

impl Scope {
    /// The scope in the URL that requests a token. `None` if the URL names none.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Pull(repository) => Some(format!("repository:{repository}:pull")),
            Self::Login => None,
            Self::Catalog => Some("registry:catalog:*".to_owned()),
        }
    }
}

/// The bytes that a scope needs in a token (its text twice and its surroundings, in base64) and in the URL
/// that requests the token.
fn cost(scope: &Scope) -> (usize, usize) {
    let text = scope.text().unwrap_or_default();
    let encoded: usize = url::form_urlencoded::byte_serialize(text.as_bytes()).map(str::len).sum();
    ((2 * text.len() + SCOPE_COST) * 4 / 3, "&scope=".len() + encoded)
}

/// As many of the first scopes as fit into one token, and at least one.
pub(super) fn together(scopes: &[Scope]) -> &[Scope] {
    let (mut token, mut url) = (0, 0);
    let fit = scopes.iter().take_while(|scope| {
        let (of_token, of_url) = cost(scope);
        (token, url) = (token + of_token, url + of_url);
        token <= TOKEN_MAX && url <= SCOPES_MAX
    });
    &scopes[..fit.count().max(1).min(scopes.len())]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn scopes_of_one_token_are_bounded(names in prop::collection::vec("[a-z/]{1,512}", 1..200)) {
            let scopes: Vec<_> = names.into_iter().map(Scope::Pull).collect();
            let fit = together(&scopes);
            prop_assert!(!fit.is_empty() && fit.len() <= scopes.len());
            let sum = |scopes: &[Scope]| {
                scopes.iter().map(cost).fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1))
            };
            let fits = |(token, url): (usize, usize)| token <= TOKEN_MAX && url <= SCOPES_MAX;
            prop_assert!(fit.len() == 1 || fits(sum(fit)));
            prop_assert!(fit.len() == scopes.len() || !fits(sum(&scopes[..=fit.len()])), "as many as fit");
        }
    }

    #[test]
    fn some_dozen_ordinary_names_fit() {
        let scopes: Vec<_> = (0..100).map(|n| Scope::Pull(format!("organization/repository-{n}"))).collect();
        assert!((20..60).contains(&together(&scopes).len()), "{}", together(&scopes).len());
    }
}
