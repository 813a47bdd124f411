//! Building requests and parsing answers: no I/O.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use super::config::SwiftConfig;
use crate::error::word;
use crate::timestamp::timestamp;
use crate::urls::{ENCODED, ENCODED_PATH, with_query};
use crate::{Error, Key, Kind, Meta, Result, key};

/// What Swift decodes in `X-Object-Manifest`, and what it refuses there. No more than that, since
/// Quay writes and reads the header as it is (`swift.py:complete_chunked_upload`, `remove`).
const ENCODED_MANIFEST: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'&');

/// Swift's bound on an object's name, in bytes (`max_object_name_length`).
const MAX_NAME: usize = 1024;

/// Where Quay keeps what large objects are made of, below the root (`_SEGMENT_DIRECTORY`).
const SEGMENTS: &str = "segments";

/// Names of objects in one container.
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

    /// The object's name that a key stands for.
    pub(super) fn of(&self, key: &Key) -> Result<String> {
        let name = self.join(key.checked()?);
        if name.len() > MAX_NAME {
            let why = format!("not a key: root and key have over {MAX_NAME} bytes");
            return Err(Error::new(Kind::Invalid, why));
        }
        Ok(name)
    }

    /// `swift.py:_normalize_path`, but that a slash at the end stays.
    pub(super) fn join(&self, path: &str) -> String {
        if self.simple { format!("{}{path}", self.root) } else { key::join(&self.root, path) }
    }

    /// The key below the root that a listed name stands for.
    pub(super) fn key_of(&self, name: &str) -> Option<Key> {
        key::below(&self.join(""), name)
    }

    /// The URL of an object, or of the container itself, below an account's.
    pub(super) fn url(&self, account: &Url, name: Option<&str>, query: &[(&str, String)]) -> Result<Url> {
        let mut text = account.as_str().trim_end_matches('/').to_owned();
        text.push('/');
        text.extend(utf8_percent_encode(&self.container, ENCODED));
        if let Some(name) = name {
            text.push('/');
            text.extend(utf8_percent_encode(name, ENCODED_PATH));
        }
        with_query(text, query.iter().map(|(name, value)| (*name, &**value)))
            .map_err(|_| Error::new(Kind::Invalid, "container and key make no URL"))
    }

    /// An object's path below the account, as it stands in a header.
    pub(super) fn path(&self, key: &Key) -> Result<String> {
        let (container, name) = (&self.container, self.of(key)?);
        let container = utf8_percent_encode(container, ENCODED);
        Ok(format!("/{container}/{}", utf8_percent_encode(&name, ENCODED_PATH)))
    }

    /// A folder for the segments of one object.
    pub(super) fn new_folder(&self) -> Folder {
        // Quay takes Python's uuid4.
        let mut id = hex::encode(fastrand::u128(..).to_be_bytes());
        id.replace_range(12..13, "4");
        id.replace_range(16..17, ["8", "9", "a", "b"][fastrand::usize(..4)]);
        for dash in [20, 16, 12, 8] {
            id.insert(dash, '-');
        }
        Folder { container: self.container.clone(), name: self.join(&format!("{SEGMENTS}/{id}")) }
    }

    /// The folder that an `X-Object-Manifest` names, if it is one of those below this root: others
    /// are none of Quay's and none of ours.
    pub(super) fn folder(&self, manifest: &str) -> Option<Folder> {
        let manifest = percent_decode_str(manifest).decode_utf8().ok()?;
        let (container, name) = manifest.split_once('/')?;
        let id = name.trim_end_matches('/').strip_prefix(&self.join(&format!("{SEGMENTS}/")))?;
        let ours = container == self.container && !id.is_empty() && !id.contains('/');
        ours.then(|| Folder { container: container.to_owned(), name: name.trim_end_matches('/').to_owned() })
    }
}

/// Where the segments of one object lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    container: String,
    name: String,
}

impl Folder {
    /// What all names in it start with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.name)
    }

    /// A segment's name, numbered from 0.
    pub(super) fn segment(&self, number: u64) -> String {
        format!("{}/{number:09}", self.name)
    }

    /// `X-Object-Manifest`.
    pub(super) fn manifest(&self) -> String {
        utf8_percent_encode(&format!("{}/{}", self.container, self.name), ENCODED_MANIFEST).to_string()
    }
}

/// Where a Swift describes itself, given an account's URL: beside its `v1`.
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
    /// The largest object that is taken in one request, in bytes.
    pub(super) max_file_size: u64,
    /// OpenStack's own says it. RadosGW does not, and overwrites whatever `If-None-Match` says.
    pub(super) version: Option<String>,
}

/// What a server says of itself, if it does.
pub(super) fn server_info(info: &[u8]) -> Option<SwiftInfo> {
    serde_json::from_slice::<Info>(info).ok().map(|info| info.swift).filter(|info| info.max_file_size > 0)
}

#[derive(Deserialize)]
struct Listed {
    /// Absent for a `subdir`, which only a `delimiter` brings.
    name: Option<String>,
    #[serde(default)]
    bytes: u64,
    last_modified: Option<String>,
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Page {
    /// Names as they are, and sizes: those of large objects are 0.
    pub(super) names: Vec<(String, u64)>,
    /// The same below the root.
    pub(super) found: Vec<Meta>,
}

impl Page {
    /// Parses a page; keys outside the root are left out.
    pub(super) fn parse(names: &Names, body: &[u8]) -> Result<Self> {
        // RadosGW answers 204 and nothing where nothing is found.
        let listed: Vec<Listed> = match body.trim_ascii() {
            [] => Vec::new(),
            body => serde_json::from_slice(body).map_err(|error| {
                Error::new(Kind::Unavailable, "the listing is not the JSON that Swift promises")
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

    /// What the next page comes after; `None` at the end.
    pub(super) fn last(&self) -> Option<String> {
        self.names.last().map(|(name, _)| name.clone())
    }
}

/// The error in the answer to a bulk request, whose own status is always 200: the status of the
/// whole, and how many were refused.
pub(super) fn bulk_failure(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Bulk {
        #[serde(rename = "Response Status")]
        status: String,
    }
    let bulk: Bulk = serde_json::from_slice(body.trim_ascii()).ok()?;
    (!bulk.status.starts_with('2')).then_some(bulk.status)
}
