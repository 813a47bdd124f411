//! The two charts: time to the first byte as boxes, throughput as bars. Axes begin at zero. Pure.

use zone_router::SizeClass;

use super::BenchReport;
use super::figures::{axis, or_dash, times};
use super::plan::sizes;
use super::row::Row;
use super::statistics::Spread;
use super::svg::{Anchor, Svg, shortened};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
/// The height of a row of a panel, and of the bar in it.
const ROW: f64 = 28.0;
const BAR: f64 = 14.0;
/// The space above and below the rows of a panel.
const HEAD: f64 = 34.0;
const FOOT: f64 = 34.0;
const TITLE: f64 = 58.0;
/// The distance between the right edges of two figures.
const FIGURE: f64 = 54.0;
/// The most characters of a name, and the approximate width of a character.
const NAME_MAX: usize = 30;
const CHARACTER: f64 = 7.2;

/// The style sheet, with colours for light and for dark mode.
const STYLE: &str = "
text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#22272e}
.title{font-size:16px;font-weight:600}.panel{font-size:13px;font-weight:600}
.small,.figures{fill:#57606a}.figures{font-variant-numeric:tabular-nums}.none{fill:#b3261e;font-style:italic}
.back{fill:#ffffff}.grid{stroke:#e3e6ea}.zero{stroke:#8b949e}
.zone{fill:#8fb0d6;stroke:#3f6ea8}.registry{fill:#efb56d;stroke:#b06a0c}
.gateway-first{fill:#b9dcb4;stroke:#4d8a45}.gateway-later{fill:#5fae57;stroke:#2f6b29}
.median{stroke:#16191d;stroke-width:2}.whisker{stroke:#6e7781}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small,.figures{fill:#9aa5b1}.none{fill:#ff8f87}
.back{fill:#15191e}.grid{stroke:#2b323a}.zero{stroke:#6e7781}
.zone{fill:#3c628f;stroke:#8fb6e3}.registry{fill:#96600f;stroke:#f0b264}
.gateway-first{fill:#2c5427;stroke:#8cc483}.gateway-later{fill:#3f8a37;stroke:#a3dc9b}
.median{stroke:#ffffff}.whisker{stroke:#9aa5b1}
}";

/// A kind of chart.
struct Chart {
    title: &'static str,
    explained: &'static str,
    unit: &'static str,
    /// The headers of the figures at the right.
    heads: &'static [&'static str],
    /// The value that the axis must reach for a row.
    reach: fn(&Row) -> Option<f64>,
    draw: fn(&mut Svg, &Row, &Scale, f64),
    /// The figures of a row, one for each header.
    figures: fn(&Row) -> Vec<String>,
}

/// Maps values to horizontal positions.
struct Scale {
    left: f64,
    width: f64,
    end: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        self.left + (value / self.end).clamp(0.0, 1.0) * self.width
    }
}

/// The chart of times to the first byte.
pub(super) fn latency(report: &BenchReport) -> String {
    draw(
        report,
        &Chart {
            title: "Time to the first byte",
            explained: "line: median; box: middle half of the reads; whiskers: fastest read and 95th percentile; \
                    the slowest read is in the figures",
            unit: "ms",
            heads: &["reads", "p50", "p95", "max"],
            reach: |row| Some(row.first_byte?.p95),
            draw: boxed,
            figures: |row| {
                let of = |pick: fn(&Spread) -> f64| or_dash(row.first_byte.as_ref().map(pick));
                vec![row.right.to_string(), of(|of| of.p50), of(|of| of.p95), of(|of| of.max)]
            },
        },
    )
}

/// The chart of throughputs.
pub(super) fn throughput(report: &BenchReport) -> String {
    draw(
        report,
        &Chart {
            title: "Throughput",
            explained: "bytes of whole reads divided by the time from request to last byte; ×: relative to the \
                    registry's own path",
            unit: "MB/s",
            heads: &["reads", "MB/s", "×"],
            reach: |row| row.rate,
            draw: bar,
            figures: |row| vec![row.right.to_string(), or_dash(row.rate), times(row.rate_ratio)],
        },
    )
}

fn boxed(svg: &mut Svg, row: &Row, scale: &Scale, middle: f64) {
    let Some(of) = row.first_byte else { return };
    let (top, bottom) = (middle - BAR / 2.0, middle + BAR / 2.0);
    svg.line("whisker", (scale.x(of.min), middle), (scale.x(of.p95), middle));
    for end in [of.min, of.p95] {
        svg.line("whisker", (scale.x(end), top + 3.0), (scale.x(end), bottom - 3.0));
    }
    let (left, right) = (scale.x(of.p25), scale.x(of.p75));
    svg.rect(row.series.path(), [left, top, (right - left).max(1.0), BAR]);
    svg.line("median", (scale.x(of.p50), top), (scale.x(of.p50), bottom));
}

fn bar(svg: &mut Svg, row: &Row, scale: &Scale, middle: f64) {
    let Some(rate) = row.rate else { return };
    let left = scale.x(0.0);
    svg.rect(row.series.path(), [left, middle - BAR / 2.0, (scale.x(rate) - left).max(1.0), BAR]);
}

fn draw(report: &BenchReport, chart: &Chart) -> String {
    let names = report.rows.iter().map(|row| report.label(&row.series).chars().count().min(NAME_MAX));
    let left = MARGIN + names.max().unwrap_or_default() as f64 * CHARACTER + 12.0;
    // The label of the last tick extends beyond the axis.
    let width = WIDTH - MARGIN - chart.heads.len() as f64 * FIGURE - left - 24.0;
    let mut svg = Svg::default();
    let panels: Vec<(SizeClass, Vec<&Row>)> = SizeClass::ALL
        .into_iter()
        .map(|class| (class, report.rows.iter().filter(|row| row.class == class).collect::<Vec<_>>()))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let rows: usize = panels.iter().map(|(_, rows)| rows.len()).sum();
    let height = TITLE + rows as f64 * ROW + panels.len() as f64 * (HEAD + FOOT) + MARGIN;
    svg.rect("back", [0.0, 0.0, WIDTH, height]);
    svg.text("title", (MARGIN, 28.0), Anchor::Start, &format!("{}, {}", chart.title, chart.unit));
    svg.text("small", (MARGIN, 48.0), Anchor::Start, chart.explained);
    let mut top = TITLE;
    for (class, rows) in panels {
        let most = rows.iter().filter_map(|row| (chart.reach)(row)).fold(0.0, f64::max);
        let (end, step) = axis(most);
        let scale = Scale { left, width, end };
        let head = format!("{} blobs ({})", class.as_str(), sizes(class));
        svg.text("panel", (MARGIN, top + 22.0), Anchor::Start, &head);
        figures(&mut svg, "small", chart.heads, top + 22.0);
        top += HEAD;
        let bottom = top + rows.len() as f64 * ROW;
        grid(&mut svg, &scale, step, (top, bottom), chart.unit);
        for row in rows {
            let middle = top + ROW / 2.0;
            self::row(&mut svg, report, chart, row, &scale, middle);
            top += ROW;
        }
        top += FOOT;
    }
    svg.finish(&format!("{}: {}", chart.title, report.images.join(", ")), STYLE, WIDTH, height)
}

fn row(svg: &mut Svg, report: &BenchReport, chart: &Chart, row: &Row, scale: &Scale, middle: f64) {
    let base = middle + 4.0;
    let name = shortened(&report.label(&row.series), NAME_MAX);
    svg.text("name", (scale.left - 10.0, base), Anchor::End, &name);
    if let Some(why) = row.why_no_time() {
        svg.text("none", (scale.left + 8.0, base), Anchor::Start, why);
        return;
    }
    (chart.draw)(svg, row, scale, middle);
    figures(svg, "figures", &(chart.figures)(row), base);
}

/// Draws figures side by side at the right edge.
fn figures(svg: &mut Svg, class: &str, texts: &[impl AsRef<str>], y: f64) {
    for (place, text) in texts.iter().rev().enumerate() {
        svg.text(class, (WIDTH - MARGIN - place as f64 * FIGURE, y), Anchor::End, text.as_ref());
    }
}

/// Draws lines at the ticks, with their values below.
fn grid(svg: &mut Svg, scale: &Scale, step: f64, (top, bottom): (f64, f64), unit: &str) {
    let ticks = (scale.end / step).round() as u32;
    for tick in 0..=ticks {
        let value = f64::from(tick) * step;
        let x = scale.x(value);
        svg.line(if tick == 0 { "zero" } else { "grid" }, (x, top), (x, bottom + 4.0));
        let text = label(value, step);
        let text = if tick == ticks { format!("{text} {unit}") } else { text };
        svg.text("small", (x, bottom + 18.0), Anchor::Middle, &text);
    }
}

/// The value of a tick, with as many decimal places as its step needs.
fn label(value: f64, step: f64) -> String {
    let places = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::well_formed;
    use super::super::tests::example;
    use super::*;

    #[test]
    fn both_charts_are_well_formed_and_name_every_path() {
        let report = example();
        for picture in [latency(&report), throughput(&report)] {
            let text = well_formed(&picture);
            for wanted in
                ["small blobs (up to 256 KiB)", "<zone> & \"b\"", "gateway, later", "no read came through"]
            {
                assert!(text.contains(wanted), "{wanted}: {text}");
            }
            assert!(!text.contains("medium blobs"));
        }
        well_formed(&latency(&BenchReport { rows: Vec::new(), ..report }));
    }

    #[test]
    fn nothing_is_drawn_outside_and_more_is_longer() {
        let scale = Scale { left: 100.0, width: 400.0, end: 50.0 };
        assert_eq!(
            [-1.0, 0.0, 25.0, 50.0, 99.0].map(|value| scale.x(value)),
            [100.0, 100.0, 300.0, 500.0, 500.0]
        );
    }

    #[test]
    fn ticks_have_the_places_they_need() {
        assert_eq!(
            [label(20.0, 20.0), label(0.5, 0.5), label(0.02, 0.02), label(1000.0, 500.0)],
            ["20", "0.5", "0.02", "1000"]
        );
    }
}
