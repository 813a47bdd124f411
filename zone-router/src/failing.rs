//! Remembers the objects that a zone fails to give, although it may give others. Pure: the time is passed in.
//!
//! One damaged object must not open the breaker of a zone, however often clients ask for it. If a zone fails for every
//! object, its breaker must open as soon as possible.

use std::collections::HashMap;

use backends::Digest;
use tokio::time::Instant;

use crate::breaker::{CALM, STRIKES};

/// The most objects that are remembered for one zone. If there are more, those that are old enough are dropped. If
/// there are still too many, each failure counts.
const OBJECTS_MAX: usize = 256;

/// The objects that a zone recently failed to give, at one stage of a read.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailingObjects {
    objects: HashMap<Digest, Failing>,
    /// The number of objects that the zone has given.
    given: u64,
}

#[derive(Debug, Clone)]
struct Failing {
    /// How often a failure of the object counted.
    counted: u8,
    /// The number of objects that the zone had given when it last failed to give this one.
    given: u64,
    /// When the zone last failed to give this object.
    last: Instant,
}

impl FailingObjects {
    /// Records that the zone gave an object.
    pub(crate) fn gave(&mut self, digest: &Digest) {
        self.given += 1;
        if !self.objects.is_empty() {
            self.objects.remove(digest);
        }
    }

    /// Records that the zone failed to give an object. Returns whether that counts against the zone. If this object
    /// failed before and the zone has given nothing since, it does not count. Failures of one object count fewer times
    /// than open a breaker. If as many objects fail as open a breaker, and the zone gives none in between, each failure
    /// counts.
    pub(crate) fn failed(&mut self, digest: Digest, now: Instant) -> bool {
        let fresh = |object: &Failing| now.saturating_duration_since(object.last) < CALM;
        if self.objects.len() >= OBJECTS_MAX {
            self.objects.retain(|_, object| fresh(object));
        }
        if self.objects.len() >= OBJECTS_MAX && !self.objects.contains_key(&digest) {
            return true;
        }
        let given = self.given;
        let new = Failing { counted: 0, given, last: now };
        let before = self.objects.insert(digest, new).filter(fresh);
        let failing = self.objects.values().filter(|object| object.given == given && fresh(object));
        let all_fail = failing.take(STRIKES.into()).count() == usize::from(STRIKES);
        let counted = before.as_ref().map_or(0, |before| before.counted);
        let again_in_vain = before.is_some_and(|before| before.given == given);
        let counts = all_fail || (!again_in_vain && counted < STRIKES - 1);
        if let Some(object) = self.objects.get_mut(&digest) {
            object.counted = counted.saturating_add(u8::from(counts)).min(STRIKES - 1);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn object(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn one_object_alone_counts_once_a_rest() {
        let (mut objects, mut now) = (FailingObjects::default(), Instant::now());
        assert!(objects.failed(object(0), now));
        for _ in 0..10_000 {
            now += MS * 33;
            assert!(!objects.failed(object(0), now), "it fails, whatever others do");
        }
        now += CALM;
        assert!(objects.failed(object(0), now));
    }

    #[test]
    fn one_object_among_others_counts_twice() {
        let (mut objects, mut now) = (FailingObjects::default(), Instant::now());
        let mut counted = 0;
        for _ in 0..1000 {
            now += MS * 33;
            counted += u8::from(objects.failed(object(0), now));
            objects.gave(&object(1));
        }
        assert_eq!(counted, STRIKES - 1);
        objects.gave(&object(0));
        assert!(objects.failed(object(0), now), "it was given meanwhile");
    }

    #[test]
    fn where_nothing_is_given_all_count() {
        let (mut objects, now) = (FailingObjects::default(), Instant::now());
        for _ in 0..10 {
            let counts = [0, 1, 2].map(|number| objects.failed(object(number), now));
            assert!(counts[2] || counts == [true; 3]);
        }
        assert!([0, 1, 2].iter().all(|number| objects.failed(object(*number), now)));
        objects.gave(&object(9));
        assert!(objects.failed(object(3), now));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut objects, now) = (FailingObjects::default(), Instant::now());
        let all = |objects: &mut FailingObjects, now| {
            (0..OBJECTS_MAX * 2).for_each(|number| {
                let digest = Digest::of(&number.to_le_bytes());
                assert!(objects.failed(digest, now), "a zone with so many is not well");
            });
        };
        all(&mut objects, now);
        all(&mut objects, now + CALM);
        assert_eq!(objects.objects.len(), OBJECTS_MAX);
    }
}
