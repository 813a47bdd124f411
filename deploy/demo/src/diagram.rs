//! A diagram of the demo's parts.

use harness::site::ZONES;

use crate::fixture::Fixture;

/// The parts of the fixture and their addresses as text.
pub(crate) fn diagram(fixture: &Fixture) -> String {
    let mut lines = vec![
        format!("  client ──TLS──▶ quay-gateway   https://{}, cache empty", fixture.gateway.hostname()),
        "                  │    │".to_owned(),
        format!(
            "                  │    └──▶ Quay (stand-in)   {}, decides who may read",
            fixture.site.quay.url()
        ),
    ];
    let last = fixture.site.zones.len() - 1;
    for (index, (zone, (_, latency))) in fixture.site.zones.iter().zip(ZONES).enumerate() {
        let branch = if index == last { '└' } else { '├' };
        let part = if index == 0 { "home: Quay writes here only" } else { "the gateway copies here" };
        lines.push(format!(
            "                  {branch}──▶ {}   http://{}, {:>3} ms away; {part}",
            zone.name,
            zone.location().address,
            latency.as_millis()
        ));
    }
    lines.join("\n")
}
