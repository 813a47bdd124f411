//! Every input of the corpus keeps the properties of its fuzz target. This needs neither cargo-fuzz nor libFuzzer.

mod properties;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Runs the inputs in the folder of this target.
fn hold(target: &str, property: fn(&[u8])) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        // The name of the input that fails is the last in the output.
        eprintln!("{}", path.display());
        property(&std::fs::read(&path)?);
        inputs += 1;
    }
    ensure!(inputs > 0, "{} has no inputs", folder.display());
    Ok(())
}

#[test]
fn challenges_lead_to_no_other_host() -> Result<()> {
    hold("challenge", properties::challenge::hold)
}

#[test]
fn manifests_name_no_blob_that_is_elsewhere() -> Result<()> {
    hold("manifest", properties::manifest::hold)
}

#[test]
fn ranges_are_within_the_blob() -> Result<()> {
    hold("range", properties::range::hold)
}

#[test]
fn routes_are_those_that_quay_sees() -> Result<()> {
    hold("route", properties::route::hold)
}

#[test]
fn only_signed_tokens_are_verified() -> Result<()> {
    hold("token", properties::token::hold)
}
