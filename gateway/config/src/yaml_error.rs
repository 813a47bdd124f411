//! Messages for YAML that cannot be read. They repeat no value, because a secret may be written where another
//! value was expected.

use backends::nearest;
use serde_saphyr::Error;

/// The reason, without a value, key or tag of the text.
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
        Error::DuplicateMappingKey { .. } => "duplicate key: this map has it twice".to_owned(),
        Error::InvalidScalar { ty: "boolean", .. } => "expected true or false".to_owned(),
        Error::InvalidScalar { ty, .. } => format!("expected {ty}"),
        // Messages of the gateway's own deserializers, and of those for sizes and durations.
        Error::Message { msg, .. } => msg.clone(),
        // The parser's messages name one character at most.
        Error::ExternalMessage { msg, .. } => format!("not valid YAML: {msg}"),
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => reason(error),
        // These name only what was expected.
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

/// The kind of a value, from serde's description of it (`serde::de::Unexpected`).
fn kind(unexpected: &str) -> &'static str {
    const KINDS: [(&str, &str); 8] = [
        ("string", "a string"),
        ("character", "a string"),
        ("integer", "a number"),
        ("floating point", "a number"),
        ("boolean", "true or false"),
        ("sequence", "a list"),
        ("map", "a map"),
        ("unit", "nothing"),
    ];
    let known = KINDS.iter().find(|(word, _)| unexpected.starts_with(word));
    known.map_or("this value", |(_, kind)| kind)
}

fn listed(known: &[&str]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The message without its line, which [`super::ConfigError`] adds.
fn without_place(text: &str) -> String {
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].trim_end_matches([',', ' ']).to_owned()
}
