//! Requests and answers on the wire.

use proptest::prelude::*;

use super::*;
use crate::Secret;

fn address(style: Style, root: &str) -> Address {
    let config = S3Config {
        endpoint: "http://host:9000".parse().expect("a URL"),
        style,
        bucket: "bucket".to_owned(),
        root: root.to_owned(),
        region: "us-east-1".to_owned(),
        access_key: Secret::new("a"),
        secret_key: Secret::new("s"),
        session_token: None,
        encrypt: false,
    };
    Address::new(&config).expect("an address")
}

#[test]
fn answers_to_copies_contain_the_etag() {
    let text = |result: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<{result} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LastModified>2026-11-26T01:00:00Z</LastModified><ETag>&quot;abc-1&quot;</ETag></{result}>"
        )
    };
    let body = text("CopyPartResult");
    assert_eq!(copied("CopyPartResult", body.as_bytes()).as_deref(), Some("\"abc-1\""));
    assert_eq!(copied("CopyObjectResult", body.as_bytes()), None);
    assert_eq!(copied("CopyObjectResult", b"<CopyObjectResult><LastModi"), None);
}

#[test]
fn urls_of_objects() {
    let key = Key::new("sha256/ab/abcd");
    for (style, root, expected) in [
        (Style::Path, "reg", "http://host:9000/bucket/reg/sha256/ab/abcd"),
        (Style::Path, "reg/", "http://host:9000/bucket/reg/sha256/ab/abcd"),
        (Style::Path, "/reg", "http://host:9000/bucket//reg/sha256/ab/abcd"),
        (Style::Path, "", "http://host:9000/bucket/sha256/ab/abcd"),
        (Style::VirtualHost, "reg", "http://bucket.host:9000/reg/sha256/ab/abcd"),
    ] {
        assert_eq!(address(style, root).object(&key, &[]).expect("a URL").as_str(), expected);
    }
    let odd = address(Style::Path, "").object(&Key::new("a b+c=d%~é"), &[("uploadId", "x+/=")]);
    assert_eq!(
        odd.expect("a URL").as_str(),
        "http://host:9000/bucket/a%20b%2Bc%3Dd%25~%C3%A9?uploadId=x%2B%2F%3D"
    );
    for wrong in ["", "..", "a/../b", "./a", "/a", &"a".repeat(MAX_KEY + 1)] {
        assert!(address(Style::Path, "").object(&Key::new(wrong), &[]).is_err(), "{wrong}");
    }
}

#[test]
fn pages_of_listings() {
    let address = address(Style::Path, "reg");
    assert_eq!(
        address.page("sha256/", 3, Some("t=")).expect("a URL").as_str(),
        "http://host:9000/bucket/?list-type=2&max-keys=3&prefix=reg%2Fsha256%2F&continuation-token=t%3D"
    );
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
        <KeyCount>2</KeyCount><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>
        <Contents><Key>reg/sha256/a&amp;b</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
        <ETag>&quot;fba9&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents>
        <Contents><Key>elsewhere</Key><Size>1</Size></Contents></ListBucketResult>"#;
    let page = page(&address, body).expect("parses");
    assert_eq!(page.next.as_deref(), Some("next"));
    assert_eq!(page.found.len(), 1);
    assert_eq!(page.found[0].key, Key::new("sha256/a&b"));
    assert_eq!(page.found[0].size, 434_234);
    let modified = httpdate::parse_http_date("Mon, 12 Oct 2009 17:50:30 GMT").expect("a date");
    assert_eq!(page.found[0].modified, Some(modified));
    let endless = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    assert!(super::page(&address, endless).is_err());
    let empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    assert!(super::page(&address, empty).expect("parses").found.is_empty());
}

/// Deep nesting does not exhaust the stack.
#[test]
fn deeply_nested_bodies_are_parsed() {
    const DEEP: usize = 100_000;
    for name in ["ListBucketResult", "Error", "CompleteMultipartUploadResult"] {
        let body = format!("<{name}>{}", "<a>".repeat(DEEP));
        let body = body.as_bytes();
        let _ = failure(body);
        assert!(!is_completed(body) && page(&address(Style::Path, "r"), body).is_err());
        let closed = [body, "</a>".repeat(DEEP).as_bytes(), format!("</{name}>").as_bytes()].concat();
        let _ = (failure(&closed), is_completed(&closed), page(&address(Style::Path, "r"), &closed).is_ok());
    }
}

#[test]
fn names_are_kept_unchanged() {
    for (written, name) in [
        (" a", " a"),
        ("a ", "a "),
        ("a &amp; b", "a & b"),
        ("&lt;a&gt; ", "<a> "),
        ("a&#13;&#10;b", "a\r\nb"),
        ("a&#x9;", "a\t"),
        ("a  b", "a  b"),
        ("<![CDATA[a & b]]>", "a & b"),
    ] {
        let body = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>\
             <Contents><Key>reg/{written}</Key><Size>1</Size></Contents></ListBucketResult>"
        );
        let page = page(&address(Style::Path, "reg"), body.as_bytes()).expect("parses");
        assert_eq!(page.found[0].key, Key::new(name), "{written}");
    }
}

#[test]
fn errors_in_bodies() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>42</RequestId></Error>"#;
    let found = failure(body).expect("an error");
    assert_eq!((found.code.as_deref(), found.request_id.as_deref()), (Some("NoSuchKey"), Some("42")));
    // CompleteMultipartUpload sends white space while it works.
    assert!(failure(b"  \n\n<Error><Code>InternalError</Code></Error>").is_some());
    assert!(failure(b"<?xml version=\"1.0\"?>   <Error><Code>A</Code></Error>").is_some());
    for other in [&b""[..], b"<html><Error/></html>", b"\xff", b"<CompleteMultipartUploadResult/>"] {
        assert_eq!(failure(other), None);
    }
}

#[test]
fn multipart_bodies() {
    let body = b"<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>a/b+c</UploadId></InitiateMultipartUploadResult>";
    assert_eq!(upload_id(body).expect("parses"), "a/b+c");
    assert!(upload_id(b"<html/>").is_err());
    assert_eq!(
        completion(&[
            Done { etag: "\"abc\"".to_owned(), checksum: None },
            Done { etag: "d<e".to_owned(), checksum: Some(Digest::EMPTY) }
        ]),
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Part><PartNumber>1</PartNumber><ETag>&quot;abc&quot;</ETag></Part>\
         <Part><PartNumber>2</PartNumber><ETag>d&lt;e</ETag>\
         <ChecksumSHA256>47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=</ChecksumSHA256></Part></CompleteMultipartUpload>"
    );
}

proptest! {
    #[test]
    fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (failure(&body), upload_id(&body).is_ok(), page(&address(Style::Path, "r"), &body).is_ok());
    }

    #[test]
    fn urls_of_keys_round_trip(key in "[^/\\x00][^\\x00]{0,60}") {
        prop_assume!(!key::has_dot_segment(&key));
        let url = address(Style::Path, "reg").object(&Key::new(&*key), &[]).expect("a URL");
        let path = url.path().strip_prefix("/bucket/reg/").expect("the root");
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8().expect("UTF-8");
        prop_assert_eq!(decoded, key);
    }
}
