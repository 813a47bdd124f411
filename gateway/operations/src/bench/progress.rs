//! The progress of the benchmark on the terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zone_router::SizeClass;

/// Whether to show a progress bar on standard error.
#[derive(Debug, Clone, Copy)]
pub struct BenchProgress {
    shown: bool,
}

impl BenchProgress {
    /// Shown if standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { shown: true }
    }

    /// Never shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self { shown: false }
    }

    /// A bar for this many turns.
    pub(super) fn bar(self, turns: u64) -> BenchBar {
        let target = if self.shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(turns), target);
        // The template is a constant. If it were malformed, the bar would only look plainer.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {msg}") {
            bar.set_style(style);
        }
        BenchBar(bar)
    }
}

/// The progress bar.
#[derive(Debug)]
pub(super) struct BenchBar(ProgressBar);

impl BenchBar {
    /// Advances the bar when a turn begins.
    pub(super) fn turn(&self, path: &str, class: SizeClass) {
        self.0.inc(1);
        self.0.set_message(format!("{path}, {}", class.as_str()));
    }

    /// Removes the bar before the table is printed.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
