//! Decides which requests the admin API answers.
//!
//! Reading the admin API needs no login, and it is often behind a port-forward to an operator's own machine. A
//! page in the operator's browser could reach it under a name that resolves to loopback (DNS rebinding). So a
//! request must name a known host.

use std::net::IpAddr;

use backends::Secret;
use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use sha2::{Digest as _, Sha256};

use config::AdminSettings;
use gateway_http::host;
use operations::admin_client::COMMAND_HEADER;

/// Fetch metadata of browsers (<https://www.w3.org/TR/fetch-metadata/>).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoints {
    pub(super) client: IpAddr,
    /// The address that the client dialled, as this machine sees it.
    pub(super) own: IpAddr,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this Host is not known: use an address of this listener, or add the name to admin.hosts")]
    Host,
    #[error("commands are for `quay-gateway`, not for pages in a browser")]
    Origin,
    #[error("commands are for `quay-gateway`: the header {COMMAND_HEADER} is missing")]
    NoCommand,
    #[error(
        "commands are for `quay-gateway` on the gateway's own machine or in its container, with admin.listen on \
         loopback; elsewhere they need the token of admin.token_file"
    )]
    Elsewhere,
    #[error("the token of admin.token_file is missing or wrong: give `quay-gateway` this gateway's --config")]
    Token,
}

impl Refusal {
    /// A word for programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Host => "unknown_host",
            Self::Origin => "foreign_origin",
            Self::NoCommand => "no_command_header",
            Self::Elsewhere => "no_commands_here",
            Self::Token => "wrong_token",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Host | Self::Origin | Self::NoCommand | Self::Elsewhere => StatusCode::FORBIDDEN,
        }
    }
}

/// Whether a request may read the state of the gateway. It must name a known host.
pub(super) fn may_read(settings: &AdminSettings, ends: Endpoints, request: &Parts) -> Result<(), Refusal> {
    let host = host(&request.uri, &request.headers).map_err(|_| Refusal::Host)?;
    match is_known(settings, ends, host.host()) {
        true => Ok(()),
        false => Err(Refusal::Host),
    }
}

/// Whether a request may give a command. In addition to a known host, it must not come from a page of another
/// site, and must have the token. If no token is configured, it must come from this machine, over a listener
/// on loopback.
pub(super) fn may_command(settings: &AdminSettings, ends: Endpoints, request: &Parts) -> Result<(), Refusal> {
    may_read(settings, ends, request)?;
    if is_foreign(settings, request) {
        return Err(Refusal::Origin);
    }
    if !request.headers.contains_key(COMMAND_HEADER) {
        return Err(Refusal::NoCommand);
    }
    match &settings.token {
        Some(token) if has_token(&request.headers, token) => Ok(()),
        Some(_) => Err(Refusal::Token),
        None if settings.takes_commands() && ends.client.to_canonical().is_loopback() => Ok(()),
        None => Err(Refusal::Elsewhere),
    }
}

/// Whether a host is loopback, the address that was dialled, or a name of `admin.hosts`. The port does not
/// matter: a port-forward has another port, and no page can use one of these hosts for a server of its own.
fn is_known(settings: &AdminSettings, ends: Endpoints, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match literal.map(|ip| ip.to_canonical()) {
        Some(ip) if ip.is_loopback() || ip == ends.own.to_canonical() => true,
        _ => host == "localhost" || settings.hosts.contains(&host),
    }
}

/// Whether the browser's headers say that a page of another site sent the request.
fn is_foreign(settings: &AdminSettings, request: &Parts) -> bool {
    let scheme = if settings.tls { "https" } else { "http" };
    let own = host(&request.uri, &request.headers).map(|host| format!("{scheme}://{host}"));
    let own = own.unwrap_or_default();
    let foreign_origin = request
        .headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()));
    let foreign_site = request
        .headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    foreign_origin || foreign_site
}

/// Compares the bearer token of the request with the configured one, in a time that does not depend on the
/// token.
fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return false };
    let Some((scheme, sent)) = only.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return false;
    };
    // Digests have the same length, whatever the lengths of the tokens.
    let (sent, token) = (Sha256::digest(sent.trim()), Sha256::digest(token.reveal()));
    let differences = sent.iter().zip(&token).fold(0, |all, (one, other)| all | (one ^ other));
    scheme.eq_ignore_ascii_case("bearer") && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn settings(listen: &str, token: bool) -> AdminSettings {
        AdminSettings {
            listen: listen.parse().expect("an address"),
            hosts: vec!["gateway.ops.example.com".into()],
            token: token.then(|| Secret::new(TOKEN)),
            tls: false,
        }
    }

    fn ends(client: &str, own: &str) -> Endpoints {
        Endpoints { client: client.parse().expect("an address"), own: own.parse().expect("an address") }
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/zones/a/drain");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn known_hosts() {
        let (settings, ends) = (settings("0.0.0.0:9090", false), ends("10.0.0.7", "10.0.0.5"));
        let looks = |host: &str| may_read(&settings, ends, &request(&[("host", host)]));
        for host in [
            "localhost:9090",
            "LOCALHOST",
            "127.0.0.1:19090",
            "127.8.8.8",
            "[::1]:9090",
            "[::ffff:127.0.0.1]",
            "10.0.0.5:9090",
            "Gateway.ops.example.com:30000",
        ] {
            assert_eq!(looks(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example.com:9090",
            "localhost.evil.example.com",
            "127.0.0.1.evil.example.com",
            "10.0.0.6:9090",
            "evil@localhost",
            "0.0.0.0:9090",
            "",
        ] {
            assert_eq!(looks(host), Err(Refusal::Host), "{host}");
        }
        assert_eq!(may_read(&settings, ends, &request(&[])), Err(Refusal::Host));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(may_read(&settings, ends, &request(&two)), Err(Refusal::Host));
    }

    #[test]
    fn commands_on_loopback() {
        let (settings, ends) = (settings("127.0.0.1:9090", false), ends("127.0.0.1", "127.0.0.1"));
        let (host, sent) = (("host", "localhost:9090"), (COMMAND_HEADER, "1"));
        for headers in [
            &[host, sent][..],
            &[host, sent, ("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")],
        ] {
            assert_eq!(may_command(&settings, ends, &request(headers)), Ok(()), "{headers:?}");
        }
        for (headers, refusal) in [
            (&[host][..], Refusal::NoCommand),
            (&[("host", "evil.example.com:9090"), sent], Refusal::Host),
            (&[host, sent, ("origin", "http://evil.example.com:9090")], Refusal::Origin),
            (&[host, sent, ("origin", "null")], Refusal::Origin),
            (&[host, sent, ("origin", "http://localhost:8080")], Refusal::Origin),
            (&[host, sent, ("sec-fetch-site", "cross-site")], Refusal::Origin),
            (&[host, sent, ("sec-fetch-site", "same-site")], Refusal::Origin),
        ] {
            assert_eq!(may_command(&settings, ends, &request(headers)), Err(refusal), "{headers:?}");
        }
    }

    #[test]
    fn commands_elsewhere_need_the_token() {
        let ends = ends("127.0.0.1", "127.0.0.1");
        let (host, sent) = (("host", "localhost:9090"), (COMMAND_HEADER, "1"));
        let bearer = format!("Bearer {TOKEN}");
        let with = |value| request(&[host, sent, ("authorization", value)]);
        let bare = settings("0.0.0.0:9090", false);
        assert_eq!(may_command(&bare, ends, &with(&bearer)), Err(Refusal::Elsewhere));
        for listen in ["0.0.0.0:9090", "127.0.0.1:9090"] {
            let guarded = settings(listen, true);
            assert_eq!(may_command(&guarded, ends, &with(&bearer)), Ok(()));
            for wrong in ["Bearer 0123456789abcdee", "Bearer", "Bearer ", "Basic 0123456789abcdef", TOKEN] {
                assert_eq!(may_command(&guarded, ends, &with(wrong)), Err(Refusal::Token), "{wrong}");
            }
            assert_eq!(may_command(&guarded, ends, &request(&[host, sent])), Err(Refusal::Token));
            let two = request(&[host, sent, ("authorization", &bearer), ("authorization", &bearer)]);
            assert_eq!(may_command(&guarded, ends, &two), Err(Refusal::Token));
        }
    }

    #[test]
    fn the_own_origin_has_the_own_scheme() {
        let (mut settings, ends) = (settings("127.0.0.1:9090", false), ends("127.0.0.1", "127.0.0.1"));
        let from = |origin| request(&[("host", "localhost:9090"), (COMMAND_HEADER, "1"), ("origin", origin)]);
        let (plain, tls) = (from("http://localhost:9090"), from("https://localhost:9090"));
        for is_tls in [false, true] {
            settings.tls = is_tls;
            let (own, other) = if is_tls { (&tls, &plain) } else { (&plain, &tls) };
            assert_eq!(may_command(&settings, ends, own), Ok(()));
            assert_eq!(may_command(&settings, ends, other), Err(Refusal::Origin));
        }
    }
}
