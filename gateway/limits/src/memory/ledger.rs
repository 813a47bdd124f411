//! How much of the budget each client holds. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::{Holder, MemoryStatus, Use};

/// A client may hold this many times what it leaves free. A single client therefore gets three quarters of
/// the budget. The more clients want much memory, the less each of them gets, and a new client always finds
/// room.
const SHARE: u64 = 3;

/// The same factor for a connection that holds little, because many clients may share one address. Such a
/// connection may use half of what its address left for others. A connection may not hold more than it leaves
/// free.
const NEWCOMER_SHARE: u64 = 2 * SHARE + 1;

/// A connection holds little if it holds at most this fraction of the free memory.
const LITTLE: u64 = 8;

/// One part in so many of the budget stays free of uses that can be given up.
const SPARE: u64 = 4;

/// The names under which a client is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum HolderName {
    Network(IpAddr),
    /// The /48 of an IPv6 address, which one site may have (RFC 6177).
    Site(Ipv6Addr),
    Connection(u64),
}

impl Holder {
    fn names(self) -> impl Iterator<Item = HolderName> {
        let connection = self.connection.map(HolderName::Connection);
        [Some(HolderName::Network(network(self.address))), site(self.address), connection]
            .into_iter()
            .flatten()
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    budget: u64,
    used: u64,
    /// The highest use since [`Ledger::begin_peak`].
    peak: u64,
    reserved: [u64; Use::ALL.len()],
    refused: [u64; Use::ALL.len()],
    /// The bytes of each name that holds any.
    held: HashMap<HolderName, u64>,
}

impl Ledger {
    pub(super) fn new(budget: u64) -> Self {
        let none = [0; Use::ALL.len()];
        Self { budget, used: 0, peak: 0, reserved: none, refused: none, held: HashMap::new() }
    }

    /// Changes the budget. What is reserved stays reserved, even if it is more.
    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }

    /// Takes bytes. Returns `false` if the budget or the client's share has no room.
    pub(super) fn take(&mut self, what: Use, holder: Option<Holder>, bytes: u64) -> bool {
        let Some(left) = self.budget.saturating_sub(self.used).checked_sub(bytes) else { return false };
        if let Some(holder) = holder {
            let held = |name| self.held.get(&name).copied().unwrap_or_default() + bytes;
            let connection = holder.connection.map(|number| held(HolderName::Connection(number)));
            let little = connection.is_some_and(|held| held <= left / LITTLE);
            let share = if little { NEWCOMER_SHARE } else { SHARE };
            let of_network = held(HolderName::Network(network(holder.address)));
            // A site holds at least as much as each of its networks.
            let of_widest = site(holder.address).map_or(of_network, held);
            if of_widest > left.saturating_mul(share) || connection.is_some_and(|held| held > left) {
                return false;
            }
            if bytes > 0 {
                holder.names().for_each(|name| *self.held.entry(name).or_default() += bytes);
            }
        }
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        self.reserved[what as usize] += bytes;
        true
    }

    /// Whether so many more bytes would leave a quarter of the budget free.
    pub(super) fn is_spare(&self, bytes: u64) -> bool {
        self.used.saturating_add(bytes) <= self.budget - self.budget / SPARE
    }

    /// Returns bytes that were taken with the same arguments.
    pub(super) fn give(&mut self, what: Use, holder: Option<Holder>, bytes: u64) {
        self.used -= bytes;
        self.reserved[what as usize] -= bytes;
        for name in holder.into_iter().flat_map(Holder::names) {
            if let Some(held) = self.held.get_mut(&name) {
                *held -= bytes;
                if *held == 0 {
                    self.held.remove(&name);
                }
            }
        }
    }

    /// The bytes in use, and the highest use.
    pub(super) fn used_and_peak(&self) -> (u64, u64) {
        (self.used, self.peak)
    }

    /// Starts the measurement of a new peak.
    pub(super) fn begin_peak(&mut self) {
        self.peak = self.used;
    }

    pub(super) fn count_refusal(&mut self, what: Use) {
        self.refused[what as usize] += 1;
    }

    pub(super) fn status(&self) -> MemoryStatus {
        MemoryStatus { budget: self.budget, reserved: self.reserved, refused: self.refused }
    }
}

/// The network that counts as one client. A host of IPv6 has a network of 64 bits to itself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

fn site(address: IpAddr) -> Option<HolderName> {
    match address.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            Some(HolderName::Site(Ipv6Addr::from(u128::from(address) & (u128::MAX << 80))))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 1 << 20;

    /// A client whose connection is not known.
    fn address(host: u8) -> Holder {
        Holder { address: [10, 0, 0, host].into(), connection: None }
    }

    fn connection(host: u8, number: u64) -> Holder {
        Holder { connection: Some(number), ..address(host) }
    }

    /// Takes as much as possible, in small steps.
    fn greedy(ledger: &mut Ledger, holder: Holder) -> u64 {
        std::iter::repeat(1024).take_while(|step| ledger.take(Use::Answers, Some(holder), *step)).sum()
    }

    #[test]
    fn the_hosts_of_one_ipv6_network_are_one_client() {
        let parsed = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(parsed("2001:db8:0:1::1"), parsed("2001:db8:0:1:ffff::2"));
        assert_ne!(parsed("2001:db8:0:1::1"), parsed("2001:db8:0:2::1"));
        assert_eq!(parsed("::ffff:192.0.2.1"), parsed("192.0.2.1"));
        assert_ne!(parsed("192.0.2.1"), parsed("192.0.2.2"));
    }

    /// This holds for any number of 64-bit networks.
    #[test]
    fn one_site_leaves_a_quarter() {
        let of_site = |site: u16, network: u16| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1).into();
            Holder { address, connection: None }
        };
        let mut ledger = Ledger::new(BUDGET);
        let all: u64 = (0..64).map(|network| greedy(&mut ledger, of_site(1, network))).sum();
        assert!(all > BUDGET * 7 / 10 && all <= BUDGET * 3 / 4, "{all}");
        assert!(ledger.take(Use::Requests, Some(of_site(2, 0)), BUDGET / 16));
    }

    #[test]
    fn one_client_leaves_a_quarter() {
        let mut ledger = Ledger::new(BUDGET);
        let first = greedy(&mut ledger, address(1));
        assert!(first > BUDGET * 7 / 10 && first <= BUDGET * 3 / 4, "{first}");
    }

    #[test]
    fn connections_of_one_address_leave_room_for_each_other() {
        for connections in 1..6 {
            let mut ledger = Ledger::new(BUDGET);
            let first = greedy(&mut ledger, connection(1, 0));
            assert!(first <= BUDGET / 2, "{first}");
            (1..connections).for_each(|number| _ = greedy(&mut ledger, connection(1, number)));
            assert!(ledger.take(Use::Connections, Some(connection(1, 9)), BUDGET / 256), "{connections}");
            assert!(ledger.take(Use::Requests, Some(connection(1, 9)), BUDGET / 256), "{connections}");
            assert!(ledger.take(Use::Requests, Some(connection(2, 10)), BUDGET / 16), "{connections}");
        }
    }

    proptest! {
        /// A new client finds room, however many clients take all they can.
        #[test]
        fn a_new_client_finds_room(clients in 1..6_u8) {
            let mut ledger = Ledger::new(BUDGET);
            for host in 0..clients {
                greedy(&mut ledger, address(host));
            }
            prop_assert!(ledger.take(Use::Requests, Some(address(200)), BUDGET / 4_u64.pow(clients.into()) / 2));
        }

        /// The sums are consistent and never exceed the budget.
        #[test]
        fn sums_are_consistent_and_within_the_budget(steps in proptest::collection::vec((0..4_u8, 0..6_usize, 0..BUDGET, any::<bool>()), 0..60)) {
            let mut ledger = Ledger::new(BUDGET);
            let mut held = Vec::new();
            for (host, what, bytes, take) in steps {
                let holder = |host| connection(host % 2, u64::from(host));
                let (client, what) = ((host > 0).then(|| holder(host)), Use::ALL[what]);
                if take {
                    if ledger.take(what, client, bytes) {
                        held.push((what, client, bytes));
                    }
                } else if let Some((what, client, bytes)) = held.pop() {
                    ledger.give(what, client, bytes);
                }
                let expected: u64 = held.iter().map(|(_, _, bytes)| bytes).sum();
                prop_assert_eq!(ledger.used, expected);
                prop_assert!(ledger.used <= BUDGET);
                prop_assert_eq!(ledger.reserved.iter().sum::<u64>(), expected);
            }
            for (what, client, bytes) in held {
                ledger.give(what, client, bytes);
            }
            prop_assert_eq!(ledger.used, 0);
            prop_assert!(ledger.held.is_empty());
        }
    }
}
