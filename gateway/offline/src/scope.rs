//! Which repositories a request for a token asks for.

use url::form_urlencoded;

/// The most scopes of one request. Clients ask for two: the source and the target of a copy.
const SCOPES_MAX: usize = 64;

/// The repositories that the `scope` parameters of a query ask to read, as Quay reads them: one scope each,
/// `repository:[SERVER_HOSTNAME/]name:actions` (`endpoints/v2/v2auth.py:_get_scope_regex`). `None` if a scope has another
/// form or there are more than 64: Quay refuses the first, and the gateway decides about neither. A repository that is only
/// asked to be pushed to is left out: what Quay answers about it says nothing about who may read.
#[must_use]
pub fn asked_repositories(query: &str, server_hostname: &str) -> Option<Vec<String>> {
    let mut repositories = Vec::new();
    for (_, scope) in form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "scope") {
        let named = scope.strip_prefix("repository:")?;
        let (name, actions) = named.rsplit_once(':')?;
        let known = |action: &str| matches!(action, "pull" | "push" | "*");
        if !actions.split(',').all(known) || repositories.len() == SCOPES_MAX {
            return None;
        }
        if !actions.split(',').any(|action| matches!(action, "pull" | "*")) {
            continue;
        }
        let name = name.strip_prefix(server_hostname).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
        repositories.push(name.to_owned());
    }
    Some(repositories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_quay_reads_them() {
        let asked = |query: &str| asked_repositories(query, "quay.example.com");
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(asked("service=x"), names(&[]));
        assert_eq!(asked("scope=repository:o/a:pull"), names(&["o/a"]));
        assert_eq!(asked("scope=repository:o/a:push&scope=repository:o/b:*"), names(&["o/b"]));
        assert_eq!(
            asked("scope=repository%3Ao%2Fa%3Apull%2Cpush&scope=repository:b:*"),
            names(&["o/a", "b"])
        );
        assert_eq!(asked("scope=repository:quay.example.com/o/a:pull"), names(&["o/a"]));
        for other in
            ["scope=registry:catalog:*", "scope=repository:o/a", "scope=repository:o/a:delete", "scope="]
        {
            assert_eq!(asked(other), None, "{other}");
        }
        assert_eq!(asked(&"scope=repository:o/a:pull&".repeat(65)), None);
    }
}
