//! Requests as they end, with the way that their bytes took.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use backends::Digest;
use registry::Route;
use serde::Serialize;
use zone_router::{Turn, TurnObserver};

use super::cache_status::CacheStatus;
use super::{Live, REQUESTS_MAX, milliseconds};

/// The most turns that are told of one blob. Further ones are left out.
const TURNS_MAX: usize = 8;

/// A request that is told when it ends, because somebody was subscribed when it began.
#[derive(Debug)]
pub(crate) struct WatchedRequest {
    live: Arc<Live>,
    blob: Option<Digest>,
}

/// A request that has ended, as the access log knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedRequest<'a> {
    pub(crate) id: &'a str,
    pub(crate) client: std::net::IpAddr,
    pub(crate) method: &'a str,
    /// The path without query and secrets.
    pub(crate) path: &'a str,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
    /// The `Cache-Status` of the answer.
    pub(crate) cache: &'a str,
    /// Bytes of bodies.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) milliseconds: u64,
    pub(crate) end: &'static str,
}

/// A request as the stream sends it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// Milliseconds since 1970.
    at: u64,
    id: &'a str,
    client: std::net::IpAddr,
    method: &'a str,
    path: &'a str,
    route: &'static str,
    status: u16,
    source: Option<&'a str>,
    collapsed: bool,
    stored: bool,
    not_stored: Option<&'a str>,
    turns: Vec<ToldTurn>,
    received: u64,
    sent: u64,
    ms: u64,
    end: &'static str,
}

#[derive(Debug, Serialize)]
struct ToldTurn {
    turn: &'static str,
    zone: String,
}

impl Live {
    /// A request that has just begun. `None` if nobody is subscribed.
    pub(crate) fn begin(self: &Arc<Self>, route: &Route) -> Option<WatchedRequest> {
        if !self.is_watched() {
            return None;
        }
        let blob = match route {
            Route::Blob { digest, .. } => Some(*digest),
            Route::PutManifest { .. } | Route::Upload | Route::Forward => None,
        };
        if let Some(blob) = blob {
            self.turns.lock().entry(blob).or_default().requests += 1;
        }
        Some(WatchedRequest { live: Arc::clone(self), blob })
    }
}

impl WatchedRequest {
    /// Tells the subscribers that the request has ended.
    pub(crate) fn ended(self, ended: &EndedRequest<'_>) {
        let live = &self.live;
        if live.told.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            live.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let status = CacheStatus::parse(ended.cache);
        // A hit takes no way, whatever other requests for the same blob do.
        let turns = match (self.blob, status.source) {
            (Some(blob), source) if source != Some("hit") => live.turns_of(&blob),
            _ => Vec::new(),
        };
        live.send(
            "request",
            &Told {
                at: milliseconds(SystemTime::now()),
                id: ended.id,
                client: ended.client,
                method: ended.method,
                path: ended.path,
                route: ended.route,
                status: ended.status,
                source: status.source,
                collapsed: status.collapsed,
                stored: status.stored,
                not_stored: status.not_stored,
                turns: turns
                    .into_iter()
                    .map(|turn| ToldTurn { turn: turn.kind.as_str(), zone: turn.zone.to_string() })
                    .collect(),
                received: ended.received,
                sent: ended.sent,
                ms: ended.milliseconds,
                end: ended.end,
            },
        );
    }
}

impl Drop for WatchedRequest {
    fn drop(&mut self) {
        let Some(blob) = self.blob else { return };
        let mut all = self.live.turns.lock();
        if let Some(turns) = all.get_mut(&blob) {
            turns.requests -= 1;
            if turns.requests == 0 {
                all.remove(&blob);
            }
        }
    }
}

impl Live {
    fn turns_of(&self, blob: &Digest) -> Vec<Turn> {
        self.turns.lock().get(blob).map(|turns| turns.turns.clone()).unwrap_or_default()
    }
}

impl TurnObserver for Live {
    fn turned(&self, digest: &Digest, turn: Turn) {
        if !self.is_watched() {
            return;
        }
        if let Some(turns) = self.turns.lock().get_mut(digest)
            && turns.turns.len() < TURNS_MAX
        {
            turns.turns.push(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use zone_router::TurnKind;

    use super::*;

    const ENDED: EndedRequest<'static> = EndedRequest {
        id: "7",
        client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        method: "GET",
        path: "/v2/a/blobs/sha256:ab",
        route: "blob",
        status: 200,
        cache: "quay-gateway; fwd=miss; stored; detail=\"zone=a\"",
        received: 0,
        sent: 10,
        milliseconds: 3,
        end: "whole",
    };

    fn blob() -> Route {
        Route::Blob { repository: "a".into(), digest: Digest::EMPTY }
    }

    fn turn(kind: TurnKind) -> Turn {
        Turn { kind, zone: "b".into() }
    }

    /// The data of the next frame.
    fn next(frames: &mut tokio::sync::broadcast::Receiver<bytes::Bytes>) -> Value {
        let frame = frames.try_recv().expect("a frame");
        let text = std::str::from_utf8(&frame).expect("text");
        let data = text.strip_prefix("event: request\ndata: ").expect("a request");
        serde_json::from_str(data.trim_end()).expect("JSON")
    }

    #[test]
    fn nobody_is_subscribed_so_nothing_is_kept() {
        let live = Arc::new(Live::new());
        assert!(live.begin(&blob()).is_none());
        live.turned(&Digest::EMPTY, turn(TurnKind::Hedged));
        assert!(live.turns.lock().is_empty());
    }

    #[test]
    fn a_request_is_told_with_its_turns_and_they_are_forgotten() {
        let live = Arc::new(Live::new());
        let (_seat, mut frames) = (live.sit(), live.frames.subscribe());
        let [one, other] = [(); 2].map(|()| live.begin(&blob()).expect("watched"));
        for kind in [TurnKind::Hedged, TurnKind::HedgeWon] {
            live.turned(&Digest::EMPTY, turn(kind));
        }
        one.ended(&ENDED);
        let told = next(&mut frames);
        assert_eq!((&told["source"], &told["stored"]), (&"zone=a".into(), &true.into()));
        assert_eq!(told["turns"][1], serde_json::json!({"turn": "hedge-won", "zone": "b"}));
        other.ended(&EndedRequest { cache: "quay-gateway; hit", ..ENDED });
        let told = next(&mut frames);
        assert_eq!((&told["source"], &told["turns"]), (&"hit".into(), &serde_json::json!([])));
        assert!(live.turns.lock().is_empty());
    }

    #[test]
    fn turns_and_requests_have_bounds() {
        let live = Arc::new(Live::new());
        let (_seat, mut frames) = (live.sit(), live.frames.subscribe());
        let watched = live.begin(&blob()).expect("watched");
        for _ in 0..2 * TURNS_MAX {
            live.turned(&Digest::EMPTY, turn(TurnKind::Failed));
        }
        watched.ended(&ENDED);
        assert_eq!(next(&mut frames)["turns"].as_array().map(Vec::len), Some(TURNS_MAX));
        for _ in 0..REQUESTS_MAX {
            live.begin(&Route::Forward).expect("watched").ended(&ENDED);
        }
        assert_eq!((live.frames.len(), live.untold.load(Ordering::Relaxed)), (REQUESTS_MAX as usize - 1, 1));
    }
}
