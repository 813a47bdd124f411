//! Removes from lines of text what looks like a secret. Pure.
//!
//! The gateway writes no secret into its log. This is for lines of other programs in the same file, and for mistakes.
//! Where it is in doubt it removes too much.

/// What stands in the place of what was removed.
pub(super) const REMOVED: &str = "*removed*";

/// Ends of names whose values are secret, in lower case.
const SECRET_ENDS: [&str; 14] = [
    "password",
    "passwd",
    "secret",
    "secret_key",
    "token",
    "signature",
    "_sig",
    "api_key",
    "apikey",
    "private_key",
    "account_key",
    "accountkey",
    "cookie",
    "authorization",
];

/// Names whose values are secret.
const SECRET_NAMES: [&str; 2] = ["sig", "pwd"];

/// Schemes of `Authorization`, after which credentials follow.
const SCHEMES: [&str; 3] = ["bearer", "basic", "sharedkey"];

/// The shortest text after a scheme that is taken for credentials.
const CREDENTIALS_MIN: usize = 8;

/// How many bytes of a URL are searched for a login. A line of many beginnings of URLs takes no longer than that.
const USERINFO_MAX: usize = 1024;

/// The shortest first part of a JSON web token.
const JWT_MIN: usize = 16;

/// Removes secrets from lines that come one after the other.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// Whether the lines are those of a private key.
    in_key: bool,
    /// Lines from which something was removed.
    pub(super) removed: u64,
}

impl Redactor {
    /// The line without what looks like a secret.
    pub(super) fn line(&mut self, line: &str) -> String {
        let clean = self.without_key(line).map_or_else(|| REMOVED.to_owned(), |line| clean(&line));
        self.removed += u64::from(clean != line);
        clean
    }

    /// All lines of a text.
    pub(super) fn text(&mut self, text: &str) -> String {
        text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut all, line| {
            let end = line.len() - line.trim_end_matches(['\r', '\n']).len();
            all.push_str(&self.line(&line[..line.len() - end]));
            all.push_str(&line[line.len() - end..]);
            all
        })
    }

    /// The line up to a private key in PEM. `None` within one.
    fn without_key(&mut self, line: &str) -> Option<String> {
        if self.in_key {
            self.in_key = !line.contains("-----END");
            return None;
        }
        let begin = line.find("-----BEGIN").filter(|begin| line[*begin..].contains("PRIVATE KEY"));
        let Some(begin) = begin else { return Some(line.to_owned()) };
        self.in_key = !line[begin..].contains("-----END");
        Some(format!("{}{REMOVED}", &line[..begin]))
    }
}

/// A line without tokens, credentials and values of secret names.
fn clean(line: &str) -> String {
    without_values(&without_schemes(&without_tokens(&without_userinfo(line))))
}

/// Removes `user:password@` from URLs.
fn without_userinfo(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let near = &after[..after.floor_char_boundary(USERINFO_MAX)];
        let end = near.find(|one: char| one.is_whitespace() || "\"'<>\\".contains(one)).unwrap_or(near.len());
        let url = &near[..end];
        let host_end = url.find(['/', '?', '#']).unwrap_or(url.len());
        // A password may hold a slash. What follows a colon is then no port.
        let odd = url[..host_end].split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err());
        let cut = if odd { url.rfind('@') } else { url[..host_end].rfind('@') };
        if cut.is_some() {
            clean.push_str(REMOVED);
        }
        rest = &after[cut.unwrap_or(0)..];
    }
    clean + rest
}

fn is_token(one: char) -> bool {
    one.is_ascii_alphanumeric() || "-_.".contains(one)
}

/// Removes JSON web tokens. Each begins with `eyJ`, which is `{"` in Base64.
fn without_tokens(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("eyJ") {
        let token = &rest[at..];
        let token = &token[..token.find(|one| !is_token(one)).unwrap_or(token.len())];
        let first = token.split('.').next().unwrap_or_default();
        clean.push_str(&rest[..at]);
        clean.push_str(if first.len() >= JWT_MIN { REMOVED } else { token });
        rest = &rest[at + token.len()..];
    }
    clean + rest
}

/// Removes what follows `Bearer` and its like.
fn without_schemes(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_token) {
        let word = &rest[start..];
        let (word, after) = word.split_at(word.find(|one| !is_token(one)).unwrap_or(word.len()));
        clean.push_str(&rest[..start]);
        clean.push_str(word);
        rest = after;
        if let Some((between, length)) = is_scheme(word).then(|| credentials(after)).flatten() {
            clean.push_str(&after[..between]);
            clean.push_str(REMOVED);
            rest = &after[between + length..];
        }
    }
    clean + rest
}

fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// The distance to the credentials after a scheme, and their length. `None` if something else follows.
fn credentials(after: &str) -> Option<(usize, usize)> {
    let text = after.trim_start_matches("%20").trim_start_matches(' ');
    let length =
        text.find(|one: char| one.is_whitespace() || "\"'<>,;\\".contains(one)).unwrap_or(text.len());
    let (text, end) = text.split_at(length);
    // `Bearer realm="…"` is a question of a server. Base64 has `=` at its end only.
    let is_question =
        text.trim_end_matches('=').contains('=') || text.ends_with('=') && end.starts_with(['"', '\\']);
    let is_word = text.get(1..).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()));
    let between = after.len() - text.len() - end.len();
    (between > 0 && length >= CREDENTIALS_MIN && !is_question && !is_word).then_some((between, length))
}

/// Removes the values of secret names: `name=value`, `name: value`, `"name": "value"`, `name%3Dvalue`.
fn without_values(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_token) {
        let word = &rest[start..];
        let length = word.find(|one| !is_token(one)).unwrap_or(word.len());
        let (name, after) = word.split_at(length);
        clean.push_str(&rest[..start]);
        clean.push_str(name);
        rest = after;
        if let Some((between, length)) = is_secret(name).then(|| value(name, after)).flatten() {
            clean.push_str(&after[..between]);
            clean.push_str(REMOVED);
            rest = &after[between + length..];
        }
    }
    clean + rest
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_NAMES.contains(&name.as_str()) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// The distance to the value of a name, and its length. `None` if no value follows.
fn value(name: &str, after: &str) -> Option<(usize, usize)> {
    let quotes = ['\\', '"', '\'', ' '];
    let sign = after.trim_start_matches(quotes);
    let value = sign
        .strip_prefix(['=', ':'])
        .or_else(|| sign.strip_prefix("%3D"))
        .or_else(|| sign.strip_prefix("%3d"))?;
    let value = value.trim_start_matches(quotes);
    let is_quoted = after[..after.len() - value.len()].ends_with(['"', '\'']);
    // The value of this header has spaces.
    let has_spaces = is_quoted || name.to_ascii_lowercase().ends_with("authorization");
    let ends = |one: char| match has_spaces {
        true => "\"'".contains(one),
        false => one.is_whitespace() || "\"'&,;)}]<>".contains(one),
    };
    let length = value.find(ends).unwrap_or(value.len());
    (length > 0).then_some((after.len() - value.len(), length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(line: &str) -> String {
        Redactor::default().line(line)
    }

    #[test]
    fn secrets_are_removed_in_every_form() {
        for line in [
            "Authorization: Bearer hunter2hunter2",
            "sent Bearer hunter2hunter2 to it",
            "sent basic aHVudGVyMg+hunter2/x== to it",
            "q=Bearer%20hunter2hunter2",
            "authorization: Basic aHVudGVyMg+hunter2/x==",
            r#"{"authorization":"AWS4-HMAC-SHA256 Credential=AK/2026, Signature=hunter2"}"#,
            r#"headers={"authorization": "Basic hunter2"}"#,
            "GET https://store/x?X-Amz-Signature=hunter2&X-Amz-Date=1 200",
            "GET /x?sv=1&sig=hunter2%3D&se=2",
            "next=https%3A%2F%2Fstore%2Fx%3FX-Amz-Signature%3Dhunter2",
            "url=https://store/x?temp_url_sig=hunter2",
            "postgres://quay:hunter2@db/quay failed",
            "postgres://quay:hunter2/x@db/quay failed",
            "token eyJhbGciOiJSUzI1NiIsImtpZCI6.eyJhunter2.hunter2_-x ends",
            r#"{"token":"hunter2","x":1}"#,
            r#"error="{\"password\": \"hunter2\"}""#,
            "secret_key=hunter2",
            "db_password: 'hunter2 and hunter2'",
            "Set-Cookie: session=hunter2",
            "key -----BEGIN PRIVATE KEY-----\\nhunter2\\n-----END PRIVATE KEY-----",
        ] {
            let clean = cleaned(line);
            assert!(!clean.contains("hunter2") && clean.contains(REMOVED), "{line}: {clean}");
        }
    }

    #[test]
    fn the_lines_of_a_private_key_are_removed() {
        let mut redactor = Redactor::default();
        let text = "a\n-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nb\n";
        assert_eq!(redactor.text(text), format!("a\n{REMOVED}\n{REMOVED}\n{REMOVED}\nb\n"));
        assert_eq!(redactor.removed, 3);
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        for line in [
            "",
            "2026-11-30T19:00:00Z  INFO access: GET /v2/org/app/blobs/sha256:0a1b 200 user=org+robot",
            "the registry refuses the token of the service account",
            "basic authentication is refused",
            r#"WWW-Authenticate: Bearer realm="https://quay/v2/auth",service="quay""#,
            "https://quay.example.com:8443/v2/org/app@sha256:0a1b",
            r#"zone_reads_total{zone="zone-a",result="ok"} 12"#,
            "admin.token_file is missing; registry.account.password_file too",
            "https://[2001:db8::1]:8443/v2/",
        ] {
            assert_eq!(cleaned(line), line);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(?s).{0,80}") {
            let clean = Redactor::default().text(&text);
            prop_assert_eq!(clean.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn a_password_in_any_url_is_removed(password in "[a-z/?#:]{0,6}hunter2[a-z/?#:@]{0,6}") {
            let clean = cleaned(&format!("x postgres://user:{password}@host/db y"));
            prop_assert!(!clean.contains("hunter2"), "{}", clean);
        }
    }
}
