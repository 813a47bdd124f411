//! The progress on standard error: a bar for each blob on a terminal, otherwise a line for each image.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use registry::LocalBlob;

use super::report::{ImageState, WarmReport};

/// How often the bars are drawn.
const TICK: Duration = Duration::from_millis(100);

/// The characters of a digest that a bar shows.
const DIGEST_SHOWN: usize = 19;

const ALL: &str = "{bar:30} {pos}/{len} blobs  {msg}";
const EACH: &str = "  {prefix}  {bar:24} {bytes:>10}/{total_bytes:10} {bytes_per_sec}";

/// Whether to show progress.
#[derive(Debug, Clone, Copy)]
pub struct WarmProgress {
    shown: bool,
}

/// The progress of one run.
#[derive(Debug)]
pub(crate) struct ShownProgress {
    bars: MultiProgress,
    all: ProgressBar,
    plain: bool,
}

/// The progress of one blob.
#[derive(Debug)]
pub(crate) struct BlobBar {
    bar: ProgressBar,
    all: ProgressBar,
    size: Option<u64>,
}

impl WarmProgress {
    /// Bars if standard error is a terminal, otherwise lines.
    #[must_use]
    pub fn shown() -> Self {
        Self { shown: true }
    }

    /// No progress.
    #[must_use]
    pub fn hidden() -> Self {
        Self { shown: false }
    }

    pub(crate) fn begin(self) -> ShownProgress {
        let terminal = std::io::stderr().is_terminal();
        let target = match self.shown && terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let all = styled(bars.add(ProgressBar::new(0)), ALL);
        all.set_message("reading manifests");
        ShownProgress { bars, all, plain: self.shown && !terminal }
    }
}

impl ShownProgress {
    /// What comes: this many blobs with this many bytes.
    pub(crate) fn expect(&self, blobs: u64, bytes: u64) {
        self.all.set_length(blobs);
        self.all.set_message(bytesize::ByteSize(bytes).to_string());
    }

    pub(crate) fn blob(&self, blob: &LocalBlob) -> BlobBar {
        let bar = styled(self.bars.add(ProgressBar::new(blob.size.unwrap_or_default())), EACH);
        let digest = blob.digest.to_string();
        bar.set_prefix(digest.get(..DIGEST_SHOWN).unwrap_or(&digest).to_owned());
        BlobBar { bar, all: self.all.clone(), size: blob.size }
    }

    /// Removes the bars before other output.
    pub(crate) fn end(&self) {
        self.all.finish_and_clear();
    }

    /// Writes a line for each image, if there is no terminal.
    pub(super) fn images(&self, report: &WarmReport) {
        if !self.plain {
            return;
        }
        for image in &report.images {
            let said = match (image.state, &image.error) {
                (ImageState::Warm, _) => {
                    let bytes = bytesize::ByteSize(image.bytes);
                    format!("warm: {} blobs, {bytes}, {} were there before", image.blobs, image.cached)
                }
                (_, error) => format!("not warm: {}", error.as_deref().unwrap_or_default()),
            };
            // Progress is not essential, so a closed standard error is ignored.
            let _ = writeln!(std::io::stderr(), "{}: {said}", image.image);
        }
    }
}

impl BlobBar {
    /// A read begins, perhaps again.
    pub(crate) fn begin(&self) {
        self.bar.set_position(0);
    }

    pub(crate) fn more(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
        if self.size.is_none() {
            self.bar.set_length(self.bar.position());
        }
    }

    pub(crate) fn end(&self, was_cached: bool) {
        self.bar.finish_and_clear();
        self.all.inc(1);
        if was_cached {
            self.all.set_message("some were there before");
        }
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are constants. If one were malformed, the bar would only look plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
