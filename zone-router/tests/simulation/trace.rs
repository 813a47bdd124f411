//! The events of a simulation, in the order in which they happened.

use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use zone_router::ZoneId;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A zone is asked, for a read or by a probe. `serves` says whether it is going to give the object.
    Asked {
        request: usize,
        zone: usize,
        read: Option<usize>,
        serves: bool,
    },
    /// The request was answered, has failed, or is not awaited any longer.
    Over {
        request: usize,
    },
    /// The zone begins to give wrong bytes.
    Lied {
        zone: usize,
        read: Option<usize>,
    },
    /// A read began: of which blob, and with which try of its client.
    Began {
        read: usize,
        blob: usize,
        attempt: usize,
    },
    FirstByte {
        read: usize,
    },
    Ended {
        read: usize,
        how: Ending,
    },
    /// The zone that is asked first from now on, if any, and the states of all zones.
    Leads {
        zone: Option<ZoneId>,
        states: Vec<&'static str>,
    },
}

/// How a read ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Right,
    Wrong,
    Cut(String),
    NotOpened(String),
}

#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    events: Mutex<(usize, Vec<(Duration, Event)>)>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), events: Mutex::default() }
    }

    pub(crate) fn note(&self, event: Event) {
        self.events.lock().1.push((self.start.elapsed(), event));
    }

    /// Records the beginning of a request, and returns its number.
    pub(crate) fn ask(&self, zone: usize, read: Option<usize>, serves: bool) -> usize {
        let mut events = self.events.lock();
        let request = events.0;
        events.0 += 1;
        events.1.push((self.start.elapsed(), Event::Asked { request, zone, read, serves }));
        request
    }

    pub(crate) fn take(&self) -> Vec<(Duration, Event)> {
        std::mem::take(&mut self.events.lock().1)
    }
}

/// Prints one line for each event.
pub(crate) fn print(events: &[(Duration, Event)]) -> String {
    let mut text = String::new();
    for (at, event) in events {
        writeln!(text, "{:>9.3} {event:?}", at.as_secs_f64()).expect("memory");
    }
    text
}
