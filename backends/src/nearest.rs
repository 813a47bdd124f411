//! Suggests the word that the user may have meant.

use strsim::levenshtein;

/// The known word that is most similar to `word`. A known word is similar if fewer than a third of its
/// letters differ, or if `word` is its end after an underscore.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= most || candidate.to_ascii_lowercase().ends_with(&format!("_{word}"))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_intended_word() {
        let known = ["s3_bucket", "s3_region", "storage_path", "bucket_name"];
        assert_eq!(nearest("s3_buket", known), Some("s3_bucket"));
        assert_eq!(nearest("S3_REGION", known), Some("s3_region"));
        assert_eq!(nearest("bucket", known), Some("s3_bucket"));
        assert_eq!(nearest("colour", known), None);
    }
}
