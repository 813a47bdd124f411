//! The steps of one zone: reach it, be known to it, write, and read what was written.

use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Key, Kind, MARKER, Source, Store, Timeouts, Transport};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::advice::{Advice, Peer, Trouble};
use super::connection::{self, Server};
use super::progress::Line;
use super::step::{Name, Note, Steps, Walk};
use config::NamedZone;

/// What Quay's own marker holds. It stays, as Quay's does.
const MARKER_BYTES: &[u8] = b"testing 123";

/// The part of it that is read by range: not the beginning, so that a store that ignores ranges
/// is found out.
const PART: std::ops::Range<u64> = 3..8;

/// How long each step may take.
struct Bounds {
    connect: Duration,
    /// Logging in may be several requests.
    login: Duration,
    read: Duration,
    write: Duration,
}

impl Bounds {
    fn of(timeouts: &Timeouts, each: Option<Duration>) -> Self {
        if let Some(each) = each {
            return Self { connect: each, login: each, read: each, write: each };
        }
        let Timeouts { connect, first_byte, stall } = *timeouts;
        let read = connect + first_byte + stall;
        Self { connect, login: read * 2, read, write: connect + timeouts.written() + stall }
    }
}

/// What came of one zone.
#[derive(Debug, Clone)]
pub struct ZoneReport {
    /// Its name.
    pub name: String,
    /// Its driver, as Quay spells it.
    pub driver: String,
    /// Its steps.
    pub steps: Steps,
}

/// Checks one zone; no step takes longer than `each`, if there is one.
pub(super) async fn check(
    zone: &NamedZone,
    transport: &Transport,
    each: Option<Duration>,
    line: Line,
) -> ZoneReport {
    let servers: Vec<_> = zone.store.endpoints().iter().map(Server::of).collect();
    let plan = [
        connection::plan(&servers),
        vec![Name::Authenticate, Name::Put, Name::Head, Name::Range, Name::ReadBack],
    ]
    .concat();
    let mut walk = Walk::new(peer(zone, &servers), plan, line);
    // The walk knows what failed.
    let _ = steps(&mut walk, zone, &servers, transport, &Bounds::of(&transport.timeouts, each)).await;
    ZoneReport { name: zone.name.clone(), driver: zone.store.driver().to_owned(), steps: walk.end() }
}

fn peer(zone: &NamedZone, servers: &[Server]) -> Peer {
    let summary = zone.store.summary();
    let bucket = summary.into_iter().find(|(key, _)| matches!(*key, "bucket" | "container"));
    Peer {
        driver: Some(zone.store.driver().to_owned()),
        bucket: bucket.map(|(key, name)| format!("{key} `{name}`")),
        tls: servers.iter().all(|server| server.server_name.is_some()),
    }
}

async fn steps(
    walk: &mut Walk,
    zone: &NamedZone,
    servers: &[Server],
    transport: &Transport,
    bounds: &Bounds,
) -> Option<()> {
    let built = zone.store.build(transport).and_then(|store| Ok((store, zone.store.trusting(transport)?)));
    let (store, tls) = match built {
        Ok((store, trusting)) => (store, trusting.tls),
        Err(error) => {
            let reason = zone.store.unusable().map_or_else(|| error.to_string(), str::to_owned);
            let refused = std::future::ready(Err::<((), _), _>(unusable(reason)));
            return walk.step(Name::Configuration, bounds.connect, refused).await;
        }
    };
    connection::reach(walk, servers, &tls, bounds.connect).await?;
    let key = Key::new(MARKER);
    walk.step(Name::Authenticate, bounds.login, async { plain(store.probe().await) }).await?;
    let source = Source::bytes(Bytes::from_static(MARKER_BYTES));
    walk.step(Name::Put, bounds.write, async { plain(store.put(&key, &source).await) }).await?;
    walk.step(Name::Head, bounds.read, head(&store, &key)).await?;
    walk.step(Name::Range, bounds.read, read(&store, &key, Some(PART))).await?;
    walk.step(Name::ReadBack, bounds.read, read(&store, &key, None)).await
}

fn unusable(reason: String) -> Trouble {
    Trouble::Told(
        reason,
        Advice::new(
            "the gateway cannot use this zone and goes on without it",
            "mend its entry in DISTRIBUTED_STORAGE_CONFIG, or in zones",
        ),
    )
}

fn plain(done: Result<(), Error>) -> Result<((), Option<Note>), Trouble> {
    done.map(|()| ((), None)).map_err(Trouble::Store)
}

async fn head(store: &Arc<dyn Store>, key: &Key) -> Result<((), Option<Note>), Trouble> {
    match store.head(key).await.map_err(Trouble::Store)? {
        Some(meta) if meta.size == MARKER_BYTES.len() as u64 => Ok(((), None)),
        Some(meta) => Err(differs(format!("{} bytes, not {}", meta.size, MARKER_BYTES.len()))),
        None => Err(differs("what was just written is not there".into())),
    }
}

async fn read(
    store: &Arc<dyn Store>,
    key: &Key,
    range: Option<std::ops::Range<u64>>,
) -> Result<((), Option<Note>), Trouble> {
    let expected = match &range {
        // Both lie within the marker.
        Some(range) => &MARKER_BYTES[range.start as usize..range.end as usize],
        None => MARKER_BYTES,
    };
    let object = store.get(key, range).await.map_err(Trouble::Store)?;
    let Some(object) = object else { return Err(differs("what was just written is not there".into())) };
    let mut body = object.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.try_next().await.map_err(Trouble::Store)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > expected.len() {
            break;
        }
    }
    match bytes == expected {
        true => Ok(((), None)),
        false => Err(differs("other bytes than were just written".into())),
    }
}

fn differs(what: String) -> Trouble {
    Trouble::Store(Error::new(Kind::Corrupt, what))
}
