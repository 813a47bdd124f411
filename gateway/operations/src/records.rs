//! Results for programs: YAML, and CSV with named columns. Pure.

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use crate::csv::line;

/// A result as YAML, with the fields of its JSON.
///
/// # Errors
/// The value is a number that YAML does not have.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).context("the result cannot be written as YAML")
}

/// Records as CSV, each of them a line, after a line with the names of the columns.
///
/// A column is a path such as `counts/reads`, whose name is `counts_reads`; or a name and a path,
/// `small_p50=classes/0/p50`. What is missing or null is empty. Lists of texts are joined by spaces.
#[must_use]
pub fn csv<'a>(columns: &[&str], records: impl IntoIterator<Item = &'a Value>) -> String {
    let columns: Vec<_> = columns.iter().map(|column| column.split_once('=')).zip(columns).collect();
    let names = columns.iter().map(|(named, path)| match named {
        Some((name, _)) => (*name).to_owned(),
        None => path.replace('/', "_"),
    });
    let mut text = line(names);
    for record in records {
        let paths = columns.iter().map(|(named, path)| named.map_or(**path, |(_, path)| path));
        text += &line(paths.map(|path| record.pointer(&format!("/{path}")).map_or_else(String::new, field)));
    }
    text
}

fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(field).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::csv::tests::parsed;

    #[test]
    fn every_record_has_every_column() {
        let records = [
            json!({"name": "a", "counts": {"reads": 3}, "classes": [{"p50": 1.5}], "has": ["x", "y"]}),
            json!({"name": "b, c", "counts": null}),
        ];
        let text = csv(&["name", "counts/reads", "small_p50=classes/0/p50", "has"], &records);
        let wanted = [
            vec!["name", "counts_reads", "small_p50", "has"],
            vec!["a", "3", "1.5", "x y"],
            vec!["b, c", "", "", ""],
        ];
        assert_eq!(parsed(&text), wanted);
    }

    #[test]
    fn yaml_says_what_json_says() -> anyhow::Result<()> {
        let value = json!({
            "texts": ["no", "1", "null", "", "a: b", "#", "it's \"so\"", "two\nlines", "…", " x ", "- y", "0x1f", "1e3"],
            "none": null, "yes": true, "number": 1.5, "large": u64::MAX, "empty": {"list": [], "map": {}},
        });
        let back: Value = serde_saphyr::from_str(&yaml(&value)?)?;
        assert_eq!(back, value);
        Ok(())
    }
}
