//! The progress of each check on the terminal.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::step::StepName;

/// How often a spinner is drawn.
const TICK: Duration = Duration::from_millis(100);

/// One line on standard error for each zone, instance and service.
#[derive(Debug, Clone)]
pub struct CheckProgress {
    lines: MultiProgress,
    width: usize,
}

impl CheckProgress {
    /// Shown if standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), width: 0 }
    }

    /// Never shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self { lines: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), width: 0 }
    }

    /// Aligns the lines to the longest of these names.
    pub(super) fn aligned<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        self.width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        self
    }

    pub(super) fn line(&self, name: &str) -> CheckLine {
        let bar = self.lines.add(ProgressBar::new_spinner());
        // The template is a constant. If it were malformed, the line would only look plainer.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{name:width$}", width = self.width));
        bar.enable_steady_tick(TICK);
        CheckLine(bar)
    }

    /// Removes the lines before the table is printed.
    pub(super) fn clear(&self) {
        // If the terminal is gone, there is nothing to clear.
        let _ = self.lines.clear();
    }
}

/// The line of one check.
#[derive(Debug)]
pub(super) struct CheckLine(ProgressBar);

impl CheckLine {
    pub(super) fn at(&self, step: StepName) {
        self.0.set_message(format!("{} …", step.as_str()));
    }

    pub(super) fn end(&self, passed: bool) {
        self.0.finish_with_message(if passed { "passed" } else { "failed" });
    }
}
