//! A bounded number of connections that wait. If one more comes, the one that has waited longest makes room.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The connections that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    max: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// By their order.
    places: BTreeMap<u64, CancellationToken>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    number: u64,
    makes_room: CancellationToken,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self { max, queue: Mutex::default() }
    }

    /// Adds a connection. If there are too many then, asks the one that has waited longest to make room.
    pub(super) fn enter(&self) -> Place<'_> {
        let makes_room = CancellationToken::new();
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.places.insert(number, makes_room.clone());
        if queue.places.len() > self.max
            && let Some((_, longest)) = queue.places.pop_first()
        {
            longest.cancel();
        }
        drop(queue);
        Place { waiting: self, number, makes_room }
    }
}

impl Place<'_> {
    /// Waits until this connection must make room for another.
    pub(super) async fn makes_room(&self) {
        self.makes_room.cancelled().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.queue.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_longest_makes_room() {
        let waiting = Waiting::new(2);
        let must_go = |place: &Place<'_>| place.makes_room().now_or_never().is_some();
        let (first, second) = (waiting.enter(), waiting.enter());
        assert!(!must_go(&first) && !must_go(&second));
        let third = waiting.enter();
        assert!(must_go(&first) && !must_go(&second) && !must_go(&third));
        drop((first, third));
        let fourth = waiting.enter();
        assert!(!must_go(&second) && !must_go(&fourth), "there is a free place");
        drop(second);
        drop(fourth);
        assert!(waiting.queue.lock().places.is_empty());
    }
}
