//! Metrics of the registry's instances, read at the time of a scrape.

use super::text::Text;
use registry::upstream::{InstanceState, Upstream};

/// The metrics of every instance in the OpenMetrics text form, without its end mark.
pub(super) fn render(upstream: &Upstream) -> String {
    let instances: Vec<_> = upstream.states().collect();
    let mut text = Text::default();
    let serves = |instance: &InstanceState| u64::from(instance.state == "closed") as f64;
    text.head("registry_instance_serves", "gauge", "Whether an instance of the registry is in use");
    for instance in &instances {
        text.instance("registry_instance_serves", &instance.name, "", serves(instance));
    }
    text.head("registry_instance_state", "gauge", "1 for the state that an instance of the registry is in");
    for instance in &instances {
        let state = format!(",state=\"{}\"", instance.state);
        text.instance("registry_instance_state", &instance.name, &state, 1.0);
    }
    let help = "Requests that an instance of the registry answered with 5xx or not at all";
    text.head("registry_instance_errors", "counter", help);
    for instance in &instances {
        text.instance("registry_instance_errors_total", &instance.name, "", instance.errors as f64);
    }
    let help =
        "Requests that every instance of the registry which was asked answered with 5xx or not at all: alert";
    text.head("registry_unserved", "counter", help);
    text.line("registry_unserved_total", "", upstream.unserved() as f64);
    text.end()
}
