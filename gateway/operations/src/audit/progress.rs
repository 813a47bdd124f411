//! How far it is: a bar on a terminal, a line now and then elsewhere, on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::layout::STEPS;
use super::pace::{left, spoken};
use super::tally::Tally;

/// How often the bar moves, and how often a line is written where there is none.
const TICK: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(10);

/// Whether to show it, and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// A bar where standard error is a terminal, else lines.
    #[must_use]
    pub fn shown() -> Self {
        Self { shown: true }
    }

    /// Nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self { shown: false }
    }

    /// The bar of an audit that begins after so many steps.
    pub(super) fn course(self, from: u16) -> Course {
        let all = u64::from(STEPS);
        let bar = self.bar(all, "{bar:30} {pos}/{len} prefixes  {msg}");
        bar.bar.set_position(u64::from(from));
        Course { line: bar, from }
    }

    /// Any bar, over so much.
    pub fn bar(self, all: u64, template: &str) -> Line {
        let terminal = std::io::stderr().is_terminal();
        let target = match self.shown && terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(all), target);
        // The template is a constant; without it the line only looks plainer.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        let now = Instant::now();
        Line { bar, plain: self.shown && !terminal, began: now, told: now }
    }
}

/// A bar, or what is written instead of it.
#[derive(Debug)]
pub struct Line {
    bar: ProgressBar,
    plain: bool,
    began: Instant,
    told: Instant,
}

impl Line {
    /// It is at `done`; what there is to say of it.
    pub fn at(&mut self, done: u64, message: impl FnOnce(Duration) -> String) {
        self.bar.set_position(done);
        let plain = self.plain && self.told.elapsed() >= LINE;
        if self.plain && !plain {
            return;
        }
        let message = message(self.began.elapsed());
        if plain {
            self.told = Instant::now();
            // Whoever does not listen misses nothing that counts.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
        self.bar.set_message(message);
    }

    /// Takes it away, so that what follows stands alone.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How far an audit is.
#[derive(Debug)]
pub(super) struct Course {
    line: Line,
    /// Steps that were done before it began: they took no time of this run.
    from: u16,
}

impl Course {
    pub(super) fn at(&mut self, steps: u16, tally: &Tally) {
        let from = self.from;
        self.line.at(u64::from(steps), |elapsed| {
            let rest = left(u64::from(steps - from), u64::from(STEPS - from), elapsed);
            let rest = rest.map_or_else(String::new, |rest| format!(", {} left", spoken(rest)));
            let findings = match tally.wrong() {
                0 => "nothing wrong so far".to_owned(),
                wrong => format!("{wrong} missing or wrong"),
            };
            format!("{steps} of {STEPS} prefixes, {} blobs, {findings}{rest}", tally.blobs.objects)
        });
    }

    pub(super) fn looking(&mut self, zone: &str, objects: u64) {
        self.line.at(u64::from(STEPS), |_| format!("the whole of {zone}: {objects} objects"));
    }

    pub(super) fn clear(&self) {
        self.line.clear();
    }
}
