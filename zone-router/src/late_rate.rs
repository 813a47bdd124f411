//! The share of reads of a zone that are given up because they are late, independent of the number of reads. Pure: the
//! time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// All reads within this time count as one outcome: late reads may all have the same short cause, and answered reads
/// must not hide as many that hang.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// The weight of the latest outcome in shares and levels: about the latest twelve count.
pub(crate) const WEIGHT: f64 = 0.1;

/// The reads of the latest window, and the verdict before it. Each read of the window computes the verdict anew.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    late: u32,
    answered: u32,
    before: Verdict,
}

#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    /// Windows in a row in which at least as many reads were late as were answered.
    strikes: u8,
    /// The share of late reads, from 0 to 1. Each window has the same weight.
    share: f64,
}

/// The late rate of one zone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LateRate {
    window: Option<Window>,
    verdict: Verdict,
}

impl LateRate {
    /// Records that a read was answered, or given up because it was late.
    pub(crate) fn note(&mut self, late: bool, now: Instant) {
        let lasts = |window: &Window| now.saturating_duration_since(window.began) < WINDOW;
        let anew = Window { began: now, late: 0, answered: 0, before: self.verdict };
        let mut window = self.window.filter(lasts).unwrap_or(anew);
        let count = if late { &mut window.late } else { &mut window.answered };
        *count = count.saturating_add(1);
        let (late, answered) = (f64::from(window.late), f64::from(window.answered));
        self.verdict = Verdict {
            strikes: if late >= answered { window.before.strikes.saturating_add(1) } else { 0 },
            share: window.before.share + (late / (late + answered) - window.before.share) * WEIGHT,
        };
        self.window = Some(window);
    }

    /// The number of windows in a row in which reads were late.
    pub(crate) fn strikes(&self) -> u8 {
        self.verdict.strikes
    }

    /// The recent share of late reads, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.verdict.share
    }
}
