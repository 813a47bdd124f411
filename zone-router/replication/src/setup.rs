//! The parts of a fan-out.

use std::sync::Arc;

use zone_router::{Router, Zone};

use super::authority::Authority;
use super::bounds::{Bounds, Verify};
use super::journal::Journal;
use super::local::Local;
use super::throttle::LimitsByZone;

/// The parts of a fan-out.
#[derive(Debug)]
pub struct Setup {
    /// The zones in their configured order, home first.
    pub zones: Vec<Zone>,
    /// The jobs.
    pub journal: Journal,
    /// Waits and tries.
    pub bounds: Bounds,
    /// How many copies at once, and how fast.
    pub limits: LimitsByZone,
    /// When an object that exists at the target counts as the blob.
    pub verify: Verify,
    /// Knows which of the same zones are near and healthy. Without it, sources are asked in the configured
    /// order, and a lane learns only from its own copies that its target fails.
    pub router: Option<Arc<Router>>,
    /// Copies that are nearer than any zone. They are asked first.
    pub local: Option<Arc<dyn Local>>,
    /// The registry. Without it, a job whose blob no zone has is parked.
    pub authority: Option<Arc<dyn Authority>>,
}

impl Setup {
    /// A setup with defaults for everything else.
    #[must_use]
    pub fn new(zones: Vec<Zone>, journal: Journal) -> Self {
        Self {
            zones,
            journal,
            bounds: Bounds::default(),
            limits: LimitsByZone::default(),
            verify: Verify::default(),
            router: None,
            local: None,
            authority: None,
        }
    }
}
