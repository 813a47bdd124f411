//! Text of certificates for terminals and logs.

/// The most characters of one text.
const TEXT_MAX: usize = 300;

/// The text on one line, shortened, and without control characters, because anybody may have written it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(TEXT_MAX).collect()
}
