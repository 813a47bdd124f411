//! How the Azure driver handles faulty servers.

mod support;

use std::time::{Duration, SystemTime};

use backends::azure::{AzureConfig, AzureStore, Credentials};
use backends::{Key, Kind, Result, Secret, Source, Store};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use support::service::{Service, reply};
use support::{Answer, Scripted, azure, header};

const MIB: usize = 1024 * 1024;

const NAME: &str = "/acct/blobs/registry/sha256/ab/abcd";

fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

fn store(server: &Scripted) -> AzureStore {
    azure::store(server.address)
}

/// An answer without a body.
fn answer(head: &str) -> Answer {
    Answer::Bytes(support::answer(head, ""))
}

/// An error as Azure sends it, with the code in a header.
fn refusal(status: &str, code: &str) -> Answer {
    answer(&format!("{status}\nx-ms-error-code: {code}\nx-ms-request-id: r-42"))
}

async fn scripted(answers: &[&str]) -> (Scripted, AzureStore) {
    let server = Scripted::start(answers.iter().map(|head| answer(head)).collect()).await;
    let store = store(&server);
    (server, store)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    support::kind(result, azure::SECRETS)
}

/// The methods and targets that the server was asked.
fn lines(server: &Scripted) -> Vec<String> {
    let line = |head: &String| head.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
    server.requests().iter().map(line).collect()
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    let pause = Some(Duration::from_secs(7));
    for (status, code, expected) in [
        ("503 Busy\nRetry-After: 7", "ServerBusy", Kind::Throttled { retry_after: pause }),
        ("500 Error", "OperationTimedOut", Kind::Timeout),
        ("500 Error", "InternalError", Kind::Unavailable),
        ("403 Forbidden", "AuthenticationFailed", Kind::Denied),
        ("403 Forbidden", "AuthorizationFailure", Kind::Denied),
        ("404 Not Found", "ContainerNotFound", Kind::Denied),
        ("404 Not Found", "ResourceNotFound", Kind::Denied),
        ("409 Conflict", "ContainerBeingDeleted", Kind::Denied),
        ("412 Precondition Failed", "LeaseIdMissing", Kind::Invalid),
    ] {
        let server = Scripted::start(vec![refusal(status, code)]).await;
        let store = store(&server);
        let source = Source::bytes(Bytes::from_static(b"x"));
        for (call, result) in [
            ("head", store.head(&key()).await.map(drop)),
            ("get", store.get(&key(), None).await.map(drop)),
            ("delete", store.delete(&key()).await),
            ("probe", store.probe().await),
            ("put", store.put(&key(), &source).await),
        ] {
            assert_eq!(kind(result), expected, "{call}: {status} {code}");
        }
    }
}

#[tokio::test]
async fn code_and_request_id_are_kept() {
    let server = Scripted::start(vec![refusal("403 Forbidden", "AuthenticationFailed")]).await;
    let error = store(&server).head(&key()).await.expect_err("denied");
    assert_eq!(error.to_string(), "head sha256/ab/abcd: denied (AuthenticationFailed) [request r-42]");
    let server = Scripted::start(vec![refusal("409 Conflict", "BlobArchived")]).await;
    let error = store(&server).get(&key(), None).await.expect_err("archived");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("archive tier"), "{error}");
}

#[tokio::test]
async fn only_a_404_that_names_the_blob_is_absence() {
    let server = Scripted::start(vec![refusal("404 Not Found", "BlobNotFound")]).await;
    let store = store(&server);
    assert!(store.head(&key()).await.expect("answers").is_none());
    assert!(store.get(&key(), Some(3..9)).await.expect("answers").is_none());
    store.delete(&key()).await.expect("gone already");
    store.probe().await.expect("answers");
    // For example a 404 of a proxy.
    let (_server, store) = scripted(&["404 Not Found"]).await;
    assert!(store.head(&key()).await.is_err());
    assert!(store.delete(&key()).await.is_err());
}

#[tokio::test]
async fn a_lost_refusal_of_a_put_is_found_out() {
    let source = Source::bytes(Bytes::from(vec![1; 32 * MIB]));
    for (head, expected) in [
        ("403 Forbidden", Kind::Denied),
        ("503 Busy\nRetry-After: 1", Kind::Throttled { retry_after: Some(Duration::from_secs(1)) }),
        ("200 OK\nContent-Length: 5", Kind::Unavailable),
    ] {
        let server = Scripted::start(vec![Answer::Slam, answer(head)]).await;
        assert_eq!(kind(store(&server).put(&key(), &source).await), expected, "{head}");
        assert_eq!(lines(&server), [format!("PUT {NAME}"), format!("HEAD {NAME}")]);
    }
}

#[tokio::test]
async fn a_small_blob_is_written_in_one_request() {
    let (server, store) = scripted(&["201 Created"]).await;
    store.put(&key(), &Source::bytes(Bytes::from_static(b"hello"))).await.expect("written");
    let head = server.requests().remove(0);
    assert!(head.starts_with(&format!("PUT {NAME} HTTP/1.1\r\n")), "{head}");
    for (name, value) in [
        ("x-ms-blob-type", Some("BlockBlob")),
        ("x-ms-blob-content-type", Some("application/octet-stream")),
        ("x-ms-version", Some("2021-12-02")),
        ("content-length", Some("5")),
        ("transfer-encoding", None),
    ] {
        assert_eq!(header(&head, name), value, "{name}");
    }
    assert!(header(&head, "authorization").is_some_and(|text| text.starts_with("SharedKey acct:")), "{head}");
}

/// Two blocks, followed by the answers in `last`.
async fn put_in_blocks(last: Vec<Answer>) -> (Result<()>, Vec<String>) {
    let staged = answer("201 Created");
    let server = Scripted::start([staged.clone(), staged].into_iter().chain(last).collect()).await;
    let source = Source::bytes(Bytes::from_static(b"hello"));
    let written = store(&server).with_blocks(1, 3).put(&key(), &source).await;
    let lines = lines(&server).into_iter().map(|line| match line.split_once("&blockid=") {
        Some((line, id)) => {
            assert_eq!(id.len(), 64 + 2 * (id.matches('%').count()), "{id}");
            line.to_owned()
        }
        None => line,
    });
    (written, lines.collect())
}

fn staged() -> String {
    format!("PUT {NAME}?comp=block")
}

fn listed() -> String {
    format!("PUT {NAME}?comp=blocklist")
}

#[tokio::test]
async fn a_large_blob_is_written_in_blocks() {
    let (written, lines) = put_in_blocks(vec![answer("201 Created")]).await;
    written.expect("written");
    assert_eq!(lines, [staged(), staged(), listed()]);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_sent_again() {
    for lost in [Answer::Close, refusal("500 Error", "OperationTimedOut")] {
        let (written, lines) = put_in_blocks(vec![lost, answer("201 Created")]).await;
        written.expect("written");
        assert_eq!(lines, [staged(), staged(), listed(), listed()]);
    }
}

#[tokio::test]
async fn blocks_that_another_writer_discarded_are_staged_again() {
    let discarded = refusal("400 Bad Request", "InvalidBlockList");
    let (written, lines) = put_in_blocks(vec![discarded, answer("201 Created")]).await;
    written.expect("written");
    assert_eq!(lines, [staged(), staged(), listed(), staged(), staged(), listed()]);
}

#[tokio::test]
async fn incompatible_blocks_of_another_writer_are_replaced_by_one_request() {
    let excluded = refusal("400 Bad Request", "InvalidBlobOrBlock");
    let server = Scripted::start(vec![excluded, answer("201 Created")]).await;
    let source = Source::bytes(Bytes::from_static(b"hello"));
    store(&server).with_blocks(1, 100).put(&key(), &source).await.expect("written");
    assert_eq!(lines(&server)[1..], [format!("PUT {NAME}")]);
}

#[tokio::test]
async fn shared_access_signatures_are_sent_but_never_printed() {
    let sas = || Credentials::Sas(Secret::new("sv=2021-12-02&sig=hunter2%3D"));
    let server = Scripted::start(vec![answer("200 OK\nContent-Length: 5")]).await;
    azure::store_with(server.address, sas()).head(&key()).await.expect("answers");
    assert_eq!(lines(&server), [format!("HEAD {NAME}?sv=2021-12-02&sig=hunter2%3D")]);
    assert_eq!(header(&server.requests()[0], "authorization"), None);
    let there = SystemTime::now() + Duration::from_secs(86_400);
    let skewed = format!("403 Forbidden\nDate: {}", httpdate::fmt_http_date(there));
    for refused in [answer(&skewed), Answer::Close, Answer::Ignore, answer("200 OK")] {
        let server = Scripted::start(vec![refused]).await;
        let store = azure::store_with(server.address, sas());
        kind(store.list("").next().await.expect("an answer"));
        assert!(!format!("{store:?}").contains("hunter2"));
        assert!(lines(&server)[0].contains("&prefix=registry%2F&sv=2021-12-02&sig=hunter2%3D"));
    }
}

#[tokio::test]
async fn a_store_without_credentials_is_not_built() {
    let server = Scripted::start(vec![Answer::Close]).await;
    let config = AzureConfig {
        endpoint: format!("http://{}", server.address).parse().expect("a URL"),
        account: "acct".to_owned(),
        container: "blobs".to_owned(),
        root: String::new(),
        credentials: Credentials::Missing,
    };
    let built = AzureStore::new(&config, &support::transport(support::short()));
    let error = built.expect_err("refused");
    assert!(error.to_string().contains("azure_account_key"), "{error}");
}

/// A blob in a listing, with the properties that Azure returns ("List Blobs").
fn blob(number: usize) -> String {
    let hex = format!("{number:064x}");
    format!(
        "<Blob><Name>registry/sha256/{}/{hex}</Name><Properties>\
         <Creation-Time>Wed, 14 Aug 2024 11:22:33 GMT</Creation-Time>\
         <Last-Modified>Wed, 14 Aug 2024 11:22:33 GMT</Last-Modified><Etag>0x8DCBC4F0A1B2C3D</Etag>\
         <ResourceType>file</ResourceType><Content-Length>{number}</Content-Length>\
         <Content-Type>application/octet-stream</Content-Type><Content-Encoding /><Content-Language />\
         <Content-CRC64 /><Content-MD5>XrY7u+Ae7tCTyyK7j1rNww==</Content-MD5><Cache-Control />\
         <Content-Disposition /><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>\
         <AccessTierInferred>true</AccessTierInferred>\
         <AccessTierChangeTime>Wed, 14 Aug 2024 11:22:33 GMT</AccessTierChangeTime>\
         <LastAccessTime>Wed, 14 Aug 2024 11:22:33 GMT</LastAccessTime><LeaseStatus>unlocked</LeaseStatus>\
         <LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties>\
         <OrMetadata /></Blob>",
        &hex[62..]
    )
}

/// More blobs than fit on one page that is read as a whole.
#[tokio::test]
async fn a_container_of_many_blobs_is_listed() {
    const BLOBS: usize = 12_000;
    let server = Service::start(|asked| {
        let query: std::collections::HashMap<_, _> =
            url::form_urlencoded::parse(asked.path.split_once('?').expect("a query").1.as_bytes())
                .into_owned()
                .collect();
        let start: usize = query.get("marker").map_or(0, |marker| marker.parse().expect("ours"));
        let end = BLOBS.min(start + query["maxresults"].parse::<usize>().expect("a number"));
        let blobs: String = (start..end).map(blob).collect();
        let next = if end < BLOBS { end.to_string() } else { String::new() };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>{blobs}</Blobs>\
             <NextMarker>{next}</NextMarker></EnumerationResults>"
        );
        reply(200, body)
    })
    .await;
    let listed: Result<Vec<_>> = azure::store(server.address).list("sha256/").try_collect().await;
    assert_eq!(listed.expect("listed").len(), BLOBS);
}
