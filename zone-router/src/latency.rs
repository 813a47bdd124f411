//! How fast a zone is, from samples: pure, the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// An exponentially weighted mean whose memory is time, not a number of samples, and which a
/// single outlier cannot drag far.
#[derive(Debug, Clone, Copy)]
pub struct Ewma {
    memory: Duration,
    last: Option<(f64, Instant)>,
}

/// The weight of one sample, whatever its distance from the one before: none counts for nothing,
/// none for all.
const WEIGHTS: (f64, f64) = (0.02, 0.5);

/// A sample counts at most as so many times the mean: a step is followed within a few samples, one
/// hiccup is not.
const CLAMP: f64 = 3.0;

impl Ewma {
    /// One that forgets within about `memory`.
    #[must_use]
    pub fn new(memory: Duration) -> Self {
        Self { memory, last: None }
    }

    /// Takes a sample.
    pub fn add(&mut self, sample: f64, now: Instant) {
        let Some((mean, at)) = self.last else {
            self.last = Some((sample, now));
            return;
        };
        let age = now.saturating_duration_since(at).as_secs_f64() / self.memory.as_secs_f64();
        let weight = (1.0 - (-age).exp()).clamp(WEIGHTS.0, WEIGHTS.1);
        let sample = sample.min(mean * CLAMP + f64::MIN_POSITIVE);
        self.last = Some((mean + (sample - mean) * weight, now));
    }

    /// The mean, if there was a sample.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        self.last.map(|(mean, _)| mean)
    }

    /// The mean, if there was a sample within `age` of `now`.
    #[must_use]
    pub fn fresh(&self, now: Instant, age: Duration) -> Option<f64> {
        let (mean, at) = self.last?;
        (now.saturating_duration_since(at) <= age).then_some(mean)
    }
}

/// Buckets, each a fourth of an octave: 0.25 ms to 16 s.
const BUCKETS: usize = 64;
const PER_OCTAVE: f64 = 4.0;
const FIRST_MS: f64 = 0.25;

/// A generation of samples; two are kept.
const GENERATION: Duration = Duration::from_secs(30);

/// Fewer samples have no quantile.
const SAMPLES_MIN: u32 = 10;

/// Quantiles of the samples of the last 30 to 60 seconds, to a fifth of their value.
#[derive(Debug, Clone)]
pub struct Quantiles {
    generations: [[u32; BUCKETS]; 2],
    began: Option<Instant>,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { generations: [[0; BUCKETS]; 2], began: None }
    }
}

impl Quantiles {
    /// Takes a sample.
    pub fn add(&mut self, sample: Duration, now: Instant) {
        self.turn(now);
        let octaves = (millis(sample) / FIRST_MS).max(1.0).log2();
        // Not negative, and bounded by the bucket count.
        let bucket = ((octaves * PER_OCTAVE).ceil() as usize).min(BUCKETS - 1);
        let count = &mut self.generations[0][bucket];
        *count = count.saturating_add(1);
    }

    /// What is old goes.
    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age < GENERATION {
            return;
        }
        let old = std::mem::replace(&mut self.generations[0], [0; BUCKETS]);
        self.generations[1] = if age < GENERATION * 2 { old } else { [0; BUCKETS] };
        self.began = Some(now);
    }

    /// The value that a share of `q` of the samples does not exceed; `None` of too few samples.
    #[must_use]
    pub fn quantile(&self, q: f64, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.began?);
        let [new, old] = &self.generations;
        let both = |bucket: usize| match age {
            age if age < GENERATION => u64::from(new[bucket]) + u64::from(old[bucket]),
            age if age < GENERATION * 2 => u64::from(new[bucket]),
            _ => 0,
        };
        let total: u64 = (0..BUCKETS).map(both).sum();
        if total < u64::from(SAMPLES_MIN) {
            return None;
        }
        let wanted = (total as f64 * q).ceil() as u64;
        let mut seen = 0;
        let bucket = (0..BUCKETS).find(|bucket| {
            seen += both(*bucket);
            seen >= wanted
        })?;
        Some(Duration::from_secs_f64(FIRST_MS * (bucket as f64 / PER_OCTAVE).exp2() / 1000.0))
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
        let start = Instant::now();
        let mut mean = Ewma::new(Duration::from_secs(1));
        for tick in 0..100 {
            mean.add(40.0, start + 20 * MS * tick);
        }
        let mut hiccup = mean;
        hiccup.add(5000.0, start + Duration::from_secs(2));
        assert!(hiccup.get() < Some(45.0), "{hiccup:?}");
        for tick in 0..50 {
            mean.add(400.0, start + Duration::from_secs(2) + 20 * MS * tick);
        }
        assert!(mean.get() > Some(200.0), "{mean:?}");
        assert_eq!(mean.fresh(start + Duration::from_secs(60), Duration::from_secs(10)), None);
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
        fn the_mean_stays_between_its_samples(samples in prop::collection::vec((0.1..10_000.0_f64, 0_u64..5_000), 1..100)) {
            let mut now = Instant::now();
            let mut mean = Ewma::new(Duration::from_secs(1));
            let (mut least, mut most) = (f64::MAX, 0.0_f64);
            for (sample, pause) in samples {
                now += MS * pause as u32;
                mean.add(sample, now);
                (least, most) = (least.min(sample), most.max(sample));
                let got = mean.get().expect("a sample");
                prop_assert!(got >= least * 0.999 && got <= most * 1.001);
            }
        }
    }
}
