//! The names in a certificate: host names and addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The most characters of a host name and of one label (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A name for which a certificate can be issued: a host name (RFC 1123) in lower case, possibly with `*` as its first
/// label, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A host name or a wildcard.
    Host(String),
    /// An address.
    Address(IpAddr),
}

/// Why a text is no name for a certificate. The message names the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectNameError {
    /// It is a URL.
    #[error("write only the host name: no scheme and no path")]
    Url,
    /// It has a port.
    #[error("a certificate has no ports: write {0}")]
    Port(String),
    /// It has letters that host names in certificates do not have.
    #[error("{0}")]
    NotAscii(String),
    /// It ends with a dot.
    #[error("leave out the dot at its end")]
    Dot,
    /// `*` is somewhere else than as the first label.
    #[error("* stands for the first label only, and for the whole of it, as in *.apps.example.com")]
    Wildcard,
    /// It looks like an address.
    #[error("it ends with a number, as an address does, and is no address: correct it")]
    LikeAddress,
    /// It is no host name.
    #[error(
        "it is no host name: 1 to {LABEL_MAX} letters, digits and - between two dots, - neither first nor last, at most \
         {NAME_MAX} in all"
    )]
    NotAHost,
}

impl FromStr for SubjectName {
    type Err = SubjectNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains('/') {
            return Err(SubjectNameError::Url);
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && !host.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(SubjectNameError::Port(host.to_owned()));
        }
        if !text.is_ascii() {
            return Err(not_ascii(text));
        }
        if text.len() > 1 && text.ends_with('.') {
            return Err(SubjectNameError::Dot);
        }
        host(text).map(Self::Host)
    }
}

fn not_ascii(text: &str) -> SubjectNameError {
    // The host parser applies IDNA (UTS 46).
    let fix = match url::Host::parse(text) {
        Ok(url::Host::Domain(ascii)) if ascii.is_ascii() => {
            format!("certificates have names in ASCII: write {ascii}")
        }
        _ => "certificates have names in ASCII: write its form that begins with xn--".to_owned(),
    };
    SubjectNameError::NotAscii(fix)
}

/// Checks a host name.
fn host(text: &str) -> Result<String, SubjectNameError> {
    let name = text.to_ascii_lowercase();
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    // Clients refuse a wildcard for a whole top-level domain.
    if rest.contains('*') || (rest.len() < name.len() && !rest.contains('.')) {
        return Err(SubjectNameError::Wildcard);
    }
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_MAX || !rest.split('.').all(is_label) {
        return Err(SubjectNameError::NotAHost);
    }
    let last = rest.rsplit('.').next().unwrap_or_default();
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err(SubjectNameError::LikeAddress),
        false => Ok(name),
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    use super::*;

    fn why(text: &str) -> String {
        text.parse::<SubjectName>().expect_err(text).to_string()
    }

    #[test]
    fn names_are_read() {
        for (text, name) in [
            ("Registry.Cluster1.example.com", "registry.cluster1.example.com"),
            ("localhost", "localhost"),
            ("*.apps.example.com", "*.apps.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("4you.example", "4you.example"),
        ] {
            assert_eq!(text.parse::<SubjectName>().expect(text).to_string(), name);
        }
    }

    #[test]
    fn each_error_names_the_fix() {
        for (text, wanted) in [
            ("bücher.example", "write xn--bcher-kva.example"),
            ("https://registry.example.com", "no scheme"),
            ("registry.example.com:8443", "write registry.example.com"),
            ("10.0.0.1:8443", "write 10.0.0.1"),
            ("registry.example.com.", "leave out the dot"),
            ("*", "the first label only"),
            ("*.com", "the first label only"),
            ("a.*.example.com", "the first label only"),
            ("w*.example.com", "the first label only"),
            ("10.0.0.256", "ends with a number"),
            ("under_score.example.com", "no host name"),
            ("-a.example.com", "no host name"),
            ("a..example.com", "no host name"),
            ("", "no host name"),
            (".", "leave out|no host name"),
            (&"a".repeat(64), "no host name"),
            (&["abcdefgh"; 30].join("."), "no host name"),
        ] {
            let why = why(text);
            assert!(wanted.split('|').any(|wanted| why.contains(wanted)), "{text}: {why}");
        }
    }

    proptest! {
        /// Whatever is accepted is a name by which a client can verify a server.
        #[test]
        fn an_accepted_name_is_usable(text in "(\\*\\.)?[a-zA-Z0-9.:*_\\-\\[\\]é]{0,70}") {
            if let Ok(name) = text.parse::<SubjectName>() {
                let shown = name.to_string();
                prop_assert_eq!(shown.parse::<SubjectName>(), Ok(name));
                let asked = shown.replacen('*', "any", 1);
                prop_assert!(ServerName::try_from(asked).is_ok(), "{}", shown);
            }
        }
    }
}
