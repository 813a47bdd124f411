//! What the command prints, writes and refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use real_servers::Program;
use serde_json::json;

use crate::fixture::Fixture;

/// The command must fail, print nothing to standard output, and say this. Returns its standard error.
async fn refused(fixture: &Fixture, arguments: &[&str], says: &str) -> Result<String> {
    let output = fixture.clients(arguments).await?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {error}");
    ensure!(error.contains(says), "{arguments:?}: {error}");
    Ok(error)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_the_fix() -> Result<()> {
    let fixture = Fixture::start().await?;
    let at = |name: &str| fixture.written(name).display().to_string();
    for (option, value, says) in [
        ("--gateway", "https://edge.example.com", "leave out the scheme"),
        ("--registry", "quay.example.com/team", "leave out everything after the first /"),
        ("--gateway", "../../etc/passwd:1", "leave out everything after the first /"),
        ("--gateway", "edge.example.com\"\n[x]", "the host must be a name"),
        ("--ca", &at("none.pem"), "cannot read the CA"),
    ] {
        refused(&fixture, &["podman", option, value], says).await?;
    }
    let key = Program::find("openssl")?.args(["genpkey", "-algorithm", "ed25519"]);
    let key = key.run(std::time::Duration::from_secs(60)).await?;
    fs::write(at("key.pem"), &key)?;
    for option in ["--ca", "--registry-ca"] {
        let error = refused(&fixture, &["podman", option, &at("key.pem")], "holds a private key").await?;
        let secret = key.lines().nth(1).unwrap_or_default();
        ensure!(secret.len() > 20 && !error.contains(secret), "{error}");
    }
    fs::write(at("text.pem"), "no certificate")?;
    refused(&fixture, &["podman", "--ca", &at("text.pem")], "holds no certificate").await?;
    refused(&fixture, &["docker", "--as", "mirror"], "use --as name").await?;
    let gateway = fixture.gateway.hostname();
    let same = ["containerd", "--as", "mirror", "--registry", &gateway];
    refused(&fixture, &same, "the gateway has the registry's own name").await?;
    refused(&fixture, &["podman", "--force"], "--write").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_read_is_refused_and_not_needed_if_the_options_say_all() -> Result<()>
{
    let fixture = Fixture::start().await?;
    let ca = fixture.registry_ca();
    fixture.gateway.configure(&json!({ "hostname": "https://wrong" }))?;
    let output = fixture.clients(&["skopeo"]).await?;
    ensure!(output.status.code() == Some(78), "{output:?}");
    // Without a dot, no registry's name in an image: by name, nothing depends on it.
    let mut quay = fixture.site.quay.config();
    quay["SERVER_HOSTNAME"] = "quay".into();
    fs::write(fixture.gateway.dir().join("quay.yaml"), quay.to_string())?;
    fixture.gateway.configure(&fixture.site.gateway_config(&json!({})))?;
    refused(&fixture, &["podman"], "use --as name").await?;
    let output = fixture.clients(&["podman", "--as", "name"]).await?;
    ensure!(output.status.success(), "{output:?}");
    let all = ["--gateway", "edge.example.com", "--registry", "quay.example.com", "--ca", &ca];
    let arguments: Vec<_> = ["skopeo"].iter().chain(&all).copied().collect();
    fixture.gateway.configure(&json!({ "hostname": "https://wrong" }))?;
    let output = fixture.clients(&arguments).await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && text.contains("location = \"edge.example.com\""), "{text}");
    Ok(())
}

/// CIS sets the umask 027. One file of `registries.conf.d` that a user cannot read stops podman for all registries.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_read_the_files_whatever_the_umask_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "umask 077; exec \"$0\" clients podman --gateway edge.example.com --registry quay.example.com --write tree";
    let output =
        Program::find("sh")?.args(["-c", script]).arg(harness::gateway::binary()).in_folder(folder.path());
    output.run(std::time::Duration::from_secs(60)).await?;
    let mode = |path: &str| -> Result<u32> {
        Ok(fs::metadata(folder.path().join(path))?.permissions().mode() & 0o777)
    };
    for parent in ["tree", "tree/etc", "tree/etc/containers", "tree/etc/containers/registries.conf.d"] {
        ensure!(mode(parent)? == 0o755, "{parent}: {:o}", mode(parent)?);
    }
    let file = "tree/etc/containers/registries.conf.d/999-quay-gateway.conf";
    ensure!(mode(file)? == 0o644, "{:o}", mode(file)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubtful_name_or_ca_is_said() -> Result<()> {
    let fixture = Fixture::start().await?;
    let state = fixture.gateway.dir().join("state");
    let leaf = fs::read_to_string(state.join("tls.crt"))?;
    let end = "-----END CERTIFICATE-----\n";
    let leaf_file = fixture.written("leaf.pem");
    fs::write(&leaf_file, leaf.split_inclusive(end).next().unwrap_or_default())?;
    let leaf_file = leaf_file.display().to_string();
    for (option, value, says) in [
        ("--gateway", "other.example.com", "other.example.com is neither hostname nor in more_hostnames"),
        ("--ca", &leaf_file, "--ca names no CA, but a server's certificate"),
    ] {
        let text = String::from_utf8(fixture.clients(&["podman", option, value]).await?.stdout)?;
        ensure!(text.contains(says), "{text}");
        let text = String::from_utf8(fixture.clients(&["podman"]).await?.stdout)?;
        ensure!(!text.contains("neither hostname") && !text.contains("names no CA"), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_others_are_replaced_only_by_force() -> Result<()> {
    let fixture = Fixture::start().await?;
    let drop_in = "etc/containers/registries.conf.d/999-quay-gateway.conf";
    let first = fixture.write(&["podman"]).await?;
    ensure!(first.matches("wrote ").count() == 2 && first.contains("podman login localhost:"), "{first}");
    let again = fixture.write(&["podman"]).await?;
    ensure!(again.matches(" is the same already").count() == 2, "{again}");

    let ours = fs::read(fixture.written(drop_in))?;
    fs::write(fixture.written(drop_in), "theirs")?;
    let refused = fixture.write(&["podman"]).await.expect_err("is another file");
    ensure!(format!("{refused:#}").contains("--force"), "{refused:#}");
    ensure!(fs::read(fixture.written(drop_in))? == b"theirs");

    let forced = fixture.write(&["podman", "--force"]).await?;
    ensure!(forced.contains("what was there is"), "{forced}");
    ensure!(fs::read(fixture.written(drop_in))? == ours);
    ensure!(fs::read(fixture.written(&format!("{drop_in}.orig")))? == b"theirs");
    Ok(())
}
