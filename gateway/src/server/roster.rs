//! The open connections of a listener, and the choice of those that make room for others.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::activity::Activity;
use limits::pool::{Identity, Network};

/// The open connections of a listener.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Entry>,
    /// For each client, how many of its connections hold a slot. A client without an open connection has no entry.
    counts: HashMap<Network, Arc<AtomicUsize>>,
    next: u64,
    /// When connections were last asked to make room.
    shed: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    who: Network,
    /// How many connections of the same client hold a slot.
    count: Arc<AtomicUsize>,
    since: Instant,
    /// The time since which the connection holds a slot. A connection that waits for a slot has none to give.
    admitted: Option<Instant>,
    activity: Activity,
    go: Arc<Notify>,
    /// Whether it was asked to go.
    asked: bool,
}

/// An open connection. Dropping it takes the connection off the roster.
#[derive(Debug)]
pub(crate) struct Seat {
    roster: Arc<Roster>,
    number: u64,
    activity: Activity,
    go: Arc<Notify>,
}

impl Roster {
    /// Adds a connection that has just been accepted.
    pub(crate) fn enter(self: &Arc<Self>, who: Identity) -> Seat {
        let who = who.network();
        let (activity, go) = (Activity::new(), Arc::new(Notify::new()));
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let count = Arc::clone(state.counts.entry(who).or_default());
        let entry = Entry {
            who,
            count,
            since: Instant::now(),
            admitted: None,
            activity: activity.clone(),
            go: Arc::clone(&go),
            asked: false,
        };
        state.open.insert(number, entry);
        drop(state);
        Seat { roster: Arc::clone(self), number, activity, go }
    }

    /// Asks idle connections to go, so that waiting clients get their slots: see [`State::shed`]. Every waiting client
    /// may call this. It does its work at most once in a `pause`, for all who wait.
    pub(crate) fn shed(&self, most: usize, first_request: Duration, pause: Duration) {
        let now = Instant::now();
        let mut state = self.state();
        if state.shed.is_none_or(|last| now.saturating_duration_since(last) >= pause) {
            state.shed = Some(now);
            state.shed(most, first_request);
        }
    }

    /// Asks connections to go until at most `most` stay. Idle connections go first, then the oldest. The newcomer
    /// stays.
    pub(crate) fn keep(&self, newcomer: &Seat, most: usize) {
        let mut state = self.state();
        let mut stay: Vec<_> = state.open.iter_mut().filter(|(_, entry)| !entry.asked).collect();
        let too_many = stay.len().saturating_sub(most);
        stay.retain(|(number, _)| **number != newcomer.number);
        stay.sort_by_key(|(_, entry)| (entry.activity.idle_since().is_none(), entry.since));
        stay.into_iter().take(too_many).for_each(|(_, entry)| entry.ask());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// Asks idle connections to go: as many as clients wait, or `most` if that is more. First come the connections of
    /// the client that has most connections, and of these the ones that have been idle for longest. A client keeps its
    /// connections if every client that waits has at least as many, unless it waits itself. A connection without any
    /// request so far has `first_request` for its TLS handshake and its first request, and is not asked to go before
    /// that.
    fn shed(&mut self, most: usize, first_request: Duration) {
        let waiting = || self.open.values().filter(|entry| entry.admitted.is_none());
        let Some(least) = waiting().map(Entry::of_client).min() else { return };
        let most = most.max(waiting().count());
        let who: HashSet<Network> = waiting().map(|entry| entry.who).collect();
        let mut idle: Vec<_> = self
            .open
            .values_mut()
            .filter(|entry| !entry.asked && (entry.of_client() > least || who.contains(&entry.who)))
            .filter_map(|entry| Some((Reverse(entry.of_client()), entry.spare_since(first_request)?, entry)))
            .collect();
        let most = most.min(idle.len());
        if most > 0 {
            idle.select_nth_unstable_by_key(most - 1, |(count, since, _)| (*count, *since));
        }
        idle.into_iter().take(most).for_each(|(.., entry)| entry.ask());
    }
}

impl Entry {
    fn of_client(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The time since which the connection could make room. `None` if it cannot.
    fn spare_since(&self, first_request: Duration) -> Option<Instant> {
        let admitted = self.admitted?;
        let begins = !self.activity.has_begun() && admitted.elapsed() < first_request;
        self.activity.spare_since().filter(|_| !begins).map(|since| since.max(admitted))
    }

    fn ask(&mut self) {
        self.asked = true;
        self.go.notify_one();
    }
}

impl Seat {
    /// The number of the connection. No other connection of the listener has the same number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Records that the connection holds a slot from now on.
    pub(crate) fn admitted(&self) {
        if let Some(entry) = self.roster.state().open.get_mut(&self.number) {
            entry.admitted = Some(Instant::now());
            entry.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The requests under way on the connection.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Waits until the connection is asked to go.
    pub(crate) async fn asked_to_go(&self) {
        self.go.notified().await;
    }

    /// Records that the connection stays, because it is not idle any more.
    pub(crate) fn stays(&self) {
        if let Some(entry) = self.roster.state().open.get_mut(&self.number) {
            entry.asked = false;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.roster.state();
        let Some(entry) = state.open.remove(&self.number) else { return };
        if entry.admitted.is_some() {
            entry.count.fetch_sub(1, Ordering::Relaxed);
        }
        // Besides the map, only this entry holds the count.
        if Arc::strong_count(&entry.count) == 2 {
            state.counts.remove(&entry.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn client(address: u8) -> Identity {
        Identity::peer([192, 0, 2, address].into(), false)
    }

    const FIRST_REQUEST: Duration = Duration::from_secs(1);

    fn admitted(roster: &Arc<Roster>, who: Identity) -> Seat {
        let seat = roster.enter(who);
        seat.admitted();
        seat
    }

    fn shed(roster: &Roster, most: usize) {
        roster.shed(most, FIRST_REQUEST, Duration::ZERO);
    }

    fn asked(seat: &Seat) -> bool {
        seat.asked_to_go().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_one_of_who_has_most_goes() {
        let roster = Arc::new(Roster::default());
        let few = admitted(&roster, client(1));
        let mut many = Vec::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            many.push(admitted(&roster, client(2)));
        }
        tokio::time::advance(FIRST_REQUEST).await;
        let busy = many[0].activity().begin();
        let newcomer = roster.enter(client(3));
        shed(&roster, 1);
        assert!(asked(&many[1]) && !asked(&many[0]) && !asked(&many[2]) && !asked(&few) && !asked(&newcomer));
        drop(newcomer);
        // The client with the most connections does not make room for itself at the cost of others.
        let busy = (busy, many[1].activity().begin(), many[2].activity().begin());
        let another = roster.enter(client(2));
        shed(&roster, 9);
        assert!(!asked(&few) && !asked(&many[2]));
        drop(busy);
        shed(&roster, 9);
        assert!(asked(&many[0]) && asked(&many[2]) && !asked(&few));
        drop((many, another));
        let _newcomer = roster.enter(client(3));
        shed(&roster, 9);
        assert!(asked(&few));
    }

    /// An IPv6 site is one client, even if its connections come from many networks of 64 bits.
    #[tokio::test(start_paused = true)]
    async fn the_networks_of_one_site_are_one_client() {
        let of_site = |network: u16| {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, 1);
            Identity::peer(address.into(), false)
        };
        let roster = Arc::new(Roster::default());
        let few = [admitted(&roster, client(1)), admitted(&roster, client(1))];
        let many: Vec<_> = (0..9).map(|network| admitted(&roster, of_site(network))).collect();
        tokio::time::advance(FIRST_REQUEST).await;
        let _newcomer = roster.enter(client(3));
        shed(&roster, 7);
        assert_eq!(many.iter().filter(|seat| asked(seat)).count(), 7);
        assert!(!few.iter().any(asked));
    }

    /// This holds for any number of waiting clients that call it. The client with the fewest connections gets as much
    /// as the others.
    #[tokio::test(start_paused = true)]
    async fn one_look_serves_all_who_wait() {
        const PAUSE: Duration = Duration::from_millis(100);
        let roster = Arc::new(Roster::default());
        let idle: Vec<_> = (0..16).map(|_| admitted(&roster, client(1))).collect();
        let busy: Vec<_> = (0..32).map(|_| admitted(&roster, client(2))).collect();
        let _busy: Vec<_> = busy.iter().map(|seat| seat.activity().begin()).collect();
        tokio::time::advance(FIRST_REQUEST).await;
        let waiting: Vec<_> = (0..3).map(|_| roster.enter(client(2))).collect();
        let went = || idle.iter().filter(|seat| asked(seat)).count();
        roster.shed(1, FIRST_REQUEST, PAUSE);
        assert_eq!(went(), 0, "who has most makes no room for itself");
        tokio::time::advance(PAUSE).await;
        let least = roster.enter(client(3));
        (0..256).for_each(|_| roster.shed(1, FIRST_REQUEST, PAUSE));
        assert_eq!(went(), 4, "one for each");
        tokio::time::advance(PAUSE).await;
        drop((waiting, least));
        roster.shed(1, FIRST_REQUEST, PAUSE);
        assert_eq!(went(), 0, "nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_or_begins_is_not_asked() {
        let roster = Arc::new(Roster::default());
        let (waits, newcomer) = (roster.enter(client(1)), roster.enter(client(2)));
        let more: Vec<_> = (0..3).map(|_| roster.enter(client(2))).collect();
        tokio::time::advance(FIRST_REQUEST * 2).await;
        shed(&roster, 9);
        assert!(!asked(&waits), "it holds nothing");
        waits.admitted();
        shed(&roster, 9);
        assert!(!asked(&waits), "it may be in its handshake");
        tokio::time::advance(FIRST_REQUEST).await;
        shed(&roster, 9);
        assert!(asked(&waits), "whatever others of the newcomer's client wait");
        drop((waits, newcomer, more));
        assert!(roster.state().counts.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_kept() {
        let roster = Arc::new(Roster::default());
        let mut seats = Vec::new();
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(1)).await;
            seats.push(roster.enter(client(1)));
        }
        let busy: Vec<_> = seats[..3].iter().map(|seat| seat.activity().begin()).collect();
        roster.keep(&seats[3], 4);
        assert!(seats.iter().all(|seat| !asked(seat)));
        roster.keep(&seats[3], 3);
        assert!(asked(&seats[0]) && !asked(&seats[1]) && !asked(&seats[3]), "the oldest, as none is idle");
        roster.keep(&seats[3], 3);
        assert!(!asked(&seats[1]), "one is on its way out");
        drop(busy);
    }
}
