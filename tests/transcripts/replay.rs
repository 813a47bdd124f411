//! Sends the requests of a recording to the stand-in, and compares the answers.

#[path = "compare.rs"]
mod compare;
#[path = "parse.rs"]
mod parse;

use std::collections::HashMap;
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use harness::client::{Answer, Client};
use harness::image::Spec;
use harness::quay::{Delivery, Options};
use harness::site::{LOGIN, PASSWORD, Site, USER};
use http::Method;
use serde_json::{Value, json};

use parse::Exchange;

/// The text in the recordings for a digest without a blob.
const NOTHING: &str = "sha256:<secret>";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) async fn run(text: &str, hostname: &str, delivery: Delivery, repositories: &[&str]) {
    let zones = [("zone-a", Duration::ZERO)];
    let site =
        Site::with(&zones, Options { hostname: Some(hostname.into()), delivery, ..Options::default() })
            .expect("a site");
    let mut replay = Replay::prepare(&site, repositories).await;
    let exchanges = parse::exchanges(text);
    assert!(exchanges.len() > 60, "only {} exchanges", exchanges.len());
    let mut differences = Vec::new();
    for exchange in &exchanges {
        let answer = replay.send(exchange).await;
        replay.learn(exchange, &answer);
        for difference in compare::differences(exchange, &answer, &replay.names) {
            differences.push(format!("{}: {difference}", exchange.title));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

struct Replay {
    client: Client,
    /// Maps names in the recording to ours: digests and ids.
    names: HashMap<String, String>,
    /// The bytes that were sent so far, by our upload id.
    uploads: HashMap<String, Vec<u8>>,
    /// Our digests of blobs, in order of arrival.
    blobs: Vec<(String, usize)>,
    /// The target of our last redirect.
    redirect: String,
    push: String,
    anonymous: String,
}

impl Replay {
    /// Creates the state before the recording: repositories and a tag.
    async fn prepare(site: &Site, repositories: &[&str]) -> Self {
        let quay = &site.quay;
        let token = |user: &str, actions: &[&str]| {
            quay.token(user, "admin/one", actions, json!({})).expect("a token")
        };
        let (push, anonymous) = (token(USER, &["push", "pull"]), token("(anonymous)", &[]));
        for name in repositories {
            quay.add_repository(name, false);
        }
        let client = Client::new(&quay.url(), &[], LOGIN).expect("a client");
        let mut replay = Self {
            client,
            names: HashMap::from([(NOTHING.to_owned(), Digest::of(b"nothing has these bytes").to_string())]),
            uploads: HashMap::new(),
            blobs: Vec::new(),
            redirect: String::new(),
            push,
            anonymous,
        };
        replay.tag_before().await;
        replay
    }

    /// Pushes the tag `v1` without a token request, which would fail because of the host name.
    async fn tag_before(&mut self) {
        let image = Spec::layers(1, &[10]).build().expect("an image");
        let blobs = image.blobs();
        let mut requests: Vec<(Method, String, &str, Bytes)> = Vec::new();
        for blob in blobs {
            let target = format!("/v2/admin/one/blobs/uploads/?digest={}", blob.digest);
            requests.push((Method::POST, target, "application/octet-stream", blob.bytes().expect("bytes")));
        }
        requests.push((
            Method::PUT,
            "/v2/admin/one/manifests/v1".into(),
            OCI_MANIFEST,
            image.manifest.bytes.clone(),
        ));
        for (method, target, kind, body) in requests {
            let request =
                self.client.raw(method, &target).expect("a URL").header("content-type", kind).body(body);
            let answer = request.bearer_auth(&self.push).send().await.expect("an answer");
            assert_eq!(answer.status(), 201, "{target}");
        }
    }

    /// The text of the recording with our names.
    fn ours(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    async fn send(&mut self, exchange: &Exchange) -> Answer {
        if exchange.title.contains("3 s later") {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let body = self.body(exchange);
        self.note_bytes(exchange, &body);
        let at_store = exchange.target.starts_with("/quay-a/");
        let target = if at_store { self.redirect.clone() } else { self.ours(&exchange.target) };
        let method: Method = exchange.method.parse().expect("a method");
        let mut request = self.client.raw(method, &target).expect("a URL").body(body);
        for (name, value) in &exchange.headers {
            let value = match name.as_str() {
                "content-length" => continue,
                // The name of the store is different here.
                "host" if at_store && value.starts_with("127.0.0.1:") => continue,
                "authorization" => self.authorization(exchange, value),
                _ => self.ours(value),
            };
            request = request.header(name, value);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.expect("a body") }
    }

    fn authorization(&self, exchange: &Exchange, recorded: &str) -> String {
        use base64::Engine as _;
        if recorded.starts_with("Basic") {
            let password = if exchange.title.ends_with("wrong password") { "wrong" } else { PASSWORD };
            return format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"))
            );
        }
        if exchange.title.contains("anonymous token") {
            return format!("Bearer {}", self.anonymous);
        }
        if exchange.title.contains("broken token") {
            // Another signature of the same length.
            let (rest, signature) = self.push.rsplit_once('.').expect("a token");
            return format!("Bearer {rest}.{}", signature.chars().rev().collect::<String>());
        }
        format!("Bearer {}", self.push)
    }

    /// A body of the recorded length.
    fn body(&self, exchange: &Exchange) -> Vec<u8> {
        let length = exchange.body_bytes;
        if !exchange.target.contains("/manifests/") || length == 0 {
            return if length == 2 { b"{}".to_vec() } else { json_or_filler(&exchange.title, length) };
        }
        let mut bytes = self.manifest(exchange).to_string().into_bytes();
        assert!(bytes.len() <= length, "{} has no room", exchange.title);
        bytes.resize(length, b' ');
        bytes
    }

    fn manifest(&self, exchange: &Exchange) -> Value {
        let descriptor = |kind: &str, (digest, size): &(String, usize)| json!({"mediaType": kind, "digest": digest, "size": size});
        let config = |blob| descriptor("application/vnd.oci.image.config.v1+json", blob);
        let layer = |blob| descriptor("application/vnd.oci.image.layer.v1.tar", blob);
        let nothing = (self.ours(NOTHING), 5);
        let image = |digest: &str| (digest.to_owned(), 419);
        let cap1 = || image(&self.names["sha256:cap1"]);
        match exchange.title.as_str() {
            "index PUT" => {
                let mut child = descriptor(OCI_MANIFEST, &cap1());
                child["platform"] = json!({"os": "linux", "architecture": "amd64"});
                json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]})
            }
            "artifact manifest with subject PUT" => json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.example.sig",
                "config": descriptor("application/vnd.oci.empty.v1+json", self.blobs.last().expect("the empty blob")),
                "layers": [], "subject": descriptor(OCI_MANIFEST, &cap1()),
            }),
            title => {
                let first = if title.contains("missing layer") { &nothing } else { &self.blobs[0] };
                json!({"schemaVersion": 2, "config": config(self.blobs.last().expect("the config")), "layers": [layer(first)]})
            }
        }
    }

    /// Learns the names that depend on our bytes.
    fn note_bytes(&mut self, exchange: &Exchange, body: &[u8]) {
        let recorded = digest_in(&exchange.target);
        if exchange.target.contains("/manifests/") && !body.is_empty() {
            let ours = Digest::of(body).to_string();
            if let Some(recorded) = exchange.answer.iter().find(|(name, _)| name == "docker-content-digest") {
                self.names.insert(recorded.1.clone(), ours.clone());
            }
            if exchange.title == "manifest PUT by tag" {
                self.names.insert("sha256:cap1".into(), ours);
            }
        } else if exchange.target.contains("/blobs/uploads/?digest=") {
            self.blob(recorded, body);
        } else if let Some(id) = exchange.target.split("/blobs/uploads/").nth(1).map(|rest| self.ours(rest)) {
            let id = id.split('?').next().unwrap_or_default().to_owned();
            if id.is_empty() {
                // A started upload, or a mount.
            } else if exchange.status == 202 {
                self.uploads.entry(id).or_default().extend_from_slice(body);
            } else if exchange.status == 201 {
                let bytes = self.uploads.remove(&id).unwrap_or_default();
                self.blob(recorded, &bytes);
            }
        }
    }

    fn blob(&mut self, recorded: Option<&str>, bytes: &[u8]) {
        let ours = Digest::of(bytes).to_string();
        self.blobs.push((ours.clone(), bytes.len()));
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        self.names.insert(hex(recorded.expect("a digest")), hex(&ours));
    }

    /// Learns the names in our answer.
    fn learn(&mut self, exchange: &Exchange, answer: &Answer) {
        let recorded = |wanted: &str| {
            exchange.answer.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        if let Some(id) = recorded("docker-upload-uuid") {
            self.names.entry(id).or_insert_with(|| answer.header("docker-upload-uuid").to_owned());
        }
        if exchange.status == 302 {
            self.redirect = answer.header("location").to_owned();
        }
        if exchange.title == "service keys list" {
            let keys: Value = serde_json::from_slice(&answer.body).expect("keys");
            let ours = keys["keys"][0]["kid"].as_str().expect("a kid").to_owned();
            // The keys in the list are not the one that is requested next.
            for recorded in KEYS {
                self.names.insert((*recorded).to_owned(), ours.clone());
            }
        }
    }
}

/// The ids of the keys of the recorded instances.
const KEYS: &[&str] =
    &["y4sMEXZA3fvzm3Z6cbLN4OAkhr4R9PfU4aRnKqBc7Cs", "05ZIJTU54nk6G3t46tsC0rVJgQ5t46v56-oSlpNrx34"];

/// A config is JSON. Other blobs have any bytes.
fn json_or_filler(title: &str, length: usize) -> Vec<u8> {
    let mut bytes = if title.starts_with("config blob") {
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec()
    } else {
        title.as_bytes().to_vec()
    };
    bytes.resize(length, b' ');
    bytes
}

fn digest_in(target: &str) -> Option<&str> {
    target.split_once("digest=").map(|(_, digest)| digest)
}
