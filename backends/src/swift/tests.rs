//! Names, URLs and answers on the wire.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::request::{Names, NamesPage, bulk_failure, info_url, server_info};
use super::*;
use crate::{Secret, key};

fn names(root: &str, simple_path_concat: bool) -> Names {
    Names::new(&SwiftConfig {
        access: Access::TempUrl(Secret::new("key")),
        storage_url: None,
        service: Service { kind: "object-store".to_owned(), interface: "public".to_owned(), region: None },
        container: "blobs".to_owned(),
        root: root.to_owned(),
        simple_path_concat,
        ca_file: None,
    })
}

fn account() -> url::Url {
    "http://host:8080/v1/AUTH_a%2Fb/".parse().expect("a URL")
}

/// `swift.py:_normalize_path`.
#[test]
fn names_are_quays() {
    let key = Key::new("sha256/ab/abcd");
    for (root, simple, expected) in [
        ("reg", false, "reg/sha256/ab/abcd"),
        ("reg/", false, "reg/sha256/ab/abcd"),
        ("", false, "sha256/ab/abcd"),
        ("reg", true, "regsha256/ab/abcd"),
        ("reg/", true, "reg/sha256/ab/abcd"),
        ("", true, "sha256/ab/abcd"),
    ] {
        let names = names(root, simple);
        assert_eq!(names.of(&key).expect("a name"), expected);
        assert_eq!(names.key_of(expected), Some(key.clone()));
    }
    assert_eq!(names("reg", false).key_of("elsewhere/sha256"), None);
    assert_eq!(names("reg", false).key_of("reg/"), None);
    for wrong in ["", "..", "a/../b", "/a", &"a".repeat(1024)] {
        assert!(names("reg", false).of(&Key::new(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn urls_below_an_account() {
    let names = names("reg", false);
    for (name, query, expected) in [
        (None, vec![], "http://host:8080/v1/AUTH_a%2Fb/blobs"),
        (Some("reg/a b+c%é"), vec![], "http://host:8080/v1/AUTH_a%2Fb/blobs/reg/a%20b%2Bc%25%C3%A9"),
        (
            None,
            vec![("limit", "3".to_owned()), ("marker", "a&b".to_owned())],
            "http://host:8080/v1/AUTH_a%2Fb/blobs?limit=3&marker=a%26b",
        ),
    ] {
        assert_eq!(names.url(&account(), name, &query).expect("a URL").as_str(), expected);
    }
}

/// `X-Object-Manifest`, which Swift decodes and Quay does not.
#[test]
fn folders_and_their_manifests() {
    let quays = "blobs/reg/segments/0b5dc8e5-5e0c-4a53-a1a4-dc2c1f2b0a3f";
    let folder = names("reg", false).folder(quays).expect("Quay's own");
    assert_eq!(folder.manifest(), quays);
    assert_eq!(folder.prefix(), "reg/segments/0b5dc8e5-5e0c-4a53-a1a4-dc2c1f2b0a3f/");
    assert_eq!(folder.segment(12), "reg/segments/0b5dc8e5-5e0c-4a53-a1a4-dc2c1f2b0a3f/000000012");
    assert_eq!(names("reg", false).folder(&format!("{quays}/")), Some(folder));
    for foreign in [
        "",
        "blobs",
        "blobs/reg/segments",
        "blobs/reg/segments/",
        "blobs/reg/segments/a/b",
        "blobs/reg/sha256/ab",
        "blobs/other/segments/a",
        "blobs_segments/reg/segments/a",
        "blobs/reg/segments/%ff",
    ] {
        assert_eq!(names("reg", false).folder(foreign), None, "{foreign}");
    }
}

#[test]
fn info_is_beside_the_version() {
    for (account, expected) in [
        ("http://host/v1/AUTH_a", "http://host/info"),
        ("http://host/swift/v1", "http://host/swift/info"),
        ("https://host:1/a/swift/v1.0/AUTH_a/", "https://host:1/a/swift/info"),
        ("http://host/odd/AUTH_a", "http://host/info"),
        ("http://host", "http://host/info"),
    ] {
        assert_eq!(info_url(&account.parse().expect("a URL")).as_str(), expected, "{account}");
    }
    let said = server_info(br#"{"swift": {"max_file_size": 77, "version": "2.38.3"}, "slo": {}}"#).unwrap();
    assert_eq!((said.max_file_size, said.version.as_deref()), (77, Some("2.38.3")));
    let silent = server_info(br#"{"swift": {"max_file_size": 77, "x": []}, "slo": {}}"#).unwrap();
    assert!(silent.version.is_none(), "RadosGW");
    for other in [&b""[..], b"{}", br#"{"swift": {}}"#, br#"{"swift": {"max_file_size": 0}}"#, b"<html>"] {
        assert!(server_info(other).is_none());
    }
}

#[test]
fn pages_of_listings() {
    let body = br#"[
        {"hash": "x", "last_modified": "2014-01-15T16:41:49.390270", "bytes": 14, "name": "reg/a&b",
         "content_type": "text/plain"},
        {"subdir": "reg/sub/"},
        {"last_modified": "2014-01-15T16:41:49.390Z", "bytes": 0, "name": "elsewhere"}]"#;
    let page = NamesPage::parse(&names("reg", false), body).expect("parses");
    assert_eq!(page.last().as_deref(), Some("elsewhere"));
    assert_eq!(page.names, [("reg/a&b".to_owned(), 14), ("elsewhere".to_owned(), 0)]);
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_389_804_109);
    assert_eq!(page.found, [Meta { key: Key::new("a&b"), size: 14, modified: Some(modified) }]);
    for empty in [&b""[..], b"[]", b" \n"] {
        assert_eq!(NamesPage::parse(&names("", false), empty).expect("parses").last(), None);
    }
    assert!(NamesPage::parse(&names("", false), b"<html/>").is_err());
}

/// The example "Bulk Delete" in Swift's documentation.
#[test]
fn bulk_answers_contain_the_real_status() {
    let fine = br#"{"Number Not Found": 0, "Response Status": "200 OK", "Errors": [], "Number Deleted": 6}"#;
    assert_eq!(bulk_failure(fine), None);
    let failed = br#"   {"Response Status": "400 Bad Request", "Errors": [["/c/o", "403 Forbidden"]]}"#;
    assert_eq!(bulk_failure(failed).as_deref(), Some("400 Bad Request"));
}

proptest! {
    #[test]
    fn urls_of_keys_round_trip(key in "[^/\\x00][^\\x00]{0,60}") {
        prop_assume!(!key::has_dot_segment(&key));
        let names = names("reg", false);
        let name = names.of(&Key::new(&*key)).expect("a name");
        let url = names.url(&account(), Some(&name), &[]).expect("a URL");
        let path = url.path().strip_prefix("/v1/AUTH_a%2Fb/blobs/reg/").expect("the root");
        prop_assert_eq!(percent_encoding::percent_decode_str(path).decode_utf8().expect("UTF-8"), &*key);
        prop_assert_eq!(names.key_of(&name), Some(Key::new(key)));
    }

    #[test]
    fn folders_and_manifests_round_trip(root in "[^\\x00]{0,30}", simple in any::<bool>()) {
        let names = names(root.trim_start_matches('/'), simple);
        let folder = names.new_folder();
        let manifest = folder.manifest();
        prop_assert!(!manifest.contains(['?', '&']) && manifest.is_ascii());
        prop_assert_eq!(names.folder(&manifest), Some(folder.clone()));
        prop_assert!(folder.segment(0).starts_with(&folder.prefix()));
        prop_assert!(folder != names.new_folder());
    }

    #[test]
    fn no_answer_makes_the_parser_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (NamesPage::parse(&names("r", false), &body).is_ok(), bulk_failure(&body), server_info(&body).is_some());
    }

    #[test]
    fn a_folder_in_a_manifest_lies_below_the_root(manifest in "(blobs/)?(reg/)?(segments/)?[a-z/%.]{0,12}") {
        if let Some(folder) = names("reg", false).folder(&manifest) {
            prop_assert!(folder.prefix().starts_with("reg/segments/"));
            prop_assert!(folder.prefix().len() > "reg/segments//".len());
        }
    }
}
