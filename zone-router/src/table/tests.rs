use backends::memory::MemoryStore;
use backends::{Digest, Key, Kind};

use super::reduce::THROTTLED;
use super::*;
use crate::Zone;
use crate::event::{BodyEvent, HeadersEvent, ProbeEvent, Trouble, What};
use crate::rank::{Reason, Standing};

const MS: Duration = Duration::from_millis(1);
const SMALL: SizeClass = SizeClass::Small;

/// Zones that are 40, 41, … ms away. All of them have samples.
struct Site {
    table: ZoneTable,
    now: Instant,
    /// Reads that failed.
    failed: u64,
}

impl Site {
    fn new(policies: &[Policy]) -> Self {
        let now = Instant::now();
        let zone = |index: usize| Zone::new(&format!("z{index}"), Arc::new(MemoryStore::new()));
        let routed = |(index, policy): (usize, &Policy)| RoutedZone { zone: zone(index), policy: *policy };
        let zones: Vec<_> = policies.iter().enumerate().map(routed).collect();
        let mut site = Self { table: ZoneTable::new(&zones, Settings::default(), now), now, failed: 0 };
        for _ in 0..20 {
            site.now += Duration::from_secs(1);
            for zone in 0..policies.len() {
                site.see(zone, ProbeEvent::Answered { after: MS * (40 + zone as u32), late: false });
                site.see(
                    zone,
                    HeadersEvent::Answered {
                        digest: Digest::EMPTY,
                        class: SMALL,
                        after: MS * 40,
                        absent: false,
                    },
                );
            }
            site.snapshot();
        }
        site
    }

    fn see(&mut self, zone: usize, what: impl Into<What>) -> Option<Change> {
        self.table.fold(ZoneEvent { zone: ZoneId::at(zone), what: what.into() }, self.now, 1.0)
    }

    fn snapshot(&mut self) -> Snapshot {
        self.table.snapshot(self.now, 0)
    }

    fn order(&mut self) -> Vec<(usize, Reason)> {
        let order = self.snapshot().rank(SMALL, |_| Standing::Clear);
        order.into_iter().map(|candidate| (candidate.zone.index(), candidate.reason)).collect()
    }

    /// A read fails, each time for another object.
    fn fail(&mut self, zone: usize, kind: Kind) -> Option<Change> {
        self.failed += 1;
        let digest = Digest::of(&self.failed.to_le_bytes());
        self.fail_to_give(zone, digest, kind)
    }

    fn fail_to_give(&mut self, zone: usize, digest: Digest, kind: Kind) -> Option<Change> {
        self.see(zone, HeadersEvent::Failed { digest, trouble: Trouble { kind, text: "so".into() } })
    }
}

fn site() -> Site {
    Site::new(&[Policy::default(); 3])
}

#[test]
fn home_then_by_time() {
    assert_eq!(site().order(), [(0, Reason::Home), (1, Reason::Next), (2, Reason::Next)]);
}

#[test]
fn throttling_spares_and_does_not_open_the_breaker() {
    let mut site = site();
    for _ in 0..100 {
        assert!(site.fail(0, Kind::Throttled { retry_after: Some(Duration::from_secs(3600)) }).is_none());
    }
    assert_eq!(site.order(), [(1, Reason::Nearest), (2, Reason::Next), (0, Reason::Throttled)]);
    site.now += THROTTLED.2;
    assert!(site.order().contains(&(0, Reason::Next)), "for a bounded time");
}

#[test]
fn a_denial_is_told_and_what_is_invalid_says_nothing() {
    let mut site = site();
    for _ in 0..100 {
        assert!(site.fail(0, Kind::Invalid).is_none() && site.fail(0, Kind::Denied).is_none());
    }
    let denied =
        || ProbeEvent::Failed { trouble: Trouble { kind: Kind::Denied, text: "403".into() }, late: false };
    let change = site.see(0, denied()).expect("misconfigured");
    assert_eq!(
        (change.to.as_str(), change.reason.as_deref()),
        ("misconfigured", Some("misconfigured: it denies us: 403"))
    );
    assert_eq!(site.order()[2], (0, Reason::Open));
}

#[test]
fn the_operators_word_stands_above_all() {
    let mut site = site();
    let drained = Policy { drain: true, ..Policy::default() };
    let never = Policy { reads: false, ..Policy::default() };
    site.table.set_policies(&vec![drained, never, Policy::default()].into());
    assert_eq!(
        site.order(),
        [(2, Reason::Nearest), (0, Reason::Drained)],
        "drained: where nobody else gives it"
    );
    site.table.set_policies(&vec![never; 3].into());
    assert_eq!(site.order(), []);
    assert!(!site.snapshot().all_open, "nobody is asked, so nobody is missed");
}

#[test]
fn a_hint_and_a_weight() {
    let hint = Policy { latency_hint: Some(MS * 200), ..Policy::default() };
    let mut far = Site::new(&[hint, Policy::default()]);
    assert_eq!(far.order()[0], (1, Reason::Nearest), "its probes lie");
    let dear = Policy { weight: 0.1, ..Policy::default() };
    let mut dear = Site::new(&[dear, Policy::default()]);
    assert_eq!(dear.order()[0], (1, Reason::Nearest));
}

#[test]
fn the_least_recently_failed_first() {
    let mut site = site();
    for zone in [1, 0, 2] {
        (0..3).for_each(|_| drop(site.fail(zone, Kind::Unavailable)));
        site.now += MS * 10;
    }
    assert!(site.snapshot().all_open);
    assert_eq!(site.order(), [1, 0, 2].map(|zone| (zone, Reason::Open)));
}

#[test]
fn reads_given_up_do_not_make_it_wait_longer() {
    let mut site = site();
    let before = site.snapshot().zones[ZoneId::HOME].headers[SMALL];
    for _ in 0..1000 {
        site.see(0, HeadersEvent::Overdue { digest: Digest::EMPTY, class: SMALL, after: MS * 500 });
        site.see(0, HeadersEvent::LostRace { digest: Digest::EMPTY, class: SMALL, after: MS * 10 });
    }
    assert_eq!(site.snapshot().zones[ZoneId::HOME].headers[SMALL], before);
    // An answer that lost the race late would have taken even longer.
    (0..1000).for_each(|_| {
        drop(site.see(0, HeadersEvent::LostRace { digest: Digest::EMPTY, class: SMALL, after: MS * 80 }))
    });
    assert!(site.snapshot().zones[ZoneId::HOME].headers[SMALL].p95 > before.p95);
}

#[test]
fn a_read_of_a_half_open_zone_that_loses_the_race_has_failed() {
    let mut site = site();
    (0..3).for_each(|_| drop(site.fail(0, Kind::Unavailable)));
    site.now += Duration::from_secs(30);
    let probed = || ProbeEvent::Answered { after: MS * 40, late: false };
    assert_eq!(site.see(0, probed()).map(|change| change.to.as_str()), Some("probation"));
    let outrun = site.see(0, HeadersEvent::LostRace { digest: Digest::EMPTY, class: SMALL, after: MS * 80 });
    assert_eq!(outrun.map(|change| change.to.as_str()), Some("ejected"));
}

#[test]
fn slow_reads_are_a_brown_out_whatever_probes_say() {
    let mut site = site();
    for _ in 0..20 {
        site.now += MS * 50;
        site.see(
            0,
            HeadersEvent::Answered { digest: Digest::EMPTY, class: SMALL, after: MS * 400, absent: false },
        );
        site.snapshot();
    }
    assert_eq!(site.order()[0], (1, Reason::Nearest));
}

#[test]
fn absence_is_no_sample() {
    let mut site = site();
    let before = site.snapshot().zones[ZoneId::HOME].headers[SMALL];
    (0..1000).for_each(|_| {
        drop(
            site.see(
                0,
                HeadersEvent::Answered { digest: Digest::EMPTY, class: SMALL, after: MS, absent: true },
            ),
        )
    });
    assert_eq!(site.snapshot().zones[ZoneId::HOME].headers[SMALL], before);
}

#[test]
fn only_small_blobs_are_probed_with() {
    let mut site = site();
    let blob = Arc::new(crate::Blob { digest: Digest::EMPTY, key: Key::new("a") });
    site.see(0, BodyEvent::Proven { blob: Arc::clone(&blob), size: DEEP_PROBE_MAX + 1 });
    assert!(site.snapshot().zones[ZoneId::HOME].recent_blobs.latest().is_none());
    site.see(0, BodyEvent::Proven { blob, size: 1 });
    assert!(site.snapshot().zones[ZoneId::HOME].recent_blobs.latest().is_some());
}

#[test]
fn probes_alone_do_not_say_how_long_a_large_read_takes() {
    let mut site = Site::new(&[]);
    let zone = Zone::new("near", Arc::new(MemoryStore::new()));
    site.table = ZoneTable::new(&[zone.into()], Settings::default(), site.now);
    for _ in 0..50 {
        site.see(0, ProbeEvent::Answered { after: MS * 3, late: false });
        site.see(
            0,
            HeadersEvent::Answered { digest: Digest::EMPTY, class: SMALL, after: MS * 3, absent: false },
        );
    }
    let headers = site.snapshot().zones[ZoneId::HOME].headers;
    assert_eq!(headers[SMALL].overdue_after, Settings::default().overdue_min);
    assert!(headers[SizeClass::Large].overdue_after >= MS * 300);
}

/// Records the headers of 200 reads of home, each after this time.
fn read_at_home(site: &mut Site, after: Duration) -> crate::snapshot::Headers {
    for _ in 0..200 {
        site.see(0, HeadersEvent::Answered { digest: Digest::EMPTY, class: SMALL, after, absent: false });
    }
    site.snapshot().zones[ZoneId::HOME].headers[SMALL]
}

#[test]
fn headers_are_overdue_after_three_times_their_usual_bound_and_a_little() {
    let headers = read_at_home(&mut site(), MS * 80);
    let p95 = headers.p95.expect("many reads");
    assert!(p95 >= MS * 80 && p95 <= MS * 96, "{p95:?}");
    assert_eq!(headers.hedge_after, p95);
    assert!(headers.overdue_after.abs_diff(p95 * 3 + MS * 50) < MS);
}

#[test]
fn a_zone_that_is_always_slow_is_not_always_overdue() {
    let settings = Settings::default();
    assert!(read_at_home(&mut site(), MS * 1500).overdue_after > MS * 1500);
    let most = read_at_home(&mut site(), Duration::from_secs(20)).overdue_after;
    assert_eq!(most, settings.overdue_max * 4, "and yet a read ends");
}

#[test]
fn how_fast_a_body_was_is_forgotten() {
    let mut site = site();
    let gave = |bytes| BodyEvent::Throughput { bytes, waited: Duration::from_secs(1) };
    let all = |site: &mut Site, home: Option<u64>, seconds: u32| {
        for _ in 0..seconds * 4 {
            site.now += MS * 250;
            home.iter().for_each(|rate| drop(site.see(0, gave(*rate))));
            site.see(1, gave(100 << 20));
            site.snapshot();
        }
        site.order()[0].0
    };
    assert_eq!(all(&mut site, Some(64 << 10), 20), 1, "bodies at home are slow");
    assert_eq!(all(&mut site, None, 20), 1);
    assert_eq!(all(&mut site, None, 100), 0, "nobody knows whether they still are");
}

#[test]
fn another_reason_to_be_out_of_use_is_told() {
    let mut site = site();
    (0..3).for_each(|_| drop(site.fail(0, Kind::Timeout)));
    site.now += Duration::from_secs(60);
    let change = site.see(
        0,
        ProbeEvent::Failed { trouble: Trouble { kind: Kind::Denied, text: "403".into() }, late: false },
    );
    assert_eq!(change.map(|change| change.to.as_str()), Some("misconfigured"));
    assert_eq!(site.snapshot().zones[ZoneId::HOME].counts.opened, 1);
}

#[test]
fn a_step_of_less_than_a_millisecond_is_no_reason_to_look() {
    let mut site = site();
    let probed = |after| ProbeEvent::Answered { after, late: false };
    (0..20).for_each(|_| drop(site.see(0, probed(MS / 2))));
    site.see(0, probed(MS));
    assert!(!site.table.is_doubtful(ZoneId::HOME, site.now));
    site.see(0, probed(MS * 20));
    assert!(site.table.is_doubtful(ZoneId::HOME, site.now));
}

#[test]
fn one_ill_object_does_not_open_the_breaker() {
    let mut site = site();
    let (ill, well) = (Digest::of(b"ill"), Digest::of(b"well"));
    let answered = |site: &mut Site| {
        site.see(0, HeadersEvent::Answered { digest: well, class: SMALL, after: MS * 40, absent: false })
    };
    for read in 0..10_000 {
        site.now += MS * 33;
        assert!(site.fail_to_give(0, ill, Kind::Unavailable).is_none());
        let overdue = HeadersEvent::Overdue { digest: ill, class: SMALL, after: MS * 500 };
        assert!(site.see(0, overdue).is_none());
        let trouble = Trouble { kind: Kind::Timeout, text: "so".into() };
        assert!(site.see(0, BodyEvent::Broke { digest: ill, trouble }).is_none());
        if read % 100 == 0 {
            answered(&mut site);
        }
    }
    // A lost race also does not keep a breaker half-open.
    assert_eq!((0..3).filter_map(|_| site.fail(0, Kind::Unavailable)).count(), 1);
    answered(&mut site);
    site.now += Duration::from_secs(30);
    site.see(0, ProbeEvent::Answered { after: MS * 40, late: false });
    for _ in 0..30 {
        site.now += MS * 100;
        site.fail_to_give(0, ill, Kind::Unavailable);
        site.see(0, ProbeEvent::Answered { after: MS * 40, late: false });
    }
    assert_eq!(site.snapshot().zones[ZoneId::HOME].state, State::Closed);
}

#[test]
fn a_store_that_fails_is_dead_only_if_its_probes_fail_too() {
    let mut site = site();
    let dead = |site: &mut Site| site.snapshot().zones[ZoneId::HOME].is_dead();
    (0..3).for_each(|_| drop(site.fail(0, Kind::Unavailable)));
    assert!(!dead(&mut site), "its probes are answered");
    let late = || ProbeEvent::Overdue;
    site.see(0, late());
    assert!(!dead(&mut site), "that may have been an object that is ill");
    site.see(0, late());
    assert!(dead(&mut site));
    site.see(0, ProbeEvent::Answered { after: MS * 400, late: true });
    assert!(!dead(&mut site), "late, and yet an answer");
}
