//! Every kind of credential against every kind of read, compared with the registry's own answers.
//!
//! `matrix.tsv` has one status a cell. `UPDATE_MATRIX=1 cargo nextest run -p tests --test decide` writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use bytes::Bytes;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Blob, Content, Image, Spec};
use harness::quay::{Forgery, Options, Quay};
use harness::site::{LOGIN, Site};
use http::header::RANGE;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const FILE: &str = "decide/matrix.tsv";

pub(super) const REPOSITORIES: [(&str, &str, bool); 2] =
    [("private", "admin/secret", false), ("public", "admin/open", true)];

pub(super) const CREDENTIALS: [&str; 15] = [
    "anonymous",
    "anonymous token",
    "user",
    "robot",
    "other user's token",
    "expired",
    "future",
    "forged signature",
    "wrong audience",
    "alg none",
    "HS256 with the public key",
    "unknown kid",
    "token of another Quay",
    "removed member, old token",
    "removed member, new token",
];

/// After a deletion, for owners with an old token.
const DELETED: [&str; 3] = ["anonymous", "user", "removed member, old token"];

pub(super) const READS: [Read; 7] =
    [Read::Tag, Read::ByDigest, Read::Blob, Read::Head, Read::Range, Read::Referrers, Read::Tags];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Tag,
    ByDigest,
    Blob,
    Head,
    Range,
    Referrers,
    Tags,
}

impl Read {
    fn is_of_blob(self) -> bool {
        matches!(self, Self::Blob | Self::Head | Self::Range)
    }

    pub(super) fn target(self, repository: &str, manifest: &Digest, blob: &Digest) -> String {
        match self {
            Self::Tag => format!("/v2/{repository}/manifests/v1"),
            Self::ByDigest => format!("/v2/{repository}/manifests/{manifest}"),
            Self::Blob | Self::Head | Self::Range => format!("/v2/{repository}/blobs/{blob}"),
            Self::Referrers => format!("/v2/{repository}/referrers/{manifest}"),
            Self::Tags => format!("/v2/{repository}/tags/list"),
        }
    }
}

pub(super) struct Matrix {
    pub(super) site: Site,
    gateway: Gateway,
    /// Forgets after a second, for what the registry may remember for a minute.
    forgetful: Gateway,
    /// Reads at the registry itself.
    direct: Client,
    other: Quay,
    rows: String,
    cells: usize,
}

impl Matrix {
    pub(super) async fn start() -> Result<Self> {
        let site = Site::start()?;
        for (_, repository, public) in REPOSITORIES {
            site.quay.add_repository(repository, public);
            for (user, password) in [("admin+bot", "token"), ("carol", "carol"), ("mallory", "mallory")] {
                site.quay.add_user(user, password);
            }
            site.quay.grant(repository, "admin+bot", false);
            site.quay.grant(repository, "carol", false);
        }
        site.quay.add_repository("mallory/own", false);
        let gateway = site.gateway(&json!({})).await?;
        let short = json!({"auth": {"freshness": "1s"}, "timeouts": {"permission": "1s"}});
        let forgetful = site.gateway(&short).await?;
        gateway.verifies_tokens().await?;
        forgetful.verifies_tokens().await?;
        let direct = Client::new(&site.quay.url(), &[], None)?;
        let hostname = Some(site.quay.hostname().to_owned());
        let other = Quay::start(Vec::new(), Options { hostname, ..Options::default() })?;
        Ok(Self { site, gateway, forgetful, direct, other, rows: String::new(), cells: 0 })
    }

    /// A token that the registry issues for a login.
    async fn issued(&self, login: Option<(&str, &str)>, repository: &str) -> Result<Option<String>> {
        let target =
            format!("/v2/auth?service={}&scope=repository:{repository}:pull", self.site.quay.hostname());
        let mut request = self.direct.raw(Method::GET, &target)?;
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
        Ok(Some(answer["token"].as_str().context("no token")?.to_owned()))
    }

    pub(super) async fn token(&self, credential: &str, repository: &str) -> Result<Option<String>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let quay = &self.site.quay;
        let minted = |overrides: Value| quay.token("admin", repository, &["pull"], overrides).map(Some);
        let forged = |how| quay.forged(how, "admin", repository).map(Some);
        match credential {
            "anonymous" => Ok(None),
            "anonymous token" => self.issued(None, repository).await,
            "user" => self.issued(LOGIN, repository).await,
            "robot" => self.issued(Some(("admin+bot", "token")), repository).await,
            "other user's token" => self.issued(Some(("mallory", "mallory")), "mallory/own").await,
            "expired" => minted(json!({"nbf": now - 4000, "iat": now - 4000, "exp": now - 400})),
            "future" => minted(json!({"nbf": now + 600, "iat": now + 600, "exp": now + 4200})),
            "forged signature" => forged(Forgery::WrongSignature),
            "wrong audience" => minted(json!({"aud": "another.example.com"})),
            "alg none" => forged(Forgery::AlgNone),
            "HS256 with the public key" => forged(Forgery::Hs256WithPublicKey),
            "unknown kid" => forged(Forgery::UnknownKey),
            "token of another Quay" => self.other.token("admin", repository, &["pull"], json!({})).map(Some),
            "removed member, old token" => quay.token("carol", repository, &["pull"], json!({})).map(Some),
            "removed member, new token" => {
                quay.revoke(repository, "carol");
                let token = self.issued(Some(("carol", "carol")), repository).await;
                quay.grant(repository, "carol", false);
                token
            }
            other => anyhow::bail!("no credential {other}"),
        }
    }

    /// The status of the registry's own answer. It sends clients to a store, where they get the bytes.
    pub(super) async fn at_quay(&self, read: Read, target: &str, token: Option<&str>) -> Result<StatusCode> {
        let (status, _) = ask(&self.direct, read, target, token).await?;
        Ok(match (status, read) {
            (StatusCode::FOUND, Read::Range) => StatusCode::PARTIAL_CONTENT,
            (StatusCode::FOUND, _) => StatusCode::OK,
            (other, _) => other,
        })
    }

    /// One cell: the gateway's answer is the registry's, and a refusal has no byte of what it refuses.
    async fn cell(
        &mut self,
        gateway: &Client,
        read: Read,
        target: &str,
        token: Option<&str>,
        what: &Secret<'_>,
    ) -> Result<StatusCode> {
        let expected = self.at_quay(read, target, token).await?;
        let (status, body) = ask(gateway, read, target, token).await?;
        ensure!(status == expected, "{}: {status}, the registry answers {expected}: {target}", what.name);
        if !status.is_success() {
            what.is_not_in(&body)?;
        }
        self.cells += 1;
        Ok(status)
    }

    /// The rows of one repository: every credential, for an image that is in the cache and one that is not.
    async fn repository(&mut self, number: u64, shown: &str, repository: &str) -> Result<()> {
        let cached = Spec::layers(2 * number, &[3000]).build()?;
        let cold = Spec::layers(2 * number + 1, &[3000; 50]).build()?;
        let owner = self.gateway.client(LOGIN)?;
        owner.push(repository, "v1", &cached).await?;
        owner.pull(repository, "v1").await?;
        Client::new(&self.site.quay.url(), &[], LOGIN)?.push(repository, "cold", &cold).await?;
        let mut unread = cold.layers.iter();
        for credential in CREDENTIALS {
            let token = self.token(credential, repository).await?;
            for (place, image) in [("cached", &cached), ("not cached", &cold)] {
                let mut row = format!("{shown}\t{place}\t{credential}");
                for read in READS {
                    if place == "cached" {
                        // The link is fresh, whatever a refusal before did to it.
                        owner.manifest(repository, &cached.manifest.digest.to_string()).await?;
                    }
                    let blob = match (place, read.is_of_blob()) {
                        ("not cached", true) => unread.next().context("too few layers")?,
                        _ => &image.layers[0],
                    };
                    let target = read.target(repository, &image.manifest.digest, &blob.digest);
                    let name = format!("{shown}, {place}, {credential}, {read:?}");
                    let client = self.gateway.client(None)?;
                    let secret = Secret::new(&name, image, blob)?;
                    let status = self.cell(&client, read, &target, token.as_deref(), &secret).await?;
                    write!(row, "\t{}", status.as_u16())?;
                }
                writeln!(self.rows, "{row}")?;
            }
        }
        Ok(())
    }

    /// The rows of a repository that is deleted at the registry, once what was remembered has ended.
    async fn deleted(&mut self, number: u64, shown: &str, public: bool) -> Result<()> {
        let repository = format!("admin/deleted-{shown}");
        self.site.quay.add_repository(&repository, public);
        let image = Spec::layers(number, &[3000]).build()?;
        let owner = self.forgetful.client(LOGIN)?;
        owner.push(&repository, "v1", &image).await?;
        owner.pull(&repository, "v1").await?;
        let token = self.site.quay.token("admin", &repository, &["pull"], json!({}))?;
        self.site.quay.delete_repository(&repository);
        let blob = &image.layers[0];
        let path = Read::Head.target(&repository, &image.manifest.digest, &blob.digest);
        let (client, deadline) = (self.forgetful.client(None)?, Instant::now() + Duration::from_secs(60));
        while ask(&client, Read::Head, &path, Some(&token)).await?.0.is_success() {
            ensure!(Instant::now() < deadline, "a deleted repository is still read");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for credential in DELETED {
            let token = self.token(credential, &repository).await?;
            // A token for a repository that does not exist is one from before.
            let token = match credential {
                "user" => Some(self.site.quay.token("admin", &repository, &["pull"], json!({}))?),
                _ => token,
            };
            let mut row = format!("{shown}, deleted\tcached\t{credential}");
            for read in READS {
                let target = read.target(&repository, &image.manifest.digest, &blob.digest);
                let name = format!("{shown}, deleted, {credential}, {read:?}");
                let secret = Secret::new(&name, &image, blob)?;
                let status = self.cell(&client, read, &target, token.as_deref(), &secret).await?;
                write!(row, "\t{}", status.as_u16())?;
            }
            writeln!(self.rows, "{row}")?;
        }
        Ok(())
    }
}

/// What must not be in a refusal.
pub(super) struct Secret<'a> {
    name: &'a str,
    parts: [Bytes; 2],
}

impl<'a> Secret<'a> {
    pub(super) fn new(name: &'a str, image: &Image, blob: &Blob) -> Result<Self> {
        let Some(Content::Memory(bytes)) = &blob.content else { anyhow::bail!("a blob without bytes") };
        Ok(Self { name, parts: [bytes.slice(100..140), Bytes::from(image.config.digest.hex())] })
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    /// A refusal has none of it.
    pub(super) fn is_not_in(&self, body: &Bytes) -> Result<()> {
        ensure!(body.len() < 2048, "{}: a refusal of {} bytes", self.name, body.len());
        for part in &self.parts {
            let leaks = body.windows(part.len()).any(|window| window == &part[..]);
            ensure!(!leaks, "{}: a refusal has a part of what it refuses", self.name);
        }
        Ok(())
    }
}

pub(super) async fn ask(
    client: &Client,
    read: Read,
    target: &str,
    token: Option<&str>,
) -> Result<(StatusCode, Bytes)> {
    let method = if read == Read::Head { Method::HEAD } else { Method::GET };
    let mut request =
        client.raw(method, target)?.header("accept", "application/vnd.oci.image.manifest.v1+json");
    if read == Read::Range {
        request = request.header(RANGE, "bytes=100-149");
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    Ok((answer.status(), answer.bytes().await?))
}

#[tokio::test]
async fn nobody_reads_what_the_registry_refuses() -> Result<()> {
    let mut matrix = Matrix::start().await?;
    for (number, (shown, repository, _)) in (1u64..).zip(REPOSITORIES) {
        matrix.repository(number, shown, repository).await?;
    }
    for (number, (shown, _, public)) in (100u64..).zip(REPOSITORIES) {
        matrix.deleted(number, shown, public).await?;
    }
    let decided = matrix.gateway.metric("quay_gateway_permissions_total{by=\"token\"}").await?;
    ensure!(decided >= 20.0, "the gateway decided {decided} reads by itself");
    ensure!(matrix.cells >= 450, "{} cells", matrix.cells);
    let head = "repository\tblob\tcredential\tby tag\tby digest\tblob\tHEAD\tRange\treferrers\ttags\n";
    is_written(FILE, &format!("{head}{}", matrix.rows))
}

/// The table is the one in the file.
pub(super) fn is_written(file: &str, table: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(&path, table)?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(table, written, "UPDATE_MATRIX=1 writes {file}");
    Ok(())
}
