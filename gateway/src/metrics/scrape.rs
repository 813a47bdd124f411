//! The values that are read at the moment of a scrape.

use std::fmt;
use std::sync::Arc;

use ::certificates::ServerTlsStatus;
use limits::memory::MemoryStatus;
use limits::pool::PoolStatus;
use operations::queue::Sample;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use registry::upstream::InstanceState;
use zone_router::Snapshot;

use super::families::Families;
use super::{certificates, copies, instances, memory, pins, pools, tokens, zones};
use crate::pins::PinsStatus;

/// The state of the parts that keep their own counts.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Name, help and value.
    pub(crate) cache: [(&'static str, &'static str, u64); 6],
    pub(crate) certificates: ServerTlsStatus,
    pub(crate) memory: MemoryStatus,
    pub(crate) pools: Vec<PoolStatus>,
    pub(crate) instances: Vec<InstanceState>,
    /// Requests that no instance of the registry answered.
    pub(crate) unserved: u64,
    /// The number of keys that verify tokens.
    pub(crate) token_keys: Option<usize>,
    pub(crate) pins: PinsStatus,
    pub(crate) zones: Arc<Snapshot>,
    pub(crate) copies: Arc<Sample>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families::new(encoder);
        for (name, help, value) in self.cache {
            families.gauge(name, help, value)?;
        }
        certificates::encode(&mut families, &self.certificates)?;
        pins::encode(&mut families, self.pins)?;
        memory::encode(&mut families, &self.memory)?;
        pools::encode(&mut families, &self.pools)?;
        instances::encode(&mut families, &self.instances, self.unserved)?;
        tokens::encode(&mut families, self.token_keys)?;
        zones::encode(&mut families, &self.zones)?;
        copies::encode(&mut families, &self.copies)
    }
}
