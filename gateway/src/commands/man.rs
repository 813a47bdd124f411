//! `man`: one manual page for each command, made from its help.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::brief::first_sentence;
use super::output::print;
use crate::arguments::Arguments;
use crate::exit;

/// What all pages belong to.
const MANUAL: &str = "quay-gateway";

/// The section of user commands.
const SECTION: &str = "1";

/// The seconds since 1970 that builds take for the time, so that they can be repeated
/// (reproducible-builds.org/specs/source-date-epoch).
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Writes the pages into a folder, which is made if it is missing.
pub(crate) fn man(dir: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let pages = pages(&date(std::env::var(EPOCH_VARIABLE).ok().as_deref())?)?;
    for (name, page) in &pages {
        let path = dir.join(name);
        std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&format!("{} pages are in {}\n", pages.len(), dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The date of the pages, `YYYY-MM-DD`.
fn date(epoch: Option<&str>) -> anyhow::Result<String> {
    let wrong = || format!("{EPOCH_VARIABLE} is not a number of seconds");
    let time = match epoch {
        Some(epoch) => {
            let since = Duration::from_secs(epoch.parse().with_context(wrong)?);
            UNIX_EPOCH.checked_add(since).with_context(wrong)?
        }
        None => SystemTime::now(),
    };
    // A time is written as 2026-01-31T…
    let text = humantime::format_rfc3339_seconds(time).to_string();
    Ok(text.split('T').next().unwrap_or_default().to_owned())
}

/// The file name and the text of every page.
fn pages(date: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut left = vec![(program, None)];
    let mut pages = Vec::new();
    while let Some((command, above)) = left.pop() {
        let name = name(&command);
        pages.push((format!("{name}.{SECTION}"), page(&command, above.as_deref(), date)?));
        let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
        left.extend(visible.map(|command| (command.clone(), Some(name.clone()))));
    }
    pages.sort();
    Ok(pages)
}

/// The name of a page, such as `quay-gateway-zones-drain`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// The page of a command. `above` is the name of the page of the command that it belongs to.
fn page(command: &Command, above: Option<&str>, date: &str) -> anyhow::Result<String> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let whole = command.get_long_about().map_or_else(|| about.clone(), ToString::to_string);
    // What stands at the end of the help has sections of its own here.
    let bare = command
        .clone()
        .about(first_sentence(&about).to_owned())
        .long_about(whole)
        .after_help(None::<&str>)
        .after_long_help(None::<&str>);
    let man = Man::new(bare)
        .title(name(command).to_uppercase())
        .section(SECTION)
        .date(date)
        .source(concat!("quay-gateway ", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    let mut text = Vec::new();
    man.render(&mut text)?;
    let mut roff = Roff::new();
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    examples(&mut roff, &after.map(ToString::to_string).unwrap_or_default());
    statuses(&mut roff);
    see_also(&mut roff, command, above);
    // An empty line between two breaks is one space.
    let text = String::from_utf8(text)?.replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(text + &roff.to_roff())
}

/// The examples, each line as it is.
fn examples(roff: &mut Roff, after: &str) {
    let lines = after.lines().skip_while(|line| !line.starts_with("Example"));
    let lines: Vec<_> = lines.skip(1).take_while(|line| line.starts_with("  ")).collect();
    if lines.is_empty() {
        return;
    }
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in lines {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

fn statuses(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in exit::STATUSES {
        roff.control("TP", []).text([bold(status.to_string())]).text([roman(meaning)]);
    }
}

/// The pages of the command above and of those below.
fn see_also(roff: &mut Roff, command: &Command, above: Option<&str>) {
    let below = command.get_subcommands().filter(|command| !command.is_hide_set()).map(name);
    let names: Vec<_> = above.map(str::to_owned).into_iter().chain(below).collect();
    let mut text = Vec::new();
    for name in names {
        text.extend([roman(if text.is_empty() { "" } else { ", " }), bold(name), roman("(1)")]);
    }
    if !text.is_empty() {
        roff.control("SH", ["SEE ALSO"]).text(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples() -> anyhow::Result<()> {
        let pages = pages("2026-01-31")?;
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["quay-gateway.1", "quay-gateway-check-config.1", "quay-gateway-zones-drain.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for (name, page) in &pages {
            assert!(page.contains(".SH EXAMPLES\n.nf\n"), "{name}: {page}");
            assert!(page.contains(".SH \"EXIT STATUS\"\n"), "{name}: {page}");
        }
        Ok(())
    }

    #[test]
    fn the_date_can_be_given() -> anyhow::Result<()> {
        assert_eq!(date(Some("86400"))?, "1970-01-02");
        assert!(date(Some("yesterday")).is_err() && date(Some("18446744073709551615")).is_err());
        Ok(())
    }
}
