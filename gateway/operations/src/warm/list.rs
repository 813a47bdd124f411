//! Lists of images: one name a line.

use crate::images::{ImageName, ImageNameError};

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ListError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: ImageNameError,
}

/// The images of a list. A line holds one name. What follows a `#` at the beginning of a line or after a space is a
/// comment, and empty lines are skipped.
///
/// # Errors
/// A line is not the name of an image.
pub fn images_in_list(text: &str) -> Result<Vec<ImageName>, ListError> {
    let mut images = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let name = without_comment(line).trim();
        if !name.is_empty() {
            let image = ImageName::as_clients_write(name);
            images.push(image.map_err(|why| ListError { line: index + 1, why })?);
        }
    }
    Ok(images)
}

fn without_comment(line: &str) -> &str {
    let begins = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').find(|(at, _)| begins(*at));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_comments() {
        let text = "# all of them\n\n org/app:v1  # the app\r\n\torg/other\n#org/old:v1\n";
        let names: Vec<_> = images_in_list(text).expect("a list").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["org/app:v1", "org/other:latest"]);
        assert_eq!(images_in_list("").expect("empty"), []);
        let error = images_in_list("a:1\n\nb#c:1\n").expect_err("no comment");
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("line 3: "), "{error}");
    }
}
