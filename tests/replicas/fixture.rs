//! Three replicas behind a proxy with the configuration that `deploy/replicas` ships.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use harness::certs::Authority;
use harness::client::Client;
use harness::gateway::Gateway;
use harness::image::{Image, Spec};
use harness::site::{LOGIN, Site};
use http::Method;
use real_servers::{Envoy, HaProxy, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The `Cache-Status` of a cached blob.
pub(crate) const HIT: &str = "quay-gateway; hit";
/// The number of replicas that the shipped files name.
const REPLICAS: usize = 3;
/// The timeout until each replica is used.
const START: Duration = Duration::from_secs(30);

/// A proxy for which there is a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `haproxy.cfg`
    HaProxy,
    /// `envoy.yaml`
    Envoy,
}

/// Whom the proxy trusts as a replica.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trusted {
    /// The authority of all replicas.
    Common,
    /// The authorities that the replicas made themselves.
    EachItsOwn,
    /// An authority that has signed nothing.
    Stranger,
}

/// A running proxy.
#[derive(Debug)]
enum Proxy {
    HaProxy(#[expect(dead_code, reason = "kept alive")] HaProxy),
    Envoy(#[expect(dead_code, reason = "kept alive")] Envoy),
}

/// The site, its replicas, and the proxy in front of them.
pub(crate) struct Fixture {
    // The fields are dropped in this order: each user of a server before the server.
    _proxy: Proxy,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) site: Site,
    pub(crate) port: u16,
    public: Authority,
    folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        Self::with(kind, &json!({}), Trusted::Common).await
    }

    /// With `over` in the configuration of each replica, and with these authorities of the replicas' certificates.
    pub(crate) async fn with(kind: Kind, over: &Value, trusted: Trusted) -> Result<Self> {
        let site = Site::start()?;
        let port = free_port();
        let (public, inner) = (Authority::generate()?, Authority::generate()?);
        let certificate = inner.certificate(&[])?;
        let mut config = json!({
            "hostname": format!("localhost:{port}"),
            "trusted_proxies": ["127.0.0.1"],
            "tls": { "certificate": "replica.crt", "key": "replica.key" },
        });
        if matches!(trusted, Trusted::EachItsOwn) {
            config["tls"] = Value::Null;
        }
        harness::gateway::overlay(&mut config, over);
        let files = [("replica.crt", certificate.chain.as_str()), ("replica.key", certificate.key.as_str())];
        let mut gateways = Vec::new();
        for _ in 0..REPLICAS {
            gateways.push(site.gateway_with(&config, &files).await?);
        }
        let folder = TempDir::new()?;
        let file = |name: &str| folder.path().join(name);
        public.certificate(&[])?.write(&file("tls.crt"), &file("tls.key"))?;
        let roots = match trusted {
            Trusted::Common => inner.pem(),
            Trusted::Stranger => Authority::generate()?.pem(),
            Trusted::EachItsOwn => {
                let own = gateways.iter().map(|gateway| std::fs::read_to_string(gateway.authority_file()));
                own.collect::<Result<Vec<_>, _>>()?.concat()
            }
        };
        std::fs::write(file("replicas-ca.pem"), roots)?;
        let config = configuration(kind, port, folder.path(), &gateways)?;
        let proxy = match kind {
            Kind::HaProxy => Proxy::HaProxy(HaProxy::with_config(port, &config).await?),
            Kind::Envoy => Proxy::Envoy(Envoy::with_config(port, &config).await?),
        };
        let fixture = Self { _proxy: proxy, gateways, site, port, public, folder };
        if !matches!(trusted, Trusted::Stranger) {
            tokio::time::timeout(START, fixture.all_in_use()).await.context("a replica is not used")??;
        }
        Ok(fixture)
    }

    /// Waits until each replica got a request. Envoy begins with those whose first check has ended.
    async fn all_in_use(&self) -> Result<()> {
        let client = self.client()?;
        for repository in 0.. {
            client.raw(Method::GET, &format!("/v2/none/r{repository}/tags/list"))?.send().await?;
            if (0..REPLICAS).all(|replica| self.accesses(replica, &["/v2/none/"]) > 0) {
                break;
            }
        }
        Ok(())
    }

    /// The name that clients dial, as `host:port`.
    pub(crate) fn hostname(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A client of the proxy.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(&format!("https://{}", self.hostname()), &[&self.public.pem()], LOGIN)
    }

    /// A TLS configuration for connections to the proxy, with one protocol: `h2` or `http/1.1`.
    pub(crate) fn tls(&self, protocol: &str) -> Result<rustls::ClientConfig> {
        let mut tls = harness::certs::client_config(&[&self.public.pem()])?;
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(tls)
    }

    /// A folder with `ca.crt`, for skopeo.
    pub(crate) fn trusted(&self) -> Result<std::path::PathBuf> {
        let trusted = self.folder.path().join("trusted");
        std::fs::create_dir(&trusted)?;
        std::fs::write(trusted.join("ca.crt"), self.public.pem())?;
        Ok(trusted)
    }

    /// Pushes an image of 30 layers into these repositories, through the proxy.
    pub(crate) async fn pushed(&self, repositories: &[&str]) -> Result<Image> {
        let image = Spec::layers(1, &[2000; 30]).build()?;
        let client = self.client()?;
        for repository in repositories {
            client.push(repository, "v1", &image).await?;
        }
        Ok(image)
    }

    /// The replicas whose caches hold this blob.
    pub(crate) fn holders(&self, digest: &Digest) -> Vec<usize> {
        let hex = digest.hex();
        let holds =
            |gateway: &Gateway| gateway.cache_dir().join("sha256").join(&hex[..2]).join(&hex).is_file();
        (0..self.gateways.len()).filter(|at| holds(&self.gateways[*at])).collect()
    }

    /// The one replica whose cache holds this blob.
    pub(crate) fn holder(&self, digest: &Digest) -> Result<usize> {
        let holders = self.holders(digest);
        ensure!(holders.len() == 1, "{digest} is cached by the replicas {holders:?}");
        Ok(holders[0])
    }

    /// The number of lines of the access log of this replica with all these parts.
    pub(crate) fn accesses(&self, replica: usize, parts: &[&str]) -> usize {
        let log = self.gateways[replica].log();
        let accesses = log.lines().filter(|line| line.contains("access: "));
        accesses.filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

/// The shipped file. All that a site changes in it is changed here, and nothing else.
fn configuration(kind: Kind, port: u16, folder: &Path, gateways: &[Gateway]) -> Result<String> {
    let name = match kind {
        Kind::HaProxy => "haproxy.cfg",
        Kind::Envoy => "envoy.yaml",
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/replicas").join(name);
    let mut text = std::fs::read_to_string(&shipped).with_context(|| shipped.display().to_string())?;
    let mut change = |from: &str, to: &str, times: usize| {
        ensure!(text.matches(from).count() == times, "{name} has not {times} of {from:?}");
        text = text.replace(from, to);
        Ok(())
    };
    let folder = folder.display().to_string();
    match kind {
        Kind::HaProxy => {
            change("bind :8443", &format!("bind 127.0.0.1:{port}"), 1)?;
            change("/etc/quay-gateway", &folder, 2)?;
            change("str(gateway.example.com)", "str(localhost)", 1)?;
            for (at, gateway) in (1..).zip(gateways) {
                let shipped = format!("replica-{at}.example.com:8443 id {at} port 9090");
                let (address, admin) = (gateway.address(), gateway.admin_address().port());
                change(&shipped, &format!("{address} id {at} port {admin}"), 1)?;
            }
        }
        Kind::Envoy => {
            let listens = format!("address: 127.0.0.1, port_value: {port}");
            change("address: 0.0.0.0, port_value: 8443", &listens, 1)?;
            change("/etc/quay-gateway", &folder, 3)?;
            change("gateway.example.com", "localhost", 2)?;
            for (at, gateway) in (1..).zip(gateways) {
                let (address, admin) = (gateway.address(), gateway.admin_address().port());
                let lines = |host: &str, port: u16, admin: u16| {
                    format!(
                        "address: {{ socket_address: {{ address: {host}, port_value: {port} }} }}\n\
                         {:18}health_check_config: {{ port_value: {admin} }}",
                        ""
                    )
                };
                let shipped = lines(&format!("replica-{at}.example.com"), 8443, 9090);
                change(&shipped, &lines(&address.ip().to_string(), address.port(), admin), 1)?;
            }
        }
    }
    ensure!(!text.contains("example.com"), "{name} names something that is not changed here");
    Ok(text)
}
