//! How far it is, on the terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zone_router::SizeClass;

/// A line on standard error, or none.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown where standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { shown: true }
    }

    /// Never shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self { shown: false }
    }

    /// The line, for so many turns.
    pub(super) fn bar(self, turns: u64) -> Bar {
        let target = if self.shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(turns), target);
        // The template is a constant; without it the line only looks plainer.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {msg}") {
            bar.set_style(style);
        }
        Bar(bar)
    }
}

/// The line while it is there.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// One more turn begins.
    pub(super) fn turn(&self, way: &str, class: SizeClass) {
        self.0.inc(1);
        self.0.set_message(format!("{way}, {}", class.as_str()));
    }

    /// Takes it away, so that the table stands alone.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
