//! Finds the differences between an answer and the recorded one.

use std::collections::{BTreeSet, HashMap};

use harness::client::Answer;

use super::parse::Exchange;

/// Answers whose length depends on their content: tokens, keys, ports, or our own format.
const OTHER_LENGTH: [&str; 9] = [
    "token, ",
    "token with another service",
    "right password 3 s later",
    "blob GET",
    "manifest GET by tag no Accept",
    "service keys list",
    "one service key",
    "referrers",
    "catalog",
];

pub(super) fn differences(
    exchange: &Exchange,
    answer: &Answer,
    names: &HashMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    if answer.status.as_u16() != exchange.status {
        found.push(format!("status {} instead of {}", answer.status.as_u16(), exchange.status));
    }
    // The answer of a store is not Quay's.
    if exchange.target.starts_with("/quay-a/") {
        return found;
    }
    let wanted: BTreeSet<&str> = exchange.answer.iter().map(|(name, _)| name.as_str()).collect();
    for name in &wanted {
        let theirs: Vec<&str> = exchange
            .answer
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
            .collect();
        let ours: Vec<&str> =
            answer.headers.get_all(*name).iter().map(|value| value.to_str().expect("text")).collect();
        if theirs.len() != ours.len()
            || !theirs
                .iter()
                .zip(&ours)
                .all(|(theirs, ours)| same(exchange, name, &named(theirs, names), ours))
        {
            found.push(format!("{name}: {ours:?} instead of {theirs:?}"));
        }
    }
    for name in answer.headers.keys().filter(|name| !wanted.contains(name.as_str())) {
        found.push(format!("{name}: {:?}, which Quay does not send", answer.headers[name]));
    }
    if exchange.status >= 400 {
        let theirs = named(&String::from_utf8_lossy(&exchange.answer_body), names);
        let ours = String::from_utf8_lossy(&answer.body);
        if !ours.starts_with(&theirs) {
            found.push(format!("body {ours:?} instead of {theirs:?}"));
        }
    }
    found
}

fn named(text: &str, names: &HashMap<String, String>) -> String {
    names.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// Whether the value of a header is the recorded one or has its form.
fn same(exchange: &Exchange, name: &str, theirs: &str, ours: &str) -> bool {
    match name {
        "date" => httpdate_shaped(ours),
        "content-length" if OTHER_LENGTH.iter().any(|title| exchange.title.starts_with(title)) => {
            ours.parse::<u64>().is_ok_and(|length| length > 0)
        }
        "docker-content-digest" if exchange.title == "manifest GET by tag no Accept" => {
            ours.starts_with("sha256:") && ours.len() == theirs.len() && ours != theirs
        }
        "location" if exchange.status == 302 => signed_url(theirs) == signed_url(ours),
        "access-control-allow-methods" | "allow" => words(theirs).is_superset(&words(ours)),
        "cache-control" if exchange.title == "one service key" => {
            ours.strip_prefix("max-age=").is_some_and(|age| age.parse().is_ok_and(|age: u32| age <= 7200))
        }
        "link" if exchange.title.starts_with("catalog") => {
            theirs.split("next_page=").next() == ours.split("next_page=").next()
        }
        _ => theirs == ours,
    }
}

fn httpdate_shaped(value: &str) -> bool {
    value.len() == "Tue, 24 Nov 2026 07:37:49 GMT".len() && value.ends_with(" GMT")
}

fn words(value: &str) -> BTreeSet<&str> {
    value.split(", ").collect()
}

/// What two signed URLs of a key have in common: the key, the parameters, and the fixed values.
fn signed_url(url: &str) -> (String, Vec<String>) {
    let (address, query) = url.split_once('?').expect("a query");
    let (folder, hex) = address.rsplit_once('/').expect("a key");
    let (root, two) = folder.rsplit_once('/').expect("a folder");
    let root = root.split_once("/datastorage/").expect("a root").1;
    let key = format!("{root} {hex} {}", two.len());
    let parameters = query.split('&').map(|parameter| {
        let fixed = parameter.starts_with("X-Amz-Algorithm") || parameter.starts_with("X-Amz-Expires");
        let fixed = fixed || parameter.starts_with("X-Amz-SignedHeaders");
        if fixed { parameter } else { parameter.split('=').next().expect("a name") }.to_owned()
    });
    let mut parameters: Vec<String> = parameters.collect();
    parameters.sort();
    (key, parameters)
}
