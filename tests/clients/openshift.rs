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
