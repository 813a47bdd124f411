//! The parameters of a driver: a map of scalars and of maps, read by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use url::Url;

use crate::Secret;
use crate::nearest::nearest;
use crate::urls::is_plain;

/// Why parameters are refused, in words for the author. It never contains a value.
pub(crate) type Reason = String;

/// One value. It may be a secret, so it has no `Debug`.
enum Value {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    Map(BTreeMap<String, Value>),
    Other,
}

impl Value {
    /// A text that differs from the text of every other value.
    fn compared(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Map(map) => {
                let items = map.iter().map(|(name, value)| format!("{name:?}: {}", value.compared()));
                format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
            }
            Self::Other => "other".to_owned(),
        }
    }
}

/// The parameters as written. A parameter that is `null` counts as absent, as in Quay.
pub(crate) struct Params {
    driver: &'static str,
    values: BTreeMap<String, Value>,
}

impl Params {
    /// A required text, which is not empty.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<String, Reason> {
        let is_empty = matches!(self.values.get(name), Some(Value::Text(text)) if text.is_empty());
        match self.optional_text(name)? {
            Some(text) => Ok(text),
            None if is_empty => Err(format!("{}: `{name}` is empty", self.driver)),
            None => Err(self.missing(name)),
        }
    }

    /// A required text. It may be empty.
    pub(crate) fn text_or_empty(&mut self, name: &'static str) -> Result<String, Reason> {
        match self.values.get(name) {
            Some(Value::Text(text)) if text.is_empty() => Ok(String::new()),
            _ => self.text(name),
        }
    }

    /// An optional text. An empty text counts as absent, as in Python's `x or None`.
    pub(crate) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Reason> {
        match self.take(name) {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Value::Number(_) | Value::Bool(_) => Err(self.wrong(name, "a string: put it in quotes")),
            Value::Map(_) | Value::Other => Err(self.wrong(name, "a text")),
        }
    }

    /// A required secret.
    pub(crate) fn secret(&mut self, name: &'static str) -> Result<Secret, Reason> {
        self.text(name).map(Secret::new)
    }

    /// An optional secret.
    pub(crate) fn optional_secret(&mut self, name: &'static str) -> Result<Option<Secret>, Reason> {
        Ok(self.optional_text(name)?.map(Secret::new))
    }

    /// A required boolean.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Reason> {
        self.optional_flag(name)?.ok_or_else(|| self.missing(name))
    }

    /// An optional boolean.
    pub(crate) fn optional_flag(&mut self, name: &'static str) -> Result<Option<bool>, Reason> {
        match self.take(name) {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(flag)),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    /// An optional integer, written as a number or as digits.
    pub(crate) fn optional_number(&mut self, name: &'static str) -> Result<Option<u64>, Reason> {
        match self.take(name) {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(Some(number)),
            Value::Text(text) if text.is_empty() => Ok(None),
            Value::Text(text) => text.parse().map(Some).map_err(|_| self.wrong(name, "a whole number")),
            _ => Err(self.wrong(name, "a whole number")),
        }
    }

    /// An optional TCP port. Zero counts as absent, as in Python's `if port`.
    pub(crate) fn optional_port(&mut self, name: &'static str) -> Result<Option<u16>, Reason> {
        let port = self.optional_number(name)?.unwrap_or_default();
        let port = u16::try_from(port).map_err(|_| self.wrong(name, "a port, at most 65535"))?;
        Ok(Some(port).filter(|port| *port != 0))
    }

    /// Parameters within a parameter, with any names. An absent parameter counts as empty.
    pub(crate) fn map(&mut self, name: &'static str) -> Result<Self, Reason> {
        let values = match self.take(name) {
            Value::Null => BTreeMap::new(),
            Value::Map(values) => values,
            _ => return Err(self.wrong(name, "a map, name: value")),
        };
        Ok(Self { driver: self.driver, values })
    }

    /// Refuses every parameter that is not in `known`. The reason names all of them.
    pub(crate) fn only(&self, known: &'static [&'static str]) -> Result<(), Reason> {
        let strays: Vec<_> =
            self.values.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
        match strays.as_slice() {
            [] => Ok(()),
            strays => Err(self.unknown(strays, known)),
        }
    }

    /// The parameters that are given and not `null`: each name, and its value as a text that only serves comparisons.
    pub(crate) fn given(&self) -> BTreeMap<String, Secret> {
        let there = self.values.iter().filter(|(_, value)| !matches!(value, Value::Null));
        there.map(|(name, value)| (name.clone(), Secret::new(value.compared()))).collect()
    }

    fn unknown(&self, names: &[&str], known: &[&'static str]) -> Reason {
        let near = |name| nearest(name, known.iter().copied());
        let (driver, all) = (self.driver, known.join(", "));
        if let [name] = names {
            return match near(name) {
                Some(near) => format!("{driver} has no parameter `{name}`; did you mean `{near}`?"),
                None => format!("{driver} has no parameter `{name}`; it has {all}"),
            };
        }
        let shown = names.iter().take(UNKNOWN_MAX).map(|name| match near(name) {
            Some(near) => format!("`{name}` (did you mean `{near}`?)"),
            None => format!("`{name}`"),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = match names.len().saturating_sub(UNKNOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        match names.iter().all(|name| near(name).is_some()) {
            true => format!("{driver} has no parameters {shown}{more}"),
            false => format!("{driver} has no parameters {shown}{more}; it has {all}"),
        }
    }

    /// Whether a parameter is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Accepts a parameter that the gateway does not use, whatever its value.
    pub(crate) fn accept(&mut self, name: &'static str) {
        self.take(name);
    }

    /// Parses the text of a parameter as a URL that has only a host and a path.
    pub(crate) fn plain_url(&self, name: &str, text: &str) -> Result<Url, Reason> {
        let url = Url::parse(text).map_err(|error| self.wrong(name, &format!("a URL ({error})")))?;
        if !is_plain(&url) {
            return Err(self.wrong(name, "an http or https URL with only a host and a path"));
        }
        Ok(url)
    }

    /// The reason for refusing the value of a parameter.
    pub(crate) fn wrong(&self, name: &str, expected: &str) -> Reason {
        format!("{}: `{name}` must be {expected}", self.driver)
    }

    /// The reason for refusing parameters because one is missing.
    pub(crate) fn missing(&self, name: &str) -> Reason {
        format!("{}: `{name}` is missing", self.driver)
    }

    fn take(&mut self, name: &'static str) -> Value {
        self.values.remove(name).unwrap_or(Value::Null)
    }
}

/// Deserializes the parameters of `driver`, whatever their names.
pub(crate) struct ParamsOf {
    pub(crate) driver: &'static str,
}

impl<'de> DeserializeSeed<'de> for ParamsOf {
    type Value = Params;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Params, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ParamsOf {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parameters of {}, name: value", self.driver)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()?.map(shown) {
            let value = map.next_value()?;
            if values.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("{}: `{name}` is given twice", self.driver)));
            }
        }
        Ok(Params { driver: self.driver, values })
    }
}

/// The most unknown parameters that one reason names.
const UNKNOWN_MAX: usize = 16;

/// The longest name that is shown, in bytes.
const NAME_MAX: usize = 64;

/// Whether a text can be the name of a parameter.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// A parameter's name in the form that may be shown. YAML reads `{secret_key:abc}` as one name, which
/// contains the secret.
fn shown(name: String) -> String {
    match is_name(&name) {
        true => name,
        false => "not a name: is there a space after each colon?".to_owned(),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, null, a list or a map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            let name = shown(name);
            if values.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("`{name}` is given twice")));
            }
        }
        Ok(Value::Map(values))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Other, Value::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}
