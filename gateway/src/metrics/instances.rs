//! Metrics of the registry's instances, read at the time of a scrape.

use std::fmt;

use super::families::Families;
use registry::upstream::InstanceState;

/// `unserved`: requests that no instance answered.
pub(super) fn encode(families: &mut Families<'_>, instances: &[InstanceState], unserved: u64) -> fmt::Result {
    let name = |instance: &InstanceState| ("instance", instance.name.to_string());
    families.gauges(
        "registry_instance_serves",
        "Whether an instance of the registry is in use",
        instances.iter().map(|instance| ([name(instance)], u64::from(instance.state == "closed"))),
    )?;
    families.gauges(
        "registry_instance_state",
        "1 for the state that an instance of the registry is in",
        instances.iter().map(|instance| ([name(instance), ("state", instance.state.to_owned())], 1_u64)),
    )?;
    families.counters(
        "registry_instance_errors",
        "Requests that an instance of the registry answered with 5xx or not at all",
        instances.iter().map(|instance| ([name(instance)], instance.errors)),
    )?;
    families.gauge(
        "registry_away",
        "Whether no instance of the registry is in use: with offline.max_age, answers come from what is remembered",
        u64::from(instances.iter().all(|instance| instance.state != "closed")),
    )?;
    let help =
        "Requests that every instance of the registry which was asked answered with 5xx or not at all: alert";
    families.counter("registry_unserved", help, unserved)
}
