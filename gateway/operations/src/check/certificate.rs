//! The check of the certificates that clients see.

use certificates::{Pair, TimeLeft, covers_host};
use config::{Settings, bare_host};

use super::advice::{Advice, StepError};
use super::step::StepNote;

/// Whether the configuration names certificates, or CAs of clients.
pub(super) fn is_configured(settings: &Settings) -> bool {
    !settings.tls.pairs.is_empty() || settings.tls.client_ca.is_some()
}

/// Reads the files of `tls` as the gateway does at its start, and looks at their dates.
pub(super) async fn check(settings: &Settings) -> Result<((), Option<StepNote>), StepError> {
    let read = settings.clone();
    let work = tokio::task::spawn_blocking(move || {
        certificates::rehearse(&read).map(|pairs| (read.tls.pairs, pairs))
    });
    let explained = |error: String, cause: &str| {
        let fix = "correct `tls`; `quay-gateway certs show --config` shows what the files say";
        StepError::Explained(error, Advice::new(cause, fix))
    };
    let (files, pairs) =
        work.await.map_err(|error| explained(error.to_string(), "the files could not be read"))?.map_err(
            |error| explained(format!("{error:#}"), "a file of `tls` is missing, damaged, or is another one"),
        )?;
    if let Some(name) = unnamed(settings, &pairs) {
        let names: Vec<_> = pairs.iter().flat_map(|pair| &pair.leaf().names).map(String::as_str).collect();
        return Err(StepError::Explained(
            format!("no certificate is for {name}, which clients dial"),
            Advice::new(
                format!("the certificate was issued for other names ({})", names.join(", ")),
                format!(
                    "issue one with `quay-gateway certs issue --san {name}`, or correct `hostname` and `more_hostnames`"
                ),
            ),
        ));
    }
    let mut note = None;
    for (files, pair) in files.iter().zip(&pairs) {
        let file = files.certificate.display();
        match time_left(pair) {
            TimeLeft::Expired if TimeLeft::of(pair.leaf()) != TimeLeft::Expired => {
                note = Some(StepNote::Warning(format!(
                    "an intermediate certificate in {file} has expired: replace it, or leave it out"
                )));
            }
            TimeLeft::Expired => {
                return Err(explained(
                    format!("{file} has expired"),
                    "it was not renewed, or not copied here",
                ));
            }
            TimeLeft::NotYet => {
                return Err(explained(format!("{file} is not valid yet"), "a clock is wrong"));
            }
            TimeLeft::FewDays(days) => {
                note = Some(StepNote::Warning(format!("{file} expires in {days} days: renew it")));
            }
            TimeLeft::Days(days) if note.is_none() => {
                note = Some(StepNote::Info(format!("{file} is valid for {days} days")));
            }
            TimeLeft::Days(_) => {}
        }
    }
    Ok(((), note))
}

/// The first host that clients dial and that no certificate is for.
fn unnamed<'a>(settings: &'a Settings, pairs: &[Pair]) -> Option<&'a str> {
    if pairs.is_empty() {
        return None;
    }
    let mut hosts = settings.hostnames().map(|name| bare_host(name));
    hosts.find(|host| !pairs.iter().any(|pair| covers_host(&pair.chain()[0], host)))
}

fn time_left(pair: &Pair) -> TimeLeft {
    TimeLeft::until(pair.expires(), pair.leaf())
}
