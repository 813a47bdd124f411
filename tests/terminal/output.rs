//! Results are the same in every format, and obey `NO_COLOR` on a terminal.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{Site, ZONES};
use serde_json::{Value, json};

use super::{quay_gateway, run};

/// What a command prints in a format.
async fn printed(gateway: &Gateway, words: &[&str], format: &str) -> Result<String> {
    let arguments: Vec<_> = words.iter().copied().chain(["--output", format]).collect();
    let output = gateway.command(&arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Every path in a value, and the type of what is there.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| shape(value, &format!("{path}/{key}"), found))
        }
        Value::Array(list) => list.iter().for_each(|value| shape(value, &format!("{path}/*"), found)),
        // A number or a time may come between two runs of the command.
        _ => _ = found.insert(path.to_owned()),
    }
}

fn shaped(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}

#[tokio::test]
async fn every_format_has_the_same_fields() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let commands: [(&[&str], &str, usize); 8] = [
        (&["zones"], "/zones/0", ZONES.len()),
        (&["queue"], "/zones/0", ZONES.len()),
        (&["queue", "sweep"], "", 1),
        (&["queue", "ls"], "", 0),
        (&["check"], "/registry/steps/0", 3),
        (&["check-config"], "/settings/0", 20),
        (&["zones", "drain", "zone-b"], "", 1),
        (&["zones", "undrain", "zone-b"], "", 1),
    ];
    for (words, record, records) in commands {
        let text = printed(&gateway, words, "json").await?;
        let wanted: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let text = printed(&gateway, words, "yaml").await?;
        let yaml: Value = serde_saphyr::from_str(&text).with_context(|| text.clone())?;
        ensure!(shaped(&yaml) == shaped(&wanted), "{words:?}: {text}");
        let csv = printed(&gateway, words, "csv").await?;
        let mut lines = csv.lines();
        let names: BTreeSet<_> = lines.next().context("no names of columns")?.split(',').collect();
        // Lists within a record have columns of their own names, or none.
        for (key, value) in wanted.pointer(record).and_then(Value::as_object).into_iter().flatten() {
            ensure!(
                value.is_array() || value.is_object() || names.contains(&**key),
                "{words:?}: {key} of {names:?}"
            );
        }
        ensure!(lines.count() >= records, "{words:?}: {csv}");
        let table = printed(&gateway, words, "table").await?;
        ensure!(!table.is_empty() && !table.contains('\u{1b}'), "{words:?}: {table}");
    }
    Ok(())
}

#[tokio::test]
async fn an_audit_has_the_same_findings_as_json_and_as_yaml() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let image = Spec::layers(1, &[4000]).build()?;
    let blob = &image.layers[0];
    site.zone("zone-a").write(&blob.digest, &blob.bytes()?)?;
    let mut findings = Vec::new();
    for format in ["json", "yaml"] {
        let arguments = ["audit", "--quiet", "--min-age", "0s", "--output", format];
        let output = gateway.command(&arguments).await?;
        ensure!(output.status.code() == Some(3), "{output:?}");
        // JSON is YAML.
        let report: Value = serde_saphyr::from_slice(&output.stdout)?;
        ensure!(report["blobs"]["objects"] == 1, "{report:#}");
        findings.push(report["findings"].as_array().context("findings")?.clone());
    }
    ensure!(findings[0] == findings[1] && findings[0].len() == 2, "{findings:#?}");
    Ok(())
}

/// What a command writes to a terminal.
fn on_terminal(arguments: &[&str], no_colour: Option<&str>) -> Result<String> {
    let command = quay_gateway(arguments);
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]).env("TERM", "xterm");
    script.env_remove("NO_COLOR").env_remove("QUAY_GATEWAY_CONFIG").stdin(std::process::Stdio::null());
    run(script.envs(no_colour.map(|value| ("NO_COLOR", value))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_colours_unless_they_are_forbidden() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let config = gateway.config_file().display().to_string();
    for arguments in
        [&["zones", "--config", &config][..], &["queue", "--config", &config], &["zones", "--help"]]
    {
        for (no_colour, coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
            let shown = on_terminal(arguments, no_colour)?;
            // SGR (ECMA-48): colours and bold letters.
            ensure!(shown.contains("\u{1b}[") == coloured, "{arguments:?} {no_colour:?}: {shown:?}");
        }
    }
    Ok(())
}
