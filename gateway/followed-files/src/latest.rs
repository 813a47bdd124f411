//! A value that is read from files again and again. The last good one stays. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long files may be wrong before they are refused. Whoever replaces them may be between two of them.
pub const SETTLE: Duration = Duration::from_secs(5);

/// After this time, files that are still refused are reported again.
const REPEAT: Duration = Duration::from_secs(24 * 3600);

/// The last good value, and what is wrong with the files now.
#[derive(Debug)]
pub struct Latest<T> {
    value: T,
    doubt: Option<Doubt>,
}

/// Files that are wrong.
#[derive(Debug)]
struct Doubt {
    since: Instant,
    /// What was reported, and when.
    reported: Option<(String, Instant)>,
}

/// What reading the files again changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the files have the value that is used.
    Same,
    /// There is a new value.
    Changed,
    /// The files are wrong. Read them again after [`SETTLE`]. The reason, if they were right before.
    Doubted(Option<String>),
    /// The files have been wrong for a while: report this.
    Refused(String),
    /// The same was reported before.
    StillRefused,
}

impl<T> Latest<T> {
    /// The first good value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value, doubt: None }
    }

    /// The last good value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Takes what the files have at `now`, if it is good and differs from the value.
    pub fn take<E>(
        &mut self,
        read: Result<T, E>,
        same: impl Fn(&T, &T) -> bool,
        describe: impl Fn(&E) -> String,
        now: Instant,
    ) -> Outcome {
        match read {
            Ok(value) => {
                self.doubt = None;
                if same(&value, &self.value) {
                    return Outcome::Same;
                }
                self.value = value;
                Outcome::Changed
            }
            Err(error) => self.doubted(describe(&error), now),
        }
    }

    /// Records that the files were refused and reported at once, so that this is not reported again soon.
    pub fn refused(&mut self, why: String, now: Instant) {
        self.doubt = Some(Doubt { since: now, reported: Some((why, now)) });
    }

    fn doubted(&mut self, why: String, now: Instant) -> Outcome {
        let Some(doubt) = &mut self.doubt else {
            self.doubt = Some(Doubt { since: now, reported: None });
            return Outcome::Doubted(Some(why));
        };
        let is_reported = doubt.reported.as_ref().is_some_and(|(reported, _)| *reported == why);
        if now < doubt.since + SETTLE && !is_reported {
            return Outcome::Doubted(None);
        }
        match &doubt.reported {
            Some((reported, at)) if *reported == why && now < *at + REPEAT => Outcome::StillRefused,
            _ => {
                doubt.reported = Some((why.clone(), now));
                Outcome::Refused(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(latest: &mut Latest<u8>, read: Result<u8, &str>, now: Instant) -> Outcome {
        latest.take(read, |one, other| one == other, |error| (*error).to_owned(), now)
    }

    #[tokio::test]
    async fn what_is_wrong_for_a_moment_is_not_refused() {
        let (mut latest, start) = (Latest::new(1), Instant::now());
        assert_eq!(take(&mut latest, Err("half"), start), Outcome::Doubted(Some("half".into())));
        assert_eq!(take(&mut latest, Err("half"), start + SETTLE / 2), Outcome::Doubted(None));
        assert_eq!(take(&mut latest, Ok(2), start + SETTLE), Outcome::Changed);
        assert_eq!(take(&mut latest, Ok(2), start + SETTLE * 2), Outcome::Same);
        // The next doubt has its own time.
        assert_eq!(take(&mut latest, Err("half"), start + SETTLE * 3), Outcome::Doubted(Some("half".into())));
        assert_eq!(*latest.value(), 2);
    }

    #[tokio::test]
    async fn what_was_reported_at_once_is_not_reported_again() {
        let (mut latest, start) = (Latest::new(1), Instant::now());
        latest.refused("bad".into(), start);
        assert_eq!(take(&mut latest, Err("bad"), start), Outcome::StillRefused);
        assert_eq!(take(&mut latest, Err("worse"), start), Outcome::Doubted(None));
        assert_eq!(take(&mut latest, Err("worse"), start + SETTLE), Outcome::Refused("worse".into()));
    }

    #[tokio::test]
    async fn what_stays_wrong_is_reported_once_a_day() {
        let (mut latest, start) = (Latest::new(1), Instant::now());
        assert_eq!(take(&mut latest, Err("bad"), start), Outcome::Doubted(Some("bad".into())));
        let refused = start + SETTLE;
        assert_eq!(take(&mut latest, Err("bad"), refused), Outcome::Refused("bad".into()));
        assert_eq!(take(&mut latest, Err("bad"), refused + SETTLE), Outcome::StillRefused);
        assert_eq!(take(&mut latest, Err("worse"), refused + SETTLE), Outcome::Refused("worse".into()));
        let later = refused + SETTLE + REPEAT;
        assert_eq!(take(&mut latest, Err("worse"), later), Outcome::Refused("worse".into()));
        assert_eq!(*latest.value(), 1);
        assert_eq!(take(&mut latest, Ok(1), later), Outcome::Same);
    }
}
