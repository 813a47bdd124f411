//! Writes the reference of the command line from the commands' own help.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

const PAGE: &str = "docs/src/reference/cli.md";

/// A command, such as `zones drain`, and what `--help` says of it.
struct Command {
    words: Vec<String>,
    help: String,
}

impl Command {
    /// Asks the binary.
    fn ask(words: Vec<String>) -> Result<Self> {
        let output = std::process::Command::new(harness::gateway::binary())
            .args(&words)
            .arg("--help")
            // The help names its value.
            .env_remove("QUAY_GATEWAY_CONFIG")
            .output()?;
        ensure!(output.status.success(), "{words:?} --help fails");
        let help = String::from_utf8(output.stdout)?;
        Ok(Self { words, help })
    }

    /// The words of its subcommands.
    fn subcommands(&self) -> Vec<Vec<String>> {
        let list = self.help.split("\nCommands:\n").nth(1).unwrap_or_default();
        let lines = list.lines().take_while(|line| !line.is_empty());
        let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("    "));
        let names = named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.map(|name| self.words.iter().cloned().chain([name.to_owned()]).collect()).collect()
    }

    /// The first sentence of its help.
    fn purpose(&self) -> Result<&str> {
        let line = self.help.lines().next().context("no help")?;
        Ok(line.split([':', '.']).next().unwrap_or(line))
    }
}

/// All commands: each one before its subcommands.
fn commands() -> Result<Vec<Command>> {
    let mut left = Command::ask(Vec::new())?.subcommands();
    left.reverse();
    let mut commands = Vec::new();
    while let Some(words) = left.pop() {
        let command = Command::ask(words)?;
        left.extend(command.subcommands().into_iter().rev());
        commands.push(command);
    }
    ensure!(commands.len() > 10, "the help was not parsed: {} commands", commands.len());
    Ok(commands)
}

/// The exit statuses at the end of the program's own help, as a table.
fn statuses() -> Result<String> {
    let program = Command::ask(Vec::new())?;
    let list = program.help.split("\nExit statuses:\n").nth(1).context("no exit statuses")?;
    let mut table = String::from("| status | |\n| --- | --- |\n");
    for line in list.lines().filter(|line| !line.trim().is_empty()) {
        let (status, meaning) = line.trim().split_once(' ').context(line.to_owned())?;
        writeln!(table, "| {} | {} |", status.parse::<u8>()?, meaning.trim())?;
    }
    Ok(table)
}

/// Characters of a line on the page.
const WIDTH: usize = 100;

/// Breaks long lines. The rest of a line is indented like its beginning.
fn wrapped(help: &str) -> String {
    let mut made = String::new();
    for line in help.trim_end().lines().map(str::trim_end) {
        let indent = line.len() - line.trim_start().len();
        // The text of a subcommand stands in a second column.
        let second = line[indent..].split_once("  ").map(|(_, text)| line.len() - text.trim_start().len());
        let hang = second.filter(|_| indent == 2).unwrap_or(indent);
        let mut width = 0;
        for word in line[indent..].split(' ') {
            if width > hang && width + 1 + word.len() > WIDTH {
                made.push_str(&format!("\n{:hang$}", ""));
                width = hang;
            } else if width == 0 {
                made.push_str(&line[..indent]);
                width = indent;
            } else {
                made.push(' ');
                width += 1;
            }
            made.push_str(word);
            width += word.len();
        }
        made.push('\n');
    }
    made.trim_end().to_owned()
}

#[test]
fn the_page_has_every_commands_help() -> Result<()> {
    let commands = commands()?;
    let (mut table, mut sections) =
        (String::from("| command | what it does |\n| --- | --- |\n"), String::new());
    for command in &commands {
        let name = command.words.join(" ");
        let purpose = command.purpose()?.replace('|', "\\|");
        writeln!(table, "| [`{name}`](#{}) | {purpose} |", command.words.join("-"))?;
        writeln!(sections, "### `{name}`\n\n```text\n{}\n```\n", wrapped(&command.help))?;
    }
    super::check(PAGE, "cli", &table)?;
    super::check(PAGE, "exit-statuses", &statuses()?)?;
    super::check(PAGE, "cli-help", sections.trim_end())
}
