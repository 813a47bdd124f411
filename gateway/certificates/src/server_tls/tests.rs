//! Tests of how the configuration follows its files.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::authority::{Authority, Issued, make_ca};
use crate::key_type::KeyType;
use followed_files::SETTLE;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A CA in a folder, and a pair that the gateway serves.
struct Fixture {
    dir: TempDir,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        crate::install_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let ca = make_ca("test CA", YEAR * 2).expect("a CA");
        fs::write(dir.path().join("ca.crt"), &ca.chain).expect("written");
        fs::write(dir.path().join("ca.key"), ca.key.reveal()).expect("written");
        let at = |name: &str| dir.path().join(name);
        let authority = Authority::read(&at("ca.crt"), &at("ca.key")).expect("a CA");
        Self { dir, authority }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issued(&self, name: &str, key_type: KeyType) -> Issued {
        self.authority.issue(&[name.parse().expect("a name")], key_type, YEAR).expect("issued")
    }

    fn write(&self, stem: &str, issued: &Issued) {
        fs::write(self.at(&format!("{stem}.crt")), &issued.chain).expect("written");
        fs::write(self.at(&format!("{stem}.key")), issued.key.reveal()).expect("written");
    }

    fn files(&self, stem: &str) -> TlsPair {
        TlsPair { certificate: self.at(&format!("{stem}.crt")), key: self.at(&format!("{stem}.key")) }
    }

    fn tls(&self, client_ca: bool) -> ServerTls {
        let client_ca = client_ca.then(|| self.at("ca.crt"));
        ServerTls::read(vec!["a.example.com".into()], None, vec![self.files("tls")], client_ca)
            .expect("reads")
    }
}

/// A pair that is valid between these years.
fn between(from: i32, to: i32) -> Issued {
    let key = KeyType::EcP256.generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["new.example.com".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let chain = params.self_signed(&key).expect("signs").pem();
    Issued { chain, key: backends::Secret::new(key.serialize_pem()) }
}

fn served(tls: &ServerTls) -> String {
    tls.status().certificates[0].name.clone()
}

#[tokio::test]
async fn a_half_swapped_pair_is_never_served() {
    let fixture = Fixture::new();
    let (old, new) = (
        fixture.issued("old.example.com", KeyType::EcP256),
        fixture.issued("new.example.com", KeyType::EcP256),
    );
    fixture.write("tls", &old);
    let (tls, start) = (fixture.tls(false), Instant::now());
    let (before, admin) = (tls.config(), tls.admin_config());
    fs::write(fixture.at("tls.crt"), &new.chain).expect("written");
    assert_eq!(tls.reload(start), Reloaded { changed: false, doubtful: true });
    assert!(Arc::ptr_eq(&tls.config(), &before));
    // It is no error yet, and it is none when the key follows.
    assert_eq!(tls.status().refused, 0);
    fs::write(fixture.at("tls.key"), new.key.reveal()).expect("written");
    assert_eq!(tls.reload(start + SETTLE), Reloaded { changed: true, doubtful: false });
    assert_eq!((served(&tls), tls.status().loaded, tls.status().refused), ("new.example.com".into(), 1, 0));
    assert!(!Arc::ptr_eq(&tls.config(), &before) && !Arc::ptr_eq(&tls.admin_config(), &admin));
    assert_eq!(tls.reload(start + SETTLE), Reloaded::default(), "nothing changed");
}

#[tokio::test]
async fn a_bad_pair_is_counted_once_and_the_old_one_stays() {
    let fixture = Fixture::new();
    fixture.write("tls", &fixture.issued("old.example.com", KeyType::EcP256));
    let (tls, start) = (fixture.tls(false), Instant::now());
    let (expired, early) = (between(2020, 2021), between(3020, 3021));
    let half = "-----BEGIN CERTIFICATE-----\nhalf";
    for (pair, text) in
        [(&expired, ""), (&expired, half), (&expired, &*expired.chain), (&early, &*early.chain)]
    {
        let before = tls.status().refused;
        fixture.write("tls", pair);
        fs::write(fixture.at("tls.crt"), text).expect("written");
        assert!(tls.reload(start).doubtful || before > 0);
        for later in 1..4 {
            assert_eq!(tls.reload(start + SETTLE * later), Reloaded::default());
        }
        assert_eq!(tls.status().refused, before + 1, "{text}");
        assert_eq!(served(&tls), "old.example.com");
    }
}

/// An old root at the end, from before the CA's root was renewed. Clients look for their own.
#[tokio::test]
async fn an_expired_certificate_that_clients_do_not_need_is_no_reason_to_refuse() {
    let fixture = Fixture::new();
    fixture.write("tls", &fixture.issued("old.example.com", KeyType::EcP256));
    let (tls, start) = (fixture.tls(false), Instant::now());
    let new = fixture.issued("new.example.com", KeyType::EcP256);
    let chain = format!("{}{}", new.chain, between(2020, 2021).chain);
    fixture.write("tls", &Issued { chain, key: new.key });
    assert_eq!(tls.reload(start), Reloaded { changed: true, doubtful: false });
    let status = tls.status();
    assert_eq!(status.certificates[0].name, "new.example.com");
    assert!(status.certificates[0].expires > crate::expiry::now(), "an expired root is no end");
}

#[tokio::test]
async fn another_client_ca_makes_another_configuration() {
    let fixture = Fixture::new();
    fixture.write("tls", &fixture.issued("a.example.com", KeyType::EcP256));
    let (tls, start) = (fixture.tls(true), Instant::now());
    let before = tls.config();
    fs::write(fixture.at("ca.crt"), make_ca("other CA", YEAR).expect("a CA").chain).expect("written");
    assert_eq!(tls.reload(start), Reloaded { changed: true, doubtful: false });
    assert!(!Arc::ptr_eq(&tls.config(), &before));
    fs::write(fixture.at("ca.crt"), "").expect("written");
    assert_eq!(tls.reload(start), Reloaded { changed: false, doubtful: true }, "nobody is let in");
}

/// More clients than rustls' store of sessions holds.
const CLIENTS: usize = 300;

/// A client with sessions of its own.
fn client(
    fixture: &Fixture,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for root in crate::pem_file::chain(&fixture.at("ca.crt")).expect("a CA") {
        roots.add(root).expect("a root");
    }
    let config =
        rustls::ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// Connects, and returns how the session began.
fn connect(client: &Arc<rustls::ClientConfig>, server: &Arc<ServerConfig>) -> rustls::HandshakeKind {
    let name = "a.example.com".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut server = rustls::ServerConnection::new(Arc::clone(server)).expect("a server");
    // Tickets come after the handshake.
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("written");
        server.read_tls(&mut &wire[..]).expect("read");
        server.process_new_packets().expect("a good client");
        wire.clear();
        server.write_tls(&mut wire).expect("written");
        client.read_tls(&mut &wire[..]).expect("read");
        client.process_new_packets().expect("a good server");
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    server.handshake_kind().expect("a handshake")
}

#[tokio::test]
async fn each_of_many_clients_resumes_its_session() {
    use rustls::HandshakeKind::Resumed;
    let fixture = Fixture::new();
    fixture.write("tls", &fixture.issued("a.example.com", KeyType::EcP256));
    let (tls, start) = (fixture.tls(false), Instant::now());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let clients: Vec<_> = (0..CLIENTS).map(|_| client(&fixture, version)).collect();
        let resumed = |server: &Arc<ServerConfig>| {
            clients.iter().filter(|client| connect(client, server) == Resumed).count()
        };
        assert_eq!(resumed(&tls.config()), 0, "{version:?}: nobody was here before");
        assert_eq!(resumed(&tls.config()), CLIENTS, "{version:?}");
        assert_eq!(resumed(&tls.admin_config()), 0, "{version:?}: another listener has other sessions");
        assert_eq!(resumed(&tls.admin_config()), CLIENTS, "{version:?}");
        fixture.write("tls", &fixture.issued("a.example.com", KeyType::EcP256));
        assert_eq!(tls.reload(start), Reloaded { changed: true, doubtful: false });
        assert_eq!(resumed(&tls.config()), 0, "{version:?}: no session outlives its configuration");
        assert_eq!(resumed(&tls.config()), CLIENTS, "{version:?}: after a reload");
    }
}
