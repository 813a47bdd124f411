//! The journal in a real PostgreSQL: the conformance suite, and tests for a shared journal.
#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod place;
mod replicas;

use std::sync::Arc;

use place::DatabasePlace;
use replication::conformance::{self, Place};

/// Runs a group of cases on one server, each in its own database.
macro_rules! over_postgres {
    ($($group:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $group() {
            let server = place::server().await;
            let place = async || Arc::new(DatabasePlace::on(&server).await) as Arc<dyn Place>;
            conformance::$group::run(place).await;
        })*
    };
}

over_postgres!(journal, tries, inspect, lanes, authority);
