//! Who holds how much of the budget: pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::{MemoryStatus, Use};

/// A client may hold so many times what it leaves for others. One alone thus gets three quarters of the
/// budget, and the more clients want much, the less each of them gets; whoever comes next finds room.
const SHARE: u64 = 3;

#[derive(Debug)]
pub(super) struct Ledger {
    budget: u64,
    used: u64,
    reserved: [u64; Use::ALL.len()],
    refused: [u64; Use::ALL.len()],
    /// Those that hold anything.
    clients: HashMap<IpAddr, u64>,
}

impl Ledger {
    pub(super) fn new(budget: u64) -> Self {
        let none = [0; Use::ALL.len()];
        Self { budget, used: 0, reserved: none, refused: none, clients: HashMap::new() }
    }

    /// Takes bytes; `false` if there is no room, or not for this client.
    pub(super) fn take(&mut self, what: Use, client: Option<IpAddr>, bytes: u64) -> bool {
        let Some(left) = (self.budget - self.used).checked_sub(bytes) else { return false };
        if let Some(client) = client.map(network) {
            let held = self.clients.get(&client).copied().unwrap_or_default() + bytes;
            if held > left.saturating_mul(SHARE) {
                return false;
            }
            if bytes > 0 {
                self.clients.insert(client, held);
            }
        }
        self.used += bytes;
        self.reserved[what as usize] += bytes;
        true
    }

    /// Gives back bytes that were taken so.
    pub(super) fn give(&mut self, what: Use, client: Option<IpAddr>, bytes: u64) {
        self.used -= bytes;
        self.reserved[what as usize] -= bytes;
        let Some(client) = client.map(network) else { return };
        if let Some(held) = self.clients.get_mut(&client) {
            *held -= bytes;
            if *held == 0 {
                self.clients.remove(&client);
            }
        }
    }

    pub(super) fn count_refusal(&mut self, what: Use) {
        self.refused[what as usize] += 1;
    }

    pub(super) fn status(&self) -> MemoryStatus {
        MemoryStatus { budget: self.budget, reserved: self.reserved, refused: self.refused }
    }
}

/// Whom an address stands for: a host of IPv6 has a network of 64 bits to itself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 1 << 20;

    fn address(host: u8) -> IpAddr {
        [10, 0, 0, host].into()
    }

    /// Takes as much as it gets, in small steps.
    fn greedy(ledger: &mut Ledger, host: u8) -> u64 {
        std::iter::repeat(1024).take_while(|step| ledger.take(Use::Answers, Some(address(host)), *step)).sum()
    }

    #[test]
    fn the_hosts_of_a_network_of_64_bits_are_one() {
        let parsed = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(parsed("2001:db8:0:1::1"), parsed("2001:db8:0:1:ffff::2"));
        assert_ne!(parsed("2001:db8:0:1::1"), parsed("2001:db8:0:2::1"));
        assert_eq!(parsed("::ffff:192.0.2.1"), parsed("192.0.2.1"));
        assert_ne!(parsed("192.0.2.1"), parsed("192.0.2.2"));
    }

    #[test]
    fn one_client_leaves_a_quarter() {
        let mut ledger = Ledger::new(BUDGET);
        let first = greedy(&mut ledger, 1);
        assert!(first > BUDGET * 7 / 10 && first <= BUDGET * 3 / 4, "{first}");
    }

    proptest! {
        /// However many clients are greedy, the next one finds room.
        #[test]
        fn a_newcomer_finds_room(clients in 1..6_u8) {
            let mut ledger = Ledger::new(BUDGET);
            for host in 0..clients {
                greedy(&mut ledger, host);
            }
            prop_assert!(ledger.take(Use::Requests, Some(address(200)), BUDGET / 4_u64.pow(clients.into()) / 2));
        }

        /// The books agree, and are never over the budget.
        #[test]
        fn the_books_agree(steps in proptest::collection::vec((0..4_u8, 0..6_usize, 0..BUDGET, any::<bool>()), 0..60)) {
            let mut ledger = Ledger::new(BUDGET);
            let mut held = Vec::new();
            for (host, what, bytes, take) in steps {
                let (client, what) = ((host > 0).then(|| address(host)), Use::ALL[what]);
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
            prop_assert!(ledger.clients.is_empty());
        }
    }
}
