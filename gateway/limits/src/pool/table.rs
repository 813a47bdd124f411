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

/// The number of a wait. Later waits have larger numbers.
pub(super) type Ticket = u64;

#[derive(Debug)]
pub(super) struct Table {
    slots: usize,
    used: usize,
    /// The slots of each name that holds any.
    held: HashMap<Name, usize>,
    /// The waiting requests of each client, in order of arrival. No queue is empty.
    queues: HashMap<Identity, VecDeque<Ticket>>,
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
            queues: HashMap::new(),
            waiting: 0,
            waiting_max,
            next: 0,
        }
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
        self.queues.entry(*who).or_default().push_back(ticket);
        (Some(ticket), displaced)
    }

    /// Leaves the queue, if the ticket is still in it.
    pub(super) fn leave(&mut self, who: &Identity, ticket: Ticket) {
        let Some(queue) = self.queues.get_mut(who) else { return };
        if let Ok(at) = queue.binary_search(&ticket) {
            queue.remove(at);
            self.waiting -= 1;
        }
        if queue.is_empty() {
            self.queues.remove(who);
        }
    }

    /// Takes a slot for the next waiting client. `None` if no waiting client may have one now.
    pub(super) fn next(&mut self) -> Option<(Ticket, Identity)> {
        if self.used >= self.slots {
            return None;
        }
        let mut best: Option<((usize, usize, usize, Ticket), Identity)> = None;
        for (who, queue) in &self.queues {
            let Some(ticket) = queue.front() else { continue };
            let of_widest = self.held(who.widest());
            if best.as_ref().is_some_and(|((least, ..), _)| of_widest > *least) {
                continue;
            }
            let of_connection = who.connection.map_or(0, |name| self.held(name));
            let order = (of_widest, self.held(who.network), of_connection, *ticket);
            if best.as_ref().is_none_or(|(least, _)| order < *least) && self.may_take(who) {
                best = Some((order, *who));
            }
        }
        let ((.., ticket), who) = best?;
        self.leave(&who, ticket);
        self.take(&who).then_some((ticket, who))
    }

    fn held(&self, name: Name) -> usize {
        self.held.get(&name).copied().unwrap_or(0)
    }

    fn may_take(&self, who: &Identity) -> bool {
        let free = self.slots - self.used;
        let new = who.connection.is_some_and(|name| self.held(name) == 0);
        free > 0 && who.names().all(|name| self.held(name) < free.saturating_mul(name.factor(new)))
    }

    /// Removes a waiting request from the queue to make room for this client.
    fn displace(&mut self, who: &Identity) -> Option<Ticket> {
        let mut waiting: HashMap<Name, usize> = HashMap::new();
        for (other, queue) in &self.queues {
            *waiting.entry(other.widest()).or_default() += queue.len();
        }
        let own = waiting.get(&who.widest()).copied().unwrap_or(0);
        let (most, count) = waiting.into_iter().max_by_key(|(_, count)| *count)?;
        let network = if count > own + 1 { most } else { who.widest() };
        let queues = self.queues.iter().filter(|(other, _)| other.widest() == network);
        let (victim, queue) = queues.max_by_key(|(_, queue)| queue.len())?;
        let own = self.queues.get(who).map_or(0, VecDeque::len);
        if network == who.widest() && queue.len() <= own + 1 {
            return None;
        }
        let (victim, ticket) = (*victim, *queue.back()?);
        self.leave(&victim, ticket);
        Some(ticket)
    }
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
        Take(u8, u64),
        GiveBack(usize),
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..5u8, 0..4u64).prop_map(|(address, connection)| Step::Take(address, connection)),
            3 => any::<usize>().prop_map(Step::GiveBack),
            1 => any::<usize>().prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        /// Slots and queue never exceed their bounds. No client that may have a slot is refused. No network
        /// is served before another waiting network that may have a slot and holds less. At the end
        /// everything is given back.
        #[test]
        fn slots_are_bounded_and_fair(slots in 1..40usize, waiting_max in 0..20usize, steps in steps()) {
            let mut table = Table::new(slots, waiting_max);
            let mut holding: Vec<Identity> = Vec::new();
            let mut waiting: Vec<(Ticket, Identity)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(address, connection) => {
                        let who = client(address, connection);
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
                    let may: Vec<_> = waiting.iter().filter(|(_, who)| table.may_take(who)).collect();
                    let least = may.iter().map(|(_, who)| table.held(who.network)).min();
                    let next = table.next();
                    prop_assert_eq!(next.is_some(), least.is_some());
                    let Some((ticket, who)) = next else { break };
                    prop_assert_eq!(Some(table.held(who.network) - 1), least);
                    let before = waiting.len();
                    waiting.retain(|(other, _)| *other != ticket);
                    prop_assert_eq!(waiting.len() + 1, before);
                    holding.push(who);
                }
                prop_assert!(table.used() == holding.len() && table.used() <= slots);
                prop_assert!(table.waiting() == waiting.len() && table.waiting() <= waiting_max);
            }
            holding.iter().for_each(|who| table.give_back(who));
            waiting.iter().for_each(|(ticket, who)| table.leave(who, *ticket));
            prop_assert!(table.used() == 0 && table.held.is_empty() && table.queues.is_empty());
        }
    }
}
