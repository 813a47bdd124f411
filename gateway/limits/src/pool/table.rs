//! How much of a pool each client holds, and which waiting client is next. Pure.
//!
//! While many slots are free, one client may have nearly all of them. A client that holds more than a
//! multiple of the free slots gets no more, so that some slots are always left for new clients (dynamic
//! thresholds: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
//! 1998). The next waiting client is chosen in this order: the network that holds the fewest slots (for IPv6
//! first the site, then the network), within it the connection that holds the fewest, and then the client
//! that has waited longest.

use std::collections::{HashMap, VecDeque};

use super::identity::{Identity, Name};
use super::queues::{Queues, Ticket};

#[derive(Debug)]
pub(super) struct Table {
    slots: usize,
    used: usize,
    /// The slots of each name that holds any.
    held: HashMap<Name, usize>,
    queues: Queues,
    waiting: usize,
    waiting_max: usize,
    next: Ticket,
}

impl Table {
    pub(super) fn new(slots: usize, waiting_max: usize) -> Self {
        Self {
            slots,
            used: 0,
            held: HashMap::new(),
            queues: Queues::default(),
            waiting: 0,
            waiting_max,
            next: 0,
        }
    }

    /// Changes the number of slots, and how many requests may wait. If more slots are in use than there are now, nobody
    /// gets one until enough were given back. Requests that wait stay.
    pub(super) fn resize(&mut self, slots: usize, waiting_max: usize) {
        (self.slots, self.waiting_max) = (slots, waiting_max);
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    fn free(&self) -> usize {
        self.slots.saturating_sub(self.used)
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a slot. Returns `false` if this client may not have one now.
    pub(super) fn take(&mut self, who: &Identity) -> bool {
        let may = self.may_take(who);
        if may {
            self.used += 1;
            who.names().for_each(|name| *self.held.entry(name).or_default() += 1);
            self.reorder(who);
        }
        may
    }

    /// Gives a slot back. A waiting client may now be next: see [`Table::next`].
    pub(super) fn give_back(&mut self, who: &Identity) {
        self.used -= 1;
        for name in who.names() {
            if let Some(held) = self.held.get_mut(&name) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(&name);
                }
            }
        }
        self.reorder(who);
    }

    /// Records that this client now holds another number of slots.
    fn reorder(&mut self, who: &Identity) {
        if self.waiting > 0 {
            self.queues.held_changed(who, |name| of(&self.held, name));
        }
    }

    /// Joins the queue. Returns the ticket, and the ticket of the request that was removed for it.
    ///
    /// If the queue is full, the network with the most waiting requests loses its newest one. If that request
    /// would be this client's own, there is no room: both are `None`.
    pub(super) fn wait(&mut self, who: &Identity) -> (Option<Ticket>, Option<Ticket>) {
        let mut displaced = None;
        if self.waiting >= self.waiting_max {
            displaced = self.displace(who);
            if displaced.is_none() {
                return (None, None);
            }
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting += 1;
        self.queues.push(who, ticket, |name| of(&self.held, name));
        (Some(ticket), displaced)
    }

    /// Leaves the queue, if the ticket is still in it.
    pub(super) fn leave(&mut self, who: &Identity, ticket: Ticket) {
        if self.queues.remove(who, ticket, |name| of(&self.held, name)) {
            self.waiting -= 1;
        }
    }

    /// Takes a slot for the next waiting client. `None` if no waiting client may have one now.
    pub(super) fn next(&mut self) -> Option<(Ticket, Identity)> {
        let free = self.free();
        if free == 0 || self.waiting == 0 {
            return None;
        }
        let (ticket, who) = self.queues.first(free, |name| of(&self.held, name))?;
        self.leave(&who, ticket);
        self.take(&who).then_some((ticket, who))
    }

    fn may_take(&self, who: &Identity) -> bool {
        let free = self.free();
        let new = who.connection.is_some_and(|name| of(&self.held, name) == 0);
        free > 0 && who.names().all(|name| name.may_take(of(&self.held, name), free, new))
    }

    /// Removes a waiting request from the queue to make room for this client.
    fn displace(&mut self, who: &Identity) -> Option<Ticket> {
        let (count, most) = self.queues.largest_network()?;
        let own = self.queues.of_network(who.widest());
        let network = if count > own + 1 { most } else { who.widest() };
        let (count, victim) = self.queues.largest_client(network)?;
        let own = self.queues.of_client(who).map_or(0, VecDeque::len);
        if network == who.widest() && count <= own + 1 {
            return None;
        }
        let ticket = *self.queues.of_client(&victim)?.back()?;
        self.leave(&victim, ticket);
        Some(ticket)
    }
}

/// The slots of a name.
fn of(held: &HashMap<Name, usize>, name: Name) -> usize {
    held.get(&name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client of address number `address`, on connection number `connection`.
    fn client(address: u8, connection: u64) -> Identity {
        let connection = u64::from(address) * 1000 + connection;
        let address = [192, 0, 2, address].into();
        Identity::of_request(address, &http::HeaderMap::new(), Some(connection))
    }

    /// A client of /64 number `network` in /48 number `site`.
    fn client_v6(site: u16, network: u16, connection: u64) -> Identity {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1).into();
        Identity::of_request(address, &http::HeaderMap::new(), Some(connection))
    }

    /// A site has 65536 networks of 64 bits, but gets no more than one IPv4 address.
    #[test]
    fn the_networks_of_one_site_leave_slots_free() {
        let mut table = Table::new(1024, 4096);
        for network in 0..4096 {
            let who = client_v6(1, network, network.into());
            if !table.take(&who) {
                table.wait(&who);
            }
        }
        assert_eq!(table.used(), 992);
        assert!(table.take(&client_v6(2, 0, 5000)), "another site");
        assert!((2..30).all(|newcomer| table.take(&client(newcomer, 0))), "IPv4 addresses get slots too");
        // The site also counts as one client in the queue.
        let mut table = Table::new(2, 8);
        assert!(table.take(&client_v6(1, 0, 0)) && table.take(&client_v6(1, 1, 1)));
        (2..10).for_each(|network| _ = table.wait(&client_v6(1, network, network.into())));
        let (ticket, displaced) = table.wait(&client_v6(2, 0, 5000));
        assert!(ticket.is_some() && displaced.is_some(), "the site has most of the queue");
        table.give_back(&client_v6(1, 0, 0));
        assert_eq!(table.next().map(|(next, _)| next), ticket);
    }

    #[test]
    fn a_single_client_may_have_nearly_all_slots() {
        let mut table = Table::new(1024, 10);
        let taken = (0..4096).filter(|connection| table.take(&client(1, *connection))).count();
        assert_eq!(taken, 992);
        // One connection can use half of the slots. The other half is left to new clients.
        let mut table = Table::new(1024, 10);
        assert_eq!((0..4096).filter(|_| table.take(&client(1, 0))).count(), 512);
        assert!(table.take(&client(1, 1)));
        let mut table = Table::new(1, 10);
        assert!(table.take(&client(1, 0)));
    }

    /// A new client gets a slot at once, however many requests and connections a greedy client has, and
    /// wherever it waits.
    #[test]
    fn a_greedy_client_leaves_slots_free() {
        let mut table = Table::new(1024, 4096);
        for round in 0..10_000 {
            let who = client(1, round % 700);
            if !table.take(&who) {
                table.wait(&who);
            }
        }
        for newcomer in 2..34 {
            assert!(table.take(&client(newcomer, 0)), "newcomer {newcomer}");
        }
    }

    /// Eight connections of one address with 128 requests each leave room for a ninth connection.
    #[test]
    fn connections_of_one_address_leave_room_for_each_other() {
        let mut table = Table::new(1024, 4096);
        for request in 0..128 {
            for connection in 0..8 {
                let who = client(1, connection);
                if !table.take(&who) {
                    table.wait(&who);
                }
            }
            assert!(request < 100 || table.used() > 512, "most slots are in use");
        }
        assert!(table.take(&client(1, 8)), "another connection of that address");
        assert!((0..30).all(|_| table.take(&client(2, 0))), "another address");
    }

    #[test]
    fn the_client_that_holds_least_is_next() {
        let mut table = Table::new(4, 10);
        // Four addresses hold all slots.
        (1..=4).for_each(|address| assert!(table.take(&client(address, 0))));
        let (holds, _) = table.wait(&client(1, 0));
        let (nothing, _) = table.wait(&client(9, 0));
        assert_eq!(table.next(), None);
        table.give_back(&client(2, 0));
        assert_eq!(table.next().map(|(ticket, _)| ticket), nothing);
        table.give_back(&client(3, 0));
        table.give_back(&client(4, 0));
        assert_eq!(table.next().map(|(ticket, _)| ticket), holds);
    }

    #[test]
    fn a_full_queue_makes_room_for_clients_with_fewer_waiting_requests() {
        let mut table = Table::new(1, 3);
        assert!(table.take(&client(1, 0)));
        let tickets: Vec<_> = (0..3).map(|_| table.wait(&client(1, 0)).0).collect();
        assert_eq!(table.wait(&client(1, 0)), (None, None), "this client has the most waiting requests");
        let (ticket, displaced) = table.wait(&client(2, 0));
        assert!(ticket.is_some() && displaced == tickets[2]);
        // The connections of one network share its places in the queue.
        let (ticket, displaced) = table.wait(&client(1, 1));
        assert!(ticket.is_some() && displaced == tickets[1]);
        assert_eq!(table.waiting(), 3);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(Identity),
        GiveBack(usize),
        Leave(usize),
    }

    /// Clients of few networks that share sites and credentials.
    fn anyone() -> impl Strategy<Value = Identity> {
        (0..7u8, 0..4u64, 0..4u8).prop_map(|(address, connection, credential)| {
            let headers = (credential > 0)
                .then(|| (http::header::AUTHORIZATION, http::HeaderValue::from(u16::from(credential))));
            let headers = headers.into_iter().collect();
            // Behind a trusted proxy the connection is not known.
            let connection = (connection > 0).then(|| u64::from(address) * 1000 + connection);
            let address = match address {
                0..4 => std::net::IpAddr::from([192, 0, 2, address]),
                _ => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, address.into(), 0, 0, 0, 1).into(),
            };
            Identity::of_request(address, &headers, connection)
        })
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => anyone().prop_map(Step::Take),
            3 => any::<usize>().prop_map(Step::GiveBack),
            1 => any::<usize>().prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 1..300)
    }

    /// Finds the next request by a look at all waiting ones.
    fn next_of(table: &Table, waiting: &[(Ticket, Identity)]) -> Option<(Ticket, Identity)> {
        let may = waiting.iter().filter(|(_, who)| table.may_take(who));
        let next = may.min_by_key(|(ticket, who)| {
            let of_connection = who.connection.map_or(0, |name| of(&table.held, name));
            (of(&table.held, who.widest()), of(&table.held, who.network), of_connection, *ticket)
        });
        next.copied()
    }

    proptest! {
        /// Slots and queue never exceed their bounds. No client that may have a slot is refused. Waiting clients are
        /// served in the order that the module documentation describes. At the end everything is returned.
        #[test]
        fn slots_are_bounded_and_fair(slots in 1..80usize, waiting_max in 0..60usize, steps in steps()) {
            let mut table = Table::new(slots, waiting_max);
            let mut holding: Vec<Identity> = Vec::new();
            let mut waiting: Vec<(Ticket, Identity)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(who) => {
                        if table.take(&who) {
                            holding.push(who);
                        } else {
                            let (ticket, displaced) = table.wait(&who);
                            waiting.retain(|(ticket, _)| Some(*ticket) != displaced);
                            waiting.extend(ticket.map(|ticket| (ticket, who)));
                        }
                    }
                    Step::GiveBack(at) if !holding.is_empty() => {
                        let who = holding.swap_remove(at % holding.len());
                        table.give_back(&who);
                    }
                    Step::Leave(at) if !waiting.is_empty() => {
                        let (ticket, who) = waiting.swap_remove(at % waiting.len());
                        table.leave(&who, ticket);
                    }
                    _ => {}
                }
                loop {
                    let expected = next_of(&table, &waiting);
                    let next = table.next();
                    prop_assert_eq!(next, expected);
                    let Some((ticket, who)) = next else { break };
                    waiting.retain(|(other, _)| *other != ticket);
                    holding.push(who);
                }
                prop_assert!(table.used() == holding.len() && table.used() <= slots);
                prop_assert!(table.waiting() == waiting.len() && table.waiting() <= waiting_max);
                for (_, who) in &waiting {
                    let of = waiting.iter().filter(|(_, other)| other == who).count();
                    prop_assert_eq!(table.queues.of_client(who).map_or(0, VecDeque::len), of);
                    let of = waiting.iter().filter(|(_, other)| other.widest() == who.widest()).count();
                    prop_assert_eq!(table.queues.of_network(who.widest()), of);
                    prop_assert!(table.queues.largest_network().is_some_and(|(most, _)| most >= of));
                }
            }
            holding.iter().for_each(|who| table.give_back(who));
            waiting.iter().for_each(|(ticket, who)| table.leave(who, *ticket));
            prop_assert!(table.used() == 0 && table.held.is_empty() && table.queues.largest_network().is_none());
        }
    }
}
