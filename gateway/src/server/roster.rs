//! The open connections of a listener, and which of them makes room for another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::activity::Activity;
use crate::share::Identity;

/// The open connections of a listener.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    open: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    who: Identity,
    since: Instant,
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (activity, go) = (Activity::new(), Arc::new(Notify::new()));
        let entry = Entry {
            who,
            since: Instant::now(),
            activity: activity.clone(),
            go: Arc::clone(&go),
            asked: false,
        };
        self.open().insert(number, entry);
        Seat { roster: Arc::clone(self), number, activity, go }
    }

    /// Asks one idle connection to go, so that there is room for another of `newcomer`: of the client that has
    /// most, if that is not fewer than the newcomer has, the one that has been idle for longest. Whether there
    /// was one.
    pub(crate) fn shed(&self, newcomer: &Seat) -> bool {
        let mut open = self.open();
        let mut count: HashMap<Identity, usize> = HashMap::new();
        for entry in open.values() {
            *count.entry(entry.who).or_default() += 1;
        }
        let own = open.get(&newcomer.number).and_then(|entry| count.get(&entry.who)).copied().unwrap_or(0);
        let others = open.iter_mut().filter(|(number, entry)| **number != newcomer.number && !entry.asked);
        let idle = others.filter_map(|(_, entry)| {
            let has = count.get(&entry.who).copied().filter(|has| *has >= own)?;
            Some((has, entry.activity.idle_since()?, entry))
        });
        let victim = idle.max_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        victim.map(|(.., entry)| entry.ask()).is_some()
    }

    /// Asks connections to go until no more than `most` stay: idle ones before others, then the oldest. The
    /// newcomer stays.
    pub(crate) fn keep(&self, newcomer: &Seat, most: usize) {
        let mut open = self.open();
        let mut stay: Vec<_> = open.iter_mut().filter(|(_, entry)| !entry.asked).collect();
        let too_many = stay.len().saturating_sub(most);
        stay.retain(|(number, _)| **number != newcomer.number);
        stay.sort_by_key(|(_, entry)| (entry.activity.idle_since().is_none(), entry.since));
        stay.into_iter().take(too_many).for_each(|(_, entry)| entry.ask());
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
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
        if let Some(entry) = self.roster.open().get_mut(&self.number) {
            entry.asked = false;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn client(address: u8) -> Identity {
        Identity::peer([192, 0, 2, address].into(), false)
    }

    fn asked(seat: &Seat) -> bool {
        seat.asked_to_go().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_one_of_who_has_most_goes() {
        let roster = Arc::new(Roster::default());
        let few = roster.enter(client(1));
        let mut many = Vec::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            many.push(roster.enter(client(2)));
        }
        let busy = many[0].activity().begin();
        let newcomer = roster.enter(client(3));
        assert!(roster.shed(&newcomer));
        assert!(asked(&many[1]) && !asked(&many[0]) && !asked(&many[2]) && !asked(&few) && !asked(&newcomer));
        // Who has most makes no room for itself at others' cost.
        let busy = (busy, many[1].activity().begin(), many[2].activity().begin());
        let another = roster.enter(client(2));
        assert!(!roster.shed(&another) && !asked(&few));
        drop(busy);
        assert!(roster.shed(&another));
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
