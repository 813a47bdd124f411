//! How fast a zone is, computed from samples. Pure: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::STRIKES;
use crate::late_rate::WEIGHT;

/// A sample above this many times the level, or below the level divided by this, may be a step. Until it is one, it
/// counts as no more, or as no less. If the headers of reads are slower than usual by this factor, so is the zone.
pub(crate) const STEP: f64 = 1.5;

/// The throughput of a body is measured each time it was waited for this long.
pub(crate) const MEASURED: Duration = Duration::from_secs(1);

/// A mean that noise and single outliers hardly change, and that follows a step within three samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct Level {
    mean: Option<f64>,
    samples: u32,
    /// Samples in a row that are far above or far below the level.
    run: (Side, u8),
    run_sum: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Side {
    #[default]
    Near,
    Above,
    Below,
}

impl Level {
    /// Records a sample, which is above 0.
    pub fn add(&mut self, sample: f64) {
        let Some(mean) = self.mean else {
            self.restart(sample);
            return;
        };
        let side = match sample / mean {
            far if far > STEP => Side::Above,
            far if far < 1.0 / STEP => Side::Below,
            _ => Side::Near,
        };
        let (same, run) = self.run;
        (self.run, self.run_sum) = match side {
            Side::Near => ((side, 0), 0.0),
            _ if side == same => ((side, run + 1), self.run_sum + sample),
            _ => ((side, 1), sample),
        };
        if self.run.1 >= STRIKES {
            self.restart(self.run_sum / f64::from(STRIKES));
            return;
        }
        self.samples = self.samples.saturating_add(1);
        let sample = sample.clamp(mean / STEP, mean * STEP);
        self.mean = Some(mean + (sample - mean) * WEIGHT.max(1.0 / f64::from(self.samples)));
    }

    fn restart(&mut self, mean: f64) {
        *self = Self { mean: Some(mean.max(f64::MIN_POSITIVE)), samples: 1, ..Self::default() };
    }

    /// The level, if there was any sample.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        self.mean
    }

    /// How far the latest samples are from the level, if they may be the beginning of a step.
    #[must_use]
    pub fn step(&self) -> Option<f64> {
        let (_, run) = self.run;
        self.mean.filter(|_| run > 0).map(|mean| (self.run_sum / f64::from(run) - mean).abs())
    }
}

/// A level that is forgotten when it has had no sample for long.
#[derive(Debug, Clone, Copy)]
pub struct Fading {
    level: Level,
    lasts: Duration,
    last: Option<Instant>,
}

impl Fading {
    /// No sample yet. The level is known for `lasts` after its last sample.
    #[must_use]
    pub fn new(lasts: Duration) -> Self {
        Self { level: Level::default(), lasts, last: None }
    }

    /// Records a sample, which is above 0.
    pub fn add(&mut self, sample: f64, now: Instant) {
        if !self.lasts(now) {
            self.level = Level::default();
        }
        self.level.add(sample);
        self.last = Some(now);
    }

    /// The level, if there was a sample recently.
    #[must_use]
    pub fn get(&self, now: Instant) -> Option<f64> {
        self.level.get().filter(|_| self.lasts(now))
    }

    fn lasts(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < self.lasts)
    }
}

/// With fewer samples there is no median and no quantile.
const SAMPLES_MIN: usize = 9;

/// The median of the latest samples. A few slow samples in a hundred do not change it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latest {
    samples: [Option<(f64, Instant)>; SAMPLES_MIN],
    next: usize,
}

impl Latest {
    /// Records a sample.
    pub fn add(&mut self, sample: f64, now: Instant) {
        self.samples[self.next] = Some((sample, now));
        self.next = (self.next + 1) % SAMPLES_MIN;
    }

    /// The median, if all samples are younger than `age` at `now`.
    #[must_use]
    pub fn median(&self, now: Instant, age: Duration) -> Option<f64> {
        let mut values = [0.0; SAMPLES_MIN];
        for (value, sample) in values.iter_mut().zip(self.samples) {
            let (sample, at) = sample?;
            if now.saturating_duration_since(at) > age {
                return None;
            }
            *value = sample;
        }
        values.sort_unstable_by(f64::total_cmp);
        Some(values[SAMPLES_MIN / 2])
    }
}

/// The number of buckets in an octave. A quantile is therefore exact to a fifth of its value.
const PER_OCTAVE: usize = 4;

/// The number of samples in each bucket. 16 octaves reach from 1 ms to 65 s.
type Buckets = [u32; 16 * PER_OCTAVE];

/// How long a generation of samples lasts. Two generations are kept.
pub(crate) const GENERATION: Duration = Duration::from_secs(30);

/// Quantiles of the samples of the last 30 to 60 seconds, exact to a fifth of their value.
#[derive(Debug, Clone)]
pub struct Quantiles {
    generations: [Buckets; 2],
    began: Option<Instant>,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { generations: [[0; _]; 2], began: None }
    }
}

impl Quantiles {
    /// Records a sample.
    pub fn add(&mut self, sample: Duration, now: Instant) {
        self.turn(now);
        let octaves = millis(sample).max(1.0).log2();
        // Not negative, and bounded by the bucket count.
        let bucket = ((octaves * PER_OCTAVE as f64).ceil() as usize).min(self.generations[0].len() - 1);
        let count = &mut self.generations[0][bucket];
        *count = count.saturating_add(1);
    }

    /// Drops the generations that are too old.
    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age < GENERATION {
            return;
        }
        let old = std::mem::replace(&mut self.generations[0], [0; _]);
        self.generations[1] = if age < GENERATION * 2 { old } else { [0; _] };
        self.began = Some(now);
    }

    /// The value that a share of `q` of the samples does not exceed. `None` if there are too few samples.
    #[must_use]
    pub fn quantile(&self, q: f64, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.began?);
        let [new, old] = &self.generations;
        let both = |bucket: usize| match age {
            age if age < GENERATION => u64::from(new[bucket]) + u64::from(old[bucket]),
            age if age < GENERATION * 2 => u64::from(new[bucket]),
            _ => 0,
        };
        let total: u64 = (0..new.len()).map(both).sum();
        if total < SAMPLES_MIN as u64 {
            return None;
        }
        let wanted = (total as f64 * q).ceil() as u64;
        let mut seen = 0;
        let bucket = (0..new.len()).find(|bucket| {
            seen += both(*bucket);
            seen >= wanted
        })?;
        Some(Duration::from_secs_f64((bucket as f64 / PER_OCTAVE as f64).exp2() / 1000.0))
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_step_is_followed_and_a_hiccup_is_not() {
        let mut level = Level::default();
        (0..100).for_each(|_| level.add(40.0));
        let mut hiccup = level;
        (0..2).for_each(|_| hiccup.add(5000.0));
        assert!(hiccup.step() > Some(1000.0) && hiccup.get() < Some(45.0), "{hiccup:?}");
        hiccup.add(40.0);
        assert_eq!(hiccup.step(), None);
        (0..STRIKES).for_each(|_| level.add(400.0));
        assert_eq!(level.get(), Some(400.0));
        (0..STRIKES).for_each(|_| level.add(40.0));
        assert_eq!(level.get(), Some(40.0));
    }

    #[test]
    fn the_latest_that_are_fresh() {
        let start = Instant::now();
        let mut latest = Latest::default();
        for sample in 1..SAMPLES_MIN {
            latest.add(sample as f64, start);
        }
        assert_eq!(latest.median(start, MS), None, "too few");
        latest.add(1000.0, start + 5 * MS);
        assert_eq!(latest.median(start + 5 * MS, 10 * MS), Some(5.0));
        assert_eq!(latest.median(start + 50 * MS, 10 * MS), None);
    }

    #[test]
    fn old_samples_go() {
        let start = Instant::now();
        let mut quantiles = Quantiles::default();
        for _ in 0..100 {
            quantiles.add(400 * MS, start);
        }
        assert!(quantiles.quantile(0.5, start).is_some());
        assert_eq!(quantiles.quantile(0.5, start + GENERATION * 2), None);
        for _ in 0..100 {
            quantiles.add(4 * MS, start + GENERATION * 2);
        }
        assert!(quantiles.quantile(1.0, start + GENERATION * 2) < Some(5 * MS));
    }

    proptest! {
        #[test]
        fn a_quantile_is_near_the_true_one(mut samples in prop::collection::vec(1_u64..10_000, 10..300), q in 0.01..1.0_f64) {
            let now = Instant::now();
            let mut quantiles = Quantiles::default();
            samples.iter().for_each(|sample| quantiles.add(MS * *sample as u32, now));
            samples.sort_unstable();
            let rank = ((samples.len() as f64 * q).ceil() as usize).clamp(1, samples.len());
            let truth = samples[rank - 1] as f64;
            let found = millis(quantiles.quantile(q, now).expect("enough samples"));
            prop_assert!(found >= truth * 0.99 && found <= truth * 1.2, "{found} for {truth}");
        }

        #[test]
        fn the_level_stays_between_its_samples(samples in prop::collection::vec(0.1..10_000.0_f64, 1..100)) {
            let mut level = Level::default();
            let (mut least, mut most) = (f64::MAX, 0.0_f64);
            for sample in samples {
                level.add(sample);
                (least, most) = (least.min(sample), most.max(sample));
                let got = level.get().expect("a sample");
                prop_assert!(got >= least * 0.999 && got <= most * 1.001);
            }
        }
    }
}
