//! The objects for OpenShift against their schemas, and the filter for pull secrets with the real jq.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use real_servers::Program;
use serde_json::{Value, json};

use crate::fixture::Fixture;

const BOUND: Duration = Duration::from_secs(60);
const FILTER: &str = "quay-gateway/3-pull-secret.jq";

/// A pull secret after the filter that `clients openshift` wrote.
pub(crate) async fn filtered(fixture: &Fixture, secret: &Value) -> Result<String> {
    let input = fixture.written("pull-secret.json");
    std::fs::write(&input, secret.to_string())?;
    Program::find("jq")?.arg("--from-file").arg(fixture.written(FILTER)).arg(input).run(BOUND).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_objects_fit_their_schemas() -> Result<()> {
    let fixture = Fixture::start().await?;
    let ca = fixture.registry_ca();
    let printed = fixture.write(&["openshift", "--registry-ca", &ca]).await?;
    ensure!(printed.contains("oc apply -f quay-gateway/4-image-digest-mirror-set.yaml"), "{printed}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/objects.py");
    let checked =
        Program::python("kubernetes")?.arg(script).arg(fixture.written("quay-gateway")).run(BOUND).await?;
    ensure!(checked.lines().count() == 4, "{checked}");
    Ok(())
}

/// The commands for the pull secret, as they are printed, with an `oc` that has the secret in a file.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_for_the_pull_secret_leave_nothing_and_touch_no_other_file() -> Result<()> {
    let fixture = Fixture::start().await?;
    let printed = fixture.write(&["openshift"]).await?;
    let (start, end) = (printed.find("\n(\n"), printed.find("\n)\n"));
    let (Some(start), Some(end)) = (start, end) else { anyhow::bail!("no commands: {printed}") };
    let folder = fixture.written("");
    std::fs::create_dir_all(folder.join("tmp"))?;
    std::fs::write(folder.join("pull-secret.json"), "Red Hat's download")?;
    let oc = "oc() { case $1 in get) cat cluster;; set) for last; do :; done; cat \"${last##*=}\" > new && mv new cluster;; esac; }";
    let script = format!("export TMPDIR=$PWD/tmp\n{oc}\n{}\n)\n", &printed[start..end]);
    let run =
        || -> Result<_> { Ok(Program::find("bash")?.args(["-c", &script]).in_folder(&folder).run(BOUND)) };
    let registry = fixture.site.quay.hostname();
    // The filter fails, so nothing is set.
    std::fs::write(folder.join("cluster"), "{}")?;
    run()?.await.expect_err("there is no entry");
    ensure!(std::fs::read_to_string(folder.join("cluster"))? == "{}");
    std::fs::write(
        folder.join("cluster"),
        json!({ "auths": { registry: { "auth": "cXVheQ==" } } }).to_string(),
    )?;
    run()?.await?;
    let set: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cluster"))?)?;
    ensure!(set["auths"][fixture.gateway.hostname()]["auth"] == "cXVheQ==", "{set}");
    ensure!(std::fs::read_to_string(folder.join("pull-secret.json"))? == "Red Hat's download");
    ensure!(std::fs::read_dir(folder.join("tmp"))?.count() == 0, "a copy of the secret is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_adds_the_gateways_logins_and_keeps_all_others() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.write(&["openshift"]).await?;
    let (gateway, registry) = (fixture.gateway.hostname(), fixture.site.quay.hostname());
    let entry = |text: &str| json!({ "auth": text, "email": "a@example.com" });
    let mut secret = json!({ "auths": {
        "quay.io": entry("b3RoZXI="), registry: entry("cXVheQ=="), format!("{registry}/team"): entry("dGVhbQ=="),
        format!("{registry}0"): entry("bm90IGl0"),
    }});
    let output: Value = serde_json::from_str(&filtered(&fixture, &secret).await?)?;
    secret["auths"][&gateway] = entry("cXVheQ==");
    secret["auths"][format!("{gateway}/team")] = entry("dGVhbQ==");
    ensure!(output == secret, "{output:#}");

    // A second time changes nothing.
    let again: Value = serde_json::from_str(&filtered(&fixture, &secret).await?)?;
    ensure!(again == secret, "{again:#}");

    for without in [json!({ "auths": { "quay.io": entry("c2VjcmV0") } }), json!({})] {
        let error = format!("{:#}", filtered(&fixture, &without).await.expect_err("nothing to copy"));
        ensure!(error.contains("there is no entry for") && !error.contains("c2VjcmV0"), "{error}");
    }
    Ok(())
}
