//! Builds requests and parses answers. No I/O.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use super::config::SwiftConfig;
use crate::error::word;
use crate::timestamp::timestamp;
use crate::urls::{ENCODED, ENCODED_PATH, with_query};
use crate::{Error, Key, Kind, Meta, Result, key};

/// The characters that Swift decodes or refuses in `X-Object-Manifest`. Nothing else is encoded, because Quay
/// writes and reads the header without encoding (`swift.py:complete_chunked_upload`, `remove`).
const ENCODED_MANIFEST: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'&');

/// Swift's limit for the length of an object's name, in bytes (`max_object_name_length`).
const MAX_NAME: usize = 1024;

/// The folder below the root in which Quay stores the segments of large objects (`_SEGMENT_DIRECTORY`).
const SEGMENTS: &str = "segments";

/// The names of objects in one container.
#[derive(Debug, Clone)]
pub(super) struct Names {
    container: String,
    root: String,
    simple: bool,
}

impl Names {
    pub(super) fn new(config: &SwiftConfig) -> Self {
        Self {
            container: config.container.clone(),
            root: config.root.clone(),
            simple: config.simple_path_concat,
        }
    }

    /// The object name of a key.
    pub(super) fn of(&self, key: &Key) -> Result<String> {
        let name = self.join(key.checked()?);
        if name.len() > MAX_NAME {
            let why = format!("not a valid key: root and key have more than {MAX_NAME} bytes");
            return Err(Error::new(Kind::Invalid, why));
        }
        Ok(name)
    }

    /// Quay's `swift.py:_normalize_path`, except that a slash at the end is kept.
    pub(super) fn join(&self, path: &str) -> String {
        if self.simple { format!("{}{path}", self.root) } else { key::join(&self.root, path) }
    }

    /// The key of a listed name, if it lies below the root.
    pub(super) fn key_of(&self, name: &str) -> Option<Key> {
        key::below(&self.join(""), name)
    }

    /// The URL of an object below an account's URL. `None` gives the URL of the container.
    pub(super) fn url(&self, account: &Url, name: Option<&str>, query: &[(&str, String)]) -> Result<Url> {
        let mut text = account.as_str().trim_end_matches('/').to_owned();
        text.push('/');
        text.extend(utf8_percent_encode(&self.container, ENCODED));
        if let Some(name) = name {
            text.push('/');
            text.extend(utf8_percent_encode(name, ENCODED_PATH));
        }
        with_query(text, query.iter().map(|(name, value)| (*name, &**value)))
            .map_err(|_| Error::new(Kind::Invalid, "container and key do not form a valid URL"))
    }

    /// The path of an object below the account, in the form of a header.
    pub(super) fn path(&self, key: &Key) -> Result<String> {
        let (container, name) = (&self.container, self.of(key)?);
        let container = utf8_percent_encode(container, ENCODED);
        Ok(format!("/{container}/{}", utf8_percent_encode(&name, ENCODED_PATH)))
    }

    /// A new folder for the segments of one object.
    pub(super) fn new_folder(&self) -> Folder {
        // Quay uses Python's uuid4.
        let mut id = hex::encode(fastrand::u128(..).to_be_bytes());
        id.replace_range(12..13, "4");
        id.replace_range(16..17, ["8", "9", "a", "b"][fastrand::usize(..4)]);
        for dash in [20, 16, 12, 8] {
            id.insert(dash, '-');
        }
        Folder { container: self.container.clone(), name: self.join(&format!("{SEGMENTS}/{id}")) }
    }

    /// The folder in an `X-Object-Manifest`, if it lies below this root. Other folders belong neither to Quay
    /// nor to the gateway.
    pub(super) fn folder(&self, manifest: &str) -> Option<Folder> {
        let manifest = percent_decode_str(manifest).decode_utf8().ok()?;
        let (container, name) = manifest.split_once('/')?;
        let id = name.trim_end_matches('/').strip_prefix(&self.join(&format!("{SEGMENTS}/")))?;
        let ours = container == self.container && !id.is_empty() && !id.contains('/');
        ours.then(|| Folder { container: container.to_owned(), name: name.trim_end_matches('/').to_owned() })
    }
}

/// The folder with the segments of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    container: String,
    name: String,
}

impl Folder {
    /// The prefix of all names in it.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.name)
    }

    /// The name of a segment. Numbers start at 0.
    pub(super) fn segment(&self, number: u64) -> String {
        format!("{}/{number:09}", self.name)
    }

    /// The value of `X-Object-Manifest`.
    pub(super) fn manifest(&self) -> String {
        utf8_percent_encode(&format!("{}/{}", self.container, self.name), ENCODED_MANIFEST).to_string()
    }
}

/// The URL where a Swift describes itself, beside the `v1` of an account's URL.
pub(super) fn info_url(account: &Url) -> Url {
    let before: Vec<_> =
        account.path().split('/').take_while(|segment| !matches!(*segment, "v1" | "v1.0")).collect();
    let same = before.len() == account.path().split('/').count();
    let mut url = account.clone();
    url.set_path(&format!("{}/info", if same { String::new() } else { before.join("/") }));
    url
}

#[derive(Deserialize)]
struct Info {
    swift: SwiftInfo,
}

#[derive(Debug, Deserialize)]
pub(super) struct SwiftInfo {
    /// The largest object that one request can write, in bytes.
    pub(super) max_file_size: u64,
    /// The version, which only OpenStack's Swift reports. RadosGW does not report it, and overwrites objects
    /// despite `If-None-Match`.
    pub(super) version: Option<String>,
}

/// Parses the description of a server. `None` if it is not valid.
pub(super) fn server_info(info: &[u8]) -> Option<SwiftInfo> {
    serde_json::from_slice::<Info>(info).ok().map(|info| info.swift).filter(|info| info.max_file_size > 0)
}

#[derive(Deserialize)]
struct Listed {
    /// Absent for a `subdir`, which only appears if the request has a `delimiter`.
    name: Option<String>,
    #[serde(default)]
    bytes: u64,
    last_modified: Option<String>,
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct NamesPage {
    /// The names as listed, with sizes. Large objects have size 0.
    pub(super) names: Vec<(String, u64)>,
    /// The objects below the root.
    pub(super) found: Vec<Meta>,
}

impl NamesPage {
    /// Parses a page. Names outside the root are skipped.
    pub(super) fn parse(names: &Names, body: &[u8]) -> Result<Self> {
        // If nothing is found, RadosGW answers 204 with an empty body.
        let listed: Vec<Listed> = match body.trim_ascii() {
            [] => Vec::new(),
            body => serde_json::from_slice(body).map_err(|error| {
                Error::new(Kind::Unavailable, "the listing is not valid Swift JSON")
                    .with_cause(word(&error.to_string()))
            })?,
        };
        let mut page = Self { names: Vec::new(), found: Vec::new() };
        for listed in listed {
            let Some(name) = listed.name else { continue };
            // `2014-01-15T16:41:49.390270`, in UTC.
            let modified = listed.last_modified.map(|text| format!("{}Z", text.trim_end_matches('Z')));
            let modified = modified.as_deref().and_then(timestamp);
            page.found.extend(names.key_of(&name).map(|key| Meta { key, size: listed.bytes, modified }));
            page.names.push((name, listed.bytes));
        }
        Ok(page)
    }

    /// The marker of the next page. `None` at the end.
    pub(super) fn last(&self) -> Option<String> {
        self.names.last().map(|(name, _)| name.clone())
    }
}

/// The error in the answer to a bulk request. The HTTP status is always 200; the body has the real status and
/// the number of failures.
pub(super) fn bulk_failure(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Bulk {
        #[serde(rename = "Response Status")]
        status: String,
    }
    let bulk: Bulk = serde_json::from_slice(body.trim_ascii()).ok()?;
    (!bulk.status.starts_with('2')).then_some(bulk.status)
}
