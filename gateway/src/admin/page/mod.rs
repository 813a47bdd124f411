//! The web page for operators: files that are a part of the binary, and the headers under which browsers may use them.

use std::sync::LazyLock;

use gateway_http::{Body, if_none_match_hits};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// The page itself.
const ROOT: &str = "/";

/// Below this path are the other files.
const FOLDER: &str = "/ui/";

/// Nothing but the page's own files is loaded, nothing inline is run, no other page may frame it, and text from the
/// gateway cannot become markup.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// Changes with the bytes.
    etag: LazyLock<HeaderValue>,
}

macro_rules! file {
    ($name:literal) => {{
        const BYTES: &[u8] = include_bytes!(concat!("files/", $name));
        File { name: $name, bytes: BYTES, etag: LazyLock::new(|| etag(BYTES)) }
    }};
}

const INDEX: &str = "index.html";

/// All files of the folder `files`.
static FILES: [File; 15] = [
    file!("actions.js"),
    file!("cache.js"),
    file!("dom.js"),
    file!("events.js"),
    file!("figures.js"),
    file!("format.js"),
    file!("icon.svg"),
    file!("index.html"),
    file!("lists.js"),
    file!("main.js"),
    file!("map.js"),
    file!("page.css"),
    file!("queue.js"),
    file!("requests.js"),
    file!("zones.js"),
];

/// Answers `GET` and `HEAD` of a path of the page. `None` if the request is for something else.
pub(super) fn answer(request: &Parts) -> Option<Response<Body>> {
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    file(request.uri.path(), &request.headers).filter(|_| reads)
}

fn file(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let name = match path {
        ROOT => INDEX,
        path => path.strip_prefix(FOLDER)?,
    };
    let file = FILES.iter().find(|file| file.name == name)?;
    let fresh = file.etag.to_str().is_ok_and(|etag| if_none_match_hits(headers, etag));
    let mut response = Response::new(if fresh { Body::empty() } else { Body::full(file.bytes) });
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fixed = [
        (CONTENT_TYPE, media_type(name)),
        // A browser asks each time, so that a new version of the gateway shows its own page.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ];
    let headers = response.headers_mut();
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.insert(ETAG, file.etag.clone());
    Some(response)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn etag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Hexadecimal digits and quotes are always a value.
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http_body_util::BodyExt as _;

    use super::*;

    async fn bytes(response: Response<Body>) -> Vec<u8> {
        response.into_body().collect().await.expect("a body").to_bytes().to_vec()
    }

    #[test]
    fn the_binary_has_the_files_of_the_tree() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page/files");
        let tree: BTreeMap<String, Vec<u8>> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let bytes = std::fs::read(entry.path()).expect("a file");
                (entry.file_name().into_string().expect("a name"), bytes)
            })
            .collect();
        let binary: BTreeMap<_, _> =
            FILES.iter().map(|file| (file.name.to_owned(), file.bytes.to_vec())).collect();
        assert_eq!(binary.keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
        assert!(binary == tree, "the bytes differ");
    }

    #[tokio::test]
    async fn files_have_their_type_and_the_policy() {
        for (path, media_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/ui/main.js", "text/javascript; charset=utf-8"),
            ("/ui/page.css", "text/css; charset=utf-8"),
        ] {
            let response = file(path, &HeaderMap::new()).expect("a file");
            assert_eq!(response.headers()[CONTENT_TYPE], media_type);
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY);
            let etag = response.headers()[ETAG].clone();
            assert!(!bytes(response).await.is_empty(), "{path}");
            let known = HeaderMap::from_iter([(http::header::IF_NONE_MATCH, etag)]);
            let response = file(path, &known).expect("a file");
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
            assert!(bytes(response).await.is_empty(), "{path}");
        }
    }

    #[test]
    fn other_paths_are_none_of_the_page() {
        for path in ["/ui", "/ui/", "/ui/../mod.rs", "/ui/files/main.js", "/ui//main.js", "/zones", ""] {
            assert!(file(path, &HeaderMap::new()).is_none(), "{path}");
        }
    }

    /// The policy allows neither, so the browser would ignore them.
    #[test]
    fn nothing_is_inline_and_nothing_is_from_elsewhere() {
        for file in &FILES {
            let text = std::str::from_utf8(file.bytes).expect("text");
            for wrong in ["style=\"", " onclick=", "innerHTML", "eval(", "https://"] {
                assert!(!text.contains(wrong), "{}: {wrong}", file.name);
            }
            // The name of a format, and not an address that is loaded.
            let text = text.replace("http://www.w3.org/", "");
            assert!(!text.contains("http://"), "{}", file.name);
        }
    }
}
