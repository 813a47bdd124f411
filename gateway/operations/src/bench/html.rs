//! The results as one HTML page without external files. Pure.

use std::fmt::Write as _;

use super::BenchReport;
use super::chart;
use super::figures::{or_dash, size, times};
use super::plan::sizes;
use super::row::Row;
use super::svg::escaped;

const STYLE: &str = "
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#22272e}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
p.sub{color:#57606a;margin-top:0}svg{max-width:100%;height:auto;display:block;margin:1rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{padding:.3rem .45rem;text-align:right;border-bottom:1px solid #e3e6ea;white-space:nowrap}
th{font-weight:600;vertical-align:bottom}td.name,th.name{text-align:left}
tr.begins td{border-top:2px solid #8b949e}.bad{color:#b3261e}code{font-size:.9em;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){body{background:#15191e;color:#e6edf3}p.sub{color:#9aa5b1}
th,td{border-color:#2b323a}tr.begins td{border-top-color:#6e7781}.bad{color:#ff8f87}}
";

/// The page.
pub(super) fn page(report: &BenchReport) -> String {
    let mut body = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        "<h1>Reads of the zones from this machine</h1>\n<p class=\"sub\">{}, {} s; images {}; {} reads of each size \
         class by each path, {} at the same time</p>",
        humantime::format_rfc3339_seconds(report.at),
        report.took.as_secs(),
        escaped(&report.images.join(", ")),
        report.reads,
        report.at_once
    );
    body += &verdict(report);
    body += &chart::latency(report);
    body += &chart::throughput(report);
    body += &figures(report);
    body += &list(
        "Failures",
        report.failures.iter().map(|(series, error, count)| {
            format!("<b>{}</b>, {count} reads: {}", escaped(&report.label(series)), escaped(error))
        }),
    );
    body += &list("Notes", report.notes.iter().map(|note| escaped(note)));
    body += &method(report);
    body += &list(
        "Blobs",
        report.blobs.iter().map(|blob| {
            let size = blob.size.map_or_else(|| "size not known".to_owned(), size);
            format!(
                "{} {size} <code>{}@{}</code>",
                blob.class.as_str(),
                escaped(&blob.repository),
                blob.digest
            )
        }),
    );
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width\"/>\n<title>quay-gateway bench zones</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n"
    )
}

/// For each size class, the gateway's times relative to the registry's own path.
fn verdict(report: &BenchReport) -> String {
    let error = report.rows.iter().filter(|row| row.series.is_gateway()).filter_map(|row| {
        let (first, rate) = (row.first_byte_ratio?, row.rate_ratio?);
        Some(format!(
            "<b>{}, {}</b>: first byte {} of {}'s, throughput {}; {} of {} from the cache",
            row.class.as_str(),
            escaped(&report.label(&row.series)),
            times(Some(first)),
            report.registry,
            times(Some(rate)),
            row.hits,
            row.right
        ))
    });
    list("The gateway compared with the registry's own path", error)
}

fn list(head: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.map(|item| format!("<li>{item}</li>\n")).collect();
    if items.is_empty() { String::new() } else { format!("<h2>{head}</h2>\n<ul>\n{}</ul>\n", items.concat()) }
}

fn figures(report: &BenchReport) -> String {
    let heads = [
        "reads",
        "first byte<br/>p50 ms",
        "p95",
        "max",
        "×",
        "whole<br/>p50 ms",
        "p95",
        "MB/s",
        "×",
        "from<br/>cache",
        "failed",
    ];
    let mut text = String::from(
        "<h2>Figures</h2>\n<div class=\"wide\"><table>\n<tr><th class=\"name\">class</th><th class=\"name\">path</th>",
    );
    text.extend(heads.map(|head| format!("<th>{head}</th>")));
    text.push_str("</tr>\n");
    let mut class = None;
    for row in &report.rows {
        let begins = class.replace(row.class) != Some(row.class);
        text += &line(report, row, begins);
    }
    let _ = writeln!(
        text,
        "</table></div>\n<p class=\"sub\">×: relative to {}'s own path; a first byte below 1 is sooner, a throughput \
         above 1 is faster. MB: a million bytes.</p>",
        report.registry
    );
    text
}

fn line(report: &BenchReport, row: &Row, begins: bool) -> String {
    let bad = if row.failed + row.wrong > 0 { " class=\"bad\"" } else { "" };
    let reads = match row.absent {
        0 => row.reads().to_string(),
        absent => format!("{}, {absent} absent", row.reads()),
    };
    let hits = if row.series.is_gateway() { row.hits.to_string() } else { String::new() };
    let (first, whole) = (row.first_byte, row.whole);
    let cells = [
        reads,
        or_dash(first.map(|of| of.p50)),
        or_dash(first.map(|of| of.p95)),
        or_dash(first.map(|of| of.max)),
        times(row.first_byte_ratio),
        or_dash(whole.map(|of| of.p50)),
        or_dash(whole.map(|of| of.p95)),
        or_dash(row.rate),
        times(row.rate_ratio),
        hits,
    ];
    let cells: Vec<_> = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!(
        "<tr{}><td class=\"name\">{}</td><td class=\"name\">{}</td>{}<td{bad}>{}</td></tr>\n",
        if begins { " class=\"begins\"" } else { "" },
        if begins { format!("{}, {}", row.class.as_str(), sizes(row.class)) } else { String::new() },
        escaped(&report.label(&row.series)),
        cells.concat(),
        row.failed + row.wrong
    )
}

fn method(report: &BenchReport) -> String {
    let ((name, at), (gateway, gateway_at)) = (&report.registry_at, &report.gateway_at);
    let error = [
        format!(
            "<b>a zone's name</b>: reads from its store, with the credentials of the configuration. <b>{0}</b>: a GET \
             at {1} (connected to {2}) as a client sends it, following redirects to the store. <b>gateway</b>: the \
             same GET at {3} (connected to {4}); <i>first</i> is the first read of a blob in this run, <i>later</i> \
             are all others.",
            report.registry,
            escaped(name),
            escaped(at),
            escaped(gateway),
            escaped(gateway_at)
        ),
        "The paths take turns, in another order each round, so that other load affects all of them equally.".to_owned(),
        "Times begin with the request and include connecting if no connection was open; the token is fetched before. \
         The first byte is that of the blob, not of the answer. Every byte is hashed: a read with wrong bytes, or \
         without bytes, has no time."
            .to_owned(),
        "All reads use HTTP/1.1, from the machine on which this ran: run it where the clients are.".to_owned(),
    ];
    list("How it was measured", error.into_iter())
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::well_formed;
    use super::super::tests::example;
    use super::*;

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        let page = page(&example());
        let text = well_formed(&page);
        for wanted in
            ["<zone> & \"b\"", "\"refused\", <x> & y", "a note with <angles>", "12 of 12 from the cache"]
        {
            assert!(text.contains(wanted), "{wanted}");
        }
        for fetched in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
    }
}
