//! Zones.

use std::sync::Arc;

use backends::{Store, UnusableStore};

/// One object store under its name in the registry's configuration.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Such as `zone-a`: Quay's location id.
    pub name: Arc<str>,
    /// How to speak to it.
    pub store: Arc<dyn Store>,
    /// Why it cannot be used until the configuration is mended, if it cannot: then nobody asks it,
    /// and copies into it wait in the journal.
    pub unusable: Option<Arc<str>>,
}

impl Zone {
    /// A zone.
    pub fn new(name: &str, store: Arc<dyn Store>) -> Self {
        Self { name: name.into(), store, unusable: None }
    }

    /// A zone whose configuration cannot be used, and why.
    #[must_use]
    pub fn unusable(name: &str, reason: &str) -> Self {
        let store = Arc::new(UnusableStore::new(reason));
        Self { name: name.into(), store, unusable: Some(reason.into()) }
    }
}
