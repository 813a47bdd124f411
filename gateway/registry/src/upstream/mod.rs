//! Speaking to the registry, which may be several instances of Quay over one database.
//!
//! hyper's client rather than reqwest: paths go on byte for byte (`_storage_proxy` compares them
//! so), and the connection goes where the configuration says, not where the name points.

mod attempts;
mod backoff;
mod begun;
mod breaker;
mod choice;
mod connect;
mod exchange;
mod instance;
mod lent;
mod probe;
mod stall;
mod unserved;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use self::instance::Instance;
pub use self::instance::InstanceState;
use self::lent::Unfinished;
pub use self::stall::Unstalled;
use self::unserved::Unserved;
use config::{RegistryKind, Settings, Timeouts};
use gateway_http::{Body, BodyError, Problem, without_body};
use limits::pool::{Identity, Pool, Slot};

/// The registry's client.
#[derive(Debug)]
pub struct Upstream {
    /// As they are configured; never none.
    instances: Vec<Instance>,
    kind: RegistryKind,
    authority: Authority,
    host: HeaderValue,
    timeouts: Timeouts,
    connections: Arc<Pool>,
    /// Apart, so that what trickles cannot keep pulls from being allowed.
    permission_connections: Arc<Pool>,
    unserved: Unserved,
    /// `MAXIMUM_LAYER_SIZE`
    layer_max: u64,
}

/// What a request to the registry is for, and on whose behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The registry's word on who may read.
    Permission(Identity),
    /// Anything else.
    Any(Identity),
}

/// One of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceId(usize);

/// The instances in the order in which a request tries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order(Vec<usize>);

/// What a request does with the store that an instance prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Nothing: it asks the registry's database alone.
    Nothing,
    /// It reads there, and says nothing of whether uploads work.
    Reads,
    /// It writes there, or begins to: it may be the one that tries an instance at which uploads failed.
    Writes,
}

/// The store that an instance prefers, for all that is known here.
#[derive(Debug, Clone, Copy)]
pub struct Store {
    /// Whether it can take pushes.
    pub serves: bool,
    /// How long its probes take.
    pub probe: Option<Duration>,
}

/// A request's head.
#[derive(Debug)]
pub struct Head<'a> {
    /// Its method.
    pub method: Method,
    /// Its path and query, byte for byte as they are sent.
    pub path: &'a PathAndQuery,
    /// Its headers.
    pub headers: HeaderMap,
}

/// Whether the store of a zone is dead, as far as is known here.
pub type ZoneIsDead<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// An answer of the registry; its body is bounded between bytes.
pub type Answer = Response<Unstalled<Incoming>>;

impl Upstream {
    /// A client for the registry of `settings`.
    ///
    /// # Errors
    /// Names in the settings that cannot stand in a request or a certificate.
    pub fn new(settings: &Settings, tls: &rustls::ClientConfig) -> anyhow::Result<Self> {
        let home = settings.zones.first().map(|zone| zone.name.as_str());
        let instances = settings.instances.iter().map(|instance| {
            let home = home == Some(instance.zone.as_str());
            Instance::new(instance, home, settings.timeouts.registry_connect, tls)
        });
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
            unserved: Unserved::default(),
            layer_max: settings.layer_max,
        })
    }

    /// What clients share.
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

    /// How each instance stands.
    pub fn states(&self) -> impl Iterator<Item = InstanceState> {
        self.instances.iter().map(Instance::state)
    }

    /// Requests so far that every instance which was asked answered 5xx, or not at all.
    pub fn unserved(&self) -> u64 {
        self.unserved.count()
    }

    /// For what asks the registry's database alone: all instances know the same.
    pub fn order(&self) -> Order {
        self.ordered(Does::Nothing, |_| Store { serves: true, probe: None }, None)
    }

    /// The same, for a request that waited too long at the first instance of `before`: that one comes last.
    pub fn order_after(&self, before: &Order) -> Order {
        let mut order = self.order();
        if order.0.first() == before.0.first() {
            order.0.rotate_left(1);
        }
        order
    }

    /// For what reads or writes the store that an instance prefers. `store` says of a zone how
    /// its store is; `kept` comes first whatever others met there: the next one is for where there is
    /// no connection to it.
    pub fn order_by_store(
        &self,
        does: Does,
        store: impl Fn(&str) -> Store,
        kept: Option<InstanceId>,
    ) -> Order {
        self.ordered(does, store, kept)
    }

    /// Whether requests may go to an instance, for all that is known.
    pub fn is_reachable(&self, id: InstanceId) -> bool {
        self.instances.get(id.0).is_some_and(Instance::reachable)
    }

    fn ordered(&self, does: Does, store: impl Fn(&str) -> Store, kept: Option<InstanceId>) -> Order {
        if !self.several() {
            return Order(vec![0]);
        }
        let now = Instant::now();
        let view = |instance: &Instance| instance.view(now, does, store(&instance.zone));
        let views: Vec<_> = self.instances.iter().map(view).collect();
        let mut order = choice::order(&views);
        if let Some(InstanceId(kept)) = kept {
            order.retain(|place| *place != kept);
            order.insert(0, kept);
        }
        self.instances[order[0]].try_again(now, does);
        Order(order)
    }

    /// What an upload's request came to: a failure keeps new uploads away for a while, and
    /// `proof` that bytes reached the store ends that.
    pub fn uploaded(&self, id: InstanceId, status: StatusCode, proof: bool) {
        let Some(instance) = self.instances.get(id.0).filter(|_| self.several()) else { return };
        if status.is_server_error() {
            instance.upload_failed(status.as_u16());
        } else if proof && status.is_success() {
            instance.upload_worked();
        }
    }

    /// Sends a request without a body that asks the database alone.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached, 504 if it is silent for `bound`.
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
    /// As [`Upstream::ask`].
    pub async fn ask_in(
        &self,
        order: &Order,
        purpose: Purpose,
        mut head: Head<'_>,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        // A length without its bytes would make the registry wait for the next request's.
        without_body(&mut head.headers);
        let answered = self.through(order, purpose, head, Body::empty(), bound, &|_| false).await;
        answered.map(|(answer, _)| answer)
    }

    /// Sends a request, streaming its body; `bound` counts from its last byte. The instance that
    /// answered comes with the answer.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached or breaks off, 504 if it is silent for `bound`, 408
    /// if the client does not send what it promised.
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

    /// As [`Upstream::send`] for a part of an upload, whose bytes go to the store of the zone of the first
    /// instance in `order`. Where nothing moves for `registry_lost` while that is dead, it ends.
    ///
    /// # Errors
    /// As [`Upstream::send`]; and 503 where the instance or the store is gone.
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
        answer.map(|body| Unstalled::new(body, stall, BodyError::Registry).holding(connection, unfinished))
    }

    /// Leave to use one more connection, kept until the answer has been read.
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
            let why = "the request target is no path";
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
