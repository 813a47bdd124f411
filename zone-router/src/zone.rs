//! Zones.

use std::sync::Arc;

use backends::Store;

/// One object store under its name in the registry's configuration.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Such as `zone-a`: Quay's location id.
    pub name: Arc<str>,
    /// How to speak to it.
    pub store: Arc<dyn Store>,
}

impl Zone {
    /// A zone.
    pub fn new(name: &str, store: Arc<dyn Store>) -> Self {
        Self { name: name.into(), store }
    }
}
