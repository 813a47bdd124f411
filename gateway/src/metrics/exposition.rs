//! The two text forms of metrics, and the choice between them. Pure.

use std::fmt::Write as _;

/// A form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' older text form, version 0.0.4.
    Text,
}

impl Exposition {
    /// The `Content-Type` of the form.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns the form that these `Accept` fields prefer (RFC 9110 section 12.5.1). If they name no preference, that
    /// is the older form, because every scraper reads it. If they accept neither form, that is OpenMetrics.
    pub(crate) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let ranges: Vec<_> = accept.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        let quality =
            |form| ranges.iter().filter_map(|range| range.fits(form)).max().map(|(_, quality)| quality);
        let (open, text) = (quality(Self::OpenMetrics), quality(Self::Text));
        match (open.unwrap_or(0), text.unwrap_or(0)) {
            (0, 0) if !ranges.is_empty() => Self::OpenMetrics,
            (open, text) if open > text => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// Converts metrics from OpenMetrics to this form.
    pub(crate) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => older(&openmetrics),
        }
    }
}

/// One media range.
struct Range {
    /// `type/subtype`, in lower case.
    kind: String,
    version: Option<String>,
    /// The quality in thousandths.
    quality: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().filter(|kind| kind.contains('/'))?.to_ascii_lowercase();
        let mut range = Self { kind, version: None, quality: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => {
                    let quality: f32 = value.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
                    range.quality = (quality * 1000.0).round() as u16;
                }
                "version" => range.version = Some(value.trim().trim_matches('"').to_owned()),
                _ => {}
            }
        }
        Some(range)
    }

    /// If the range includes a form: how exactly it names the form, and its quality. The most exact range counts.
    fn fits(&self, form: Exposition) -> Option<(u8, u16)> {
        let (whole, half, versions): (_, _, &[_]) = match form {
            Exposition::OpenMetrics => ("application/openmetrics-text", "application/*", &["1.0.0", "0.0.1"]),
            Exposition::Text => ("text/plain", "text/*", &["0.0.4"]),
        };
        let exact = match &self.version {
            _ if self.kind == "*/*" => 0,
            _ if self.kind == half => 1,
            None if self.kind == whole => 2,
            Some(version) if self.kind == whole && versions.contains(&&**version) => 3,
            _ => return None,
        };
        Some((exact, self.quality))
    }
}

/// Converts OpenMetrics to the older form. That form has no end marker and no exemplars, gives the families of counters
/// names that end with `_total`, and has no histogram of gauges: the count and the sum of such a histogram become gauges
/// of their own.
fn older(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    let mut aside: Vec<String> = Vec::new();
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let head = line.strip_prefix("# ").and_then(|head| head.split_once(' '));
        let Some((word, rest)) = head else {
            let line = without_exemplar(line);
            match is_aside(line) {
                true => aside.push(line.to_owned()),
                false => push(&mut text, line),
            }
            continue;
        };
        // A family begins. The lines that were put aside belong to the family before it, and are written first.
        gauges(&mut text, &mut aside);
        match (word, rest.split_once(' ')) {
            ("HELP", Some((name, told))) => help = Some((name, told)),
            ("TYPE", Some((name, kind))) => {
                let (name, kind) = match kind {
                    "counter" => (format!("{name}_total"), "counter"),
                    "gaugehistogram" => (name.to_owned(), "histogram"),
                    "unknown" => (name.to_owned(), "untyped"),
                    kind => (name.to_owned(), kind),
                };
                if let Some((_, told)) = help.take() {
                    push(&mut text, &format!("# HELP {name} {told}"));
                }
                push(&mut text, &format!("# TYPE {name} {kind}"));
            }
            _ => {}
        }
    }
    gauges(&mut text, &mut aside);
    text
}

/// A line without its exemplar, which begins with ` # ` outside of the values of labels.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.bytes().position(|byte| {
        let ends = byte == b'#' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
        ends
    });
    end.map_or(line, |end| line[..end].trim_end())
}

/// Whether a line is the count or the sum of a histogram of gauges.
fn is_aside(line: &str) -> bool {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    name.ends_with("_gcount") || name.ends_with("_gsum")
}

/// Writes the lines that were put aside. Each name becomes a family.
fn gauges(text: &mut String, aside: &mut Vec<String>) {
    aside.sort_by(|one, other| one.split(['{', ' ']).next().cmp(&other.split(['{', ' ']).next()));
    let mut last = String::new();
    for line in aside.drain(..) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if name != last {
            push(text, &format!("# TYPE {name} gauge"));
            name.clone_into(&mut last);
        }
        push(text, &line);
    }
}

fn push(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&str]) -> Exposition {
        Exposition::wanted(accept.iter().copied())
    }

    #[test]
    fn as_scrapers_ask() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, form) in [
            (&[prometheus_3][..], Exposition::OpenMetrics),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                ],
                Exposition::OpenMetrics,
            ),
            (&["application/openmetrics-text"], Exposition::OpenMetrics),
            (&["application/openmetrics-text; version=1.0.0; q=0.2, text/plain; q=0.9"], Exposition::Text),
            (&["application/openmetrics-text;q=0, */*"], Exposition::Text),
            (
                &["application/openmetrics-text;version=2.0.0, text/plain;version=0.0.4;q=0.1"],
                Exposition::Text,
            ),
            (
                &["text/plain;version=0.0.4;q=0.3", "application/openmetrics-text;version=0.0.1"],
                Exposition::OpenMetrics,
            ),
            (&["text/plain;version=0.0.4"], Exposition::Text),
            (&["Text/Plain"], Exposition::Text),
            (&["text/*"], Exposition::Text),
            (&["*/*"], Exposition::Text),
            (&[], Exposition::Text),
            (&[protobuf], Exposition::OpenMetrics),
            (&[&format!("{protobuf};q=0.7, text/plain;version=0.0.4;q=0.3")], Exposition::Text),
            (&["text/plain;q=nonsense"], Exposition::Text),
        ] {
            assert_eq!(wanted(accept), form, "{accept:?}");
        }
    }

    #[test]
    fn the_older_form_has_no_exemplars() {
        for (line, older) in [
            ("x_bucket{le=\"1.0\"} 2 # {trace_id=\"a\"} 0.5 1.0", "x_bucket{le=\"1.0\"} 2"),
            ("x{a=\"\\\"} 1 # {\"} 2", "x{a=\"\\\"} 1 # {\"} 2"),
            ("x{a=\"\\\\\"} 2 # {trace_id=\"a # \"} 0.5 1.0", "x{a=\"\\\\\"} 2"),
            ("x 1", "x 1"),
        ] {
            assert_eq!(without_exemplar(line), older);
        }
    }

    #[test]
    fn the_older_form() {
        let openmetrics = "# HELP x_requests Requests.\n# TYPE x_requests counter\nx_requests_total{a=\"b\"} 1\n\
            # HELP x_age Ages.\n# TYPE x_age gaugehistogram\nx_age_bucket{z=\"a\",le=\"+Inf\"} 2\n\
            x_age_gcount{z=\"a\"} 2\nx_age_gsum{z=\"a\"} 7\nx_age_bucket{z=\"b\",le=\"+Inf\"} 0\n\
            x_age_gcount{z=\"b\"} 0\nx_age_gsum{z=\"b\"} 0\n\
            # HELP x_up Whether.\n# TYPE x_up gauge\nx_up 1\n# EOF\n";
        let older = "# HELP x_requests_total Requests.\n# TYPE x_requests_total counter\nx_requests_total{a=\"b\"} 1\n\
            # HELP x_age Ages.\n# TYPE x_age histogram\nx_age_bucket{z=\"a\",le=\"+Inf\"} 2\n\
            x_age_bucket{z=\"b\",le=\"+Inf\"} 0\n\
            # TYPE x_age_gcount gauge\nx_age_gcount{z=\"a\"} 2\nx_age_gcount{z=\"b\"} 0\n\
            # TYPE x_age_gsum gauge\nx_age_gsum{z=\"a\"} 7\nx_age_gsum{z=\"b\"} 0\n\
            # HELP x_up Whether.\n# TYPE x_up gauge\nx_up 1\n";
        assert_eq!(Exposition::Text.of(openmetrics.to_owned()), older);
        assert_eq!(Exposition::OpenMetrics.of(openmetrics.to_owned()), openmetrics);
    }
}
