//! Lines of the OpenMetrics text form.

use std::fmt::Write as _;

/// They are gathered here.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// What a metric is; its values follow.
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP quay_gateway_{name} {help}.\n# TYPE quay_gateway_{name} {kind}");
    }

    /// A value of a zone; further labels begin with a comma.
    pub(super) fn value(&mut self, name: &str, zone: &str, labels: &str, value: f64) {
        self.labelled(name, ("zone", zone), labels, value);
    }

    /// A value of an instance of the registry; further labels begin with a comma.
    pub(super) fn instance(&mut self, name: &str, instance: &str, labels: &str, value: f64) {
        self.labelled(name, ("instance", instance), labels, value);
    }

    fn labelled(&mut self, name: &str, (label, of): (&str, &str), labels: &str, value: f64) {
        let escaped = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        self.line(name, &format!("{{{label}=\"{escaped}\"{labels}}}"), value);
    }

    /// A value, labels and all.
    pub(super) fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "quay_gateway_{name}{labels} {value}");
    }

    /// All of them.
    pub(super) fn end(self) -> String {
        self.0
    }
}
