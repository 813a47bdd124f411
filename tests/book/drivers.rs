//! Makes the table of the drivers' parameters from the code.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use backends::StoreConfig;
use serde_json::{Value, json};

const PAGE: &str = "docs/src/reference/drivers.md";

/// The least parameters with which an entry of this driver is accepted, found by adding what is said to be missing.
fn required(driver: &str, all: &[&str]) -> Result<Vec<String>> {
    let mut given: BTreeMap<String, Value> = BTreeMap::new();
    let mut order = Vec::new();
    loop {
        let text = json!([driver, given]).to_string();
        let entry: StoreConfig = serde_saphyr::from_str(&text)?;
        let Some(why) = entry.unusable() else { return Ok(order) };
        let missing = why.strip_suffix("is missing").and_then(|why| why.split('`').nth(1));
        // Of `MultiCDNStorage`, what is missing then is within `storage_config`.
        let missing = missing.map(|name| if all.contains(&name) { name } else { "storage_config" });
        let missing = match missing {
            Some(name) => name,
            None if why.contains("one of `providers`") => "providers",
            None if why.contains("`os_options` must have") => "os_options",
            None => anyhow::bail!("{driver}: {why}"),
        };
        ensure!(!given.contains_key(missing), "{driver}: {why}");
        let value = match missing {
            "is_secure" => json!(true),
            "providers" => json!({"x": {}}),
            "storage_config" => json!({"s3_bucket": "x", "storage_path": "x"}),
            "os_options" => json!({"tenant_name": "x"}),
            "auth_url" => json!("https://x"),
            _ => json!("x"),
        };
        given.insert(missing.to_owned(), value);
        order.push(missing.to_owned());
    }
}

#[test]
fn the_parameters_of_each_driver() -> Result<()> {
    let listed = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut made = "| driver | required | optional |\n| --- | --- | --- |\n".to_owned();
    for (driver, all) in StoreConfig::drivers() {
        let required = required(driver, all)?;
        let others = all.iter().map(|name| (*name).to_owned()).filter(|name| !required.contains(name));
        let others: Vec<_> = others.collect();
        made += &format!("| `{driver}` | {} | {} |\n", listed(&required), listed(&others));
    }
    super::check(PAGE, "drivers", &made)
}
