//! Parses recordings: `###` starts a title, `>` the request, `<` the answer.

/// A recorded request and its answer.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) title: String,
    pub(super) method: String,
    pub(super) target: String,
    /// The names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body_bytes: usize,
    pub(super) status: u16,
    /// The names are in lower case, in the order in which they were received.
    pub(super) answer: Vec<(String, String)>,
    /// The start of the answer's body.
    pub(super) answer_body: Vec<u8>,
}

pub(super) fn exchanges(text: &str) -> Vec<Exchange> {
    let parts = text.split("\n### ").skip(1);
    parts.map(exchange).collect()
}

fn exchange(text: &str) -> Exchange {
    let mut found =
        Exchange { title: text.lines().next().expect("a title").to_owned(), ..Exchange::default() };
    for line in text.lines().skip(1) {
        if let Some(sent) = line.strip_prefix("> ") {
            request_line(&mut found, sent);
        } else if let Some(got) = line.strip_prefix("< ") {
            answer_line(&mut found, got);
        }
    }
    found
}

fn request_line(found: &mut Exchange, line: &str) {
    if let Some(body) = line.strip_prefix("[body ") {
        found.body_bytes = number(body);
    } else if found.method.is_empty() {
        let mut words = line.split(' ');
        found.method = words.next().expect("a method").to_owned();
        found.target = words.next().expect("a target").to_owned();
    } else {
        found.headers.push(header(line));
    }
}

fn answer_line(found: &mut Exchange, line: &str) {
    if let Some(body) = line.strip_prefix("[body ") {
        let (_, literal) = body.split_once("] b'").unwrap_or_default();
        found.answer_body = unescaped(literal.strip_suffix('\'').unwrap_or(literal));
    } else if let Some(status) = line.strip_prefix("HTTP/1.1 ") {
        found.status = u16::try_from(number(status)).expect("a status");
    } else {
        found.answer.push(header(line));
    }
}

fn header(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").expect("a header");
    (name.to_lowercase(), value.to_owned())
}

fn number(text: &str) -> usize {
    text.split(' ').next().expect("a word").parse().expect("a number")
}

/// A Python bytes literal. Only text is compared, so other escapes stay unchanged.
fn unescaped(literal: &str) -> Vec<u8> {
    literal.replace("\\n", "\n").replace("\\\\", "\\").into_bytes()
}
