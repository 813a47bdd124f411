//! `tracing.otlp`: the collector to which spans are exported.

use std::path::{Path, PathBuf};

use backends::Secret;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::ConfigError;
use super::env::keys;
use super::files::secret_file;
use super::located::Located;

/// The path at a collector that names none, as the OTLP specification says.
const TRACES: &str = "/v1/traces";

/// The most headers in `tracing.otlp.headers_file`.
const HEADERS_MAX: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TracingEntry {
    pub otlp: OtlpEntry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpEntry {
    pub endpoint: Option<Located<String>>,
    pub headers_file: Option<Located<PathBuf>>,
    pub sample: Option<Located<f64>>,
}

keys!(TracingEntry { otlp } otlp);
keys!(OtlpEntry { endpoint, headers_file, sample });

/// Where spans are exported to, and how many of them.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// The URL that takes spans: OTLP over HTTP, with Protobuf.
    pub endpoint: Url,
    /// Headers of each export, such as a token; 16 at most.
    pub headers: Vec<(String, Secret)>,
    /// The share of traces that begin here and are exported, from 0 to 1.
    pub sample: f64,
}

/// Checks `tracing.otlp`, and reads its file. `None` if it is not set.
///
/// # Errors
/// There is no endpoint, a value is not valid, or the file cannot be read.
pub(super) fn otlp(path: &Path, entry: &OtlpEntry) -> Result<Option<OtlpSettings>, ConfigError> {
    let Some(given) = &entry.endpoint else {
        let line = match (&entry.headers_file, &entry.sample) {
            (None, None) => return Ok(None),
            (Some(file), _) => file.line,
            (None, Some(sample)) => sample.line,
        };
        let why = "tracing.otlp.endpoint is missing: set it to the collector's address, such as \
                   http://otel-collector:4318";
        return Err(ConfigError::new(path, line, why));
    };
    Ok(Some(OtlpSettings {
        endpoint: endpoint(path, given)?,
        headers: entry.headers_file.as_ref().map_or(Ok(Vec::new()), |file| headers(path, file))?,
        sample: entry.sample.as_ref().map_or(Ok(1.0), |sample| share(path, sample))?,
    }))
}

fn endpoint(path: &Path, given: &Located<String>) -> Result<Url, ConfigError> {
    let fail = |why: &str| ConfigError::new(path, given.line, format!("tracing.otlp.endpoint: {why}"));
    let mut url: Url = given.value.parse().map_err(|error| fail(&format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(fail("must be http(s)://host[:port][/path], such as http://otel-collector:4318"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fail("must name no user: put a header Authorization into tracing.otlp.headers_file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fail("must have no query and no fragment"));
    }
    if url.path() == "/" {
        url.set_path(TRACES);
    }
    Ok(url)
}

fn share(path: &Path, sample: &Located<f64>) -> Result<f64, ConfigError> {
    match (0.0..=1.0).contains(&sample.value) {
        true => Ok(sample.value),
        false => {
            let why = "tracing.otlp.sample: must be from 0 to 1, such as 0.1 for one trace in ten";
            Err(ConfigError::new(path, sample.line, why))
        }
    }
}

/// Reads the headers, one `Name: value` a line. No part of the file is repeated in an error.
fn headers(path: &Path, file: &Located<PathBuf>) -> Result<Vec<(String, Secret)>, ConfigError> {
    const KEY: &str = "tracing.otlp.headers_file";
    let text = secret_file(path, KEY, file)?;
    let lines = text.reveal().lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut headers = Vec::new();
    for (number, line) in lines {
        let Some(header) = header(line) else {
            let why = format!("{KEY}: line {} of that file is not `Name: value`", number + 1);
            return Err(ConfigError::new(path, file.line, why));
        };
        headers.push(header);
    }
    match headers.len() > HEADERS_MAX {
        true => Err(ConfigError::new(path, file.line, format!("{KEY}: more than {HEADERS_MAX} headers"))),
        false => Ok(headers),
    }
}

fn header(line: &str) -> Option<(String, Secret)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim(), value.trim());
    let valid = name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok();
    valid.then(|| (name.to_owned(), Secret::new(value)))
}
