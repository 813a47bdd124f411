//! How long answers take: histograms by route and source, with exemplars.
//!
//! Every request of every client is counted here, so a count takes no lock and no memory: the cells are made at the
//! start, and their numbers are atomic. A bucket takes a new exemplar once a second at most, and none while another
//! thread is at it. The histograms of prometheus-client take two locks for each value.

use std::array;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use backends::RequestId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::PREFIX;
use super::sources::{Source, Sources};
use super::text::{bucket, head, labels, value};

/// The routes that are timed. Only the first has other sources than the registry and the gateway.
const ROUTES: [&str; 7] = ["blob", "manifest", "manifest-put", "upload", "token", "forward", OVERLOAD];
const BLOB: &str = ROUTES[0];
/// The route of requests that a limit refuses. They come from the gateway alone.
const OVERLOAD: &str = "overload";

/// The bounds of the buckets, in seconds.
const BOUNDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
const BUCKETS: usize = BOUNDS.len() + 1;

/// The time until a bucket takes another exemplar.
const EXEMPLAR_EVERY: Duration = Duration::from_secs(1);

/// The longest id in an exemplar. OpenMetrics allows 128 characters for all labels together.
const EXEMPLAR_ID_MAX: usize = 64;

/// One histogram for each route and source.
#[derive(Debug)]
pub(crate) struct Timings {
    /// With the prefix of all names.
    name: String,
    help: &'static str,
    since: Instant,
    /// By source, then by route. `None` if the route has no such source.
    cells: ArcSwap<Vec<[Option<Arc<Cell>>; ROUTES.len()]>>,
}

#[derive(Debug, Default)]
struct Cell {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
    /// When each bucket takes another exemplar, in milliseconds after the start.
    due: [AtomicU64; BUCKETS],
    exemplars: Mutex<[Option<Exemplar>; BUCKETS]>,
}

/// A request that fell into a bucket.
#[derive(Debug, Clone)]
struct Exemplar {
    label: &'static str,
    id: String,
    seconds: f64,
    at: SystemTime,
}

impl Timings {
    pub(super) fn new(name: &str, help: &'static str) -> Self {
        let name = format!("{PREFIX}_{name}");
        Self { name, help, since: Instant::now(), cells: ArcSwap::default() }
    }

    /// Makes the histograms of the sources that are new.
    pub(super) fn grow(&self, sources: &Sources) {
        let exists = |route: &str, source| match route {
            BLOB => true,
            OVERLOAD => source == Source::GATEWAY,
            _ => source == Source::GATEWAY || source == Source::REGISTRY,
        };
        let mut cells = Vec::clone(&self.cells.load());
        let new = sources.all().skip(cells.len());
        cells.extend(new.map(|source| ROUTES.map(|route| exists(route, source).then(Arc::<Cell>::default))));
        self.cells.store(Arc::new(cells));
    }

    /// Counts an answer that took this long.
    pub(crate) fn observe(&self, route: &str, source: Source, took: Duration, id: &RequestId) {
        let Some(route) = ROUTES.iter().position(|known| *known == route) else { return };
        let cells = self.cells.load();
        let cell = |source: Source| cells.get(source.index())?[route].as_deref();
        let Some(cell) = cell(source).or_else(|| cell(Source::GATEWAY)) else { return };
        cell.observe(took, self.since.elapsed(), id);
    }

    /// Writes the family in the OpenMetrics text form.
    pub(super) fn write(&self, text: &mut String, sources: &Sources) -> fmt::Result {
        head(text, &self.name, self.help, "histogram")?;
        let cells = self.cells.load();
        for (at, route) in ROUTES.iter().enumerate() {
            for (source, cells) in sources.all().zip(&**cells) {
                let Some(cell) = &cells[at] else { continue };
                let labels = labels(&[("route", route), ("source", &sources.name(source))]);
                cell.write(text, &self.name, &labels)?;
            }
        }
        Ok(())
    }
}

impl Cell {
    fn observe(&self, took: Duration, now: Duration, id: &RequestId) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if now < self.due[bucket].load(Relaxed) {
            return;
        }
        let Some(mut exemplars) = self.exemplars.try_lock() else { return };
        self.due[bucket].store(now + EXEMPLAR_EVERY.as_millis() as u64, Relaxed);
        // An exemplar with a trace that nobody keeps would lead nowhere.
        let (label, id) = id.sampled_trace().map_or(("request_id", id.as_str()), |trace| ("trace_id", trace));
        if id.len() <= EXEMPLAR_ID_MAX {
            exemplars[bucket] = Some(Exemplar { label, id: id.to_owned(), seconds, at: SystemTime::now() });
        }
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) -> fmt::Result {
        // A count that comes meanwhile is in the next scrape.
        let counts: [u64; BUCKETS] = array::from_fn(|bucket| self.buckets[bucket].load(Relaxed));
        let seconds = Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64();
        let exemplars = self.exemplars.lock().clone();
        let mut all = 0;
        for ((bound, count), exemplar) in BOUNDS.iter().chain([&f64::INFINITY]).zip(counts).zip(exemplars) {
            all += count;
            bucket(text, name, labels, *bound, all)?;
            if let Some(Exemplar { label, id, seconds, at }) = exemplar {
                let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                write!(text, " # {{{label}=\"{id}\"}} {seconds:?} {at:.3}")?;
            }
            text.push('\n');
        }
        value(text, name, "count", labels, all)?;
        value(text, name, "sum", labels, format_args!("{seconds:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn timings() -> (Timings, Sources) {
        let (timings, sources) = (Timings::new("x_seconds", "Help"), Sources::default());
        timings.grow(&sources);
        (timings, sources)
    }

    fn lines(timings: &Timings, sources: &Sources) -> Vec<String> {
        let mut text = String::new();
        timings.write(&mut text, sources).expect("writes");
        text.lines().map(str::to_owned).collect()
    }

    fn id(headers: &[(&'static str, &str)]) -> RequestId {
        let mut headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
            })
            .collect();
        RequestId::of_request(&mut headers)
    }

    #[tokio::test(start_paused = true)]
    async fn every_series_is_there_from_the_start() {
        let (timings, sources) = timings();
        let lines = lines(&timings, &sources);
        let series = 4 + 5 * 2 + 1;
        assert_eq!(lines.len(), 2 + series * (BUCKETS + 2));
        for line in [
            "quay_gateway_x_seconds_bucket{route=\"blob\",source=\"hit\",le=\"0.001\"} 0",
            "quay_gateway_x_seconds_bucket{route=\"token\",source=\"registry\",le=\"120.0\"} 0",
            "quay_gateway_x_seconds_count{route=\"overload\",source=\"gateway\"} 0",
            "quay_gateway_x_seconds_sum{route=\"overload\",source=\"gateway\"} 0.0",
        ] {
            assert!(lines.iter().any(|other| other == line), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_is_counted_in_its_bucket_and_all_above() {
        let (timings, sources) = timings();
        for millis in [1, 2, 200_000] {
            timings.observe("blob", Source::HIT, Duration::from_millis(millis), &id(&[]));
        }
        // Neither the route nor the source exists. Nothing breaks.
        timings.observe("other", Source::HIT, Duration::ZERO, &id(&[]));
        timings.observe("token", Source::HIT, Duration::ZERO, &id(&[]));
        let lines = lines(&timings, &sources);
        let count = |le: &str| {
            let start =
                format!("quay_gateway_x_seconds_bucket{{route=\"blob\",source=\"hit\",le=\"{le}\"}} ");
            let line = lines.iter().find_map(|line| line.strip_prefix(&start)).expect("a bucket");
            line.split(' ').next().map(str::to_owned)
        };
        for (le, expected) in [("0.001", "1"), ("0.0025", "2"), ("120.0", "2"), ("+Inf", "3")] {
            assert_eq!(count(le).as_deref(), Some(expected), "{le}");
        }
        assert!(
            lines.contains(&"quay_gateway_x_seconds_sum{route=\"blob\",source=\"hit\"} 200.003".to_owned())
        );
        assert!(
            lines.contains(&"quay_gateway_x_seconds_count{route=\"token\",source=\"gateway\"} 1".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_exemplar_names_the_trace_if_somebody_keeps_it() {
        let (timings, sources) = timings();
        let trace = |flags: &str| format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
        let kept = |ids: &RequestId| {
            timings.observe("blob", Source::HIT, Duration::from_micros(250), ids);
            let lines = lines(&timings, &sources);
            let line = lines.into_iter().find(|line| line.contains(" # {")).unwrap_or_default();
            line.split(" # ").nth(1).and_then(|rest| rest.rsplit_once(' ')).map(|(kept, _)| kept.to_owned())
        };
        let long = "a".repeat(EXEMPLAR_ID_MAX + 1);
        assert_eq!(kept(&id(&[("x-request-id", &long)])), None);
        tokio::time::advance(EXEMPLAR_EVERY).await;
        let sampled = id(&[("x-request-id", "7"), ("traceparent", &trace("01"))]);
        assert_eq!(kept(&sampled), Some(format!("{{trace_id=\"{TRACE}\"}} 0.00025")));
        let not_sampled = id(&[("x-request-id", "8"), ("traceparent", &trace("00"))]);
        assert_eq!(kept(&not_sampled), kept(&sampled), "the bucket has one of this second");
        tokio::time::advance(EXEMPLAR_EVERY).await;
        assert_eq!(kept(&not_sampled), Some("{request_id=\"8\"} 0.00025".to_owned()));
    }

    /// No thread waits for another that writes an exemplar or a scrape.
    #[tokio::test(start_paused = true)]
    async fn counting_waits_for_no_lock() {
        let (timings, sources) = timings();
        let timings = Arc::new(timings);
        let cells = timings.cells.load_full();
        let locked: Vec<_> = cells.iter().flatten().flatten().map(|cell| cell.exemplars.lock()).collect();
        timings.observe("blob", Source::HIT, Duration::ZERO, &id(&[]));
        drop(locked);
        let lines = lines(&timings, &sources);
        assert!(lines.contains(&"quay_gateway_x_seconds_count{route=\"blob\",source=\"hit\"} 1".to_owned()));
    }
}
