//! Where each check is, on the terminal, while it runs.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::step::Name;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A line for each zone and the registry, on standard error.
#[derive(Debug, Clone)]
pub struct Progress {
    lines: MultiProgress,
    width: usize,
}

impl Progress {
    /// Shown where standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), width: 0 }
    }

    /// Never shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self { lines: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), width: 0 }
    }

    /// With room for the longest of these names.
    pub(super) fn aligned<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        self.width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        self
    }

    pub(super) fn line(&self, name: &str) -> Line {
        let bar = self.lines.add(ProgressBar::new_spinner());
        // The template is a constant; without it the line only looks plainer.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{name:width$}", width = self.width));
        bar.enable_steady_tick(TICK);
        Line(bar)
    }

    /// Takes the lines away, so that the table stands alone.
    pub(super) fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _ = self.lines.clear();
    }
}

/// The line of one check.
#[derive(Debug)]
pub(super) struct Line(ProgressBar);

impl Line {
    pub(super) fn at(&self, step: Name) {
        self.0.set_message(format!("{} …", step.as_str()));
    }

    pub(super) fn end(&self, passed: bool) {
        self.0.finish_with_message(if passed { "passed" } else { "failed" });
    }
}
