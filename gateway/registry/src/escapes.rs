//! Percent-encoding in paths, as far as the gateway interprets it.

use std::borrow::Cow;

/// A path in which the escapes of unreserved characters and of `:` are replaced by the characters themselves.
/// That is the same path (RFC 3986 section 6.2.2.2; section 3.3 for `:`). Some clients escape the colon of a
/// digest.
///
/// A path with any other escape is returned unchanged, and its `%` keeps the route from being understood: the
/// registry decides whether `%2F` separates parts and what `%25` stands for. The gateway always forwards the
/// bytes that the client sent.
#[must_use]
pub fn unescaped(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    plain(path).map_or(Cow::Borrowed(path), Cow::Owned)
}

fn plain(path: &str) -> Option<String> {
    let mut pieces = path.split('%');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        // `from_str_radix` alone would also accept a sign.
        let digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(hex, 16).ok().filter(|_| digits)?;
        let harmless = byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
        out.push(harmless.then(|| char::from(byte))?);
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unreserved_characters_and_the_colon() {
        assert_eq!(unescaped("/v2/o/%61/blobs/sha256%3Aab"), "/v2/o/a/blobs/sha256:ab");
        assert_eq!(unescaped("/v2/%6f/%61%2e%2d%5f%7E%3a"), "/v2/o/a.-_~:");
        for kept in ["/v2/a%2Fb%61", "/%2561", "/%", "/%6", "/%+1", "/a%zz", "/%C3%A9%61", "/%00", "/%20"] {
            assert_eq!(unescaped(kept), kept);
        }
    }

    proptest! {
        /// Quay decodes each escape once (gunicorn's `PATH_INFO`). If no escape is left, the path is the one
        /// that Quay gets.
        #[test]
        fn a_path_without_escapes_is_the_one_that_a_server_decodes(path in "(/|[a-c._~:-]|%[0-9A-Fa-f]{2}|%[ -~]?){0,20}") {
            let ours = unescaped(&path);
            match ours.contains('%') {
                true => prop_assert_eq!(&*ours, &path),
                false => prop_assert_eq!(ours.as_bytes(), &*Cow::from(percent_decode_str(&path))),
            }
        }
    }
}
