//! The host that a request names (RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri};

/// The default ports of http and https URLs.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Why a request does not name exactly one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither the target nor a header names a host.
    #[error("the request has no Host")]
    Missing,
    /// There is more than one `Host`.
    #[error("the request has several Host fields")]
    Several,
    /// `Host` and the target's authority differ.
    #[error("the request's Host and its target name different hosts")]
    Differ,
    /// The value is not a host with or without a port.
    #[error("the request's Host is not a host name")]
    Invalid,
}

/// The one host that a request names, with its port if there is one.
///
/// `:authority` of HTTP/2 and the absolute form of HTTP/1.1 arrive in `target`. By RFC 9112 the target wins
/// over a `Host` that differs. No honest client sends two that differ, so such a request is refused, as RFC
/// 9113 section 8.3.1 allows.
///
/// # Errors
/// The request names no host, several hosts, or something that is not a host.
pub fn host(target: &Uri, headers: &HeaderMap) -> Result<Authority, HostError> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(HostError::Several);
    }
    let field = field.map(|value| {
        let authority: Option<Authority> = value.to_str().ok().and_then(|text| text.parse().ok());
        authority.filter(|authority| !authority.as_str().contains('@')).ok_or(HostError::Invalid)
    });
    let default = if target.scheme() == Some(&Scheme::HTTPS) { HTTPS_PORT } else { HTTP_PORT };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    match (target.authority(), field.transpose()?) {
        (Some(target), _) if target.as_str().contains('@') => Err(HostError::Invalid),
        (Some(target), Some(field))
            if !target.host().eq_ignore_ascii_case(field.host()) || port(target) != port(&field) =>
        {
            Err(HostError::Differ)
        }
        (Some(target), _) => Ok(target.clone()),
        (None, Some(field)) => Ok(field),
        (None, None) => Err(HostError::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str, hosts: &[&str]) -> Result<String, HostError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().expect("a header value"));
        }
        host(&target.parse().expect("a target"), &headers).map(|host| host.to_string())
    }

    #[test]
    fn one_host() {
        for (target, hosts, named) in [
            ("/", &["a.example.com"][..], "a.example.com"),
            ("/", &["[::1]:8443"], "[::1]:8443"),
            ("https://a.example.com/", &[], "a.example.com"),
            ("https://a.example.com/", &["A.example.com:443"], "a.example.com"),
            ("http://a.example.com:80/", &["a.example.com"], "a.example.com:80"),
        ] {
            assert_eq!(read(target, hosts).as_deref(), Ok(named), "{target} {hosts:?}");
        }
    }

    #[test]
    fn missing_several_and_different_hosts() {
        for (target, hosts, error) in [
            ("/", &[][..], HostError::Missing),
            ("/", &["a", "a"], HostError::Several),
            ("https://a/", &["a", "a"], HostError::Several),
            ("https://a/", &["b"], HostError::Differ),
            ("https://a/", &["a:8443"], HostError::Differ),
            ("/", &[""], HostError::Invalid),
            ("/", &["a b"], HostError::Invalid),
            ("/", &["a, b"], HostError::Invalid),
            ("/", &["user@a"], HostError::Invalid),
            ("/", &["a/b"], HostError::Invalid),
        ] {
            assert_eq!(read(target, hosts), Err(error), "{target} {hosts:?}");
        }
    }
}
