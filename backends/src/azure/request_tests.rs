//! Requests and answers on the wire.

use proptest::prelude::*;

use super::*;
use crate::azure::Credentials;

fn address(endpoint: &str, root: &str) -> Address {
    Address::new(&AzureConfig {
        endpoint: endpoint.parse().expect("a URL"),
        account: "acct".to_owned(),
        container: "blobs".to_owned(),
        root: root.to_owned(),
        credentials: Credentials::Missing,
    })
}

const CLOUD: &str = "https://acct.blob.core.windows.net";

#[test]
fn urls_of_blobs() {
    let key = Key::new("sha256/ab/abcd");
    for (endpoint, root, expected) in [
        (CLOUD, "reg", "https://acct.blob.core.windows.net/blobs/reg/sha256/ab/abcd"),
        (CLOUD, "", "https://acct.blob.core.windows.net/blobs/sha256/ab/abcd"),
        ("http://127.0.0.1:10000/acct/", "reg/", "http://127.0.0.1:10000/acct/blobs/reg/sha256/ab/abcd"),
    ] {
        assert_eq!(address(endpoint, root).blob(&key, &[]).expect("a URL").as_str(), expected);
    }
    let odd = address(CLOUD, "").blob(&Key::new("a b+c=d%~é"), &[("comp", "block"), ("blockid", "x+/=")]);
    assert_eq!(
        odd.expect("a URL").as_str(),
        "https://acct.blob.core.windows.net/blobs/a%20b%2Bc%3Dd%25~%C3%A9?comp=block&blockid=x%2B%2F%3D"
    );
    for wrong in ["", "..", "a/../b", "./a", "/a", "a/", &"é".repeat(MAX_NAME + 1)] {
        assert!(address(CLOUD, "").blob(&Key::new(wrong), &[]).is_err(), "{wrong}");
    }
}

#[test]
fn pages_of_listings() {
    let address = address(CLOUD, "reg");
    assert_eq!(
        address.page("sha256/", 3, Some("2!m=")).expect("a URL").as_str(),
        "https://acct.blob.core.windows.net/blobs?restype=container&comp=list&maxresults=3\
         &prefix=reg%2Fsha256%2F&marker=2%21m%3D"
    );
    let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
        <EnumerationResults ServiceEndpoint=\"https://acct.blob.core.windows.net/\" ContainerName=\"blobs\">\
        <Prefix>reg/</Prefix><MaxResults>3</MaxResults><Blobs>\
        <Blob><Name>reg/sha256/a&amp;b</Name><Properties><Creation-Time>Mon, 12 Oct 2009 17:50:30 GMT</Creation-Time>\
        <Last-Modified>Mon, 12 Oct 2009 17:50:30 GMT</Last-Modified><Etag>0x8CBFF45D8A29A19</Etag>\
        <Content-Length>434234</Content-Length><BlobType>BlockBlob</BlobType></Properties><OrMetadata /></Blob>\
        <Blob><Name Encoded=\"true\">reg/a%EF%BF%BE%20b</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>\
        <Blob><Name>reg/folder</Name><Properties><ResourceType>directory</ResourceType>\
        <Content-Length>0</Content-Length></Properties></Blob>\
        <Blob><Name>elsewhere</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>\
        </Blobs><NextMarker>2!next</NextMarker></EnumerationResults>";
    let page = page(&address, body.as_bytes()).expect("parses");
    assert_eq!(page.next.as_deref(), Some("2!next"));
    let found: Vec<_> = page.found.iter().map(|meta| (meta.key.as_str(), meta.size)).collect();
    assert_eq!(found, [("sha256/a&b", 434_234), ("a\u{fffe} b", 1)]);
    assert_eq!(page.found[0].modified, http_date("Mon, 12 Oct 2009 17:50:30 GMT"));
    assert!(page.found[0].modified.is_some());
    let empty = b"<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
    assert_eq!(super::page(&address, empty).expect("parses"), Page { found: Vec::new(), next: None });
    assert!(super::page(&address, b"<html>").is_err());
}

#[test]
fn errors_in_headers_and_bodies() {
    let body = b"\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>BlobNotFound</Code>\
        <Message>The specified blob does not exist.\nRequestId:42</Message></Error>";
    let mut headers = HeaderMap::new();
    assert_eq!(failure(&headers, body).code.as_deref(), Some("BlobNotFound"));
    assert_eq!(failure(&headers, b""), ErrorDetails::default());
    headers.insert("x-ms-error-code", "ContainerNotFound".parse().expect("a value"));
    headers.insert("x-ms-request-id", "42".parse().expect("a value"));
    let found = failure(&headers, b"");
    assert_eq!((found.code.as_deref(), found.request_id.as_deref()), (Some("ContainerNotFound"), Some("42")));
}

#[test]
fn block_lists() {
    let ids = [block_id(1, Digest::EMPTY), block_id(50_000, Digest::of(b"x"))];
    assert_ne!(ids[0], block_id(2, Digest::EMPTY));
    assert_ne!(ids[0], block_id(1, Digest::of(b"x")));
    for id in &ids {
        assert_eq!(STANDARD.decode(id).expect("base64").len(), 48);
    }
    assert_eq!(
        block_list(&ids),
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><Latest>{}</Latest><Latest>{}</Latest></BlockList>",
            ids[0], ids[1]
        )
    );
}

#[test]
fn names_are_kept_unchanged() {
    for (written, name) in
        [(" a", " a"), ("a ", "a "), ("a &amp; b", "a & b"), ("&lt;a&gt; ", "<a> "), ("a  b", "a  b")]
    {
        let body = format!(
            "<EnumerationResults><Blobs><Blob><Name>reg/{written}</Name><Properties><Content-Length>1\
             </Content-Length></Properties></Blob></Blobs><NextMarker /></EnumerationResults>"
        );
        let page = page(&address(CLOUD, "reg"), body.as_bytes()).expect("parses");
        assert_eq!(page.found[0].key, Key::new(name), "{written}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (failure(&HeaderMap::new(), &body), page(&address(CLOUD, "r"), &body).is_ok());
    }

    #[test]
    fn urls_of_keys_round_trip(key in "[^/\\x00][^\\x00]{0,60}") {
        prop_assume!(!key::has_dot_segment(&key) && !key.ends_with('/'));
        let url = address(CLOUD, "reg").blob(&Key::new(&*key), &[]).expect("a URL");
        let path = url.path().strip_prefix("/blobs/reg/").expect("the root");
        let decoded = percent_decode_str(path).decode_utf8().expect("UTF-8");
        prop_assert_eq!(decoded, key);
    }

    #[test]
    fn all_block_ids_have_the_same_length(number in 1..=50_000_u64, bytes in any::<[u8; 8]>()) {
        prop_assert_eq!(block_id(number, Digest::of(&bytes)).len(), 64);
    }
}
