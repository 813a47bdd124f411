//! The output: lines, and progress bars on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often bars are updated.
const TICK: Duration = Duration::from_millis(50);

const TEMPLATE: &str = "  {prefix:28} {bar:32.cyan/blue} {decimal_bytes:>10} of {decimal_total_bytes:10} {decimal_bytes_per_sec:>12}";

/// Standard output, with bars if it is a terminal.
pub(crate) struct Screen(Option<MultiProgress>);

/// A progress bar by bytes, or nothing if there are no bars. Dropping it removes it.
pub(crate) struct Bar(Option<ProgressBar>);

impl Screen {
    /// Shows bars only on a terminal to which nothing else writes.
    pub(crate) fn new(verbose: bool) -> Self {
        let bars = std::io::stdout().is_terminal() && !verbose;
        Self(bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout())))
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints lines above the bars. A closed pipe is ignored.
    pub(crate) fn print(&self, text: &str) {
        let print = || {
            let _ = writeln!(std::io::stdout(), "{text}");
        };
        match &self.0 {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    /// Prints the title of a step.
    pub(crate) fn title(&self, text: &str) {
        let (on, off) = if self.is_terminal() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        self.print(&format!("\n{on}{text}{off}"));
    }

    /// Prints to standard error.
    pub(crate) fn print_error(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "demo: {text}");
    }

    /// A bar of `total` bytes.
    pub(crate) fn bar(&self, label: &str, total: u64) -> Bar {
        let made = self.0.as_ref().map(|bars| {
            let style = ProgressStyle::with_template(TEMPLATE);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(label.to_owned());
            bars.add(bar)
        });
        Bar(made)
    }
}

impl Bar {
    pub(crate) fn set(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    /// Waits for `work`, and updates the bar to `position` meanwhile.
    pub(crate) async fn during<T>(&self, position: impl Fn() -> u64, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => self.set(position()),
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
