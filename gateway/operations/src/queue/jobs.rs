//! Jobs as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::Cell;

use super::report::JobReport;
use crate::audit::human_duration;
use crate::table;

const HEADERS: &[&str] = &["zone", "blob", "state", "bytes", "since", "due", "attempts", "last error"];

/// The most characters of an error in the table. `queue why` shows the whole error.
const ERROR_SHOWN: usize = 80;

/// One row for each job. `more` says whether there may be further jobs.
#[must_use]
pub fn jobs_table(jobs: &[JobReport], more: bool) -> String {
    let mut table = table::with_headers(HEADERS);
    for job in jobs {
        let error = job.error.as_deref().unwrap_or("");
        let shown: String = error.chars().take(ERROR_SHOWN).collect();
        table.add_row([
            Cell::new(&job.zone),
            Cell::new(&job.digest),
            Cell::new(&job.state),
            Cell::new(bytes(job)),
            Cell::new(time(job.since_seconds)),
            Cell::new(due(job)),
            Cell::new(job.attempts),
            Cell::new(if shown.len() < error.len() { shown + "…" } else { shown }),
        ]);
    }
    let mut text = format!("{table}\n");
    // Writing to a string does not fail.
    let _ = match more {
        true => writeln!(text, "{} jobs; there are more: a larger --limit shows them", jobs.len()),
        false => writeln!(text, "{} jobs", jobs.len()),
    };
    text
}

/// Everything that is known about the jobs of one blob.
#[must_use]
pub fn why(digest: &str, jobs: &[JobReport]) -> String {
    if jobs.is_empty() {
        return format!(
            "no copy of {digest} is pending: it was copied, was never queued here, or was withdrawn\n"
        );
    }
    let mut text = String::new();
    for job in jobs {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}: {}, {}, queued {} ago",
            job.zone,
            job.state,
            bytes(job),
            time(job.since_seconds)
        );
        if let Some(parked) = job.parked_seconds {
            let _ = writeln!(
                text,
                "    parked       {} ago; `queue retry {digest}` makes it due again",
                time(parked)
            );
        } else {
            let _ = writeln!(text, "    due          {}", due(job));
        }
        let _ = match job.failed_seconds {
            Some(failed) => {
                writeln!(text, "    attempts     {}, the last {} ago", job.attempts, time(failed))
            }
            None => writeln!(text, "    attempts     none failed"),
        };
        if let Some(error) = &job.error {
            let _ = writeln!(text, "    last error   {error}");
        }
        let seen = match job.repositories.is_empty() {
            true => "no repository is known".to_owned(),
            false => job.repositories.join(", "),
        };
        let _ = writeln!(text, "    seen in      {seen}");
    }
    text
}

fn bytes(job: &JobReport) -> String {
    job.size.map_or_else(|| "size unknown".to_owned(), |size| ByteSize(size).to_string())
}

fn due(job: &JobReport) -> String {
    match (job.parked_seconds, job.due_seconds) {
        (Some(_), _) => "–".to_owned(),
        (None, Some(seconds)) => format!("in {}", time(seconds)),
        (None, None) => "now".to_owned(),
    }
}

fn time(seconds: u64) -> String {
    human_duration(Duration::from_secs(seconds))
}
