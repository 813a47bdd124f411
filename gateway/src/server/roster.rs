//! The open connections of a listener, and which of them makes room for another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::activity::Activity;
use limits::pool::Identity;

/// The open connections of a listener.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Entry>,
    /// How many each client has that hold a slot; never a client that has none here at all.
    counts: HashMap<Identity, Arc<AtomicUsize>>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    who: Identity,
    /// How many its client has that hold a slot.
    count: Arc<AtomicUsize>,
    since: Instant,
    /// Since when it holds a slot; one that waits for it has nothing to give.
    admitted: Option<Instant>,
    activity: Activity,
    go: Arc<Notify>,
    /// Whether it was asked to go.
    asked: bool,
}

/// An open connection; taken off when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    roster: Arc<Roster>,
    number: u64,
    activity: Activity,
    go: Arc<Notify>,
}

impl Roster {
    /// Enters a connection that has just been accepted.
    pub(crate) fn enter(self: &Arc<Self>, who: Identity) -> Seat {
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

    /// Asks up to `most` idle connections to go, so that there is room for another of `newcomer`: those of the client
    /// that has most come first, then those that have been idle for longest. Who has no more than the newcomer's
    /// client keeps all. A connection that has asked for nothing yet has `first_request` for its TLS handshake and
    /// its first request.
    pub(crate) fn shed(&self, newcomer: &Seat, most: usize, first_request: Duration) {
        let mut state = self.state();
        let Some(new) = state.open.get(&newcomer.number) else { return };
        let (who, own) = (new.who, new.of_client());
        let mut idle: Vec<_> = state
            .open
            .values_mut()
            .filter(|entry| !entry.asked && (entry.who == who || entry.of_client() > own))
            .filter_map(|entry| Some((Reverse(entry.of_client()), entry.spare_since(first_request)?, entry)))
            .collect();
        let most = most.min(idle.len());
        if most > 0 {
            idle.select_nth_unstable_by_key(most - 1, |(count, since, _)| (*count, *since));
        }
        idle.into_iter().take(most).for_each(|(.., entry)| entry.ask());
    }

    /// Asks connections to go until no more than `most` stay: idle ones before others, then the oldest. The
    /// newcomer stays.
    pub(crate) fn keep(&self, newcomer: &Seat, most: usize) {
        let mut state = self.state();
        let mut stay: Vec<_> = state.open.iter_mut().filter(|(_, entry)| !entry.asked).collect();
        let too_many = stay.len().saturating_sub(most);
        stay.retain(|(number, _)| **number != newcomer.number);
        stay.sort_by_key(|(_, entry)| (entry.activity.idle_since().is_none(), entry.since));
        stay.into_iter().take(too_many).for_each(|(_, entry)| entry.ask());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn of_client(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Since when it could make room, if it could.
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
    /// Its number: no other connection of the listener has it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// It holds a slot from now on.
    pub(crate) fn admitted(&self) {
        if let Some(entry) = self.roster.state().open.get_mut(&self.number) {
            entry.admitted = Some(Instant::now());
            entry.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What goes on on it.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// It is asked to go.
    pub(crate) async fn asked_to_go(&self) {
        self.go.notified().await;
    }

    /// It does not go: it is not idle any more.
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
        // No entry but this one has it.
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
        roster.shed(&newcomer, 1, FIRST_REQUEST);
        assert!(asked(&many[1]) && !asked(&many[0]) && !asked(&many[2]) && !asked(&few) && !asked(&newcomer));
        // Who has most makes no room for itself at others' cost.
        let busy = (busy, many[1].activity().begin(), many[2].activity().begin());
        let another = roster.enter(client(2));
        roster.shed(&another, 9, FIRST_REQUEST);
        assert!(!asked(&few) && !asked(&newcomer) && !asked(&many[2]));
        drop(busy);
        roster.shed(&another, 9, FIRST_REQUEST);
        assert!(asked(&many[0]) && asked(&many[2]) && !asked(&few));
        drop((many, another));
        roster.shed(&newcomer, 9, FIRST_REQUEST);
        assert!(asked(&few));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_or_begins_is_not_asked() {
        let roster = Arc::new(Roster::default());
        let (waits, newcomer) = (roster.enter(client(1)), roster.enter(client(2)));
        let more: Vec<_> = (0..3).map(|_| roster.enter(client(2))).collect();
        tokio::time::advance(FIRST_REQUEST * 2).await;
        roster.shed(&newcomer, 9, FIRST_REQUEST);
        assert!(!asked(&waits), "it holds nothing");
        waits.admitted();
        roster.shed(&newcomer, 9, FIRST_REQUEST);
        assert!(!asked(&waits), "it may be in its handshake");
        tokio::time::advance(FIRST_REQUEST).await;
        roster.shed(&newcomer, 9, FIRST_REQUEST);
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
