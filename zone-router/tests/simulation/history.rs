//! Evaluates a history for the laws.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::trace::{Ending, Event};
use crate::world::History;
use zone_router::ZoneId;

/// A request without an answer after this time counts as failed.
const FAILED: Duration = Duration::from_secs(1);

/// One try of a client.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) began: Duration,
    pub(crate) blob: usize,
    pub(crate) attempt: usize,
    /// The zones that were asked, in order.
    pub(crate) asked: Vec<usize>,
    /// Zones that gave wrong bytes.
    pub(crate) liars: Vec<usize>,
    /// The time from the beginning of the read to its first byte.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) took: Duration,
    pub(crate) how: Option<Ending>,
}

impl History {
    pub(crate) fn tries(&self) -> Vec<Try> {
        let mut tries: BTreeMap<usize, Try> = BTreeMap::new();
        for (at, event) in &self.events {
            let since = |tried: &Try| at.saturating_sub(tried.began);
            match event {
                Event::Began { read, blob, attempt } => {
                    let (blob, attempt) = (*blob, *attempt);
                    let (asked, liars, took) = (Vec::new(), Vec::new(), Duration::ZERO);
                    tries.insert(
                        *read,
                        Try { began: *at, blob, attempt, asked, liars, first_byte: None, took, how: None },
                    );
                }
                Event::Asked { read: Some(read), zone, .. } => {
                    tries.get_mut(read).expect("begun").asked.push(*zone);
                }
                Event::Lied { read: Some(read), zone } => {
                    tries.get_mut(read).expect("begun").liars.push(*zone)
                }
                Event::FirstByte { read } => {
                    let tried = tries.get_mut(read).expect("begun");
                    tried.first_byte = Some(since(tried));
                }
                Event::Ended { read, how } => {
                    let tried = tries.get_mut(read).expect("begun");
                    tried.took = since(tried);
                    tried.how = Some(how.clone());
                }
                _ => {}
            }
        }
        tries.into_values().collect()
    }

    /// The number of all requests, and the number of extra ones. A request is extra if another request of the same read
    /// was in flight, was going to be served, and began less than [`FAILED`] before. Later requests are failover.
    pub(crate) fn requests(&self, from: Duration) -> (usize, usize) {
        let mut running: BTreeMap<usize, (usize, bool, Duration)> = BTreeMap::new();
        let (mut all, mut extra) = (0, 0);
        for (at, event) in &self.events {
            match event {
                Event::Asked { request, read: Some(read), serves, .. } => {
                    let beside = running
                        .values()
                        .any(|(other, serves, began)| other == read && *serves && *at < *began + FAILED);
                    if *at >= from {
                        all += 1;
                        extra += usize::from(beside);
                    }
                    running.insert(*request, (*read, *serves, *at));
                }
                Event::Over { request } => drop(running.remove(request)),
                _ => {}
            }
        }
        (all, extra)
    }

    /// Which zone was first in the order, and since when.
    pub(crate) fn leaders(&self) -> Vec<(Duration, Option<ZoneId>)> {
        let mut leaders: Vec<(Duration, Option<ZoneId>)> = Vec::new();
        for (at, event) in &self.events {
            if let Event::Leads { zone, .. } = event
                && leaders.last().is_none_or(|(_, before)| before != zone)
            {
                leaders.push((*at, *zone));
            }
        }
        leaders
    }
}

/// The value that a share of `q` of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<Duration>, q: f64) -> Duration {
    values.sort_unstable();
    let rank = (values.len() as f64 * q).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
