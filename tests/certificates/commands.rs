//! `certs`, with openssl and curl as the judges.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::certs::Authority;
use harness::gateway::binary;
use harness::site::Site;
use real_servers::Program;
use serde_json::{Value, json};
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(30);
const KEY_TYPES: [(&str, &str); 3] =
    [("ec-p256", "id-ecPublicKey"), ("rsa-2048", "(2048 bit)"), ("rsa-3072", "(3072 bit)")];

fn certs(folder: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary()).arg("certs").args(arguments).current_dir(folder).output()?)
}

fn passed(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = certs(folder, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn refused(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = certs(folder, arguments)?;
    ensure!(!output.status.success(), "{arguments:?} passes");
    ensure!(output.stdout.is_empty(), "{arguments:?} prints something although it is refused");
    Ok(String::from_utf8(output.stderr)?)
}

pub(crate) async fn openssl(folder: &Path, arguments: &[&str]) -> Result<String> {
    Program::find("openssl")?.args(arguments).in_folder(folder).run(BOUND).await
}

/// A folder with a CA, and with a certificate of each type of key.
pub(crate) fn issued() -> Result<TempDir> {
    let dir = TempDir::new()?;
    passed(dir.path(), &["ca", "--out", "ca"])?;
    for (key_type, _) in KEY_TYPES {
        passed(
            dir.path(),
            &[
                "issue",
                "--ca",
                "ca",
                "--out",
                key_type,
                "--key-type",
                key_type,
                "--san",
                "localhost,127.0.0.1,registry.cluster2.example.com",
                "--san",
                "*.apps.example.com",
                "--san",
                "::1",
            ],
        )?;
    }
    Ok(dir)
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[tokio::test]
async fn openssl_verifies_the_chain_and_every_name_of_each_type_of_key() -> Result<()> {
    let dir = issued()?;
    assert_eq!(mode(&dir.path().join("ca/ca.key"))?, 0o600);
    assert_eq!(mode(&dir.path().join("ca"))?, 0o700);
    for (key_type, shown) in KEY_TYPES {
        let (certificate, key) = (format!("{key_type}/tls.crt"), format!("{key_type}/tls.key"));
        assert_eq!(mode(&dir.path().join(&key))?, 0o600);
        for name in [
            ["-verify_hostname", "localhost"],
            ["-verify_hostname", "registry.cluster2.example.com"],
            ["-verify_hostname", "a.apps.example.com"],
            ["-verify_ip", "127.0.0.1"],
            ["-verify_ip", "::1"],
        ] {
            let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca/ca.crt"];
            openssl(dir.path(), &[&verify[..], &name, &[certificate.as_str()]].concat()).await?;
        }
        let other = ["verify", "-CAfile", "ca/ca.crt", "-verify_hostname", "other.example.com", &certificate];
        openssl(dir.path(), &other).await.expect_err("it is for no other name");
        let text = openssl(dir.path(), &["x509", "-in", &certificate, "-noout", "-text"]).await?;
        assert!(text.contains(shown), "{text}");
        let of_key = openssl(dir.path(), &["pkey", "-in", &key, "-pubout"]).await?;
        let of_certificate = openssl(dir.path(), &["x509", "-in", &certificate, "-noout", "-pubkey"]).await?;
        assert_eq!(of_key, of_certificate);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_overwritten() -> Result<()> {
    let dir = issued()?;
    let files = ["ca/ca.crt", "ca/ca.key", "ec-p256/tls.crt", "ec-p256/tls.key"];
    let read = || files.iter().map(|file| fs::read(dir.path().join(file))).collect::<Result<Vec<_>, _>>();
    let before = read()?;
    for arguments in
        [&["ca", "--out", "ca"][..], &["issue", "--ca", "ca", "--out", "ec-p256", "--san", "localhost"]]
    {
        let error = refused(dir.path(), arguments)?;
        assert!(error.contains("exists already and is not overwritten: give another --out"), "{error}");
    }
    assert_eq!(read()?, before);
    // One file of two stands in the way as well, and nothing is put beside it.
    fs::remove_file(dir.path().join("ca/ca.crt"))?;
    refused(dir.path(), &["ca", "--out", "ca"])?;
    assert!(!dir.path().join("ca/ca.crt").exists());
    Ok(())
}

/// The value of a key of the Secret.
fn data(yaml: &str, key: &str) -> Result<String> {
    let line = yaml.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
    Ok(String::from_utf8(STANDARD.decode(line.with_context(|| format!("no {key}: {yaml}"))?)?)?)
}

#[tokio::test]
async fn a_secret_has_the_pair_and_never_the_key_of_the_ca() -> Result<()> {
    let dir = issued()?;
    let at = |name: &str| dir.path().join(name);
    let secret = |certificate: &str, key: &str| {
        ["secret", "--certificate", certificate, "--key", key, "--name", "gateway-tls", "--namespace", "quay"]
            .map(str::to_owned)
    };
    // Other forms of keys, as other tools write them.
    openssl(dir.path(), &["rsa", "-in", "rsa-2048/tls.key", "-traditional", "-out", "pkcs1.key"]).await?;
    openssl(dir.path(), &["ec", "-in", "ec-p256/tls.key", "-out", "sec1.key"]).await?;
    let strings =
        |arguments: &[String]| passed(dir.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let ca_key = fs::read_to_string(at("ca/ca.key"))?;
    let secret_of_ca = ca_key.lines().nth(1).context("a key")?;
    // Somebody keeps the CA's key in the file of its certificate, and behind the key of the pair.
    let certificate = fs::read_to_string(at("ec-p256/tls.crt"))?;
    fs::write(at("chain-and-key.pem"), format!("{certificate}{ca_key}"))?;
    fs::write(at("keys.pem"), format!("{}{ca_key}", fs::read_to_string(at("ec-p256/tls.key"))?))?;
    for (certificate, key) in [
        ("ec-p256/tls.crt", "ec-p256/tls.key"),
        ("chain-and-key.pem", "keys.pem"),
        ("rsa-2048/tls.crt", "pkcs1.key"),
        ("ec-p256/tls.crt", "sec1.key"),
    ] {
        let yaml = strings(&secret(certificate, key))?;
        assert!(yaml.contains("type: kubernetes.io/tls\n") && yaml.contains("namespace: \"quay\""), "{yaml}");
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            fs::write(at(file), data(&yaml, file)?)?;
            assert!(!data(&yaml, file)?.contains(secret_of_ca), "{file} has the key of the CA");
        }
        assert_eq!(data(&yaml, "ca.crt")?, fs::read_to_string(at("ca/ca.crt"))?.replace('\r', ""));
        openssl(dir.path(), &["verify", "-CAfile", "ca.crt", "-verify_hostname", "localhost", "tls.crt"])
            .await?;
        let of_key = openssl(dir.path(), &["pkey", "-in", "tls.key", "-pubout"]).await?;
        assert_eq!(of_key, openssl(dir.path(), &["x509", "-in", "tls.crt", "-noout", "-pubkey"]).await?);
    }
    // A CA that did not sign it, and a certificate that is no CA's.
    passed(dir.path(), &["ca", "--out", "other"])?;
    for (ca, wanted) in [("other/ca.crt", "did not sign the chain"), ("rsa-2048/tls.crt", "is no CA's")] {
        let wrong = [
            "secret",
            "--certificate",
            "ec-p256/tls.crt",
            "--key",
            "ec-p256/tls.key",
            "--name",
            "x",
            "--ca",
            ca,
        ];
        let error = refused(dir.path(), &wrong)?;
        assert!(error.contains(wanted), "{error}");
    }
    // The CA itself, and a certificate with the key of its CA.
    let error =
        refused(dir.path(), &["secret", "--certificate", "ca/ca.crt", "--key", "ca/ca.key", "--name", "x"])?;
    assert!(error.contains("begins with a CA's certificate"), "{error}");
    let request = ["req", "-new", "-key", "ca/ca.key", "-subj", "/CN=localhost", "-out", "same.csr"];
    openssl(dir.path(), &request).await?;
    fs::write(at("extensions"), "subjectAltName=DNS:localhost\n")?;
    let sign =
        ["x509", "-req", "-in", "same.csr", "-CA", "ca/ca.crt", "-CAkey", "ca/ca.key", "-out", "same.crt"];
    openssl(dir.path(), &[&sign[..], &["-extfile", "extensions"]].concat()).await?;
    let arguments =
        ["secret", "--certificate", "same.crt", "--key", "ca/ca.key", "--ca", "ca/ca.crt", "--name", "x"];
    let error = refused(dir.path(), &arguments)?;
    assert!(error.contains("is also the key of a CA") && !error.contains(secret_of_ca), "{error}");
    Ok(())
}

fn problems(output: &Output) -> Result<(bool, String)> {
    let shown: Value = serde_json::from_slice(&output.stdout)?;
    Ok((output.status.success(), shown[0]["problems"].to_string()))
}

#[tokio::test]
async fn show_says_what_is_wrong_and_fails_then() -> Result<()> {
    let dir = issued()?;
    let show = |arguments: &[&str]| -> Result<(bool, String)> {
        problems(&certs(dir.path(), &[&["show", "--output", "json"], arguments].concat())?)
    };
    for (key_type, _) in KEY_TYPES {
        assert_eq!(show(&[&format!("{key_type}/tls.crt")])?, (true, "[]".into()));
    }
    assert_eq!(show(&["ca/ca.crt"])?, (true, "[]".into()));
    let (good, why) = show(&["ec-p256/tls.crt", "--key", "rsa-2048/tls.key"])?;
    assert!(!good && why.contains("does not belong to the certificate"), "{why}");

    // A leaf without its CA, as cert-manager writes it: the CA lies beside it, or is not known.
    let authority = Authority::generate()?;
    let fine = authority.certificate(&[])?;
    fine.write(&dir.path().join("leaf.crt"), &dir.path().join("leaf.key"))?;
    let (good, why) = show(&["leaf.crt"])?;
    assert!(!good && why.contains("the chain leads to no root"), "{why}");
    fs::write(dir.path().join("ca.crt"), authority.pem())?;
    assert_eq!(show(&["leaf.crt"])?, (true, "[]".into()));
    let (good, why) = show(&["leaf.crt", "--ca", "ca/ca.crt"])?;
    assert!(!good && why.contains("the chain leads to no root"), "{why}");

    let hours = Duration::from_secs(2 * 3600);
    let expired = authority.certificate_until(&["localhost"], SystemTime::now() - hours)?;
    expired.write(&dir.path().join("old.crt"), &dir.path().join("old.key"))?;
    let (good, why) = show(&["old.crt"])?;
    assert!(!good && why == r#"["it has expired: replace it"]"#, "{why}");
    let text = String::from_utf8(certs(dir.path(), &["show", "leaf.crt"])?.stdout)?;
    assert!(text.contains("leaf.key: fits") && text.contains("chain         whole"), "{text}");
    let soon = authority.certificate_until(&["localhost"], SystemTime::now() + hours)?;
    soon.write(&dir.path().join("soon.crt"), &dir.path().join("soon.key"))?;
    let output = certs(dir.path(), &["show", "soon.crt"])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success() && text.contains("warning       it expires in 0 days"), "{text}");
    Ok(())
}

/// Each type of key, served by a gateway, as clients see it.
#[tokio::test]
async fn what_was_issued_is_served_and_verified_by_curl_and_openssl() -> Result<()> {
    let dir = issued()?;
    let site = Site::start()?;
    for (key_type, _) in KEY_TYPES {
        let at = |name: &str| dir.path().join(key_type).join(name);
        let tls = json!({ "certificate": at("tls.crt"), "key": at("tls.key") });
        let gateway = site.gateway(&json!({ "tls": tls })).await?;
        let answer = curl(&dir.path().join("ca/ca.crt"), &gateway.url()).await?;
        assert_eq!(answer, "401", "{key_type}");
        let address = gateway.hostname();
        let client = [
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            "ca/ca.crt",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
        ];
        let text = openssl(dir.path(), &client).await?;
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");

        let show = ["show", "--output", "json", "--connect", &address];
        let with_ca = certs(dir.path(), &[&show[..], &["--ca", "ca/ca.crt"]].concat())?;
        assert_eq!(problems(&with_ca)?, (true, "[]".into()));
        let (good, why) = problems(&certs(dir.path(), &show)?)?;
        assert!(!good && why.contains("give the CA with --ca"), "{why}");
        let other = ["--ca", "ca/ca.crt", "--server-name", "other.example.com"];
        let (good, why) = problems(&certs(dir.path(), &[&show[..], &other].concat())?)?;
        assert!(!good && why.contains("it is not for other.example.com"), "{why}");
        let of_config = gateway.command(&["certs", "show", "--output", "json"]).await?;
        assert_eq!(problems(&of_config)?, (true, "[]".into()));
        let trust = String::from_utf8(gateway.command(&["certs", "trust"]).await?.stdout)?;
        for wanted in [
            format!("/etc/containers/certs.d/{address}/ca.crt"),
            fs::read_to_string(dir.path().join("ca/ca.crt"))?.replace('\r', ""),
            format!("  \"{}\": |", address.replace(':', "..")),
        ] {
            assert!(trust.contains(&wanted), "{wanted} in {trust}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_certificate_that_the_gateway_makes_is_verified_by_curl() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    assert_eq!(curl(&gateway.authority_file(), &gateway.url()).await?, "401");
    let shown = gateway.command(&["certs", "show", "--output", "json"]).await?;
    assert_eq!(problems(&shown)?, (true, "[]".into()));
    // Clients are told to trust another CA than the one that signed it.
    let (ca, other) = (gateway.dir().join("state/ca.pem"), TempDir::new()?);
    let own = fs::read(&ca)?;
    passed(other.path(), &["ca", "--out", "ca"])?;
    fs::copy(other.path().join("ca/ca.crt"), &ca)?;
    let shown = gateway.command(&["certs", "show", "--output", "json"]).await?;
    let (good, why) = problems(&shown)?;
    assert!(!good && why.contains("ca.pem did not sign it"), "{why}");
    fs::write(&ca, own)?;
    // Its CA signs for other names as well.
    let state = gateway.dir().join("state");
    let out: PathBuf = gateway.dir().join("issued");
    let (state, out) = (state.to_string_lossy().into_owned(), out.to_string_lossy().into_owned());
    passed(gateway.dir(), &["issue", "--ca", &state, "--out", &out, "--san", "other.example.com"])?;
    Ok(())
}

/// The status that curl gets from `/v2/`.
async fn curl(ca: &Path, url: &str) -> Result<String> {
    let program = Program::find("curl")?.args(["--silent", "--show-error", "--output", "/dev/null"]);
    let program = program.args(["--write-out", "%{http_code}", "--max-time", "20", "--cacert"]).arg(ca);
    program.arg(format!("{url}/v2/")).run(BOUND).await
}

#[test]
fn all_names_of_a_configuration_are_issued_and_missed() -> Result<()> {
    let dir = TempDir::new()?;
    let config = |more: &str, tls: &str| {
        let text = format!(
            "hostname: edge.example.com:8443\nmore_hostnames: [edge.example.com, {more}]\n{tls}\
             registry: {{url: 'http://127.0.0.1:1', server_name: quay.example.com}}\n\
             zones: {{a: [LocalStorage, {{storage_path: /a}}]}}\n"
        );
        fs::write(dir.path().join("gateway.yaml"), text)
    };
    config("edge.example.org", "")?;
    passed(dir.path(), &["ca", "--out", "ca"])?;
    passed(dir.path(), &["issue", "--ca", "ca", "--out", "out", "--config", "gateway.yaml"])?;
    let shown = passed(dir.path(), &["show", "out/tls.crt", "--ca", "ca/ca.crt", "--output", "json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    assert_eq!(shown[0]["certificates"][0]["names"], json!(["edge.example.com", "edge.example.org"]));
    config("edge.example.net", "tls: {certificate: out/tls.crt, key: out/tls.key}\n")?;
    let missed = certs(dir.path(), &["show", "--config", "gateway.yaml"])?;
    let text = String::from_utf8(missed.stdout)?;
    assert!(!missed.status.success() && text.contains("no certificate is for edge.example.net"), "{text}");
    assert!(!text.contains("no certificate is for edge.example.com"), "{text}");
    Ok(())
}

#[test]
fn names_that_no_certificate_can_have_are_refused_with_the_fix() -> Result<()> {
    let dir = issued()?;
    for (name, wanted) in [
        ("bücher.example", "write xn--bcher-kva.example"),
        ("https://registry.example.com", "no scheme"),
        ("registry.example.com:8443", "write registry.example.com"),
        ("a.*.example.com", "the first label only"),
    ] {
        let error = refused(dir.path(), &["issue", "--ca", "ca", "--out", "new", "--san", name])?;
        assert!(error.contains(wanted), "{error}");
    }
    let many: Vec<_> = (0..101).map(|number| format!("host-{number}.example.com")).collect();
    let error = refused(dir.path(), &["issue", "--ca", "ca", "--out", "new", "--san", &many.join(",")])?;
    assert!(error.contains("at most 100"), "{error}");
    passed(dir.path(), &["ca", "--out", "short", "--days", "100"])?;
    let error = refused(dir.path(), &["issue", "--ca", "short", "--out", "new", "--san", "a.example.com"])?;
    assert!(error.contains("would outlive its CA"), "{error}");
    assert!(!dir.path().join("new").exists());
    Ok(())
}
