//! What `certs show` prints.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use certificates::{CertificateFacts, TimeLeft};
use serde_json::{Value, json};

/// A chain, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Shown {
    /// The file or the server that it comes from.
    pub source: String,
    /// The certificates, leaf first; at least one.
    pub certificates: Vec<CertificateFacts>,
    /// The file of the key, if there is one.
    pub key_file: Option<PathBuf>,
    /// Whether the key belongs to the certificate, if that is known.
    pub key_fits: Option<bool>,
    /// Whether the chain leads to a root. `None` for a CA's own certificate.
    pub chain_whole: Option<bool>,
    /// What is wrong, and what to do.
    pub problems: Vec<String>,
    /// What will be wrong soon.
    pub warnings: Vec<String>,
}

impl Shown {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The chains as text for people.
#[must_use]
pub fn text(all: &[Shown]) -> String {
    let mut text = String::new();
    for shown in all {
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", shown.source);
        for facts in &shown.certificates {
            text.push_str(&lines(facts));
        }
        let count = shown.certificates.len();
        if let Some(whole) = shown.chain_whole {
            let word = if whole { "whole" } else { "NOT WHOLE" };
            add(&mut text, "chain", &format!("{word}, {count} in the file"));
        }
        match (&shown.key_file, shown.key_fits) {
            (Some(file), Some(fits)) => {
                let word = if fits { "fits" } else { "DOES NOT FIT" };
                add(&mut text, "private key", &format!("{}: {word}", file.display()));
            }
            (None, Some(true)) => add(&mut text, "private key", "the server has it"),
            _ => {}
        }
        shown.problems.iter().for_each(|problem| add(&mut text, "WRONG", problem));
        shown.warnings.iter().for_each(|warning| add(&mut text, "warning", warning));
    }
    text
}

fn add(text: &mut String, key: &str, value: &str) {
    // A server may have written it.
    let value: String = value.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let _ = writeln!(text, "  {key:<14}{value}");
}

fn lines(facts: &CertificateFacts) -> String {
    let mut text = String::new();
    add(&mut text, if facts.is_ca { "CA" } else { "certificate" }, &facts.subject);
    if !facts.names.is_empty() {
        add(&mut text, "  for", &facts.names.join(", "));
    }
    if !facts.is_self_issued() {
        add(&mut text, "  signed by", &facts.issuer);
    }
    add(&mut text, "  key", &facts.key);
    let left = match TimeLeft::of(facts) {
        TimeLeft::Days(days) | TimeLeft::FewDays(days) => format!("{days} days left"),
        TimeLeft::Expired => "EXPIRED".into(),
        TimeLeft::NotYet => "NOT YET".into(),
    };
    add(&mut text, "  valid", &format!("{} to {}, {left}", date(facts.not_before), date(facts.not_after)));
    add(&mut text, "  SHA-256", &facts.fingerprint);
    text
}

/// Seconds since 1970 as RFC 3339. A certificate may name years beyond those that the form has.
fn date(seconds: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// The chains as JSON: `[{"source", "ok", "certificates": […], "key_file", "key_fits", "chain_whole", "problems",
/// "warnings"}]`.
#[must_use]
pub fn json(all: &[Shown]) -> Value {
    let one = |facts: &CertificateFacts| {
        let days = match TimeLeft::of(facts) {
            TimeLeft::Days(days) | TimeLeft::FewDays(days) => Some(days),
            TimeLeft::Expired | TimeLeft::NotYet => None,
        };
        json!({
            "subject": facts.subject,
            "issuer": facts.issuer,
            "names": facts.names,
            "key": facts.key,
            "ca": facts.is_ca,
            "not_before": date(facts.not_before),
            "not_after": date(facts.not_after),
            "days_left": days,
            "sha256": facts.fingerprint,
        })
    };
    let shown = |shown: &Shown| {
        json!({
            "source": shown.source,
            "ok": shown.is_good(),
            "certificates": shown.certificates.iter().map(one).collect::<Vec<_>>(),
            "key_file": shown.key_file.as_ref().map(|file| file.display().to_string()),
            "key_fits": shown.key_fits,
            "chain_whole": shown.chain_whole,
            "problems": shown.problems,
            "warnings": shown.warnings,
        })
    };
    all.iter().map(shown).collect()
}
