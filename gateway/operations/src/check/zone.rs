//! Checks one zone: connects, authenticates, writes a marker, and reads it.

use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Key, Kind, MARKER, Source, Store, Timeouts, Transport};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::advice::{Advice, Peer, StepError};
use super::connection::{self, Server};
use super::progress::CheckLine;
use super::step::{StepName, StepNote, StepRunner, Steps};
use config::NamedZone;

/// The contents of Quay's own marker. The marker stays in the zone, as Quay's does.
const MARKER_BYTES: &[u8] = b"testing 123";

/// The range of the marker that is read. It does not begin at 0, so that a store that ignores ranges fails.
const PART: std::ops::Range<u64> = 3..8;

/// The timeouts of the steps.
struct Bounds {
    connect: Duration,
    /// A login may take several requests.
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

/// The result of checking one zone.
#[derive(Debug, Clone)]
pub struct ZoneCheck {
    /// The name of the zone.
    pub name: String,
    /// The driver, as in Quay's configuration.
    pub driver: String,
    /// The proxy that leads to it.
    pub proxy: Option<String>,
    /// The steps.
    pub steps: Steps,
}

/// Checks one zone. The keys of blobs begin with `blobs`. If `each` is given, it is the timeout of each step.
pub(super) async fn check(
    zone: &NamedZone,
    blobs: &str,
    transport: &Transport,
    each: Option<Duration>,
    line: CheckLine,
) -> ZoneCheck {
    let servers: Vec<_> =
        zone.store.endpoints().iter().map(|url| Server::of(url, &transport.proxies)).collect();
    let plan = [
        connection::plan(&servers),
        vec![StepName::Authenticate, StepName::Put, StepName::Head, StepName::Range, StepName::ReadBack],
    ]
    .concat();
    let mut runner = StepRunner::new(peer(zone, &servers), plan, line);
    // The runner has recorded the failure.
    let bounds = Bounds::of(&transport.timeouts, each);
    let _ = steps(&mut runner, (zone, blobs), &servers, transport, &bounds).await;
    ZoneCheck {
        name: zone.name.clone(),
        driver: zone.store.driver().to_owned(),
        proxy: connection::proxies(&servers),
        steps: runner.end(),
    }
}

fn peer(zone: &NamedZone, servers: &[Server]) -> Peer {
    let summary = zone.store.summary();
    let bucket = summary.into_iter().find(|(key, _)| matches!(*key, "bucket" | "container"));
    Peer {
        driver: Some(zone.store.driver().to_owned()),
        bucket: bucket.map(|(key, name)| format!("{key} `{name}`")),
        tls: servers.iter().all(|server| server.server_name.is_some()),
        proxy: connection::proxies(servers),
    }
}

async fn steps(
    runner: &mut StepRunner,
    (zone, blobs): (&NamedZone, &str),
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
            return runner.step(StepName::Configuration, bounds.connect, refused).await;
        }
    };
    connection::reach(runner, servers, &tls, bounds.connect).await?;
    let key = Key::new(MARKER);
    runner.step(StepName::Authenticate, bounds.login, async { plain(store.probe().await) }).await?;
    let source = Source::bytes(Bytes::from_static(MARKER_BYTES));
    runner.step(StepName::Put, bounds.write, async { plain(store.put(&key, &source).await) }).await?;
    runner.step(StepName::Head, bounds.read, head(&store, &key)).await?;
    runner.step(StepName::Range, bounds.read, read(&store, &key, Some(PART))).await?;
    runner
        .step(StepName::ReadBack, bounds.read * 2, async {
            read(&store, &key, None).await?;
            Ok(((), no_blob(&store, blobs, bounds.read).await))
        })
        .await
}

/// A warning if no blob lies in the zone. If the store does not say, within `bound`, there is none.
async fn no_blob(store: &Arc<dyn Store>, blobs: &str, bound: Duration) -> Option<StepNote> {
    let mut listed = store.list(blobs);
    match tokio::time::timeout(bound, listed.try_next()).await {
        Ok(Ok(None)) => Some(StepNote::Warning(
            "no blob lies below its `storage_path`: this is right only for a new registry or zone; else correct \
             `storage_path`, which must be the same as the registry's"
                .to_owned(),
        )),
        Ok(Ok(Some(_)) | Err(_)) | Err(_) => None,
    }
}

fn unusable(reason: String) -> StepError {
    StepError::Explained(
        reason,
        Advice::new(
            "the gateway cannot use this zone and works without it",
            "correct its entry in DISTRIBUTED_STORAGE_CONFIG, or in zones",
        ),
    )
}

fn plain(done: Result<(), Error>) -> Result<((), Option<StepNote>), StepError> {
    done.map(|()| ((), None)).map_err(StepError::Store)
}

async fn head(store: &Arc<dyn Store>, key: &Key) -> Result<((), Option<StepNote>), StepError> {
    match store.head(key).await.map_err(StepError::Store)? {
        Some(meta) if meta.size == MARKER_BYTES.len() as u64 => Ok(((), None)),
        Some(meta) => Err(differs(format!("{} bytes instead of {}", meta.size, MARKER_BYTES.len()))),
        None => Err(differs("the object that was just written is not there".into())),
    }
}

async fn read(
    store: &Arc<dyn Store>,
    key: &Key,
    range: Option<std::ops::Range<u64>>,
) -> Result<((), Option<StepNote>), StepError> {
    let expected = match &range {
        // The range is within the marker.
        Some(range) => &MARKER_BYTES[range.start as usize..range.end as usize],
        None => MARKER_BYTES,
    };
    let object = store.get(key, range).await.map_err(StepError::Store)?;
    let Some(object) = object else {
        return Err(differs("the object that was just written is not there".into()));
    };
    let mut body = object.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.try_next().await.map_err(StepError::Store)? {
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

fn differs(what: String) -> StepError {
    StepError::Store(Error::new(Kind::Corrupt, what))
}
