//! The latest events, for the next subscriber.

use std::collections::VecDeque;

use serde::Serialize;

use super::state::Change;

/// The most events that are kept. Older ones are in the log.
const EVENTS_MAX: usize = 200;

/// The latest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: VecDeque<Event>,
    next: u64,
}

/// An event as the stream sends it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    /// Counts up from 0 since the start of the gateway.
    id: u64,
    /// Milliseconds since 1970.
    at: u64,
    #[serde(flatten)]
    change: Change,
}

impl Events {
    /// Adds an event of the time `at`, in milliseconds since 1970, and returns it.
    pub(super) fn add(&mut self, change: Change, at: u64) -> Event {
        let event = Event { id: self.next, at, change };
        self.next += 1;
        if self.kept.len() == EVENTS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(event.clone());
        event
    }

    /// The events that are kept, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Event> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Level;
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut events = Events::default();
        for at in 0..EVENTS_MAX as u64 + 5 {
            events.add(
                Change { level: Level::Info, kind: "zone", subject: "a".into(), text: String::new() },
                at,
            );
        }
        let ids: Vec<_> = events.all().map(|event| event.id).collect();
        assert_eq!((ids.len(), ids.first()), (EVENTS_MAX, Some(&5)));
    }
}
