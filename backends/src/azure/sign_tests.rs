//! Signatures as Microsoft documents and computes them.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The public key of `devstoreaccount1`, which all emulators share.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Fri, 26 Jun 2015 23:39:12 GMT
fn june() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_435_361_952)
}

fn url(text: &str) -> Url {
    text.parse().expect("a URL")
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
        .collect()
}

/// The examples of "Authorize with Shared Key", version 2015-02-21 and later.
#[test]
fn strings_to_sign_as_microsoft_documents_them() {
    let dated = [("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"), ("x-ms-version", "2015-02-21")];
    let empty = [dated[0], dated[1], ("content-length", "0")];
    for (method, path, headers, expected) in [
        (
            Method::GET,
            "mycontainer?comp=metadata&restype=container&timeout=20",
            headers(&dated),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
        ),
        (
            Method::PUT,
            "mycontainer?restype=container&timeout=30",
            headers(&empty),
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\nrestype:container\ntimeout:30",
        ),
    ] {
        let url = url(&format!("https://myaccount.blob.core.windows.net/{path}"));
        assert_eq!(string_to_sign(&method, &url, &headers, "myaccount").expect("text"), expected);
    }
    for (text, expected) in [
        (
            "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=list&include=snapshots\
             &include=metadata&include=uncommittedblobs",
            "/myaccount/mycontainer\ncomp:list\ninclude:metadata,snapshots,uncommittedblobs\nrestype:container",
        ),
        (
            "https://myaccount-secondary.blob.core.windows.net/mycontainer/myblob",
            "/myaccount/mycontainer/myblob",
        ),
        ("https://myaccount.blob.core.windows.net", "/myaccount/"),
        ("https://myaccount.blob.core.windows.net/c/b?COMP=a%2Bb%20c", "/myaccount/c/b\ncomp:a+b c"),
    ] {
        assert_eq!(canonical_resource(&url(text), "myaccount"), expected);
    }
}

/// The same requests, signed by Microsoft's SDK for Python (azure-storage-blob 12.31.1).
#[test]
fn signs_as_the_sdk_does() {
    for (method, account, text, more, expected) in [
        (
            Method::PUT,
            "devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1/mycontainer/reg/a%20b%2Bc?comp=block&blockid=YWI%3D",
            headers(&[("content-length", "11")]),
            "2UgSQVurhjil2sdHGBBnoaZkiFvBaIDbQQ0+I74hHqM=",
        ),
        (
            Method::GET,
            "myaccount",
            "https://myaccount.blob.core.windows.net/mycontainer/sha256/ab/abcd",
            headers(&[("x-ms-range", "bytes=2-9")]),
            "TIosNopYgpxUSAW78Oq4s1hjK6pktPHgGjDj9+KU8qQ=",
        ),
        (
            Method::PUT,
            "myaccount",
            "https://myaccount.blob.core.windows.net/mycontainer/sha256/ab/abcd",
            headers(&[
                ("x-ms-blob-type", "BlockBlob"),
                ("content-length", "0"),
                ("x-ms-blob-content-type", "application/octet-stream"),
            ]),
            "4amyqyrzPq4l6KXkn73RYn3vQwTwG2oMwlt/jicYhk4=",
        ),
    ] {
        let mut request = Request::new(method, url(text));
        request.headers_mut().extend(more);
        request.headers_mut().insert("x-ms-version", HeaderValue::from_static("2021-12-02"));
        let key = AccountKey::parse(&Secret::new(KEY)).expect("a key");
        Signer::new(account, key).sign(&mut request, june()).expect("signs");
        let authorization = &request.headers()["authorization"];
        assert_eq!(authorization, &format!("SharedKey {account}:{expected}"));
        assert!(authorization.is_sensitive());
    }
}

#[test]
fn keys_are_base64_and_never_printed() {
    for wrong in ["", "a", "not base64!", "YWI", " YWI="] {
        assert!(AccountKey::parse(&Secret::new(wrong)).is_none(), "{wrong}");
    }
    let key = AccountKey::parse(&Secret::new(KEY)).expect("a key");
    assert_eq!(format!("{:?}", Signer::new("a", key)), "Signer { account: \"a\", key: <account key> }");
}

proptest! {
    /// The order of the query or of the headers does not change the signature.
    #[test]
    fn order_does_not_matter(
        (mut pairs, shuffled) in prop::collection::btree_map("[a-z]{1,6}", "[ -~]{0,9}", 0..6).prop_flat_map(|map| {
            let pairs: Vec<_> = map.into_iter().collect();
            (Just(pairs.clone()), Just(pairs).prop_shuffle())
        })
    ) {
        pairs.reverse();
        let resource = |pairs: &[(String, String)]| {
            let mut url = url("https://a.blob.core.windows.net/c/b");
            url.query_pairs_mut().extend_pairs(pairs);
            canonical_resource(&url, "a")
        };
        prop_assert_eq!(resource(&pairs), resource(&shuffled));
        let lines = |pairs: &[(String, String)]| {
            let headers: HeaderMap = pairs.iter().map(|(name, value)| {
                let name: HeaderName = format!("x-ms-{name}").parse().expect("a name");
                (name, value.parse::<HeaderValue>().expect("a value"))
            }).collect();
            canonical_headers(&headers).expect("text")
        };
        prop_assert_eq!(lines(&pairs), lines(&shuffled));
        prop_assert_eq!(lines(&pairs).lines().count(), pairs.len());
    }

    /// Two different values of a query parameter never give the same text. Only `x-ms-` headers get a line.
    #[test]
    fn values_are_kept(value in "[ -~é]{0,12}", other in "[ -~é]{0,12}") {
        let resource = |value: &str| {
            let mut url = url("https://a.blob.core.windows.net/c/b");
            url.query_pairs_mut().append_pair("marker", value);
            canonical_resource(&url, "a")
        };
        prop_assert_eq!(resource(&value), format!("/a/c/b\nmarker:{value}"));
        prop_assert_eq!(resource(&value) == resource(&other), value == other);
        let headers = headers(&[("range", "bytes=0-1"), ("x-ms-a", "1"), ("x-other", "2")]);
        prop_assert_eq!(canonical_headers(&headers).expect("text"), "x-ms-a:1\n");
    }
}
