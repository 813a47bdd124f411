//! The reason why a job failed, as text that may be stored and shown.

/// The longest text that is stored, in bytes.
pub const MAX_REASON: usize = 512;

/// Puts `text` on one line, limits its length and removes URLs, because a URL may be signed.
///
/// Errors of stores contain no URLs. This function is a second safeguard, because the text is stored on disk.
#[must_use]
pub fn reason(text: &str) -> String {
    let mut reason = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let word = if word.contains("://") { "(url)" } else { word };
        if !reason.is_empty() {
            reason.push(' ');
        }
        reason.push_str(word);
        if reason.len() > MAX_REASON {
            let end = reason.floor_char_boundary(MAX_REASON - '…'.len_utf8());
            reason.truncate(end);
            reason.push('…');
            break;
        }
    }
    reason
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_cut_out() {
        let text = "put: failed\nfor (https://store/b/k?X-Amz-Signature=secret): reset";
        assert_eq!(reason(text), "put: failed for (url) reset");
    }

    proptest! {
        #[test]
        fn bounded_and_on_one_line(text in "(?s).{0,2000}") {
            let reason = reason(&text);
            prop_assert!(reason.len() <= MAX_REASON);
            prop_assert!(!reason.contains(char::is_control));
        }
    }
}
