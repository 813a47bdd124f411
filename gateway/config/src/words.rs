//! Values that are one of a few words.

use backends::nearest;

/// Implements `Deserialize` for an enum that is written as a word. An error names the key and the words, and not the
/// value, which may be a secret.
macro_rules! words {
    ($of:ty, $key:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl<'de> serde::Deserialize<'de> for $of {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                match word.as_str() {
                    $($word => Ok($value),)+
                    other => Err(serde::de::Error::custom(super::words::unknown($key, other, &[$($word),+]))),
                }
            }
        }
    };
}
pub(super) use words;

pub(super) fn unknown(key: &str, word: &str, words: &[&str]) -> String {
    match nearest(word, words.iter().copied()) {
        Some(meant) => format!("{key}: unknown value; did you mean `{meant}`?"),
        None => {
            let listed: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("{key}: unknown value; there are {}", listed.join(", "))
        }
    }
}
