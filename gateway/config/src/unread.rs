//! What is said of YAML that cannot be read: never a part of it, as a secret may stand anywhere where
//! something else was meant.

use backends::nearest;
use serde_saphyr::Error;

/// The reason, in words that hold no value, key or tag of the text.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("expected {expected}, not {}", kind(unexpected))
        }
        Error::SerdeUnknownVariant { expected, .. } => {
            format!("unknown value; there are {}", listed(expected))
        }
        Error::SerdeUnknownField { field, expected, .. } => match nearest(field, expected.iter().copied()) {
            Some(meant) => format!("unknown field; did you mean `{meant}`?"),
            None => format!("unknown field; there are {}", listed(expected)),
        },
        Error::DuplicateMappingKey { .. } => "duplicate key: it stands in this map twice".to_owned(),
        Error::InvalidScalar { ty, .. } => format!("expected {ty}"),
        // What our own readers say, and those of sizes and times.
        Error::Message { msg, .. } => msg.clone(),
        // The parser's own words name one character at most.
        Error::ExternalMessage { msg, .. } => format!("no YAML: {msg}"),
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => reason(error),
        // These hold nothing but what was expected.
        Error::Eof { .. }
        | Error::MultipleDocuments { .. }
        | Error::Unexpected { .. }
        | Error::InvalidBooleanStrict { .. }
        | Error::NullIntoString { .. }
        | Error::SerdeInvalidLength { .. }
        | Error::SerdeMissingField { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. }
        | Error::UnknownAnchor { .. } => without_place(&error.to_string()),
        _ => "this YAML is not understood".to_owned(),
    }
}

/// What kind of value stands there, of serde's words for one (`serde::de::Unexpected`).
fn kind(unexpected: &str) -> &'static str {
    const KINDS: [(&str, &str); 8] = [
        ("string", "a text"),
        ("character", "a text"),
        ("integer", "a number"),
        ("floating point", "a number"),
        ("boolean", "true or false"),
        ("sequence", "a list"),
        ("map", "a map"),
        ("unit", "nothing"),
    ];
    let known = KINDS.iter().find(|(word, _)| unexpected.starts_with(word));
    known.map_or("what stands here", |(_, kind)| kind)
}

fn listed(known: &[&str]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Its line is said elsewhere.
fn without_place(text: &str) -> String {
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].trim_end_matches([',', ' ']).to_owned()
}
