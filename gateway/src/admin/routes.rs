//! The table of all routes of the admin API. `openapi.json` describes the same routes.

use http::Method;
use percent_encoding::percent_decode_str;

/// What everything but probes and metrics is served under. Paths without it name the same routes: they are older.
pub(super) const PREFIX: &str = "/api/v1";

/// The most methods of one path are two, so a list of them is short.
const METHOD_SEPARATOR: &str = ", ";

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody. Health probes and scrapers may use any host name.
    Open,
    /// Who names a known host.
    Read,
    /// Who may give commands.
    Command,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Status,
    Cache,
    CacheBlobs,
    CacheContents,
    EvictBlobs,
    VerifyBlob,
    ImportBlob,
    ImportManifest,
    Live,
    Certificates,
    ConfigDiff,
    Traffic,
    Zones,
    Drain,
    Undrain,
    Queue,
    Jobs,
    JobsOfBlob,
    AddJobs,
    RetryJobs,
    ParkJobs,
    Sweep,
    BeginSweep,
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    /// The path. `{name}` stands for one segment. Without [`PREFIX`], if it is below it.
    pub(super) path: &'static str,
    /// Whether the path is below [`PREFIX`].
    pub(super) is_below_prefix: bool,
    pub(super) access: Access,
    pub(super) endpoint: Endpoint,
}

/// All routes.
pub(super) const ROUTES: &[Route] = &[
    open("/healthz", Endpoint::Health),
    open("/readyz", Endpoint::Ready),
    open("/metrics", Endpoint::Metrics),
    read("/openapi.json", Endpoint::OpenApi),
    read("/status", Endpoint::Status),
    read("/cache", Endpoint::Cache),
    read("/cache/blobs", Endpoint::CacheBlobs),
    read("/cache/contents", Endpoint::CacheContents),
    command("/cache/evict", Endpoint::EvictBlobs),
    command("/cache/verify", Endpoint::VerifyBlob),
    command("/cache/import/{digest}", Endpoint::ImportBlob),
    command("/cache/manifests", Endpoint::ImportManifest),
    read("/live", Endpoint::Live),
    read("/certificates", Endpoint::Certificates),
    read("/traffic", Endpoint::Traffic),
    read("/config/diff", Endpoint::ConfigDiff),
    read("/zones", Endpoint::Zones),
    command("/zones/{zone}/drain", Endpoint::Drain),
    command("/zones/{zone}/undrain", Endpoint::Undrain),
    read("/queue", Endpoint::Queue),
    read("/queue/jobs", Endpoint::Jobs),
    read("/queue/jobs/{digest}", Endpoint::JobsOfBlob),
    command("/queue/add", Endpoint::AddJobs),
    command("/queue/retry", Endpoint::RetryJobs),
    command("/queue/park", Endpoint::ParkJobs),
    read("/queue/sweep", Endpoint::Sweep),
    command("/queue/sweep", Endpoint::BeginSweep),
];

/// A `GET` at the root that anybody may send.
const fn open(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: Method::GET, path, is_below_prefix: false, access: Access::Open, endpoint }
}

/// A `GET` below [`PREFIX`].
const fn read(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: Method::GET, path, is_below_prefix: true, access: Access::Read, endpoint }
}

/// A `POST` below [`PREFIX`].
const fn command(path: &'static str, endpoint: Endpoint) -> Route {
    Route { method: Method::POST, path, is_below_prefix: true, access: Access::Command, endpoint }
}

/// The routes of one path, one for each of its methods.
#[derive(Debug)]
pub(super) struct Found {
    routes: Vec<&'static Route>,
    /// The segment of the path that stands for `{name}`, decoded. Empty if there is none.
    pub(super) parameter: String,
}

impl Found {
    /// The route of a method. `HEAD` is answered as `GET`.
    pub(super) fn route(&self, method: &Method) -> Option<&'static Route> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.routes.iter().find(|route| route.method == *method).copied()
    }

    /// Whether nobody needs a right for this path.
    pub(super) fn is_open(&self) -> bool {
        self.routes.iter().all(|route| route.access == Access::Open)
    }

    /// The methods, as the header `Allow` lists them.
    pub(super) fn allow(&self) -> String {
        let mut methods = Vec::new();
        for route in &self.routes {
            methods.push(route.method.as_str());
            if route.method == Method::GET {
                methods.push(Method::HEAD.as_str());
            }
        }
        methods.join(METHOD_SEPARATOR)
    }
}

/// Finds the routes of a path.
pub(super) fn find(path: &str) -> Option<Found> {
    let below = path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/'));
    let is_asked = |route: &&Route| route.is_below_prefix || below.is_none();
    let mut parameter = "";
    let routes: Vec<_> = ROUTES
        .iter()
        .filter(is_asked)
        .filter(|route| match matched(route.path, below.unwrap_or(path)) {
            Some(found) => {
                parameter = found;
                true
            }
            None => false,
        })
        .collect();
    let parameter = percent_decode_str(parameter).decode_utf8_lossy().into_owned();
    (!routes.is_empty()).then_some(Found { routes, parameter })
}

/// Compares a path with that of a route. Returns the segment that stands for `{name}`, or an empty text.
fn matched<'a>(route: &str, path: &'a str) -> Option<&'a str> {
    let (mut expected, mut segments, mut parameter) = (route.split('/'), path.split('/'), "");
    loop {
        match (expected.next(), segments.next()) {
            (None, None) => return Some(parameter),
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {
                parameter = segment
            }
            (Some(name), Some(segment)) if name == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: Method, path: &str) -> Option<Endpoint> {
        find(path)?.route(&method).map(|route| route.endpoint)
    }

    #[test]
    fn the_prefix_is_optional() {
        for prefix in [PREFIX, ""] {
            let of = |method: Method, path: &str| endpoint(method, &format!("{prefix}{path}"));
            assert_eq!(of(Method::GET, "/zones"), Some(Endpoint::Zones));
            assert_eq!(of(Method::HEAD, "/queue/jobs"), Some(Endpoint::Jobs));
            assert_eq!(of(Method::POST, "/queue/sweep"), Some(Endpoint::BeginSweep));
            assert_eq!(of(Method::GET, "/queue/sweep"), Some(Endpoint::Sweep));
            for unknown in ["/zones/", "//zones", "/zones/a", "/zones//drain", "/zones/a/b/drain", "/zonesx"]
            {
                assert_eq!(of(Method::POST, unknown), None, "{prefix}{unknown}");
            }
        }
        assert!(
            find("/api/v1").is_none() && find("/api/v1zones").is_none() && find("/api/v2/zones").is_none()
        );
    }

    #[test]
    fn probes_are_at_the_root_alone() {
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert!(find(path).is_some_and(|found| found.is_open()), "{path}");
            assert!(find(&format!("{PREFIX}{path}")).is_none(), "{path}");
        }
        assert!(find("/zones").is_some_and(|found| !found.is_open()));
    }

    #[test]
    fn a_segment_is_decoded() {
        let found = find("/api/v1/zones/a%2Fb%20c/drain").expect("a route");
        assert_eq!(found.parameter, "a/b c");
        assert_eq!(found.allow(), "POST");
        assert_eq!(find("/queue/sweep").expect("a route").allow(), "GET, HEAD, POST");
        assert_eq!(find("/queue/jobs/sha256:ab").expect("a route").parameter, "sha256:ab");
    }
}
