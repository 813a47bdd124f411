//! Decides in which order a request tries the instances of the registry. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Circuit;

/// What the choice needs to know of one instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Whether it is the instance of the home zone.
    pub(super) home: bool,
    /// Whether the instance's preferred store serves, or the request uses no store.
    pub(super) store_serves: bool,
    /// The distance of that store, by [`far`]. 0 if the request uses no store.
    pub(super) far: u32,
    pub(super) circuit: Circuit,
}

impl View {
    fn is_usable(&self) -> bool {
        self.store_serves && !matches!(self.circuit, Circuit::Open(_))
    }

    fn failed(&self) -> Option<Instant> {
        match self.circuit {
            Circuit::Closed => None,
            Circuit::HalfOpen(at) | Circuit::Open(at) => Some(at),
        }
    }
}

/// The places of all instances in `views`, in the order in which they are tried.
///
/// First come the usable instances: that of the home zone, then the nearest, then in configured order. An
/// instance that is due for another try counts as usable. Then come the others: instances whose store serves
/// before those whose store is known not to serve. Among equals, the instance with the oldest failure comes
/// first. If no instance is usable, that one is tried all the same.
pub(super) fn order(views: &[View]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|place| {
        let view = &views[*place];
        let failed = if view.is_usable() { None } else { view.failed() };
        (!view.is_usable(), !view.store_serves, failed, !view.home, view.far, *place)
    });
    order
}

/// The distance of a store whose probes take this long. Similar times have the same distance. A store whose
/// time is not known is the farthest.
pub(super) fn far(probe: Option<Duration>) -> u32 {
    // In steps of half an octave. Everything below 16 ms is near.
    probe.map_or(u32::MAX, |probe| ((probe.as_secs_f64() * 1000.0).max(16.0).log2() * 2.0) as u32)
}

/// The worse of two states.
pub(super) fn worse(one: Circuit, other: Circuit) -> Circuit {
    match (one, other) {
        (Circuit::Closed, circuit) | (circuit, Circuit::Closed) => circuit,
        (Circuit::HalfOpen(a), Circuit::HalfOpen(b)) => Circuit::HalfOpen(a.max(b)),
        (Circuit::Open(a) | Circuit::HalfOpen(a), Circuit::Open(b) | Circuit::HalfOpen(b)) => {
            Circuit::Open(a.max(b))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn views() -> impl Strategy<Value = Vec<View>> {
        let start = Instant::now();
        let at = move |seconds: u64| start + Duration::from_secs(seconds);
        let circuit = prop_oneof![
            3 => Just(Circuit::Closed),
            1 => (0u64..100).prop_map(move |seconds| Circuit::HalfOpen(at(seconds))),
            2 => (0u64..100).prop_map(move |seconds| Circuit::Open(at(seconds))),
        ];
        let view = (any::<bool>(), prop::bool::weighted(0.7), circuit)
            .prop_map(|(home, store_serves, circuit)| View { home, store_serves, far: 0, circuit });
        prop::collection::vec(view, 1..8)
    }

    proptest! {
        #[test]
        fn each_is_there_once(views in views()) {
            let mut order = order(&views);
            order.sort_unstable();
            prop_assert_eq!(order, (0..views.len()).collect::<Vec<_>>());
        }

        #[test]
        fn usable_instances_come_first_home_then_in_configured_order(views in views()) {
            let order = order(&views);
            let fine = order.iter().take_while(|place| views[**place].is_usable()).count();
            prop_assert_eq!(fine, views.iter().filter(|view| view.is_usable()).count());
            let wanted = |home: bool| {
                let all = views.iter().enumerate();
                all.filter(move |(_, view)| view.is_usable() && view.home == home).map(|(place, _)| place)
            };
            let wanted: Vec<usize> = wanted(true).chain(wanted(false)).collect();
            prop_assert_eq!(&order[..fine], &wanted);
        }

        #[test]
        fn unusable_instances_are_ordered_by_store_and_by_oldest_failure(views in views()) {
            let others: Vec<_> =
                order(&views).into_iter().filter(|place| !views[*place].is_usable()).collect();
            prop_assert!(others.is_sorted_by_key(|place| (!views[*place].store_serves, views[*place].failed())));
        }

        #[test]
        fn a_new_failure_never_moves_an_instance_forward(views in views(), which in any::<prop::sample::Index>()) {
            let which = which.index(views.len());
            let place = |views: &[View]| order(views).iter().position(|place| *place == which);
            let before = place(&views);
            let mut after = views.clone();
            after[which].circuit = Circuit::Open(Instant::now() + Duration::from_secs(1000));
            prop_assert!(place(&after) >= before);
            let (serves, last) = (views[which].store_serves, place(&after));
            let alike = (0..views.len()).filter(|other| views[*other].is_usable() || !serves || views[*other].store_serves);
            prop_assert_eq!(last, Some(alike.count() - 1), "behind all but those whose store is known to be worse");
        }
    }

    /// A push needs the store, and a single failure may have been temporary.
    #[test]
    fn one_recent_failure_is_better_than_a_dead_store() {
        let view = |store_serves, circuit| View { home: false, store_serves, far: 0, circuit };
        let paused = view(true, Circuit::Open(Instant::now()));
        assert_eq!(order(&[view(false, Circuit::Closed), paused]), [1, 0]);
    }

    #[test]
    fn an_instance_that_is_due_counts_as_usable() {
        let now = Instant::now();
        let view = |home, store_serves, circuit| View { home, store_serves, far: 0, circuit };
        let due = view(true, true, Circuit::HalfOpen(now));
        let fine = view(false, true, Circuit::Closed);
        assert_eq!(order(&[fine, due]), [1, 0]);
        assert_eq!(order(&[fine, view(true, false, Circuit::Closed)]), [0, 1]);
        assert_eq!(order(&[fine, view(true, true, Circuit::Open(now))]), [0, 1]);
    }

    #[test]
    fn the_worse_of_two_states_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (due, paused) = (Circuit::HalfOpen(now), Circuit::Open(now));
        assert_eq!(worse(Circuit::Closed, Circuit::Closed), Circuit::Closed);
        assert_eq!(worse(due, Circuit::Closed), due);
        assert_eq!(worse(Circuit::HalfOpen(later), paused), Circuit::Open(later));
        assert_eq!(worse(due, Circuit::HalfOpen(later)), Circuit::HalfOpen(later));
    }

    #[test]
    fn equal_instances_are_ordered_by_distance() {
        let view = |ms: Option<u64>| View {
            home: false,
            store_serves: true,
            far: far(ms.map(Duration::from_millis)),
            circuit: Circuit::Closed,
        };
        assert_eq!(order(&[None, Some(80), Some(17), Some(3), Some(16)].map(view)), [2, 3, 4, 1, 0]);
        let home = View { home: true, ..view(Some(500)) };
        assert_eq!(order(&[view(Some(1)), home]), [1, 0]);
    }
}
