//! HTTPS with the caller's own root certificates.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use backends::s3::S3Store;
use backends::{Kind, Store, StoreConfig, Timeouts};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::service::{Service, reply};
use tokio::net::{TcpListener, TcpStream};

/// A server that terminates TLS in front of `plain`, and the certificate of its authority.
async fn tls_in_front_of(plain: SocketAddr) -> (SocketAddr, CertificateDer<'static>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signs");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(socket).await else { return };
                let Ok(mut inner) = TcpStream::connect(plain).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    (address, authority.der().clone())
}

async fn server(folder: &Path) -> (backends::s3::S3Config, CertificateDer<'static>) {
    let (address, authority) = tls_in_front_of(support::s3_server(folder).await).await;
    let mut config = support::config(address);
    config.endpoint = format!("https://localhost:{}", address.port()).parse().expect("a URL");
    (config, authority)
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, authority) = server(folder.path()).await;
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("a certificate");
    S3Store::new(&config, &support::transport_trusting(roots, Timeouts::default()))
        .expect("builds")
        .probe()
        .await
        .expect("answers");
    let stranger =
        S3Store::new(&config, &support::transport_trusting(RootCertStore::empty(), Timeouts::default()))
            .expect("builds");
    let error = stranger.probe().await.expect_err("not trusted");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

/// A file that was to hold roots may hold a private key, and a parser's error repeats the line that it stopped at.
#[test]
fn a_file_of_roots_that_cannot_be_read_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("roots.pem");
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let body: String = key.lines().filter(|line| !line.contains("-----")).collect();
    for text in [
        key.replace('\n', " "),
        key.replace('\n', "\\n"),
        key.replace("-----END", "-----ENDS"),
        format!("-----BEGIN {body}\n{key}"),
        key.replace("PRIVATE KEY", "CERTIFICATE").replace("-----END", "!-----END"),
        body.clone(),
    ] {
        std::fs::write(&file, &text).expect("writes");
        let yaml = format!(
            "[SwiftStorage, {{swift_container: c, storage_path: r, swift_user: u, swift_password: p, \
             auth_version: 1, auth_url: 'https://localhost/auth/v1.0', ca_cert_path: '{}'}}]",
            file.display()
        );
        let config: StoreConfig = serde_saphyr::from_str(&yaml).expect("reads");
        let transport = support::transport_trusting(RootCertStore::empty(), Timeouts::default());
        let error = config.build(&transport).expect_err("no roots");
        let said = format!("{error} {error:?}");
        for piece in body.as_bytes().chunks_exact(8) {
            let (letters, numbers) = (String::from_utf8_lossy(piece), format!("{:?}", &piece[..4]));
            let numbers = numbers.trim_matches(['[', ']']);
            assert!(!said.contains(&*letters) && !said.contains(numbers), "{text}: {said}");
        }
    }
}

/// `ca_cert_path`: only the certificates in that file are trusted, for the login and for the account.
#[tokio::test]
async fn swift_trusts_only_the_configured_file() {
    let swift = Service::start(|asked| match asked.path.as_str() {
        "/auth/v1.0" => {
            let account = format!("https://{}/v1/AUTH_a", asked.header("host").expect("a host"));
            reply(200, "").with("x-storage-url", account).with("x-auth-token", "token")
        }
        _ => reply(200, "hello"),
    })
    .await;
    let (address, authority) = tls_in_front_of(swift.address).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    };
    let (stranger, other) = tls_in_front_of(swift.address).await;
    for (address, roots, expected) in [
        (address, file("right.pem", pem(&authority)), Ok(())),
        (address, file("other.pem", pem(&other)), Err(Kind::Unavailable)),
        // This authority is trusted by the other stores here, which must not matter.
        (stranger, file("alone.pem", pem(&authority)), Err(Kind::Unavailable)),
        (address, file("empty.pem", "no certificate".to_owned()), Err(Kind::Invalid)),
        (address, "/nowhere.pem".to_owned(), Err(Kind::Invalid)),
    ] {
        let yaml = format!(
            "[SwiftStorage, {{swift_container: c, storage_path: r, swift_user: u, swift_password: p, \
             auth_version: 1, auth_url: 'https://localhost:{}/auth/v1.0', ca_cert_path: '{roots}'}}]",
            address.port()
        );
        let config: StoreConfig = serde_saphyr::from_str(&yaml).expect("reads");
        let mut trusted = RootCertStore::empty();
        trusted.add(other.clone()).expect("a certificate");
        let probed = match config.build(&support::transport_trusting(trusted, Timeouts::default())) {
            Ok(store) => store.probe().await,
            Err(error) => Err(error),
        };
        assert_eq!(probed.map_err(|error| error.kind()), expected, "{roots}");
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let base64 = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}
