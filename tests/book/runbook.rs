//! Checks the runbook: its quotes are in the source, and it has an entry for each warning and error of the
//! source.

use anyhow::{Result, ensure};

use super::source::Texts;

const FOLDER: &str = "docs/src/operate/runbook";

/// Lines of level `warn` or `error` without an entry, each with the reason.
const WITHOUT_ENTRY: [(&str, &str); 1] =
    [("…", "passes on a warning that was made elsewhere; the runbook quotes that text as a `warning`")];

/// Quotes in the runbook that are texts of other programs.
const OF_OTHERS: [(&str, &str); 3] = [
    ("file:line: …", "the form of an error of the configuration"),
    ("journal …: password authentication failed", "PostgreSQL's words after the journal's"),
    ("permission denied", "PostgreSQL's words"),
];

/// The number of characters of a text that must be found in a quote before the rest may be a filled-in value.
const CERTAIN: usize = 8;

/// A text that the runbook quotes.
struct Quote {
    page: String,
    /// The level that stands before it, if it is a line of the log.
    level: Option<&'static str>,
    text: String,
}

impl Quote {
    /// Whether a text of the source contains this quote. `…` stands for anything on either side.
    fn is_in(&self, text: &str) -> bool {
        let quote: Vec<char> = self.text.trim_end_matches(['…', ' ', ':']).chars().collect();
        let text: Vec<char> = text.chars().collect();
        (0..text.len()).any(|start| begins(&text[start..], &quote, 0))
    }
}

/// Whether a text begins with a quote. `certain` characters before it were found in the quote.
fn begins(text: &[char], quote: &[char], certain: usize) -> bool {
    match (text, quote) {
        (_, []) => true,
        (text, ['…', rest @ ..]) => (0..=text.len()).any(|skip| begins(&text[skip..], rest, certain)),
        (['…', rest @ ..], quote) => {
            certain >= CERTAIN || (0..quote.len()).any(|skip| begins(rest, &quote[skip..], certain))
        }
        ([of_text, text @ ..], [of_quote, quote @ ..]) => {
            of_text == of_quote && begins(text, quote, certain + 1)
        }
        ([], _) => false,
    }
}

/// All quotes of the pages: in the lines `Seen`, in the first column of tables, and after "the log says".
fn quotes() -> Result<Vec<Quote>> {
    let mut quotes = Vec::new();
    for entry in std::fs::read_dir(super::root().join(FOLDER))? {
        let page = entry?.file_name().to_string_lossy().into_owned();
        for paragraph in paragraphs(&super::read(&format!("{FOLDER}/{page}"))?) {
            quotes.extend(quoted(&page, &paragraph));
        }
    }
    Ok(quotes)
}

fn paragraphs(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in page.split("\n- **").filter_map(|item| item.strip_prefix("Seen:**")) {
        found.push(
            item.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "),
        );
        // A list below it.
        found.extend(item.split("\n  - ").skip(1).map(|line| line.replace('\n', " ")));
    }
    found.extend(
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).map(str::to_owned),
    );
    let joined = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in joined.split("log then says ").chain(joined.split("log says ")).skip(1) {
        found.extend(
            says.strip_prefix('`')
                .and_then(|text| text.split('`').next())
                .map(|text| format!("info `{text}`")),
        );
    }
    found
}

/// The texts in backticks of one paragraph. A level applies to the whole enumeration that it begins.
fn quoted(page: &str, paragraph: &str) -> Vec<Quote> {
    let mut level = None;
    let mut quotes = Vec::new();
    for (position, piece) in paragraph.split('`').enumerate() {
        if position % 2 == 1 {
            quotes.push(Quote { page: page.to_owned(), level, text: piece.to_owned() });
            continue;
        }
        level = match piece.split_whitespace().last().unwrap_or_default() {
            "error" | "errors:" => Some("error"),
            "warn" => Some("warn"),
            "info" => Some("info"),
            "," | "or" | "and" if piece.len() <= ", or ".len() => level,
            _ => None,
        };
    }
    quotes
}

#[test]
fn quotes_of_the_runbook_are_in_the_source() -> Result<()> {
    let (texts, quotes) = (Texts::read()?, quotes()?);
    let logged = quotes.iter().filter(|quote| quote.level.is_some()).count();
    ensure!(logged > 80, "the runbook was not parsed: {logged} lines of the log");
    let is_known = |quote: &Quote| match quote.level {
        _ if OF_OTHERS.iter().any(|(text, _)| *text == quote.text) => true,
        Some(level) => texts.logs.iter().any(|log| log.level == level && quote.is_in(&log.text)),
        None if quote.text.contains(' ') => texts.literals.iter().any(|text| quote.is_in(text)),
        None => is_known_word(&texts, &quote.text),
    };
    let unknown = quotes.iter().filter(|quote| !is_known(quote));
    let unknown: Vec<_> = unknown.map(|quote| (&quote.page, quote.level, &quote.text)).collect();
    ensure!(unknown.is_empty(), "nothing in the source says {unknown:#?}");
    for (text, _) in OF_OTHERS {
        ensure!(quotes.iter().any(|quote| quote.text == text), "nothing quotes {text:?} any more");
    }
    Ok(())
}

#[test]
fn every_warning_and_error_is_in_the_runbook() -> Result<()> {
    let (texts, quotes) = (Texts::read()?, quotes()?);
    let logs: Vec<_> = texts.logs.iter().filter(|log| log.level != "info").collect();
    ensure!(logs.len() > 80, "the source was not parsed: {} warnings and errors", logs.len());
    let has_entry =
        |level: &str, text: &str| quotes.iter().any(|quote| quote.level == Some(level) && quote.is_in(text));
    let missing: Vec<_> = logs
        .iter()
        .filter(|log| !has_entry(log.level, &log.text))
        .filter(|log| WITHOUT_ENTRY.iter().all(|(text, _)| *text != log.text))
        .collect();
    ensure!(missing.is_empty(), "the runbook has no entry for {missing:#?}");
    for (text, _) in WITHOUT_ENTRY {
        ensure!(logs.iter().any(|log| log.text == text), "nothing logs {text:?} any more");
    }
    Ok(())
}

#[test]
fn every_alert_names_a_metric() -> Result<()> {
    let texts = Texts::read()?;
    let page = super::read("docs/src/operate/monitoring.md")?;
    let alerts = page.split("\n## ").find(|section| section.starts_with("Alerts\n")).unwrap_or_default();
    let conditions = alerts.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let names =
        conditions.flat_map(|text| text.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_'));
    let names = names.filter(|name| name.contains('_'));
    let names: Vec<_> = names.collect();
    ensure!(names.len() > 10, "the page was not parsed: {names:?}");
    for name in names {
        ensure!(is_known_word(&texts, name), "monitoring.md: there is no metric {name}");
    }
    Ok(())
}

/// Whether a name in the form of a metric or a field is in the source. Other words are not checked.
fn is_known_word(texts: &Texts, word: &str) -> bool {
    let is_name =
        word.contains('_') && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let bare = ["_total", "_bucket"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    !is_name || texts.names.contains(word) || texts.literals.iter().any(|text| text == word || text == bare)
}
