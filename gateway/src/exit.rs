//! The exit statuses of all commands. No command ends with another one.

use std::process::ExitCode;

use operations::config_diff::ConfigDiff;

/// The command failed, or something that it checked is wrong.
const FAILED: u8 = 1;

/// The command line is wrong. clap ends the process with it.
const USAGE: u8 = 2;

/// The command did its work, and the answer is no.
const FOUND: u8 = 3;

/// The command did its work, and a restart is needed.
const RESTART: u8 = 4;

/// A configuration that is refused, as `sysexits.h` has it (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// Every status and what it means, for the help, the manual pages and the book.
pub(crate) const STATUSES: [(u8, &str); 6] = [
    (
        0,
        "success; for check, audit, heal, warm, cache verify, cache import, zones retire: and nothing was found against it; for config diff: nothing differs",
    ),
    (
        FAILED,
        "the command failed; for check: something failed; for bench zones: a read failed; for certs show: something is wrong",
    ),
    (USAGE, "the command line is wrong"),
    (
        FOUND,
        "audit: something is missing or wrong; heal: something cannot be mended; zones retire: the answer is no; warm: an image is not whole in the cache; cache verify, cache import: something is wrong or missing; config diff: something differs, and a reload applies all of it",
    ),
    (RESTART, "config diff: something differs, and a part of it needs a restart"),
    (CONFIG, "the configuration is refused"),
];

/// The status of a command that ends with this error.
pub(crate) fn of_error(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<config::ConfigError>() { CONFIG } else { FAILED })
}

/// The status of a command that checks: whether everything passed.
pub(crate) fn of_check(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// The status of a command that looks for something: whether nothing was found.
pub(crate) fn of_search(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}

/// The status of a command that compares configurations.
pub(crate) fn of_diff(diff: &ConfigDiff) -> ExitCode {
    match (diff.needs_restart, diff.changes.is_empty()) {
        (true, _) => ExitCode::from(RESTART),
        (false, clean) => of_search(clean),
    }
}

/// The statuses as they stand at the end of the help.
pub(crate) fn help() -> String {
    let lines = STATUSES.iter().map(|(status, meaning)| format!("  {status:<3} {meaning}\n"));
    format!("Exit statuses:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_configuration_have_their_own_status() {
        let refused = config::load(std::path::Path::new("/no/such/file")).expect_err("there is no file");
        assert_eq!(of_error(&refused.into()), ExitCode::from(CONFIG));
        assert_eq!(of_error(&anyhow::anyhow!("another")), ExitCode::from(FAILED));
    }

    #[test]
    fn every_status_is_listed_once() {
        let statuses = STATUSES.map(|(status, _)| status);
        assert_eq!(statuses, [0, FAILED, USAGE, FOUND, RESTART, CONFIG]);
        assert!(statuses.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn a_wrong_command_line_has_its_status() {
        use clap::Parser as _;
        let error = crate::arguments::Arguments::try_parse_from(["quay-gateway", "--no-such-option"]);
        assert_eq!(error.expect_err("there is no such option").exit_code(), i32::from(USAGE));
    }
}
