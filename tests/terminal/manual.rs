//! The manual pages are correct, and there is one for each command.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{quay_gateway, run};

#[test]
fn mandoc_has_no_warning_about_any_page() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("man1");
    let path = out.to_str().context("a path in UTF-8")?;
    let mut man = quay_gateway(&["man", "--out", path]);
    let said = run(man.env("SOURCE_DATE_EPOCH", "86400"))?;
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(&out)? {
        pages.push(entry?.path());
    }
    assert!(said.starts_with(&format!("{} pages are in ", pages.len())) && pages.len() > 20, "{said}");
    // With a warning, the status is not 0.
    run(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&pages))?;
    let shown = run(Command::new("mandoc").args(["-T", "ascii"]).arg(out.join("quay-gateway-queue-why.1")))?;
    let plain = typed_once(&shown);
    for text in [
        "quay-gateway queue why sha256:",
        "1970-01-02",
        "QUAY_GATEWAY_CONFIG",
        "the configuration is refused",
    ] {
        assert!(plain.contains(text), "{text}: {plain}");
    }
    Ok(())
}

#[test]
fn the_packages_have_pages_and_completions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/packages/terminal-files");
    run(Command::new(script).arg(harness::gateway::binary()).arg(folder.path()))?;
    let share = folder.path().join("usr/share");
    for (file, text) in [
        ("man/man1/quay-gateway-zones.1", ".TH QUAY"),
        ("bash-completion/completions/quay-gateway", "complete -F"),
        ("zsh/vendor-completions/_quay-gateway", "#compdef quay-gateway"),
        ("zsh/site-functions/_quay-gateway", "#compdef quay-gateway"),
        ("fish/vendor_completions.d/quay-gateway.fish", "complete -c quay-gateway"),
    ] {
        let written = std::fs::read_to_string(share.join(file)).with_context(|| file.to_owned())?;
        assert!(written.contains(text), "{file}: {written}");
    }
    Ok(())
}

/// The text without letters that a backspace takes back: bold ones are typed twice, as for an old printer.
fn typed_once(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        if letter == '\u{8}' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    plain
}
