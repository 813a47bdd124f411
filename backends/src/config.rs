//! A store as Quay's `DISTRIBUTED_STORAGE_CONFIG` describes it: `[Driver, {parameters}]`.

use std::sync::Arc;

use serde::Deserialize;

use crate::{Result, Store, Transport};

/// One entry of `DISTRIBUTED_STORAGE_CONFIG`, checked: `[Driver, {parameters}]`.
///
/// Unknown parameters are refused, as Quay's own Python constructors refuse them.
#[derive(Debug, Clone, Deserialize)]
pub enum StoreConfig {}

impl StoreConfig {
    /// The driver's name as Quay spells it, such as `RadosGWStorage`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match *self {}
    }

    /// What was understood, for an operator: endpoint, bucket, root; never a secret.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        match *self {}
    }

    /// The store itself. Opens no connection.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) where parameters contradict each other.
    pub fn build(&self, transport: &Transport) -> Result<Arc<dyn Store>> {
        let _ = transport;
        match *self {}
    }
}
