//! What a fan-out is made of.

use std::sync::Arc;

use zone_router::{Router, Zone};

use super::authority::Authority;
use super::bounds::{Bounds, Verify};
use super::journal::Journal;
use super::local::Local;
use super::pace::LimitsByZone;

/// What a fan-out is made of.
#[derive(Debug)]
pub struct Setup {
    /// The zones in their configured order, home first.
    pub zones: Vec<Zone>,
    /// What is to be done.
    pub journal: Journal,
    /// Waits and tries.
    pub bounds: Bounds,
    /// How much at once, and how fast.
    pub limits: LimitsByZone,
    /// When an object that is there already counts.
    pub verify: Verify,
    /// Knows which of the same zones are near, and healthy. Without it sources are asked in their
    /// configured order, and only a lane itself learns that its target fails.
    pub router: Option<Arc<Router>>,
    /// Copies at hand, asked before any zone.
    pub local: Option<Arc<dyn Local>>,
    /// The registry. Without it a blob that no zone has is parked.
    pub authority: Option<Arc<dyn Authority>>,
}

impl Setup {
    /// The least of it, with the defaults.
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
