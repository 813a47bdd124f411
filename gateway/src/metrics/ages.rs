//! The ages of copies: a `gaugehistogram`, which prometheus-client does not have.

use std::fmt::{self, Write};

use operations::queue::Sample;
use replication::AGES;

const NAME: &str = "quay_gateway_zone_copies_waiting_age_seconds";

/// Writes the family in the OpenMetrics text form, if the queue of copies can be read.
pub(super) fn write(text: &mut String, sample: &Sample) -> fmt::Result {
    if sample.lanes.is_none() {
        return Ok(());
    }
    writeln!(
        text,
        "# HELP {NAME} Copies that are still to be made, by their age.\n# TYPE {NAME} gaugehistogram"
    )?;
    for (zone, ages) in &sample.ages {
        let zone = zone.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        for (bound, count) in AGES.iter().zip(ages.up_to) {
            // OpenMetrics requires a decimal point in the bound.
            writeln!(text, "{NAME}_bucket{{zone=\"{zone}\",le=\"{bound}.0\"}} {count}")?;
        }
        writeln!(text, "{NAME}_bucket{{zone=\"{zone}\",le=\"+Inf\"}} {}", ages.jobs)?;
        writeln!(text, "{NAME}_gcount{{zone=\"{zone}\"}} {}", ages.jobs)?;
        writeln!(text, "{NAME}_gsum{{zone=\"{zone}\"}} {}", ages.seconds)?;
    }
    Ok(())
}
