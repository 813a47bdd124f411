//! The ages of copies: a `gaugehistogram`, which prometheus-client does not have.

use std::fmt;

use operations::queue::Sample;
use replication::AGES;

use super::text::{bucket, head, labels, value};

const NAME: &str = "quay_gateway_zone_copies_waiting_age_seconds";

/// Writes the family in the OpenMetrics text form, if the queue of copies can be read.
pub(super) fn write(text: &mut String, sample: &Sample) -> fmt::Result {
    if sample.lanes.is_none() {
        return Ok(());
    }
    head(text, NAME, "Copies that are still to be made, by their age", "gaugehistogram")?;
    for (zone, ages) in &sample.ages {
        let labels = labels(&[("zone", zone)]);
        let bounds = AGES.into_iter().map(f64::from).chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(ages.up_to.into_iter().chain([ages.jobs])) {
            bucket(text, NAME, &labels, bound, count)?;
            text.push('\n');
        }
        value(text, NAME, "gcount", &labels, ages.jobs)?;
        value(text, NAME, "gsum", &labels, ages.seconds)?;
    }
    Ok(())
}
