use proptest::prelude::*;

use super::*;
use crate::late_rate::WINDOW;

const MS: Duration = Duration::from_millis(1);

/// Probes close a half-open breaker after this.
const LONG: Duration = Duration::from_secs(2);

/// A zone and a clock.
struct Zone {
    breaker: Breaker,
    settings: Settings,
    now: Instant,
}

impl Zone {
    fn new() -> Self {
        let now = Instant::now();
        Self { breaker: Breaker::new(now), settings: Settings::default(), now }
    }

    fn on(&mut self, event: Event) -> State {
        self.breaker.on(event, &self.settings, self.now, 1.0);
        self.breaker.state()
    }

    fn after(&mut self, pause: Duration) -> &mut Self {
        self.now += pause;
        self
    }

    /// Records failures until the breaker opens. Returns the length of the pause.
    fn open(&mut self) -> Duration {
        for _ in 0..STRIKES {
            self.on(Event::Failed(Fault::Unavailable));
        }
        self.pause()
    }

    fn pause(&self) -> Duration {
        match self.breaker.state() {
            State::Open { until, .. } => until - self.now,
            state => panic!("{state:?}"),
        }
    }

    fn recover(&mut self) {
        let pause = self.pause();
        assert!(matches!(self.after(pause).on(Event::Probed), State::HalfOpen { .. }));
        assert_eq!(self.on(Event::Proven), State::Closed);
    }
}

#[test]
fn three_failures_in_a_row() {
    let mut zone = Zone::new();
    for _ in 0..10 {
        zone.on(Event::Failed(Fault::Timeout));
        assert!(zone.breaker.is_suspect(zone.now));
        assert_eq!(zone.on(Event::Failed(Fault::Unavailable)), State::Closed);
        assert_eq!(zone.on(Event::Answered), State::Closed);
        assert!(!zone.breaker.is_suspect(zone.now));
        // Single failures among successes do not open the breaker.
        for _ in 0..20 {
            zone.on(Event::Answered);
        }
    }
    zone.open();
    assert!(matches!(zone.breaker.state(), State::Open { fault: Fault::Unavailable, .. }));
}

#[test]
fn two_failures_for_each_success() {
    let mut zone = Zone::new();
    let rounds = (0..20).take_while(|_| {
        zone.on(Event::Answered);
        zone.on(Event::Failed(Fault::Unavailable));
        zone.on(Event::Failed(Fault::Unavailable)) == State::Closed
    });
    assert!((3..15).contains(&rounds.count()), "never three in a row, and yet of no use");
}

#[test]
fn wrong_bytes_at_once_and_for_long() {
    let mut zone = Zone::new();
    assert!(matches!(
        zone.on(Event::Failed(Fault::WrongBytes)),
        State::Open { fault: Fault::WrongBytes, .. }
    ));
    assert_eq!(zone.pause(), zone.settings.wrong_bytes);
}

#[test]
fn a_denied_read_is_for_probes_to_judge() {
    let mut zone = Zone::new();
    for _ in 0..100 {
        assert_eq!(zone.on(Event::Failed(Fault::Misconfigured)), State::Closed);
    }
    assert!(zone.breaker.is_suspect(zone.now));
    zone.on(Event::Probed);
    assert!(!zone.breaker.is_suspect(zone.now));
    assert_eq!(zone.on(Event::ProbeFailed(Fault::Misconfigured)), State::Closed);
    let state = zone.on(Event::ProbeFailed(Fault::Misconfigured));
    assert_eq!(state.as_str(), "misconfigured");
}

#[test]
fn reads_that_met_one_hiccup_are_one_strike() {
    let mut zone = Zone::new();
    for _ in 0..100 {
        assert_eq!(zone.on(Event::Late), State::Closed);
    }
    for _ in 1..STRIKES {
        zone.after(WINDOW).on(Event::Late);
    }
    assert!(matches!(zone.breaker.state(), State::Open { fault: Fault::Timeout, .. }));
}

#[test]
fn every_other_read_late_is_too_many_and_every_tenth_is_not() {
    let late = |every: u32| {
        let mut zone = Zone::new();
        (0..1000_u32).any(|read| {
            let event = if read % every == 0 { Event::Late } else { Event::Answered };
            zone.after(MS * 10).on(event) != State::Closed
        })
    };
    assert!(late(2) && !late(10));
}

#[test]
fn a_lie_stays_the_reason_until_a_whole_read_is_right() {
    let fault = |state| match state {
        State::Open { fault, .. } | State::HalfOpen { fault } => Some(fault),
        State::Closed => None,
    };
    let mut zone = Zone::new();
    zone.on(Event::Failed(Fault::WrongBytes));
    let pause = zone.pause();
    assert_eq!(fault(zone.after(pause).on(Event::ProbeLate)), Some(Fault::WrongBytes));
    let pause = zone.pause();
    assert_eq!(fault(zone.after(pause).on(Event::ProbeFailed(Fault::Timeout))), Some(Fault::WrongBytes));
    // A probe of one byte proves nothing.
    for _ in 0..100 {
        assert!(zone.after(MS * 10_000).on(Event::Probed) != State::Closed);
    }
    for _ in 0..STRIKES {
        zone.after(MS * 10_000).on(Event::ProbedWhole);
    }
    assert_eq!(zone.breaker.state(), State::Closed);
    // The fault changes while the breaker is open because of another fault.
    let mut zone = Zone::new();
    zone.open();
    assert_eq!(fault(zone.on(Event::Broke(Fault::WrongBytes))), Some(Fault::WrongBytes));
    assert!(zone.pause() >= zone.settings.wrong_bytes);
}

#[test]
fn a_probe_in_four_that_fails_is_borne_with() {
    let mut zone = Zone::new();
    for _ in 0..1000 {
        for _ in 0..3 {
            assert_eq!(zone.after(MS * 1000).on(Event::Probed), State::Closed);
        }
        assert_eq!(zone.after(MS * 1000).on(Event::ProbeFailed(Fault::Timeout)), State::Closed);
    }
}

/// Reads avoid a zone that failed many of them. Then only probes can show that it works again.
#[test]
fn probes_speak_for_a_zone_that_is_not_read() {
    let mut zone = Zone::new();
    for _ in 0..6 {
        zone.on(Event::Failed(Fault::Unavailable));
        zone.on(Event::Answered);
    }
    let before = zone.breaker.error_rate();
    zone.on(Event::Probed);
    assert!(zone.breaker.error_rate() > before * 0.9, "one says little");
    for _ in 0..100 {
        zone.on(Event::Probed);
    }
    assert!(before > 0.2 && zone.breaker.error_rate() < 0.1, "{before}");
}

#[test]
fn one_read_or_probes_for_a_while_end_a_probation() {
    let mut zone = Zone::new();
    let pause = zone.open();
    // These events come too early, or belong to reads that were under way. They change nothing.
    for event in [Event::Probed, Event::Answered, Event::Proven, Event::Failed(Fault::Timeout)] {
        assert!(matches!(zone.on(event), State::Open { .. }));
    }
    assert!(matches!(zone.after(pause).on(Event::Probed), State::HalfOpen { .. }));
    assert!(matches!(zone.on(Event::Answered), State::HalfOpen { .. }), "headers prove nothing");
    assert_eq!(zone.on(Event::Proven), State::Closed);
    zone.open();
    let pause = zone.pause();
    zone.after(pause).on(Event::Probed);
    zone.on(Event::Probed);
    assert!(matches!(zone.on(Event::Probed), State::HalfOpen { .. }), "a read may be on its way");
    assert_eq!(zone.after(LONG).on(Event::Probed), State::Closed);
    // No read has confirmed that the zone works, so the first failed read is enough.
    assert!(matches!(zone.on(Event::Failed(Fault::Unavailable)), State::Open { .. }));
}

#[test]
fn probes_do_not_speak_for_reads_nor_headers_for_bodies() {
    for (failure, success) in [
        (Event::Failed(Fault::Timeout), Event::Probed),
        (Event::Broke(Fault::Timeout), Event::Answered),
        (Event::ProbeLate, Event::Answered),
    ] {
        let mut zone = Zone::new();
        for _ in 1..STRIKES {
            assert_eq!(zone.on(failure), State::Closed);
            zone.on(success);
        }
        assert!(matches!(zone.on(failure), State::Open { .. }), "{failure:?}");
    }
}

#[test]
fn a_brown_out_is_not_tried_by_clients() {
    let mut zone = Zone::new();
    let pause = zone.open();
    assert!(matches!(zone.after(pause).on(Event::ProbeLate), State::Open { until, .. } if until > zone.now));
}

#[test]
fn suspicion_and_strikes_end() {
    let mut zone = Zone::new();
    zone.on(Event::Failed(Fault::Unavailable));
    zone.on(Event::Failed(Fault::Unavailable));
    assert!(zone.breaker.is_suspect(zone.now));
    zone.after(RECENT);
    assert!(!zone.breaker.is_suspect(zone.now));
    zone.after(CALM).on(Event::Failed(Fault::Unavailable));
    assert_eq!(zone.on(Event::Failed(Fault::Unavailable)), State::Closed);
}

#[test]
fn one_after_the_other_they_grow_and_calm_begins_anew() {
    let mut zone = Zone::new();
    let max = zone.settings.pause.max;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pauses.push(zone.open());
        zone.recover();
    }
    assert!(pauses.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(max)), "{pauses:?}");
    assert_eq!(pauses[9], max);
    zone.after(CALM + MS);
    assert_eq!(zone.open(), pauses[0]);
    let pause = zone.pause();
    zone.after(pause).on(Event::Probed);
    zone.on(Event::Failed(Fault::Unavailable));
    assert_eq!(zone.pause(), pauses[0] * 2, "a failed probation is another ejection");
}

fn event() -> impl Strategy<Value = Event> {
    let fault = || {
        prop::sample::select(vec![
            Fault::Unavailable,
            Fault::Timeout,
            Fault::WrongBytes,
            Fault::Misconfigured,
        ])
    };
    prop_oneof![
        Just(Event::Answered),
        Just(Event::Probed),
        Just(Event::ProbedWhole),
        Just(Event::Proven),
        Just(Event::Late),
        Just(Event::ProbeLate),
        fault().prop_map(Event::Broke),
        fault().prop_map(Event::Failed),
        fault().prop_map(Event::ProbeFailed),
    ]
}

proptest! {
    /// For any events: the breaker makes only the transitions of the diagram, is open for a bounded time, and closes
    /// soon after the last failure.
    #[test]
    fn always_back(events in prop::collection::vec((event(), 0_u64..20_000), 0..200)) {
        let mut zone = Zone::new();
        for (event, pause) in events {
            let before = zone.breaker.state();
            let after = zone.after(MS * pause as u32).on(event);
            let drawn = match (before, after) {
                (State::Open { .. }, State::Closed) | (State::Closed, State::HalfOpen { .. }) => false,
                (State::HalfOpen { .. }, State::Closed) => {
                    matches!(event, Event::Proven | Event::Probed | Event::ProbedWhole)
                }
                _ => true,
            };
            prop_assert!(drawn, "{before:?} {event:?} {after:?}");
            if let State::Open { until, .. } = after {
                prop_assert!(until <= zone.now + zone.settings.pause.max.max(zone.settings.wrong_bytes));
            }
        }
        if let State::Open { until, .. } = zone.breaker.state() {
            zone.now = zone.now.max(until);
        }
        for _ in 0..=STRIKES {
            zone.on(Event::ProbedWhole);
            zone.after(LONG);
        }
        prop_assert_eq!(zone.breaker.state(), State::Closed);
    }
}
