//! Requests and answers as they are on the wire.

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

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")))
        .collect()
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

#[test]
fn errors_in_bodies() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>42</RequestId></Error>"#;
    let found = failure(body).expect("an error");
    assert_eq!((found.code.as_deref(), found.request_id.as_deref()), (Some("NoSuchKey"), Some("42")));
    // CompleteMultipartUpload sends blanks while it works.
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
        completion(&["\"abc\"".to_owned(), "d<e".to_owned()]),
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Part><PartNumber>1</PartNumber><ETag>&quot;abc&quot;</ETag></Part>\
         <Part><PartNumber>2</PartNumber><ETag>d&lt;e</ETag></Part></CompleteMultipartUpload>"
    );
}

#[test]
fn answers_bring_what_was_asked_for_or_fail() {
    let part = |range: &str, length: &str| headers(&[("content-range", range), ("content-length", length)]);
    let (ok, partial) = (StatusCode::OK, StatusCode::PARTIAL_CONTENT);
    for (asked, status, headers, expected) in [
        (None, ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
        (None, ok, HeaderMap::new(), Err(Kind::Unavailable)),
        (None, partial, part("bytes 0-9/10", "10"), Err(Kind::Unavailable)),
        (Some(0..10), ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
        (Some(0..11), ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
        (Some(0..9), ok, headers(&[("content-length", "10")]), Err(Kind::Unavailable)),
        (Some(2..10), ok, headers(&[("content-length", "10")]), Err(Kind::Unavailable)),
        (Some(2..5), partial, part("bytes 2-4/10", "3"), Ok((2..5, 10))),
        (Some(2..50), partial, part("bytes 2-9/10", "8"), Ok((2..10, 10))),
        (Some(2..5), partial, part("bytes 2-3/10", "2"), Err(Kind::Unavailable)),
        (Some(2..5), partial, part("bytes 2-4/10", "2"), Err(Kind::Unavailable)),
        (Some(2..5), partial, part("bytes 2-4/10", "4"), Err(Kind::Corrupt)),
        (Some(2..5), partial, part("bytes 1-4/10", "4"), Err(Kind::Corrupt)),
        (Some(2..5), partial, part("bytes 2-5/10", "4"), Err(Kind::Corrupt)),
        (Some(2..5), partial, part("bytes 4-2/10", "3"), Err(Kind::Unavailable)),
        (Some(2..5), partial, headers(&[("content-length", "3")]), Err(Kind::Unavailable)),
    ] {
        let found = placed(asked.as_ref(), status, &headers).map_err(|(kind, _)| kind);
        assert_eq!(found, expected, "{asked:?} {status} {headers:?}");
    }
}

proptest! {
    #[test]
    fn content_ranges_and_back(start in 0..1_u64 << 60, length in 1..1_u64 << 60, more in 0..1_u64 << 60) {
        let (range, size) = (start..start + length, start + length + more);
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        prop_assert_eq!(content_range(&headers(&[("content-range", &text)])), Some((range, size)));
    }

    #[test]
    fn content_ranges_are_never_beyond_the_size(text in "(bytes )?[-+*0-9/ ]{0,24}") {
        if let Some((range, size)) = content_range(&headers(&[("content-range", &text)])) {
            prop_assert!(range.start < range.end && range.end <= size);
        }
    }

    #[test]
    fn whatever_a_server_sends_is_an_answer(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (failure(&body), upload_id(&body).is_ok(), page(&address(Style::Path, "r"), &body).is_ok());
    }

    #[test]
    fn timestamps_as_http_dates_have_them(seconds in 0..250_000_000_000_u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = httpdate::fmt_http_date(time);
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.iter().position(|month| *month == &date[8..11]).expect("a month") + 1;
        let text = format!("{}-{month:02}-{}T{}.000Z", &date[12..16], &date[5..7], &date[17..25]);
        prop_assert_eq!(timestamp(&text), Some(time));
    }

    #[test]
    fn no_text_is_a_timestamp_that_panics(text in "[-0-9T:.Z]{0,30}") {
        let _ = timestamp(&text);
    }

    #[test]
    fn every_key_has_a_url_that_stands_for_it(key in "[^/\\x00][^\\x00]{0,60}") {
        prop_assume!(!key::climbs(&key));
        let url = address(Style::Path, "reg").object(&Key::new(&*key), &[]).expect("a URL");
        let path = url.path().strip_prefix("/bucket/reg/").expect("the root");
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8().expect("UTF-8");
        prop_assert_eq!(decoded, key);
    }
}
