//! The admin API over TLS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::site::Site;
use real_servers::Program;
use serde_json::json;

/// The timeout of a client.
const CLIENT: Duration = Duration::from_secs(30);

async fn gateway(site: &Site) -> Result<Gateway> {
    site.gateway_with(
        &json!({"admin": {"tls": true, "token_file": "token"}}),
        &[("token", crate::fixture::TOKEN)],
    )
    .await
}

async fn said_by(gateway: &Gateway, arguments: &[&str]) -> Result<(bool, String)> {
    let output = gateway.command(arguments).await?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((output.status.success(), said))
}

#[tokio::test]
async fn commands_speak_tls_and_verify_the_gateway() -> Result<()> {
    let site = Site::start()?;
    let gateway = gateway(&site).await?;
    let admin = gateway.admin_address().to_string();
    for arguments in [&["zones"][..], &["queue"], &["zones", "drain", "zone-b"], &["top", "--once"]] {
        let (ok, said) = said_by(&gateway, arguments).await?;
        ensure!(ok, "{arguments:?}: {said}");
    }
    let ca = gateway.authority_file().display().to_string();
    // Without the configuration, the CA must be given.
    let program = || {
        Program::at(&harness::gateway::binary())
            .map(|program| program.args(["zones", "--admin", &admin, "--server-name", "localhost"]))
    };
    let shown = program()?.args(["--ca", &ca]).run(CLIENT).await?;
    ensure!(shown.contains("zone-c"), "{shown}");
    let plain = program()?.run(CLIENT).await.err().context("plain HTTP is refused")?;
    ensure!(format!("{plain:#}").contains("no gateway answers at http://"), "{plain:#}");
    let other = harness::certs::Authority::generate()?;
    let file = gateway.dir().join("other.pem");
    std::fs::write(&file, other.pem())?;
    let wrong = program()?.arg("--ca").arg(&file).run(CLIENT).await.err().context("another CA is refused")?;
    ensure!(format!("{wrong:#}").contains("signed by a CA that --ca"), "{wrong:#}");
    Ok(())
}

/// The certificate is for the name that clients dial, and commands dial the address of `admin.listen`.
#[tokio::test]
async fn the_name_may_be_another_than_the_address() -> Result<()> {
    let site = Site::start()?;
    let quay = site.quay.config().to_string();
    let admin = json!({"tls": true});
    for hostname in ["registry.example.com:8443", "10.1.2.3:8443"] {
        let config = site.gateway_config(&json!({"hostname": hostname, "admin": admin}));
        let mut gateway = Gateway::prepare(&config, &[("quay.yaml", &quay)])?;
        gateway.spawn().await?;
        let (ok, said) = said_by(&gateway, &["zones", "drain", "zone-b"]).await?;
        ensure!(ok && said.contains("zone-b is drained"), "{hostname}: {said}");
        let checked = said_by(&gateway, &["check", "--output", "json"]).await?.1;
        let checked: serde_json::Value = serde_json::from_str(&checked)?;
        ensure!(checked["admin"]["ok"] == true, "{hostname}: {checked:#}");
    }
    Ok(())
}

/// The chain of a configured certificate ends with its CA, which nothing else names.
#[tokio::test]
async fn the_ca_in_a_configured_chain_is_trusted() -> Result<()> {
    let site = Site::start()?;
    let authority = harness::certs::Authority::generate()?;
    let certificate = authority.certificate(&["registry.example.com"])?;
    let chain = format!("{}{}", certificate.chain, authority.pem());
    let quay = site.quay.config().to_string();
    let config = site.gateway_config(&json!({
        "hostname": "registry.example.com:8443", "admin": {"tls": true},
        "tls": {"certificate": "tls.crt", "key": "tls.key"},
    }));
    let files = [("quay.yaml", &*quay), ("tls.crt", &*chain), ("tls.key", &*certificate.key)];
    let mut gateway = Gateway::prepare(&config, &files)?;
    gateway.spawn().await?;
    let (ok, said) = said_by(&gateway, &["zones"]).await?;
    ensure!(ok && said.contains("zone-c"), "{said}");
    Ok(())
}

#[tokio::test]
async fn operators_and_scrapers_need_no_certificate() -> Result<()> {
    let site = Site::start()?;
    let client_ca = harness::certs::Authority::generate()?.pem();
    let config = json!({"admin": {"tls": true}, "tls": {"client_ca": "client-ca.pem"}});
    let gateway = site.gateway_with(&config, &[("client-ca.pem", &client_ca)]).await?;
    let url = format!("https://localhost:{}", gateway.admin_address().port());
    let curl = |path: &str| {
        let curl = Program::find("curl").map(|curl| curl.args(["--silent", "--fail", "--cacert"]));
        Ok::<_, anyhow::Error>(curl?.arg(gateway.authority_file()).arg(format!("{url}{path}")))
    };
    for (path, part) in
        [("/healthz", "ok"), ("/metrics", "quay_gateway_"), ("/api/v1/zones", "zone-c"), ("/readyz", "ok")]
    {
        let text = curl(path)?.run(CLIENT).await?;
        ensure!(text.contains(part), "{path}: {text}");
    }
    Ok(())
}
