//! Which instance of the registry is asked first, and which then: pure.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Standing;

/// One instance as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Whether it is the home zone's.
    pub(super) home: bool,
    /// Whether the store that it prefers serves, or does not matter here.
    pub(super) store_serves: bool,
    /// How far that store is, by [`far`]; 0 where it does not matter.
    pub(super) far: u32,
    pub(super) standing: Standing,
}

impl View {
    fn fine(&self) -> bool {
        self.store_serves && !matches!(self.standing, Standing::Paused(_))
    }

    fn failed(&self) -> Option<Instant> {
        match self.standing {
            Standing::Fine => None,
            Standing::Due(at) | Standing::Paused(at) => Some(at),
        }
    }
}

/// All instances, by their places in `views`, in the order in which they are to be tried.
///
/// Those that are fine, the home zone's first, then the nearest, then as they were configured; what is due for another
/// try is among them. Behind them the others, those whose store serves before those whose store is known not
/// to, and the least recently failed first: with none fine, that one is tried all the same.
pub(super) fn order(views: &[View]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|place| {
        let view = &views[*place];
        let failed = if view.fine() { None } else { view.failed() };
        (!view.fine(), !view.store_serves, failed, !view.home, view.far, *place)
    });
    order
}

/// How far a store is whose probes take so long: near equals are alike, one not known is the farthest.
pub(super) fn far(probe: Option<Duration>) -> u32 {
    // Half octaves; what takes less than 16 ms is near.
    probe.map_or(u32::MAX, |probe| ((probe.as_secs_f64() * 1000.0).max(16.0).log2() * 2.0) as u32)
}

/// The worse of two.
pub(super) fn worse(one: Standing, other: Standing) -> Standing {
    match (one, other) {
        (Standing::Fine, standing) | (standing, Standing::Fine) => standing,
        (Standing::Due(a), Standing::Due(b)) => Standing::Due(a.max(b)),
        (Standing::Paused(a) | Standing::Due(a), Standing::Paused(b) | Standing::Due(b)) => {
            Standing::Paused(a.max(b))
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
        let standing = prop_oneof![
            3 => Just(Standing::Fine),
            1 => (0u64..100).prop_map(move |seconds| Standing::Due(at(seconds))),
            2 => (0u64..100).prop_map(move |seconds| Standing::Paused(at(seconds))),
        ];
        let view = (any::<bool>(), prop::bool::weighted(0.7), standing)
            .prop_map(|(home, store_serves, standing)| View { home, store_serves, far: 0, standing });
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
        fn the_fine_come_first_home_before_all_then_as_written(views in views()) {
            let order = order(&views);
            let fine = order.iter().take_while(|place| views[**place].fine()).count();
            prop_assert_eq!(fine, views.iter().filter(|view| view.fine()).count());
            let wanted = |home: bool| {
                let all = views.iter().enumerate();
                all.filter(move |(_, view)| view.fine() && view.home == home).map(|(place, _)| place)
            };
            let wanted: Vec<usize> = wanted(true).chain(wanted(false)).collect();
            prop_assert_eq!(&order[..fine], &wanted);
        }

        #[test]
        fn of_the_others_a_store_that_serves_then_the_least_recently_failed_comes_first(views in views()) {
            let others: Vec<_> =
                order(&views).into_iter().filter(|place| !views[*place].fine()).collect();
            prop_assert!(others.is_sorted_by_key(|place| (!views[*place].store_serves, views[*place].failed())));
        }

        #[test]
        fn a_new_failure_never_brings_one_forward(views in views(), which in any::<prop::sample::Index>()) {
            let which = which.index(views.len());
            let place = |views: &[View]| order(views).iter().position(|place| *place == which);
            let before = place(&views);
            let mut after = views.clone();
            after[which].standing = Standing::Paused(Instant::now() + Duration::from_secs(1000));
            prop_assert!(place(&after) >= before);
            let (serves, last) = (views[which].store_serves, place(&after));
            let alike = (0..views.len()).filter(|other| views[*other].fine() || !serves || views[*other].store_serves);
            prop_assert_eq!(last, Some(alike.count() - 1), "behind all but those whose store is known to be worse");
        }
    }

    /// Its store is what a push needs, and one failure may have been a hiccup.
    #[test]
    fn one_recent_failure_is_better_than_a_dead_store() {
        let view = |store_serves, standing| View { home: false, store_serves, far: 0, standing };
        let paused = view(true, Standing::Paused(Instant::now()));
        assert_eq!(order(&[view(false, Standing::Fine), paused]), [1, 0]);
    }

    #[test]
    fn what_is_due_has_its_place_among_the_fine() {
        let now = Instant::now();
        let view = |home, store_serves, standing| View { home, store_serves, far: 0, standing };
        let due = view(true, true, Standing::Due(now));
        let fine = view(false, true, Standing::Fine);
        assert_eq!(order(&[fine, due]), [1, 0]);
        assert_eq!(order(&[fine, view(true, false, Standing::Fine)]), [0, 1]);
        assert_eq!(order(&[fine, view(true, true, Standing::Paused(now))]), [0, 1]);
    }

    #[test]
    fn two_standings_are_as_good_as_the_worse() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let (due, paused) = (Standing::Due(now), Standing::Paused(now));
        assert_eq!(worse(Standing::Fine, Standing::Fine), Standing::Fine);
        assert_eq!(worse(due, Standing::Fine), due);
        assert_eq!(worse(Standing::Due(later), paused), Standing::Paused(later));
        assert_eq!(worse(due, Standing::Due(later)), Standing::Due(later));
    }

    #[test]
    fn of_those_alike_the_nearest() {
        let view = |ms: Option<u64>| View {
            home: false,
            store_serves: true,
            far: far(ms.map(Duration::from_millis)),
            standing: Standing::Fine,
        };
        assert_eq!(order(&[None, Some(80), Some(17), Some(3), Some(16)].map(view)), [2, 3, 4, 1, 0]);
        let home = View { home: true, ..view(Some(500)) };
        assert_eq!(order(&[view(Some(1)), home]), [1, 0]);
    }
}
