//! Progress on standard error: a bar on a terminal, otherwise a line from time to time.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::eta::{human_duration, remaining};
use super::layout::STEPS;
use super::tally::Tally;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

/// How often a line is written if there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Whether to show progress.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// A bar if standard error is a terminal, otherwise lines.
    #[must_use]
    pub fn shown() -> Self {
        Self { shown: true }
    }

    /// No progress.
    #[must_use]
    pub fn hidden() -> Self {
        Self { shown: false }
    }

    /// The progress of an audit that begins after the step `from`.
    pub(super) fn audit(self, from: u16) -> AuditProgress {
        let all = u64::from(STEPS);
        let bar = self.bar(all, "{bar:30} {pos}/{len} prefixes  {msg}");
        bar.bar.set_position(u64::from(from));
        AuditProgress { line: bar, from }
    }

    /// A bar with this length and template.
    pub fn bar(self, all: u64, template: &str) -> ProgressLine {
        let terminal = std::io::stderr().is_terminal();
        let target = match self.shown && terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(all), target);
        // The template is a constant. If it were malformed, the bar would only look plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        let now = Instant::now();
        ProgressLine { bar, plain: self.shown && !terminal, began: now, last_line: now }
    }
}

/// A bar, or the lines that replace it.
#[derive(Debug)]
pub struct ProgressLine {
    bar: ProgressBar,
    plain: bool,
    began: Instant,
    last_line: Instant,
}

impl ProgressLine {
    /// Sets the position. `message` gets the time since the start.
    pub fn at(&mut self, done: u64, message: impl FnOnce(Duration) -> String) {
        self.bar.set_position(done);
        let plain = self.plain && self.last_line.elapsed() >= LINE;
        if self.plain && !plain {
            return;
        }
        let message = message(self.began.elapsed());
        if plain {
            self.last_line = Instant::now();
            // Progress is not essential, so a closed standard error is ignored.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
        self.bar.set_message(message);
    }

    /// Removes the bar before other output.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// The progress of an audit.
#[derive(Debug)]
pub(super) struct AuditProgress {
    line: ProgressLine,
    /// Steps that were done before this run. They are not part of the estimate.
    from: u16,
}

impl AuditProgress {
    pub(super) fn at(&mut self, steps: u16, tally: &Tally) {
        let from = self.from;
        self.line.at(u64::from(steps), |elapsed| {
            let rest = remaining(u64::from(steps - from), u64::from(STEPS - from), elapsed);
            let rest = rest.map_or_else(String::new, |rest| format!(", {} left", human_duration(rest)));
            let findings = match tally.wrong() {
                0 => "nothing wrong so far".to_owned(),
                wrong => format!("{wrong} missing or wrong"),
            };
            format!("{steps} of {STEPS} prefixes, {} blobs, {findings}{rest}", tally.blobs.objects)
        });
    }

    pub(super) fn listing_root(&mut self, zone: &str, objects: u64) {
        self.line.at(u64::from(STEPS), |_| format!("listing all of {zone}: {objects} objects"));
    }

    pub(super) fn clear(&self) {
        self.line.clear();
    }
}
