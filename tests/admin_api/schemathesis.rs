//! schemathesis calls every operation of the document with right and with wrong requests.

use std::time::Duration;

use anyhow::{Context as _, Result};
use real_servers::{Program, tools};

use crate::fixture::{AdminApi, TOKEN};

/// The timeout of a run, which is many times longer than it takes.
const RUN: Duration = Duration::from_secs(300);

/// The operation whose answer has no end. The tests of the web page call it.
const ENDLESS: &str = "live";

/// The examples of an operation in each phase.
const EXAMPLES: &str = "25";

fn program(name: &str) -> Result<Program> {
    Program::at(&tools().join("openapi/bin").join(name))
}

#[tokio::test]
async fn the_document_is_valid() -> Result<()> {
    let (api, dir) = (AdminApi::start().await?, tempfile::tempdir()?);
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, api.document().await?.to_string())?;
    let said = program("openapi-spec-validator")?.arg(&file).run(RUN).await?;
    assert!(said.ends_with(": OK\n"), "{said}");
    Ok(())
}

/// The seed is fixed, and no check looks at times, so each run makes the same requests.
#[tokio::test]
async fn the_gateway_does_what_the_document_says() -> Result<()> {
    let (api, dir) = (AdminApi::start().await?, tempfile::tempdir()?);
    let said = program("schemathesis")?
        .in_folder(dir.path())
        .args(["--no-color", "run", &api.url("/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--header", "quay-gateway-command: 1"])
        // Without a filter, the path of the document itself is left out.
        .args(["--include-path-regex", "."])
        .args(["--exclude-operation-id", ENDLESS])
        .args(["--checks", "all", "--max-examples", EXAMPLES, "--seed", "1"])
        .args(["--generation-database", "none", "--suppress-health-check", "all"])
        .run(RUN)
        .await?;
    let operations = api.document().await?["paths"]
        .as_object()
        .context("paths")?
        .values()
        .flat_map(|path| path.as_object().into_iter().flatten())
        .filter(|(key, _)| *key != "parameters")
        .count();
    let called = operations - 1;
    assert!(said.contains(&format!("Selected: {called}/{operations}\n")), "{operations}: {said}");
    assert!(!api.gateway.log().contains(TOKEN));
    Ok(())
}
