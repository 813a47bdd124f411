//! What stands where.

use tests::site::ZONES;

use crate::stage::Stage;

/// A drawing of the stage with its addresses.
pub(crate) fn picture(stage: &Stage) -> String {
    let mut lines = vec![
        format!("  client ──TLS──▶ quay-gateway   https://{}, cache empty", stage.gateway.hostname()),
        "                  │    │".to_owned(),
        format!(
            "                  │    └──▶ Quay (stand-in)   {}, it decides who may read",
            stage.site.quay.url()
        ),
    ];
    let last = stage.site.zones.len() - 1;
    for (index, (zone, (_, latency))) in stage.site.zones.iter().zip(ZONES).enumerate() {
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
