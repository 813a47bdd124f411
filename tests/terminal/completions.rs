//! bash, zsh and fish complete commands with what `quay-gateway completions` prints.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::{quay_gateway, run};

/// Writes the completions for a shell into a file of this name.
fn written(shell: &str, name: &str) -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(name);
    std::fs::write(&file, run(&mut quay_gateway(&["completions", shell]))?)?;
    Ok((dir, file))
}

#[test]
fn bash_completes_commands_and_options() -> Result<()> {
    let (_dir, file) = written("bash", "quay-gateway")?;
    let script = r#"
        source "$1"
        read -r _ _ completer _ < <(complete -p quay-gateway | sed 's/.* -F / - -F /')
        completed() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            "$completer" quay-gateway "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[@]}"
        }
        completed quay-gateway zones dr
        completed quay-gateway audit --output ''
    "#;
    run(Command::new("bash").arg("-n").arg(&file))?;
    let said = run(Command::new("bash").args(["--norc", "-c", script, "bash"]).arg(&file))?;
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0] == "drain" && lines[1].starts_with("table json"), "{said}");
    Ok(())
}

#[test]
fn zsh_loads_the_completions() -> Result<()> {
    let (dir, file) = written("zsh", "_quay-gateway")?;
    run(Command::new("zsh").args(["--no-rcs", "-n"]).arg(&file))?;
    let script = "fpath=($1 $fpath); autoload -Uz compinit; compinit -D -u; autoload +X _quay-gateway
        print -r -- $_comps[quay-gateway]";
    let said = run(Command::new("zsh").args(["--no-rcs", "-c", script, "zsh"]).arg(dir.path()))?;
    assert_eq!(said.trim(), "_quay-gateway");
    Ok(())
}

#[test]
fn fish_completes_commands_with_one_sentence() -> Result<()> {
    let (_dir, file) = written("fish", "quay-gateway.fish")?;
    run(Command::new("fish").args(["--no-config", "--no-execute"]).arg(&file))?;
    let script = "source $argv[1]; complete --do-complete 'quay-gateway zones d'";
    let home = tempfile::tempdir()?;
    let mut fish = Command::new("fish");
    fish.args(["--no-config", "-c", script]).arg(&file).env("HOME", home.path());
    let said = run(&mut fish)?;
    assert_eq!(said.trim(), "drain\tStop reads from a zone, for maintenance of its store");
    Ok(())
}
