//! Tests of the harness itself: faults take effect, and images can be pushed to and pulled from the stand-in
//! Quay.

use std::time::{Duration, Instant, SystemTime};

use backends::Digest;
use harness::certs::Authority;
use harness::client::Client;
use harness::fault::BodyFault;
use harness::image::{Image, Layer, Manifest, Spec};
use harness::quay::{Delivery, Options, Quay};
use harness::zone::Zone;
use http::{Method, StatusCode};
use serde_json::json;

const LOGIN: Option<(&str, &str)> = Some(("admin", "password"));
const REPOSITORY: &str = "admin/one";

fn zones() -> Vec<Zone> {
    ["zone-a", "zone-b"].map(|name| Zone::start(name, Duration::ZERO).expect("a zone")).into()
}

fn quay_over(zones: &[Zone], options: Options) -> Quay {
    let quay =
        Quay::start(zones.iter().map(|zone| zone.location().clone()).collect(), options).expect("a stand-in");
    quay.add_user("admin", "password");
    quay
}

fn client(quay: &Quay) -> Client {
    Client::new(&quay.url(), &[], LOGIN).expect("a client")
}

fn image() -> Image {
    Spec::layers(1, &[300_000, 5]).build().expect("an image")
}

/// A zone with one object, and a URL for it.
fn one_object() -> (Zone, Vec<u8>, String) {
    let zone = Zone::start("zone-a", Duration::ZERO).expect("a zone");
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&bytes);
    zone.write(&digest, &bytes).expect("written");
    let url = zone.presign(&zone.key(&digest), SystemTime::now(), Duration::from_secs(60)).expect("a URL");
    (zone, bytes, url)
}

async fn get(url: &str) -> reqwest::Result<Vec<u8>> {
    let client = Client::new("http://localhost", &[], None).expect("a client");
    let response = client.raw(Method::GET, url).expect("a URL").send().await?.error_for_status()?;
    Ok(response.bytes().await?.to_vec())
}

#[tokio::test]
async fn a_proxy_without_faults_passes_everything() {
    let (zone, bytes, url) = one_object();
    zone.proxy().set(|faults| faults.latency = Duration::from_millis(60));
    let start = Instant::now();
    assert_eq!(get(&url).await.expect("an object"), bytes);
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(zone.proxy().record().count(&Method::GET, "/quay-zone-a/datastorage/registry/sha256/"), 1);
    let tampered = url.replace("Expires=60", "Expires=61");
    assert_eq!(get(&tampered).await.expect_err("refused").status(), Some(StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn faults_of_bodies_take_effect() {
    let (zone, bytes, url) = one_object();
    let spoil = |fault| zone.proxy().set(|faults| faults.body = Some(fault));

    spoil(BodyFault::CutAfter(1000));
    assert!(get(&url).await.is_err());

    spoil(BodyFault::FlipAt(123_456));
    let mut flipped = bytes.clone();
    flipped[123_456] ^= 1;
    assert_eq!(get(&url).await.expect("a body"), flipped);

    spoil(BodyFault::Short(10));
    assert_eq!(get(&url).await.expect("a body"), bytes[..bytes.len() - 10]);

    spoil(BodyFault::Long(10));
    assert_eq!(get(&url).await.expect("a body").len(), bytes.len() + 10);

    zone.proxy().set(|faults| faults.times = Some(1));
    assert_ne!(get(&url).await.expect("a body"), bytes);
    assert_eq!(get(&url).await.expect("a body"), bytes, "only once");
}

#[tokio::test]
async fn a_proxy_fails_and_heals() {
    let (zone, bytes, url) = one_object();
    let proxy = zone.proxy();

    proxy.set(|faults| faults.status = Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(get(&url).await.expect_err("refused").status(), Some(StatusCode::SERVICE_UNAVAILABLE));
    proxy.heal().await;

    proxy.down().await;
    assert!(get(&url).await.expect_err("refused").is_connect());
    proxy.heal().await;

    proxy.set(|faults| faults.hang = true);
    assert!(tokio::time::timeout(Duration::from_millis(200), get(&url)).await.is_err(), "hangs");
    proxy.heal().await;
    assert_eq!(get(&url).await.expect("an object"), bytes);
}

#[tokio::test]
async fn a_body_in_flight_is_cut() {
    let (zone, _, url) = one_object();
    let held = zone.proxy().hold("", 1000);
    let pulling = tokio::spawn(async move { get(&url).await });
    held.await;
    assert_eq!(zone.proxy().connections(), 1);
    zone.proxy().cut();
    let outcome =
        tokio::time::timeout(Duration::from_secs(60), pulling).await.expect("it ends").expect("ran");
    assert!(outcome.is_err());
}

#[tokio::test]
async fn images_are_pushed_and_pulled() {
    let zones = zones();
    let quay = quay_over(&zones, Options::default());
    let client = client(&quay);
    let image = image();
    client.push(REPOSITORY, "v1", &image).await.expect("pushed");
    for blob in image.blobs() {
        assert_eq!(zones[0].read(&blob.digest).expect("stored"), blob.bytes().expect("bytes"));
        assert!(!zones[1].has(&blob.digest), "replication is off");
    }
    let pulled = client.pull(REPOSITORY, "v1").await.expect("pulled");
    assert_eq!(pulled.len(), 3);
    assert!(pulled.iter().all(|blob| blob.from == zones[0].address.to_string()));
    let tokens = zones[0]
        .proxy()
        .record()
        .all()
        .iter()
        .filter(|seen| seen.header("authorization").starts_with("Bearer"))
        .count();
    assert_eq!(tokens, 0, "no token reaches a store");
}

#[tokio::test]
async fn redirects_name_the_preferred_zone_even_if_it_is_dead() {
    let zones = zones();
    let quay = quay_over(&zones, Options::default());
    let client = client(&quay);
    let image = image();
    client.push(REPOSITORY, "v1", &image).await.expect("pushed");
    let layer = &image.layers[0];
    zones[1].write(&layer.digest, &layer.bytes().expect("bytes")).expect("copied");
    quay.add_placement(&layer.digest, "zone-b");
    zones[0].proxy().down().await;

    let target = format!("/v2/{REPOSITORY}/blobs/{}", layer.digest);
    let before = zones[0].proxy().record().all().len();
    assert_eq!(client.fetch(Method::HEAD, &target, &[]).await.expect("an answer").status, StatusCode::OK);
    let found = client.fetch(Method::GET, &target, &[]).await.expect("an answer");
    assert_eq!(found.status, StatusCode::FOUND);
    assert!(found.header("location").starts_with(&format!("http://{}/", zones[0].address)));
    assert_eq!(zones[0].proxy().record().all().len(), before, "no request reached the store");
    assert!(client.pull_blob(REPOSITORY, &layer.digest).await.is_err());
    let pushed = client.push(REPOSITORY, "v2", &Spec::layers(2, &[10]).build().expect("an image")).await;
    assert!(pushed.expect_err("refused").to_string().contains("PATCH upload: 500"));
}

#[tokio::test]
async fn all_kinds_of_delivery_work() {
    for delivery in [Delivery::Stream, Delivery::StorageProxy] {
        let zones = zones();
        let quay = quay_over(&zones, Options { delivery, ..Options::default() });
        let client = client(&quay);
        client.push(REPOSITORY, "v1", &image()).await.expect("pushed");
        let pulled = client.pull(REPOSITORY, "v1").await.expect("pulled");
        assert!(pulled.iter().all(|blob| blob.from == quay.address().to_string()), "{delivery:?}");
    }
}

#[tokio::test]
async fn a_storage_proxy_link_is_valid_only_as_signed() {
    let zones = zones();
    let quay = quay_over(&zones, Options { delivery: Delivery::StorageProxy, ..Options::default() });
    let client = client(&quay);
    let image = image();
    client.push(REPOSITORY, "v1", &image).await.expect("pushed");
    let target = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
    let link =
        client.fetch(Method::GET, &target, &[]).await.expect("an answer").header("location").to_owned();
    let good = client.fetch(Method::GET, &link, &[("range", "bytes=5-14")]).await.expect("an answer");
    assert_eq!((good.status, good.body.len()), (StatusCode::PARTIAL_CONTENT, 10));
    assert_eq!(good.header("host"), zones[0].address.to_string(), "Quay's nginx copies this header");
    assert!(!good.headers.contains_key("content-type"));
    let other = link.replace("%2F", "%2f");
    assert_ne!(other, link);
    assert_eq!(
        client.fetch(Method::GET, &other, &[]).await.expect("an answer").status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn two_instances_over_tls_share_a_database() {
    let zones = zones();
    let authority = Authority::generate().expect("an authority");
    let tls = authority.certificate(&["quay.example"]).expect("a certificate").server_config().expect("TLS");
    let options = Options { hostname: Some("quay.example".into()), tls: Some(tls), ..Options::default() };
    let first = quay_over(&zones, options.clone());
    let other = vec![zones[1].location().clone(), zones[0].location().clone()];
    let second =
        Quay::start(other, Options { database: Some(first.database()), ..options }).expect("a stand-in");

    let roots = authority.pem();
    let token = first.token("admin", REPOSITORY, &["push", "pull"], json!({})).expect("a token");
    let client = Client::new(&second.url(), &[&roots], None).expect("a client");
    let ask = |token: String| {
        let request = client.raw(Method::POST, &format!("/v2/{REPOSITORY}/blobs/uploads/")).expect("a URL");
        async move { request.bearer_auth(token).send().await.expect("an answer") }
    };
    let started = ask(token).await;
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    let location = started.headers()["location"].to_str().expect("text");
    assert!(location.starts_with("https://quay.example/v2/admin/one/blobs/uploads/"), "{location}");
    for spoilt in [json!({"aud": "another"}), json!({"exp": 1, "iat": 0}), json!({"iss": "clair"})] {
        let token = first.token("admin", REPOSITORY, &["push"], spoilt).expect("a token");
        assert_eq!(ask(token).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn permissions_are_checked() {
    let zones = zones();
    let quay = quay_over(&zones, Options::default());
    quay.add_user("other", "password");
    quay.add_user("admin+robot", "password");
    let image = image();
    client(&quay).push(REPOSITORY, "v1", &image).await.expect("pushed");
    let as_user = |login| Client::new(&quay.url(), &[], login).expect("a client");
    let (nobody, other, robot) =
        (as_user(None), as_user(Some(("other", "password"))), as_user(Some(("admin+robot", "password"))));
    for client in [&nobody, &other, &robot] {
        assert!(client.pull(REPOSITORY, "v1").await.is_err());
    }
    quay.grant(REPOSITORY, "admin+robot", false);
    as_user(Some(("admin+robot", "password"))).pull(REPOSITORY, "v1").await.expect("the robot may");
    quay.add_repository(REPOSITORY, true);
    as_user(None).pull(REPOSITORY, "v1").await.expect("public");

    // A foreign descriptor is accepted and links nothing.
    let stranger = image.layers[0].digest;
    let layers = vec![
        Layer::Foreign(stranger, 1, vec!["https://example.com/".into()]),
        Layer::Nondistributable(stranger, 1),
    ];
    let trap = Spec { layers, ..Spec::layers(3, &[]) }.build().expect("an image");
    as_user(Some(("other", "password"))).push("other/trap", "v1", &trap).await.expect("pushed");
    assert!(!quay.is_linked("other/trap", &stranger));
    assert!(as_user(Some(("other", "password"))).pull_blob("other/trap", &stranger).await.is_err());
}

#[tokio::test]
async fn all_kinds_of_images_are_accepted() {
    let zones = zones();
    let quay = quay_over(&zones, Options::default());
    let client = client(&quay);
    let amd64 = Spec { layers: vec![Layer::Tar(10), Layer::Raw(b"x".to_vec())], ..Spec::layers(1, &[]) }
        .build()
        .expect("an image");
    let arm64 =
        Spec { architecture: "arm64".into(), ..Spec::layers(1, &[10]) }.docker().build().expect("an image");
    for image in [&amd64, &arm64] {
        client.push(REPOSITORY, &image.manifest.digest.to_string(), image).await.expect("pushed");
    }
    let index = Manifest::index(&[amd64.clone(), arm64.clone()]);
    client.push_manifest(REPOSITORY, "both", &index).await.expect("pushed");
    assert_eq!(client.manifest(REPOSITORY, "both").await.expect("an index").digest, index.digest);
    client.pull(REPOSITORY, &arm64.manifest.digest.to_string()).await.expect("pulled");

    // Quay creates no object for an empty blob, but still redirects readers there.
    let hollow =
        Spec { layers: vec![Layer::Raw(Vec::new())], ..Spec::layers(1, &[]) }.build().expect("an image");
    client.push(REPOSITORY, "hollow", &hollow).await.expect("pushed");
    assert!(!zones[0].has(&Digest::EMPTY));
    assert!(client.pull_blob(REPOSITORY, &Digest::EMPTY).await.is_err());
}

#[tokio::test]
async fn faults_of_quay_take_effect() {
    let zones = zones();
    let quay = quay_over(&zones, Options::default());
    let client = client(&quay);
    quay.set(|faults| faults.silent = true);
    let asked = client.fetch(Method::GET, "/v2/", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(200), asked).await.is_err());
    quay.set(|faults| faults.silent = false);
    quay.down().await;
    assert!(client.fetch(Method::GET, "/v2/", &[]).await.is_err());
    quay.up().await;
    assert_eq!(client.fetch(Method::GET, "/v1/_ping", &[]).await.expect("back").status, StatusCode::OK);
}
