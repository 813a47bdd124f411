//! The waiting requests, in the order in which they are served. Pure.
//!
//! They form a tree: networks, then connections, then credentials, each with its requests in order of arrival. A node
//! keeps its children in order. Therefore neither a search for the next request nor a changed count needs a look at all
//! waiting requests.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use super::identity::{Identity, Name};

/// The number of a wait. Later waits have larger numbers.
pub(super) type Ticket = u64;

/// The waiting requests of all clients.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Ordered by the widest network, and then by the network (for IPv6 the /64).
    networks: Level<Name, Level<Name, Connections>>,
    crowds: Crowds,
}

/// Waiting requests of one network, by connection and then by credential.
type Connections = Level<Option<Name>, Level<Option<Name>, Queue>>;

/// The numbers of waiting requests.
#[derive(Debug, Default)]
struct Crowds {
    /// The number for each client, which is known by its widest network.
    clients: HashMap<Name, Crowd>,
    /// The number for each network, in order.
    networks: BTreeSet<(usize, Name)>,
}

/// The waiting requests of a network: how many there are, and how many each client has.
#[derive(Debug, Default)]
struct Crowd {
    waiting: usize,
    clients: BTreeSet<(usize, Identity)>,
}

/// Waiting requests of one client, in order of arrival.
type Queue = VecDeque<Ticket>;

/// Waiting requests below one name.
trait Waiting: Default {
    /// The rank of the first request here. The child with the lowest rank is next.
    type Rank: Ord + Copy + Debug;

    /// The rank, or `None` if nothing waits here.
    fn rank(&self) -> Option<Self::Rank>;
}

/// Children in the order in which they are next. None of them is empty.
#[derive(Debug)]
struct Level<K, C: Waiting> {
    children: HashMap<K, Child<C>>,
    order: BTreeSet<(Held<C>, K)>,
}

/// The slots that a child holds, and then the rank of its first request.
type Held<C> = (usize, <C as Waiting>::Rank);

#[derive(Debug)]
struct Child<C: Waiting> {
    waiting: C,
    /// The place of this child in the order.
    place: Option<Held<C>>,
}

impl Waiting for Queue {
    type Rank = Ticket;

    fn rank(&self) -> Option<Ticket> {
        self.front().copied()
    }
}

impl<K: Copy + Debug + Ord + Hash, C: Waiting> Waiting for Level<K, C> {
    type Rank = Held<C>;

    fn rank(&self) -> Option<Self::Rank> {
        self.order.first().map(|(place, _)| *place)
    }
}

impl<K, C: Waiting> Default for Level<K, C> {
    fn default() -> Self {
        Self { children: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Debug + Ord + Hash, C: Waiting> Level<K, C> {
    /// Changes a child that now holds `held` slots, and moves it to its new place.
    fn change<T>(&mut self, key: K, held: usize, change: impl FnOnce(&mut C) -> T) -> T {
        let child = self.children.entry(key).or_insert_with(|| Child { waiting: C::default(), place: None });
        let result = change(&mut child.waiting);
        let place = child.waiting.rank().map(|rank| (held, rank));
        if place != child.place {
            child.place.map(|before| self.order.remove(&(before, key)));
            place.map(|now| self.order.insert((now, key)));
            child.place = place;
        }
        if place.is_none() {
            self.children.remove(&key);
        }
        result
    }

    fn get(&self, key: K) -> Option<&C> {
        self.children.get(&key).map(|child| &child.waiting)
    }

    /// The first request that `search` finds in a child, with the slots that the child holds. A child that comes
    /// first may have only later requests that it finds; therefore the search goes on until no other child can
    /// have an earlier one.
    fn first<T>(&self, search: impl Fn(K, usize, &C) -> Option<(C::Rank, T)>) -> Option<(Held<C>, T)> {
        let mut best: Option<(Held<C>, T)> = None;
        for (place, key) in &self.order {
            if best.as_ref().is_some_and(|(rank, _)| rank <= place) {
                break;
            }
            let found = self.get(*key).and_then(|child| search(*key, place.0, child));
            let Some((rank, found)) = found else { continue };
            let rank = (place.0, rank);
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                best = Some((rank, found));
            }
        }
        best
    }
}

impl Queues {
    /// Adds a request behind all others of this client. `held` says how many slots a name holds.
    pub(super) fn push(&mut self, who: &Identity, ticket: Ticket, held: impl Fn(Name) -> usize) {
        self.change(who, held, |queue| queue.push_back(ticket));
    }

    /// Removes a request. `false` if it does not wait.
    pub(super) fn remove(&mut self, who: &Identity, ticket: Ticket, held: impl Fn(Name) -> usize) -> bool {
        self.change(who, held, |queue| {
            let found = queue.binary_search(&ticket);
            found.is_ok_and(|at| queue.remove(at).is_some())
        })
    }

    /// Records that the names of this client now hold other numbers of slots.
    pub(super) fn held_changed(&mut self, who: &Identity, held: impl Fn(Name) -> usize) {
        self.change(who, held, |_| ());
    }

    fn change<T>(
        &mut self,
        who: &Identity,
        held: impl Fn(Name) -> usize,
        change: impl FnOnce(&mut Queue) -> T,
    ) -> T {
        let of_connection = who.connection.map_or(0, &held);
        let crowds = &mut self.crowds;
        let change = |queue: &mut Queue| {
            let before = queue.len();
            let result = change(queue);
            if queue.len() != before {
                crowds.change(who, before, queue.len());
            }
            result
        };
        // The slots that a credential holds do not change the order.
        self.networks.change(who.widest(), held(who.widest()), |networks| {
            networks.change(who.network, held(who.network), |connections| {
                connections.change(who.connection, of_connection, |credentials| {
                    credentials.change(who.credential, 0, change)
                })
            })
        })
    }

    /// Finds the first request whose client may have one of the free slots.
    ///
    /// Networks and connections that may have none hold many slots, so there are only a few of them. For a credential
    /// that may have none, the search looks at each connection on which only that credential waits.
    pub(super) fn first(&self, free: usize, held: impl Fn(Name) -> usize) -> Option<(Ticket, Identity)> {
        let held = &held;
        let may = |name: Name, held: usize, new: bool| name.may_take(held, free, new);
        let found = self.networks.first(|widest, of_widest, networks| {
            // If a new connection may not have a slot, no connection may.
            let networks = may(widest, of_widest, true).then_some(networks)?;
            networks.first(|network, of_network, connections| {
                let connections = may(network, of_network, true).then_some(connections)?;
                connections.first(|connection, of_connection, credentials| {
                    let new = connection.is_some() && of_connection == 0;
                    let may_all = may(widest, of_widest, new)
                        && may(network, of_network, new)
                        && connection.is_none_or(|name| may(name, of_connection, new));
                    let credentials = may_all.then_some(credentials)?;
                    credentials.first(|credential, _, queue| {
                        let may = credential.is_none_or(|name| may(name, held(name), new));
                        let ticket = may.then(|| queue.rank()).flatten()?;
                        let site = (widest != network).then_some(widest);
                        Some((ticket, (ticket, Identity { network, site, credential, connection })))
                    })
                })
            })
        });
        found.map(|(_, next)| next)
    }

    /// The network with the most requests, and how many these are.
    pub(super) fn largest_network(&self) -> Option<(usize, Name)> {
        self.crowds.networks.last().copied()
    }

    /// The client of this network with the most requests, and how many these are.
    pub(super) fn largest_client(&self, widest: Name) -> Option<(usize, Identity)> {
        self.crowds.clients.get(&widest)?.clients.last().copied()
    }

    /// The requests of a network.
    pub(super) fn of_network(&self, widest: Name) -> usize {
        self.crowds.clients.get(&widest).map_or(0, |crowd| crowd.waiting)
    }

    /// The requests of a client, in order of arrival.
    pub(super) fn of_client(&self, who: &Identity) -> Option<&Queue> {
        let networks = self.networks.get(who.widest())?;
        networks.get(who.network)?.get(who.connection)?.get(who.credential)
    }
}

impl Crowds {
    fn change(&mut self, who: &Identity, before: usize, now: usize) {
        let widest = who.widest();
        let crowd = self.clients.entry(widest).or_default();
        self.networks.remove(&(crowd.waiting, widest));
        crowd.clients.remove(&(before, *who));
        crowd.waiting = crowd.waiting + now - before;
        if now > 0 {
            crowd.clients.insert((now, *who));
        }
        if crowd.waiting > 0 {
            self.networks.insert((crowd.waiting, widest));
        } else {
            self.clients.remove(&widest);
        }
    }
}
