//! Applies a configuration that was read again to a running gateway.

use std::sync::Arc;

use anyhow::Context as _;
use config::{Applied, Settings};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::decisions::follow_keys;
use super::successor;
use crate::Gateway;
use crate::gateway::Current;
use crate::pins::keep_pins;
use crate::sweep::Sweep;

/// A handle that applies another configuration to a running gateway.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: Arc<Current>,
    /// Clean-up at the stores.
    tidying: TaskTracker,
    /// Ends everything.
    stop: CancellationToken,
    /// Held while a configuration is applied.
    generation: Mutex<Generation>,
}

/// The tasks that belong to one configuration, and end with it.
#[derive(Debug)]
struct Generation {
    stop: CancellationToken,
    /// Whether the gateway serves.
    runs: bool,
    sweep: Option<JoinHandle<()>>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys that were applied.
    pub applied: Vec<String>,
    /// The keys that differ and need a restart.
    pub restart: Vec<String>,
}

impl Reloader {
    /// `generation` ends the probes of the current gateway, and `stop` everything.
    pub(super) fn new(
        current: Arc<Current>,
        tidying: TaskTracker,
        stop: CancellationToken,
        generation: CancellationToken,
    ) -> Self {
        let generation = Generation { stop: generation, runs: false, sweep: None };
        Self(Arc::new(Shared { current, tidying, stop, generation: Mutex::new(generation) }))
    }

    /// The gateway that serves now.
    pub(super) fn current(&self) -> &Arc<Current> {
        &self.0.current
    }

    /// Reads the certificates that clients see again soon, whatever becomes of the configuration.
    pub fn reload_certificates(&self) {
        self.0.current.load().server_tls.reload_soon();
    }

    /// Opens the file of the access log again with its next line.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.0.current.load().access_log {
            log.reopen();
        }
    }

    /// Starts the sweep, and follows the certificates.
    pub(super) async fn start(&self) {
        let mut generation = self.0.generation.lock().await;
        generation.runs = true;
        generation.start(&self.0.current.load());
    }

    /// Takes the sweep, which ends with its generation.
    pub(super) async fn take_sweep(&self) -> Option<JoinHandle<()>> {
        self.0.generation.lock().await.sweep.take()
    }

    /// Applies all of a configuration that can change without a restart, or nothing. Requests that are under way end as
    /// they began. What needs a restart is named, and keeps its value.
    ///
    /// # Errors
    /// A part of the configuration cannot be built. Nothing was changed.
    pub async fn reload(&self, wanted: &Settings) -> anyhow::Result<Reloaded> {
        let mut generation = self.0.generation.lock().await;
        let running = self.0.current.load();
        let settings = wanted.clone().applied_to(&running.settings)?;
        let applied = keys(&running.settings, &settings, Applied::Reload);
        let restart = keys(&settings, wanted, Applied::Restart);
        if !applied.is_empty() {
            let (from, tidying) = (Arc::clone(&running), self.0.tidying.clone());
            let prepared = tokio::task::spawn_blocking(move || successor::prepare(&from, settings, &tidying));
            let gateway = Arc::new(prepared.await.context("the parts cannot be built")??.succeed(&running));
            warn(&running, &gateway);
            self.0.current.replace(Arc::clone(&gateway));
            generation.end().await;
            generation.stop = self.0.stop.child_token();
            gateway.router.start(&generation.stop);
            gateway.upstream.start(&generation.stop);
            if generation.runs {
                generation.start(&gateway);
            }
        }
        running.metrics.reloads().keys_for_restart(restart.len());
        Ok(Reloaded { applied, restart })
    }
}

/// Logs the warnings that are new: about settings that are probably not intended, and zones that cannot be used.
fn warn(running: &Gateway, gateway: &Gateway) {
    let before = &running.settings.warnings;
    for warning in gateway.settings.warnings.iter().filter(|warning| !before.contains(warning)) {
        tracing::warn!("{warning}");
    }
    let before: Vec<_> = running.router.zones().filter_map(config::unusable).collect();
    for unusable in gateway.router.zones().filter_map(config::unusable) {
        if !before.contains(&unusable) {
            tracing::warn!("{unusable}");
        }
    }
}

/// The keys of a class that differ.
fn keys(from: &Settings, to: &Settings, class: Applied) -> Vec<String> {
    let changes = config::changes(from, to).into_iter();
    changes.filter(|change| change.applied == class).map(|change| change.key).collect()
}

impl Generation {
    fn start(&mut self, gateway: &Arc<Gateway>) {
        let follows = certificates::follow(Arc::clone(&gateway.server_tls));
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(follows));
        let keys = follow_keys(Arc::clone(gateway));
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(keys));
        let pins = keep_pins(Arc::clone(gateway));
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(pins));
        let sweep = Sweep::of(gateway);
        if sweep.is_none() {
            gateway.sweep.disable();
        }
        self.sweep = sweep.map(|sweep| {
            let stop = self.stop.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(sweep.run()).await;
            })
        });
    }

    /// Ends the tasks. The sweep has ended when this returns, so that its position is its own.
    async fn end(&mut self) {
        self.stop.cancel();
        if let Some(sweep) = self.sweep.take() {
            let _ = sweep.await;
        }
    }
}
