//! The comment at the beginning of each file: what it changes, whether nodes drain or reboot, how to undo it. Pure.

/// The characters of a line.
const WIDTH: usize = 100;

/// What the comment of a file says.
#[derive(Debug)]
pub(super) struct Comment<'a> {
    /// What the file is, in one sentence.
    pub what: String,
    /// Under which names images come through the gateway.
    pub images: String,
    /// What changes when the file is in its place.
    pub changes: String,
    /// Whether nodes drain or reboot, and what must be restarted.
    pub nodes: String,
    /// How to undo the change.
    pub undo: String,
    /// What else must be known: a label and a text.
    pub more: Vec<(&'a str, String)>,
}

impl Comment<'_> {
    /// The lines, each of which begins with `#`.
    pub(super) fn text(&self) -> String {
        let fixed = [
            ("Images", &self.images),
            ("Changes", &self.changes),
            ("Nodes", &self.nodes),
            ("Undo", &self.undo),
        ];
        let more = self.more.iter().map(|(label, text)| (*label, text));
        let entries = fixed.into_iter().chain(more).map(|(label, text)| entry(label, text));
        format!("{}#\n{}", wrapped("# ", "# ", &self.what), entries.collect::<String>())
    }
}

/// A command or setting that no line break may cut.
pub(super) fn unbroken(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// A label and its text, which is indented behind it.
fn entry(label: &str, text: &str) -> String {
    wrapped(&format!("# {:<9}", format!("{label}:")), &format!("# {:9}", ""), text)
}

/// Breaks a text into lines. A part of the text that no space may break has non-breaking spaces.
fn wrapped(first: &str, further: &str, text: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_ascii_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            further.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(line.trim_end());
    lines.push('\n');
    lines.replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_and_none_is_long() {
        let text = "word ".repeat(60) + "a\u{a0}command\u{a0}with\u{a0}spaces";
        let comment = Comment {
            what: text.clone(),
            images: text.clone(),
            changes: text.clone(),
            nodes: text.clone(),
            undo: text.clone(),
            more: vec![("Needs", text)],
        };
        let text = comment.text();
        assert!(text.lines().all(|line| line.starts_with('#') && line.len() <= WIDTH), "{text}");
        assert!(text.contains("a command with spaces") && text.contains("\n# Needs:   word"), "{text}");
    }
}
