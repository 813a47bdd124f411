//! What opens and closes it.

use proptest::prelude::*;

use super::*;

const ALL: [Evidence; 11] = [
    Evidence::Answered,
    Evidence::Error(1),
    Evidence::Error(2),
    Evidence::Error(3),
    Evidence::Gone,
    Evidence::Doubt,
    Evidence::Well,
    Evidence::Reached,
    Evidence::Unwell,
    Evidence::Impaired,
    Evidence::Silent,
];

fn after(evidence: &[Evidence]) -> &'static str {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    for seen in evidence {
        breaker.note(now, *seen, "why");
    }
    breaker.state()
}

#[test]
fn what_opens_it() {
    use Evidence::{Answered, Error, Gone, Silent, Unwell, Well};
    for opens in [&[Gone][..], &[Unwell], &[Silent, Silent], &[Error(1), Error(2), Error(3)]] {
        assert_eq!(after(opens), "open", "{opens:?}");
    }
    for stays in [
        &[Silent, Well, Silent][..],
        &[Error(1), Error(2), Answered, Error(3)],
        &[Silent, Error(1), Error(2)],
        &[Well, Answered],
    ] {
        assert_eq!(after(stays), "closed", "{stays:?}");
    }
}

#[test]
fn an_instance_that_answers_pulls_is_not_away() {
    use Evidence::{Doubt, Error, Gone, Impaired, Reached, Silent, Unwell, Well};
    let is_away = |evidence: &[Evidence]| {
        let mut breaker = Breaker::default();
        for seen in evidence {
            breaker.note(Instant::now(), *seen, "why");
        }
        breaker.is_away()
    };
    for there in [
        &[][..],
        &[Impaired],
        &[Impaired, Silent],
        &[Impaired, Doubt],
        &[Impaired, Well],
        &[Unwell, Impaired],
        &[Impaired, Silent, Impaired, Silent],
    ] {
        assert!(!is_away(there), "{there:?}");
    }
    for away in [
        &[Gone][..],
        &[Unwell],
        &[Silent, Silent],
        &[Impaired, Unwell],
        &[Impaired, Gone],
        &[Impaired, Silent, Silent],
        &[Impaired, Error(1), Error(2), Error(3)],
        &[Unwell, Well],
        &[Unwell, Reached],
    ] {
        assert!(is_away(away), "{away:?}");
    }
}

/// An instance that is rarely used gives few good answers between the errors of different days.
#[test]
fn errors_of_different_times_do_not_add_up() {
    let mut breaker = Breaker::default();
    let mut now = Instant::now();
    for path in 0..6 {
        assert_eq!(breaker.note(now, Evidence::Error(path), "why"), None);
        assert_eq!(breaker.circuit(), Circuit::Closed);
        now += CALM;
    }
    assert_eq!(breaker.note(now, Evidence::Error(6), "why"), None);
    assert_eq!(breaker.note(now + CALM / 2, Evidence::Error(7), "why"), None);
    assert_eq!(breaker.note(now + CALM, Evidence::Error(8), "why"), Some(Change::Opened));
}

#[test]
fn one_path_in_error_is_for_a_probe_to_confirm() {
    use Evidence::{Answered, Error, Gone, Reached, Silent, Unwell, Well};
    let one = Error(1);
    for stays in [
        &[one, one, one, Well, one, one, one][..],
        &[one, one, one, Well, one, one, one, Well],
        &[one, one, one, Answered, Well, Error(2), Error(3)],
        &[Error(1), Error(2), Error(1), Error(2), Error(1), Error(2), Well],
    ] {
        assert_eq!(after(stays), "closed", "{stays:?}");
    }
    for opens in [
        &[one, one, one, Unwell][..],
        &[one, one, one, Reached],
        &[Reached, one, one, one],
        &[one, one, one, Silent, Silent],
        &[one, one, one, Well, Error(2), Error(3)],
    ] {
        assert_eq!(after(opens), "open", "{opens:?}");
    }
    assert_eq!(after(&[Gone, Well, one, one, one, Well]), "closed", "it keeps none from closing");
    assert_eq!(after(&[Gone, Well, Error(1), Error(2), Error(3), Well]), "half-open");
    let mut breaker = Breaker::default();
    let now = Instant::now();
    for _ in 0..2 {
        breaker.note(now, one, "why");
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }
    breaker.note(now, one, "why");
    assert_eq!(breaker.circuit(), Circuit::Open(now), "passed over");
    breaker.note(now, Well, "");
    assert_eq!(breaker.circuit(), Circuit::Closed);
}

#[test]
fn one_in_doubt_is_passed_over_until_it_was_probed() {
    let mut breaker = Breaker::default();
    let start = Instant::now();
    assert_eq!(breaker.note(start, Evidence::Doubt, "why"), None);
    assert_eq!((breaker.circuit(), breaker.state()), (Circuit::Open(start), "closed"));
    assert!(breaker.is_doubtful());
    breaker.note(start, Evidence::Silent, "why");
    breaker.note(start, Evidence::Answered, "");
    assert_eq!(breaker.circuit(), Circuit::Open(start), "only a probe that is answered decides");
    breaker.note(start, Evidence::Well, "");
    breaker.note(start + DOUBT_PAUSE / 2, Evidence::Doubt, "why");
    assert_eq!(breaker.circuit(), Circuit::Closed, "the last doubt was wrong");
    // It comes before one that is known to fail.
    let later = start + DOUBT_PAUSE;
    breaker.note(later, Evidence::Doubt, "why");
    assert_eq!(breaker.circuit(), Circuit::Open(start));
    assert_eq!(breaker.note(later, Evidence::Unwell, "why"), Some(Change::Opened));
    assert_eq!(breaker.circuit(), Circuit::Open(later));
    for _ in 0..GOOD {
        breaker.note(later, Evidence::Well, "");
    }
    assert_eq!(breaker.circuit(), Circuit::Closed);
    breaker.note(later, Evidence::Doubt, "why");
    assert_eq!(breaker.circuit(), Circuit::Open(later), "the last doubt was right");
}

#[test]
fn what_a_proxy_answers_refutes_no_doubt() {
    use Evidence::{Doubt, Reached, Well};
    assert_eq!(after(&[Doubt, Reached]), "open");
    assert_eq!(after(&[Reached, Doubt]), "open", "at once");
    assert_eq!(after(&[Doubt, Well, Reached, Doubt]), "open", "no pause outlives it");
    assert_eq!(after(&[Reached, Doubt, Reached]), "half-open");
    assert_eq!(after(&[Reached, Doubt, Reached, Reached]), "closed");
    assert_eq!(after(&[Reached, Doubt, Reached, Reached, Doubt]), "open");
    assert_eq!(after(&[Reached, Reached, Well, Doubt, Well, Doubt]), "closed");
}

#[test]
fn probes_alone_close_it() {
    use Evidence::{Answered, Gone, Silent, Well};
    assert_eq!(after(&[Gone, Answered, Answered, Answered]), "open");
    assert_eq!(after(&[Gone, Well]), "half-open");
    assert_eq!(after(&[Gone, Well, Silent, Well]), "half-open");
    assert_eq!(after(&[Gone, Well, Well]), "closed");
}

#[test]
fn one_that_fails_soon_again_is_tried_for_longer() {
    let mut breaker = Breaker::default();
    let mut now = Instant::now();
    for good in [2, 4, 8, 16, 16] {
        assert_eq!(breaker.note(now, Evidence::Gone, "why"), Some(Change::Opened));
        for probe in 1..good {
            assert_eq!(breaker.note(now, Evidence::Well, ""), None, "{probe} of {good}");
        }
        assert_eq!(breaker.note(now, Evidence::Well, ""), Some(Change::Closed(Duration::ZERO)));
    }
    now += CALM;
    breaker.note(now, Evidence::Gone, "why");
    breaker.note(now, Evidence::Well, "");
    assert!(matches!(breaker.note(now, Evidence::Well, ""), Some(Change::Closed(_))));
}

#[test]
fn it_is_silent_as_long_as_its_last_probe_was() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    for (evidence, silent) in [
        (Evidence::Silent, false),
        (Evidence::Silent, true),
        (Evidence::Gone, true),
        (Evidence::Unwell, false),
        (Evidence::Silent, true),
        (Evidence::Well, false),
    ] {
        breaker.note(now, evidence, "why");
        assert_eq!(breaker.is_silent(), silent, "{evidence:?}");
    }
}

proptest! {
    #[test]
    fn whatever_came_before_enough_good_probes_close_it(steps in prop::collection::vec((0usize..ALL.len(), 0u64..90), 0..80)) {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for (evidence, pass) in steps {
            now += Duration::from_secs(pass);
            let was = breaker.state();
            let change = breaker.note(now, ALL[evidence], "why");
            prop_assert_eq!(change == Some(Change::Opened), was == "closed" && breaker.state() == "open");
            prop_assert_eq!(matches!(change, Some(Change::Closed(_))), was != "closed" && breaker.state() == "closed");
            prop_assert_eq!(breaker.why().is_some(), breaker.state() != "closed");
        }
        for _ in 0..GOOD_MAX {
            breaker.note(now, Evidence::Well, "");
        }
        prop_assert_eq!((breaker.state(), breaker.circuit()), ("closed", Circuit::Closed));
    }

    #[test]
    fn no_client_keeps_an_instance_out_of_use_that_probes_find_well(seen in prop::collection::vec(0usize..4, 300)) {
        let seen = seen.iter().map(|which| {
            [Evidence::Answered, Evidence::Doubt, Evidence::Error(1), Evidence::Error(2)][*which]
        });
        let mut breaker = Breaker::default();
        let start = Instant::now();
        let mut passed_over = 0;
        for (second, evidence) in seen.enumerate() {
            let now = start + Duration::from_secs(second as u64);
            breaker.note(now, evidence, "why");
            prop_assert_eq!((breaker.state(), breaker.is_silent()), ("closed", false));
            passed_over += u32::from(breaker.circuit() != Circuit::Closed);
            // A doubt has it probed.
            breaker.note(now, Evidence::Well, "");
            prop_assert_eq!(breaker.circuit(), Circuit::Closed);
        }
        prop_assert!(passed_over <= 10, "{passed_over} of 300");
    }
}
