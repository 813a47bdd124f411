//! Speaking to the registry, which may be several instances of Quay over one database.
//!
//! hyper's client rather than reqwest: paths go on byte for byte (`_storage_proxy` compares them
//! so), and the connection goes where the configuration says, not where the name points.

mod backoff;
mod begun;
mod choice;
mod connect;
mod exchange;
mod instance;
mod lent;
mod stall;
mod waiting;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use self::begun::begun;
use self::exchange::{Failed, How, exchange, not_begun};
use self::instance::Instance;
use self::lent::Unfinished;
pub(crate) use self::stall::Unstalled;
use self::waiting::Waiting;
use crate::config::{Settings, Timeouts};
use crate::http::{Body, BodyError, Fault, Problem, without_body};
use crate::registry::repeatable;
use crate::share::{Identity, Pool, Slot};

/// The registry's client.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As they are configured; never none.
    instances: Vec<Instance>,
    authority: Authority,
    host: HeaderValue,
    timeouts: Timeouts,
    connections: Arc<Pool>,
    /// Apart, so that what trickles cannot keep pulls from being allowed.
    permission_connections: Arc<Pool>,
}

/// What a request to the registry is for, and on whose behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The registry's word on who may read.
    Permission(Identity),
    /// Anything else.
    Any(Identity),
}

/// One of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceId(usize);

/// The instances in the order in which a request tries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order(Vec<usize>);

/// What a request does with the store that an instance prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Nothing: it asks the registry's database alone.
    Nothing,
    /// It reads there, and says nothing of whether uploads work.
    Reads,
    /// It writes there, or begins to: it may be the one that tries an instance at which uploads failed.
    Writes,
}

/// The store that an instance prefers, for all that is known here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store {
    /// Whether it can take pushes.
    pub(crate) serves: bool,
    /// How long its probes take.
    pub(crate) probe: Option<Duration>,
}

/// A request's head.
pub(crate) struct Head<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// An answer of the registry; its body is bounded between bytes.
pub(crate) type Answer = Response<Unstalled<Incoming>>;

impl Upstream {
    /// A client for the registry of `settings`.
    ///
    /// # Errors
    /// Names in the settings that cannot stand in a request or a certificate.
    pub(crate) fn new(settings: &Settings, tls: &rustls::ClientConfig) -> anyhow::Result<Self> {
        let home = settings.zones.first().map(|zone| zone.name.as_str());
        let instances = settings.instances.iter().map(|instance| {
            let home = home == Some(instance.zone.as_str());
            Instance::new(instance, home, settings.timeouts.registry_connect, tls)
        });
        let limits = &settings.limits;
        let pool = |key, slots| Pool::new(key, slots, limits.requests);
        Ok(Self {
            instances: instances.collect::<anyhow::Result<_>>()?,
            authority: settings.registry_hostname.parse()?,
            host: HeaderValue::from_str(&settings.registry_hostname)?,
            timeouts: settings.timeouts.clone(),
            connections: pool("limits.registry_connections", limits.registry_connections),
            permission_connections: pool("limits.registry_permissions", limits.registry_permissions),
        })
    }

    /// What clients share.
    pub(crate) fn pools(&self) -> [&Pool; 2] {
        [&self.connections, &self.permission_connections]
    }

    /// The registry's own name, as a `Host` header.
    #[must_use]
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Whether there is more than one instance.
    #[must_use]
    pub(crate) fn several(&self) -> bool {
        self.instances.len() > 1
    }

    /// The instance of that name.
    pub(crate) fn named(&self, name: &str) -> Option<InstanceId> {
        self.instances.iter().position(|instance| &*instance.name == name).map(InstanceId)
    }

    /// An instance's name.
    pub(crate) fn name(&self, id: InstanceId) -> &str {
        self.instances.get(id.0).map_or("", |instance| &instance.name)
    }

    /// Each instance's name and how it stands.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.instances.iter().map(|instance| (&*instance.name, instance.state()))
    }

    /// For what asks the registry's database alone: all instances know the same.
    pub(crate) fn order(&self) -> Order {
        self.ordered(Does::Nothing, |_| Store { serves: true, probe: None }, None)
    }

    /// For what reads or writes the store that an instance prefers. `store` says of a zone how
    /// its store is; `kept` comes first whatever others met there: the next one is for where there is
    /// no connection to it.
    pub(crate) fn order_by_store(
        &self,
        does: Does,
        store: impl Fn(&str) -> Store,
        kept: Option<InstanceId>,
    ) -> Order {
        self.ordered(does, store, kept)
    }

    /// Whether requests may go to an instance, for all that is known.
    pub(crate) fn is_reachable(&self, id: InstanceId) -> bool {
        self.instances.get(id.0).is_some_and(|instance| instance.reachable(Instant::now()))
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
    pub(crate) fn uploaded(&self, id: InstanceId, status: StatusCode, proof: bool) {
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
    pub(crate) async fn ask(
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
    pub(crate) async fn ask_in(
        &self,
        order: &Order,
        purpose: Purpose,
        mut head: Head<'_>,
        bound: Duration,
    ) -> Result<Answer, Problem> {
        // A length without its bytes would make the registry wait for the next request's.
        without_body(&mut head.headers);
        self.through(order, purpose, head, Body::empty(), bound).await.map(|(answer, _)| answer)
    }

    /// Sends a request, streaming its body; `bound` counts from its last byte. The instance that
    /// answered comes with the answer.
    ///
    /// # Errors
    /// 502 if the registry cannot be reached or breaks off, 504 if it is silent for `bound`, 408
    /// if the client does not send what it promised.
    pub(crate) async fn send(
        &self,
        who: Identity,
        order: &Order,
        head: Head<'_>,
        body: Body,
        bound: Duration,
    ) -> Result<(Answer, InstanceId), Problem> {
        self.through(order, Purpose::Any(who), head, body, bound).await
    }

    /// One instance after the other: any request goes on to the next where there was no connection
    /// to send it on, a repeatable one also where one broke off or is unavailable.
    ///
    /// In all it takes `bound` and `registry_connect` for each instance, plus what the client takes
    /// to send the body.
    async fn through(
        &self,
        order: &Order,
        purpose: Purpose,
        head: Head<'_>,
        body: Body,
        bound: Duration,
    ) -> Result<(Answer, InstanceId), Problem> {
        // A client that sends nothing costs no connection.
        let body = begun(body).await.map_err(|error| not_begun(&error))?;
        let connection = self.connection(purpose).await?;
        let repeatable = repeatable(&head.method, head.path.path()) && body.is_end_stream();
        let count = u32::try_from(order.0.len()).unwrap_or(u32::MAX);
        let deadline = Instant::now() + bound + self.timeouts.registry_connect * (count - 1);
        let mut next = Some(body);
        let mut said = Vec::new();
        let mut order = order.0.iter().copied().peekable();
        while let (Some(place), Some(body)) = (order.next(), next.take()) {
            let instance = &self.instances[place];
            let left = if repeatable { bound.min(deadline - Instant::now()) } else { bound };
            let request = self.request(&head)?;
            let waiting = (repeatable && self.several())
                .then(|| Waiting::new(instance, self.timeouts.registry_permission / 2));
            let exchanged = exchange(&instance.client, &self.timeouts, request, body, left).await;
            if let Some(waiting) = waiting {
                waiting.ended();
            }
            match exchanged {
                Ok((answer, unfinished)) => {
                    let unavailable = unavailable(head.path.path(), answer.status());
                    self.note(instance, unavailable.then(|| answer.status().to_string()));
                    if unavailable && repeatable && order.peek().is_some() {
                        said.push((
                            instance,
                            Problem::registry(answer.status(), answer.status().to_string()),
                        ));
                        next = Some(Body::empty());
                        continue;
                    }
                    return Ok((self.bounded(answer, connection, unfinished), InstanceId(place)));
                }
                Err(Failed { problem, how }) => {
                    if problem.fault == Fault::Registry {
                        self.note(instance, Some(problem.message.clone()));
                    }
                    next = match how {
                        How::Unsent(body) => Some(body),
                        How::Broke if repeatable => Some(Body::empty()),
                        How::Broke | How::Over => None,
                    };
                    said.push((instance, problem));
                }
            }
        }
        Err(all_said(said))
    }

    /// Remembers how an instance fared: it answered, or it failed, and why.
    fn note(&self, instance: &Instance, failure: Option<String>) {
        match failure {
            _ if !self.several() => {}
            None => instance.answered(),
            Some(why) => instance.failed(&why),
        }
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

    fn request(&self, head: &Head<'_>) -> Result<Request<()>, Problem> {
        let target = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        let uri = target.path_and_query(head.path.clone()).build().map_err(|_| {
            let why = "the request target is no path";
            Problem::client(StatusCode::BAD_REQUEST, "UNSUPPORTED", why, "send a path that starts with /")
        })?;
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = head.headers.clone();
        Ok(request)
    }
}

/// Whether what stands before an instance says that nothing is behind it. Such an answer elsewhere
/// may be about something else: `/health/endtoend` says so of a store, and Quay's nginx gives up on a
/// long catalog after 10 s.
fn unavailable(path: &str, status: StatusCode) -> bool {
    let gone = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
        .contains(&status);
    gone && path.starts_with("/v2/") && path != "/v2/_catalog"
}

/// What is said of all instances that were tried, with the status of the last.
fn all_said(mut said: Vec<(&Instance, Problem)>) -> Problem {
    let Some((_, last)) = said.last() else { return Problem::gateway("the registry has no instance") };
    let mut last = last.clone();
    if said.len() > 1 {
        let each: Vec<_> = said
            .drain(..)
            .map(|(instance, problem)| format!("{}: {}", instance.name, problem.message))
            .collect();
        last.message = each.join("; ");
    }
    last
}
