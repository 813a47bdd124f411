//! `tracing.otlp`: exports spans to a collector of traces, and joins the traces of clients.
//!
//! The spans are those of the log. What exports them is behind the feature `otlp`, which the shipped build has.

#[cfg(not(feature = "otlp"))]
#[path = "off.rs"]
mod traces;
#[cfg(feature = "otlp")]
#[path = "on.rs"]
mod traces;

#[cfg(feature = "otlp")]
mod export;

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub use self::traces::Traces;
pub(crate) use self::traces::{end_request, join_trace, set_parent};
use config::Settings;

/// Spans of this process by what became of them.
#[derive(Debug, Default)]
struct Counts {
    exported: Counter,
    lost: Counter,
}

static COUNTS: LazyLock<Counts> = LazyLock::new(Counts::default);

/// Registers the counters of spans.
pub(crate) fn register(registry: &mut Registry) {
    let help = "Spans that the collector of tracing.otlp has taken";
    registry.register("trace_spans_exported", help, COUNTS.exported.clone());
    let help = "Spans that were lost, as the collector of tracing.otlp did not take them in time";
    registry.register("trace_spans_lost", help, COUNTS.lost.clone());
}

impl Traces {
    /// Checks that this build can do what `tracing.otlp` asks for.
    ///
    /// # Errors
    /// It asks for an export, and this build has none.
    pub fn check(settings: &Settings) -> anyhow::Result<()> {
        refuse(settings.otlp.is_some(), cfg!(feature = "otlp"))
    }
}

fn refuse(asked: bool, can: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        can || !asked,
        "tracing.otlp: this build cannot export traces: build it with `--features otlp`, or remove the key"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_export_refuses_the_key_and_names_the_fix() {
        assert!(refuse(true, true).is_ok() && refuse(false, false).is_ok());
        let error = refuse(true, false).expect_err("it cannot").to_string();
        assert!(error.contains("tracing.otlp") && error.contains("--features otlp"), "{error}");
    }
}
