//! The same credentials and reads while Quay is away, and after it is back: nobody reads what Quay would have refused.
//!
//! `away.tsv` has one status a cell. `UPDATE_MATRIX=1 cargo nextest run -p tests --test decide` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::LOGIN;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::matrix::{CREDENTIALS, Matrix, READS, REPOSITORIES, Read, Secret, ask, is_written};

const FILE: &str = "decide/away.tsv";

/// The states of Quay, in the order in which they are tried.
const STATES: [&str; 3] = ["database down", "gone", "back"];

/// Credentials for which the gateway itself gives a token while Quay is away.
const OWN: [(&str, Option<(&str, &str)>); 4] = [
    ("own token, user", LOGIN),
    ("own token, robot", Some(("admin+bot", "token"))),
    ("own token, other user", Some(("mallory", "mallory"))),
    ("own token, anonymous", None),
];

/// An image of which the cache has every blob, and one of which it has none.
struct Images {
    cached: Image,
    cold: Image,
}

struct Away {
    matrix: Matrix,
    gateway: Gateway,
    images: Vec<Images>,
    /// The tokens that Quay gave, by credential and repository. They stay valid for an hour.
    tokens: BTreeMap<(&'static str, &'static str), Option<String>>,
    rows: String,
    cells: usize,
}

impl Away {
    async fn start() -> Result<Self> {
        let matrix = Matrix::start().await?;
        let gateway = matrix.site.gateway(&json!({"offline": {"max_age": "1h"}})).await?;
        gateway.verifies_tokens().await?;
        let direct = Client::new(&matrix.site.quay.url(), &[], LOGIN)?;
        let (mut images, mut tokens) = (Vec::new(), BTreeMap::new());
        for (number, (_, repository, _)) in (1u64..).zip(REPOSITORIES) {
            let cached = Spec::layers(200 + 2 * number, &[3000]).build()?;
            let cold = Spec::layers(201 + 2 * number, &[3000; 150]).build()?;
            direct.push(repository, "v1", &cached).await?;
            direct.push(repository, "cold", &cold).await?;
            for credential in CREDENTIALS {
                tokens.insert((credential, repository), matrix.token(credential, repository).await?);
            }
            images.push(Images { cached, cold });
        }
        Ok(Self { matrix, gateway, images, tokens, rows: String::new(), cells: 0 })
    }

    /// Reads everything once as those who may, so that all of it is remembered.
    async fn learn(&self) -> Result<()> {
        for ((_, repository, public), images) in REPOSITORIES.iter().zip(&self.images) {
            let logins = [LOGIN, Some(("admin+bot", "token")), Some(("mallory", "mallory")), None];
            for login in logins {
                self.own_token(login, repository).await?;
            }
            let owner = self.gateway.client(if *public { None } else { LOGIN })?;
            for (tag, image) in [("v1", &images.cached), ("cold", &images.cold)] {
                let token =
                    self.tokens[&(if *public { "anonymous" } else { "user" }, *repository)].as_deref();
                for reference in [tag, &image.manifest.digest.to_string()] {
                    let target = format!("/v2/{repository}/manifests/{reference}");
                    let (status, _) = ask(&owner, Read::Tag, &target, token).await?;
                    ensure!(status == StatusCode::OK, "{repository} {reference}: {status}");
                }
            }
            owner.pull(repository, "v1").await?;
        }
        Ok(())
    }

    async fn own_token(&self, login: Option<(&str, &str)>, repository: &str) -> Result<Option<String>> {
        let service = self.matrix.site.quay.hostname();
        let target = format!("/v2/auth?service={service}&scope=repository:{repository}:pull,push");
        let mut request = self.gateway.client(None)?.raw(Method::GET, &target)?;
        if let Some((name, password)) = login {
            request = request.basic_auth(name, Some(password));
        }
        let answer = request.send().await?;
        ensure!(answer.status() == StatusCode::OK, "no token for {login:?}: {}", answer.status());
        let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
        Ok(Some(answer["token"].as_str().context("no token")?.to_owned()))
    }

    async fn enter(&self, state: &str) -> Result<()> {
        let quay = &self.matrix.site.quay;
        match state {
            "database down" => quay.set(|faults| faults.broken = true),
            "gone" => {
                quay.down().await;
                quay.set(|faults| faults.broken = false);
            }
            _ => quay.up().await,
        }
        // What says that the gateway knows: the catalog, which it never remembers. The owner's manifest says that it
        // remembers, or that Quay answers again.
        let token = self.tokens[&("user", REPOSITORIES[0].1)].clone();
        let manifest = Read::ByDigest.target(
            REPOSITORIES[0].1,
            &self.images[0].cached.manifest.digest,
            &self.images[0].cached.config.digest,
        );
        let client = self.gateway.client(None)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let away = client
                .raw(Method::GET, "/v2/_catalog")?
                .send()
                .await?
                .text()
                .await?
                .contains("the registry is away");
            let (status, _) = ask(&client, Read::ByDigest, &manifest, token.as_deref()).await?;
            if away == (state != "back") && status == StatusCode::OK {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{state}: away {away}, the owner gets {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn cell(
        &mut self,
        state: &str,
        read: Read,
        target: &str,
        token: Option<&str>,
        what: &Secret<'_>,
    ) -> Result<StatusCode> {
        let client = self.gateway.client(None)?;
        let (status, body) = ask(&client, read, target, token).await?;
        if state == "back" {
            let expected = self.matrix.at_quay(read, target, token).await?;
            ensure!(status == expected, "{}: {status}, Quay answers {expected}", what.name());
        }
        if !status.is_success() {
            what.is_not_in(&body)?;
        }
        self.cells += 1;
        Ok(status)
    }

    async fn rows(&mut self, state: &str) -> Result<()> {
        for (place, (shown, repository, _)) in REPOSITORIES.into_iter().enumerate() {
            let Images { cached, cold } = &self.images[place];
            let (cached, cold) = (cached.clone(), cold.clone());
            let mut unread = cold.layers.clone().into_iter();
            // Those that were read in an earlier state are in the cache.
            let skipped = STATES.iter().position(|known| *known == state).unwrap_or(0) * 45;
            unread.by_ref().take(skipped).for_each(drop);
            let mut credentials: Vec<_> =
                CREDENTIALS.iter().map(|name| (*name, self.tokens[&(*name, repository)].clone())).collect();
            for (name, login) in OWN.into_iter().filter(|_| state != "back") {
                credentials.push((name, self.own_token(login, repository).await?));
            }
            for (credential, token) in credentials {
                for (kept, image, tag) in [("cached", &cached, "v1"), ("not cached", &cold, "cold")] {
                    let mut row = format!("{state}\t{shown}\t{kept}\t{credential}");
                    for read in READS {
                        let blob = match (kept, read) {
                            ("not cached", Read::Blob | Read::Head | Read::Range)
                                if !credential.starts_with("own") =>
                            {
                                unread.next().context("too few layers")?
                            }
                            _ => image.layers[0].clone(),
                        };
                        let target = match read {
                            Read::Tag => format!("/v2/{repository}/manifests/{tag}"),
                            _ => read.target(repository, &image.manifest.digest, &blob.digest),
                        };
                        let name = format!("{state}, {shown}, {kept}, {credential}, {read:?}");
                        let secret = Secret::new(&name, image, &blob)?;
                        let status = self.cell(state, read, &target, token.as_deref(), &secret).await?;
                        write!(row, "\t{}", status.as_u16())?;
                    }
                    writeln!(self.rows, "{row}")?;
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn nobody_reads_more_while_quay_is_away() -> Result<()> {
    let mut away = Away::start().await?;
    away.learn().await?;
    for state in STATES {
        away.enter(state).await?;
        away.rows(state).await?;
    }
    ensure!(away.cells >= 1300, "{} cells", away.cells);
    // What is read while Quay is away is what the same credential reads when Quay is back.
    let of = |line: &str| {
        let (name, cells) = line.split_at(line.match_indices('\t').nth(3).map_or(0, |(at, _)| at));
        let (state, rest) = name.split_once('\t').unwrap_or_default();
        (state.to_owned(), rest.to_owned(), cells.trim().split('\t').map(str::to_owned).collect::<Vec<_>>())
    };
    let lines: Vec<_> = away.rows.lines().map(of).collect();
    let back: BTreeMap<_, _> =
        lines.iter().filter(|(state, ..)| state == "back").map(|(_, name, cells)| (name, cells)).collect();
    for (state, name, cells) in lines.iter().filter(|(_, name, _)| !name.contains("own token")) {
        for (cell, real) in cells.iter().zip(back[name]) {
            ensure!(!cell.starts_with('2') || cell == real, "{state}, {name}: {cell}, and {real} at Quay");
        }
    }
    let head = "quay\trepository\tblob\tcredential\tby tag\tby digest\tblob\tHEAD\tRange\treferrers\ttags\n";
    is_written(FILE, &format!("{head}{}", away.rows))
}
