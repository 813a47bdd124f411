//! Replicas behind HAProxy and Envoy, with the configurations of `deploy/replicas`.

mod caches;
mod clients;
mod fixture;

/// Runs a test behind each proxy.
macro_rules! behind_each_proxy {
    ($($name:ident)*) => {
        mod haproxy {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                super::$name(crate::fixture::Kind::HaProxy).await
            })*
        }
        mod envoy {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                super::$name(crate::fixture::Kind::Envoy).await
            })*
        }
    };
}
pub(crate) use behind_each_proxy;
