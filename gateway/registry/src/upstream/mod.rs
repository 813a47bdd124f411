//! Sends requests to the registry, which may be several instances of Quay with one database.
//!
//! This module uses hyper's client and not reqwest's, for two reasons. Paths are sent byte for byte, because
//! Quay compares `_storage_proxy` paths that way. And the connection goes to the configured address, not to
//! the one that the name resolves to.

mod attempts;
mod backoff;
mod breaker;
mod choice;
mod connect;
mod exchange;
mod first_piece;
mod idle_timeout;
mod instance;
mod meaning;
mod probe;
mod progress;
mod reclaimable;
mod unserved;

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

pub use self::idle_timeout::IdleTimeout;
pub use self::instance::InstanceState;
use self::instance::{Instance, Origin};
use self::reclaimable::Unfinished;
use self::unserved::Unserved;
use config::{Limits, RegistryKind, Settings, Timeouts};
use gateway_http::{Body, BodyError, Problem, without_body};
use limits::pool::{Identity, Pool, Slot};

/// The registry's client.
#[derive(Debug)]
pub struct Upstream {
    /// The configured instances; at least one.
    instances: Vec<Arc<Instance>>,
    kind: RegistryKind,
    authority: Authority,
    host: HeaderValue,
    timeouts: Timeouts,
    connections: Arc<Pool>,
    /// A pool of its own, so that slow bodies cannot delay permission checks.
    permission_connections: Arc<Pool>,
    unserved: Arc<Unserved>,
    /// `MAXIMUM_LAYER_SIZE`
    layer_max: u64,
    /// Whether requests are given up as soon as the registry is away, because the gateway may answer without it.
    gives_up: bool,
    /// The path of Quay's key set, which Quay reads from its database.
    key_set: Option<PathAndQuery>,
}

/// The purpose of a request to the registry, and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The question whether a client may read.
    Permission(Identity),
    /// Anything else.
    Any(Identity),
}

/// One of the upstream instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceId(usize);

/// The instances in the order in which a request tries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order(Vec<usize>);

/// How a request uses the store that an instance prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreUse {
    /// Not at all: the registry answers from its database.
    Unused,
    /// The request reads from the store. Its result says nothing about uploads.
    Reads,
    /// The request writes to the store, or begins an upload. It may try an instance at which uploads failed.
    Writes,
}

/// What the caller knows about the store that an instance prefers.
#[derive(Debug, Clone, Copy)]
pub struct StoreState {
    /// Whether the store can take pushes.
    pub serves: bool,
    /// How long the store's probes take.
    pub probe: Option<Duration>,
}

/// A request's head.
#[derive(Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The path and query, byte for byte as they are sent.
    pub path: &'a PathAndQuery,
    /// The headers.
    pub headers: HeaderMap,
}

/// Says whether the store of the zone with this name is dead.
pub type ZoneIsDead<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// An answer of the registry. Its body has an idle timeout.
pub type Answer = Response<IdleTimeout<Incoming>>;

impl Upstream {
    /// A client for the registry of `settings`.
    ///
    /// # Errors
    /// A name in the settings cannot be part of a request or a certificate.
    pub fn new(settings: &Settings, tls: &rustls::ClientConfig) -> anyhow::Result<Self> {
        let instance = |origin: &Origin| Instance::new(origin, &settings.proxies, tls).map(Arc::new);
        let instances = Origin::all(settings).map(|origin| instance(&origin));
        let limits = &settings.limits;
        let pool = |key, slots| Pool::new(key, slots, limits.requests);
        Ok(Self {
            instances: instances.collect::<anyhow::Result<_>>()?,
            kind: settings.registry_kind,
            authority: settings.registry_hostname.parse()?,
            host: HeaderValue::from_str(&settings.registry_hostname)?,
            timeouts: settings.timeouts.clone(),
            connections: pool("limits.registry_connections", limits.registry_connections),
            permission_connections: pool("limits.registry_permissions", limits.registry_permissions),
            unserved: Arc::default(),
            layer_max: settings.layer_max,
            gives_up: settings.offline.is_some(),
            key_set: probe::key_set(settings),
        })
    }

    /// The client for a later configuration. An instance that is configured as before keeps its connections and its
    /// health, unless `tls` is not the one that this client was made with. The pools stay.
    ///
    /// # Errors
    /// The same as [`Upstream::new`]. Nothing was changed.
    pub fn successor(
        &self,
        settings: &Settings,
        tls: &rustls::ClientConfig,
        same_tls: bool,
    ) -> anyhow::Result<Self> {
        let instance = |origin: Origin| {
            let same = self.instances.iter().find(|instance| same_tls && instance.origin == origin);
            same.map_or_else(
                || Instance::new(&origin, &settings.proxies, tls).map(Arc::new),
                |instance| Ok(Arc::clone(instance)),
            )
        };
        Ok(Self {
            instances: Origin::all(settings).map(instance).collect::<anyhow::Result<_>>()?,
            kind: settings.registry_kind,
            authority: settings.registry_hostname.parse()?,
            host: HeaderValue::from_str(&settings.registry_hostname)?,
            timeouts: settings.timeouts.clone(),
            connections: Arc::clone(&self.connections),
            permission_connections: Arc::clone(&self.permission_connections),
            unserved: Arc::clone(&self.unserved),
            layer_max: settings.layer_max,
            gives_up: settings.offline.is_some(),
            key_set: probe::key_set(settings),
        })
    }

    /// Resizes the pools, which all clients that followed one another share.
    pub fn resize_pools(&self, limits: &Limits) {
        self.connections.resize(limits.registry_connections, limits.requests);
        self.permission_connections.resize(limits.registry_permissions, limits.requests);
    }

    /// The pools of connections that clients share.
    pub fn pools(&self) -> [&Pool; 2] {
        [&self.connections, &self.permission_connections]
    }

    /// The registry's own name, as a `Host` header.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Whether there is more than one instance.
    #[must_use]
    pub fn several(&self) -> bool {
        self.instances.len() > 1
    }

    /// The instance of that name.
    pub fn named(&self, name: &str) -> Option<InstanceId> {
        self.instances.iter().position(|instance| &*instance.name == name).map(InstanceId)
    }

    /// An instance's name.
    pub fn name(&self, id: InstanceId) -> &str {
        self.instances.get(id.0).map_or("", |instance| &instance.name)
    }

    /// The state of each instance.
    pub fn states(&self) -> impl Iterator<Item = InstanceState> {
        self.instances.iter().map(|instance| instance.state())
    }

    /// The number of requests so far to which every instance that was asked answered 5xx or nothing.
    pub fn unserved(&self) -> u64 {
        self.unserved.count()
    }

    /// The order for a request that the registry answers from its database, which all instances share.
    pub fn order(&self) -> Order {
        self.ordered(StoreUse::Unused, |_| StoreState { serves: true, probe: None }, None)
    }

    /// The order after a request waited too long for the first instance of `before`: that instance comes
    /// last.
    pub fn order_after(&self, before: &Order) -> Order {
        let mut order = self.order();
        if order.0.first() == before.0.first() {
            order.0.rotate_left(1);
        }
        order
    }

    /// The order for a request that uses the store which an instance prefers. `store` returns the state of a
    /// zone's store. The instance `kept` comes first whatever its state is; the next instance is used only if
    /// no connection to it can be made.
    pub fn order_by_store(
        &self,
        uses: StoreUse,
        store: impl Fn(&str) -> StoreState,
        kept: Option<InstanceId>,
    ) -> Order {
        self.ordered(uses, store, kept)
    }

    /// Whether no instance answers pulls: the breakers of all are open. An instance whose health page names only parts
    /// without which it answers pulls is not away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.instances.iter().all(|instance| instance.is_away())
    }

    /// Whether requests may be sent to an instance.
    pub fn is_reachable(&self, id: InstanceId) -> bool {
        self.instances.get(id.0).is_some_and(|instance| instance.reachable())
    }

    fn ordered(&self, uses: StoreUse, store: impl Fn(&str) -> StoreState, kept: Option<InstanceId>) -> Order {
        if !self.several() {
            return Order(vec![0]);
        }
        let now = Instant::now();
        let view = |instance: &Arc<Instance>| instance.view(now, uses, store(&instance.zone));
        let views: Vec<_> = self.instances.iter().map(view).collect();
        let mut order = choice::order(&views);
        if let Some(InstanceId(kept)) = kept {
            order.retain(|place| *place != kept);
            order.insert(0, kept);
        }
        self.instances[order[0]].try_again(now, uses);
        Order(order)
    }

    /// Records how a request of an upload ended. After a failure, no new uploads go to the instance for some
    /// time. A success that is `proof` that bytes reached the store ends this.
    pub fn uploaded(&self, id: InstanceId, status: StatusCode, proof: bool) {
        let Some(instance) = self.instances.get(id.0).filter(|_| self.several()) else { return };
        if status.is_server_error() {
            instance.upload_failed(status.as_u16());
        } else if proof && status.is_success() {
            instance.upload_worked();
        }
    }

    /// Sends a request without a body that the registry answers from its database.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached, 504 if it gives no byte for `bound`.
    pub async fn ask(
        &self,
        purpose: Purpose,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        self.ask_in(&self.order(), purpose, Head { method, path, headers }, bound).await
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// The same as [`Upstream::ask`].
    pub async fn ask_in(
        &self,
        order: &Order,
        purpose: Purpose,
        mut head: Head<'_>,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        // If there is a length but no body, the registry would read the next request as the body.
        without_body(&mut head.headers);
        let answered = self.through(order, purpose, head, Body::empty(), bound, &|_| false).await;
        answered.map(|(answer, _)| answer)
    }

    /// Sends a request and streams its body. The answer must come within `bound` of the body's last byte.
    /// Returns the answer and the instance that gave it.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached or breaks off, 504 if it does not answer within `bound`, 408 if
    /// the client does not send what it promised.
    pub async fn send(
        &self,
        who: Identity,
        order: &Order,
        head: Head<'_>,
        body: Body,
        bound: Duration,
    ) -> Result<(Answer, InstanceId), Problem> {
        self.through(order, Purpose::Any(who), head, body, bound, &|_| false).await
    }

    /// Like [`Upstream::send`], for a request of an upload. Its bytes go to the store that the first instance in
    /// `order` prefers. If no byte moves for `registry_lost` while that store is dead, the request is given up.
    ///
    /// # Errors
    /// The same as [`Upstream::send`], and 503 if the instance or the store is out of use.
    pub async fn send_upload(
        &self,
        who: Identity,
        order: &Order,
        head: Head<'_>,
        body: Body,
        bound: Duration,
        zone_is_dead: ZoneIsDead<'_>,
    ) -> Result<(Answer, InstanceId), Problem> {
        self.through(order, Purpose::Any(who), head, body, bound, zone_is_dead).await
    }

    fn bounded(
        &self,
        answer: Response<Incoming>,
        connection: Slot,
        unfinished: Option<Unfinished>,
    ) -> Answer {
        let stall = self.timeouts.registry_stall;
        answer.map(|body| IdleTimeout::new(body, stall, BodyError::Registry).holding(connection, unfinished))
    }

    /// Waits for a slot for one more connection. The slot is kept until the answer was read.
    async fn connection(&self, purpose: Purpose) -> Result<Slot, Problem> {
        let (pool, who) = match &purpose {
            Purpose::Permission(who) => (&self.permission_connections, who),
            Purpose::Any(who) => (&self.connections, who),
        };
        pool.take(who, self.timeouts.queue_wait).await
    }

    /// The URI of a request for this path.
    fn uri(&self, path: &PathAndQuery) -> Result<Uri, Problem> {
        let target = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        target.path_and_query(path.clone()).build().map_err(|_| {
            let why = "the request target is not a path";
            Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, "send a path that starts with /")
        })
    }

    fn request(&self, head: &Head<'_>) -> Result<Request<()>, Problem> {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = self.uri(head.path)?;
        *request.headers_mut() = head.headers.clone();
        Ok(request)
    }
}
