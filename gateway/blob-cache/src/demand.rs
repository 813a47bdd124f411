//! Counts the requests for blobs that are not cached, and the clients that ask for them now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use limits::pool::Network;
use parking_lot::Mutex;

/// The number of blobs for which requests are remembered.
const BLOBS_MAX: u64 = 100_000;

/// How long a blob's requests are remembered after the last of them.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// The requests for each blob: the number of those served to the end, and the networks of those under way. If a client
/// leaves before the end, its request does not count.
#[derive(Debug)]
pub(super) struct Demand(moka::sync::Cache<Digest, Arc<Mutex<Asked>>>);

/// The requests for one blob.
#[derive(Debug, Default)]
struct Asked {
    /// Requests that were served to the end.
    served: u32,
    /// Requests under way, by network. Any number of requests from one network at once counts as one client.
    under_way: HashMap<Network, usize>,
}

/// One request for a blob. It counts while this exists. If it was served to the end, it counts after that, too.
#[derive(Debug)]
pub(super) struct Request {
    asked: Arc<Mutex<Asked>>,
    network: Network,
    served: bool,
}

impl Demand {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(BLOBS_MAX).time_to_idle(MEMORY).build())
    }

    /// Counts one more request.
    pub(super) fn begin(&self, digest: &Digest, network: Network) -> Request {
        let asked = self.0.get_with(*digest, Arc::default);
        *asked.lock().under_way.entry(network).or_default() += 1;
        Request { asked, network, served: false }
    }

    /// Whether any request counts, served or under way.
    pub(super) fn was_asked(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some_and(|asked| asked.lock().count() > 0)
    }

    /// Whether requests of more than one client count.
    pub(super) fn asked_again(&self, digest: &Digest) -> bool {
        self.0.get(digest).is_some_and(|asked| asked.lock().count() > 1)
    }
}

impl Asked {
    fn count(&self) -> usize {
        self.under_way.len().saturating_add(self.served as usize)
    }
}

impl Request {
    /// Records that the client stayed to the end.
    pub(super) fn served(&mut self) {
        self.served = true;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut asked = self.asked.lock();
        if self.served {
            asked.served = asked.served.saturating_add(1);
        }
        if let Some(requests) = asked.under_way.get_mut(&self.network) {
            *requests -= 1;
            if *requests == 0 {
                asked.under_way.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use limits::pool::Identity;

    use super::*;

    #[test]
    fn requests_of_one_network_are_one_until_they_are_served() {
        let (demand, digest) = (Demand::new(), Digest::of(b"hello"));
        let ask = |address: [u8; 4]| demand.begin(&digest, Identity::peer(address.into(), false).network());
        let counts = || (demand.was_asked(&digest), demand.asked_again(&digest));
        assert_eq!(counts(), (false, false));
        let (first, mut second) = (ask([192, 0, 2, 1]), ask([192, 0, 2, 1]));
        assert_eq!(counts(), (true, false));
        let other = ask([192, 0, 2, 2]);
        assert_eq!(counts(), (true, true));
        drop((first, other));
        assert_eq!(counts(), (true, false));
        second.served();
        drop(second);
        assert_eq!(counts(), (true, false));
        let again = ask([192, 0, 2, 1]);
        assert_eq!(counts(), (true, true));
        drop(again);
    }
}
