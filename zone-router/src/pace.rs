//! How many reads of a zone are given up for being late, however many come: pure, the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// All reads within this time count as one outcome: late reads may all have the same short cause, and answered reads
/// must not hide as many that hang.
pub(crate) const MOMENT: Duration = Duration::from_millis(100);

/// How much the latest moment weighs in the share of late reads.
const WEIGHT: f64 = 0.1;

/// The reads of the latest moment, and the verdict before it. Each read of the moment replaces the verdict.
#[derive(Debug, Clone, Copy)]
struct Moment {
    began: Instant,
    late: u32,
    answered: u32,
    before: Verdict,
}

#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    /// Moments in a row in which at least as many reads were late as were answered.
    strikes: u8,
    /// The share of late reads, each moment weighing the same, 0 to 1.
    share: f64,
}

/// The pace of one zone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    moment: Option<Moment>,
    verdict: Verdict,
}

impl Pace {
    /// A read was answered, or given up for being late.
    pub(crate) fn note(&mut self, late: bool, now: Instant) {
        let lasts = |moment: &Moment| now.saturating_duration_since(moment.began) < MOMENT;
        let anew = Moment { began: now, late: 0, answered: 0, before: self.verdict };
        let mut moment = self.moment.filter(lasts).unwrap_or(anew);
        let count = if late { &mut moment.late } else { &mut moment.answered };
        *count = count.saturating_add(1);
        let (late, answered) = (f64::from(moment.late), f64::from(moment.answered));
        self.verdict = Verdict {
            strikes: if late >= answered { moment.before.strikes.saturating_add(1) } else { 0 },
            share: moment.before.share + (late / (late + answered) - moment.before.share) * WEIGHT,
        };
        self.moment = Some(moment);
    }

    /// Moments in a row in which reads were late.
    pub(crate) fn strikes(&self) -> u8 {
        self.verdict.strikes
    }

    /// The recent share of late reads, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.verdict.share
    }
}
