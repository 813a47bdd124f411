//! Writes the SVG elements that the charts need. Pure.

use std::fmt::Write as _;

/// The anchor of a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG image under construction.
#[derive(Debug, Default)]
pub(super) struct Svg(String);

// Writing to a string does not fail.
impl Svg {
    /// Adds a rectangle. `class` is a class of the style sheet, here and below.
    pub(super) fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4]) {
        let _ = writeln!(
            self.0,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"/>"#,
            width.max(0.0),
            height.max(0.0)
        );
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.0,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let _ = writeln!(
            self.0,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// The whole image, with a title for screen readers.
    pub(super) fn finish(self, title: &str, style: &str, width: f64, height: f64) -> String {
        let (title, style) = (escaped(title), escaped(style));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n<style>{style}</style>\n{}</svg>\n",
            self.0
        )
    }
}

/// Escapes text for elements and attributes of XML and HTML. Characters that XML 1.0 forbids (section 2.2) become
/// the replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// At most `most` characters of a text. If it was longer, the last one is an ellipsis.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.chars().nth(most) {
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    use super::*;

    /// The text of an XML document, unescaped. Panics unless it is well-formed.
    pub(crate) fn well_formed(xml: &str) -> String {
        let mut reader = Reader::from_str(xml);
        let mut all = String::new();
        let mut depth = 0_usize;
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{error}: {xml}")) {
                Event::Eof => break,
                Event::Start(tag) => {
                    depth += 1;
                    tag.attributes().for_each(|attribute| drop(attribute.expect("an attribute")));
                }
                Event::Empty(tag) => {
                    tag.attributes().for_each(|attribute| drop(attribute.expect("an attribute")))
                }
                Event::End(_) => depth -= 1,
                Event::Text(text) => all.push_str(&text),
                Event::GeneralRef(name) => {
                    let known = ["amp", "lt", "gt", "quot", "#39"].iter().zip(["&", "<", ">", "\"", "'"]);
                    let found = known.into_iter().find(|(known, _)| **known == &*name);
                    all.push_str(found.unwrap_or_else(|| panic!("&{};", &*name)).1);
                }
                _ => {}
            }
        }
        assert_eq!(depth, 0, "{xml}");
        all
    }

    proptest! {
        #[test]
        fn any_text_is_well_formed_and_comes_back(text in any::<String>()) {
            let mut svg = Svg::default();
            svg.text("x", (1.0, 2.0), Anchor::Middle, &text);
            let all = well_formed(&svg.finish(&text, "a > b {}", 10.0, 10.0));
            let allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
            for word in text.split(|c: char| !allowed(&c)) {
                prop_assert!(all.contains(word));
            }
        }

        #[test]
        fn shortened_is_short(text in any::<String>(), most in 1..40_usize) {
            let short = shortened(&text, most);
            prop_assert!(short.chars().count() <= most);
            prop_assert!(short == text || short.ends_with('…'));
        }
    }

    #[test]
    fn nothing_grows_backwards() {
        let mut svg = Svg::default();
        svg.rect("x", [1.0, 1.0, -5.0, f64::NAN]);
        assert!(svg.0.contains(r#"width="0.0" height="0.0""#), "{}", svg.0);
    }
}
