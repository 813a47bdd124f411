//! The schemas of the document have exactly the fields of the answers.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use backends::Digest;
use serde_json::{Value, json};

use crate::fixture::{AdminApi, json_of};

/// Follows a reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> Result<&'a Value> {
    match schema["$ref"].as_str() {
        Some(name) => {
            document.pointer(name.trim_start_matches('#')).with_context(|| format!("{name} is missing"))
        }
        None => Ok(schema),
    }
}

/// Compares the fields of a value with those of its schema, level by level.
fn same_fields(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<()> {
    let schema = resolved(document, schema)?;
    match value {
        Value::Array(list) => list
            .iter()
            .try_for_each(|item| same_fields(document, &schema["items"], item, &format!("{place}[]"))),
        Value::Object(fields) => match schema["properties"].as_object() {
            Some(properties) => {
                let described: BTreeSet<_> = properties.keys().collect();
                let there: BTreeSet<_> = fields.keys().collect();
                ensure!(described == there, "{place}: described {described:?}, sent {there:?}");
                fields.iter().try_for_each(|(name, value)| {
                    same_fields(document, &properties[name], value, &format!("{place}.{name}"))
                })
            }
            // A map.
            None => fields.values().try_for_each(|value| {
                same_fields(document, &schema["additionalProperties"], value, &format!("{place}.*"))
            }),
        },
        _ => Ok(()),
    }
}

/// The schema of the JSON of an answer.
fn schema<'a>(document: &'a Value, path: &str, method: &str, status: &str) -> Result<&'a Value> {
    let answer = resolved(document, &document["paths"][path][method]["responses"][status])?;
    let content = answer["content"].as_object().context("content")?;
    Ok(&content.values().next().context("a media type")?["schema"])
}

#[tokio::test]
async fn answers_have_the_fields_of_the_document() -> Result<()> {
    let api = AdminApi::start().await?;
    let document = api.document().await?;
    let digest = Digest::of(b"nowhere").to_string();
    let job = json!({"digest": digest, "zone": "zone-b", "size": 7});
    let add = json!({"backlog": 100, "jobs": [job]});
    let park = json!({"digests": [digest], "reason": "test", "zone": null});
    for (path, described, body, status) in [
        ("/api/v1/queue/add", "/api/v1/queue/add", add, "200"),
        ("/api/v1/queue/park", "/api/v1/queue/park", park, "200"),
        ("/api/v1/queue/retry", "/api/v1/queue/retry", json!({"state": "wrong"}), "400"),
        ("/api/v1/zones/zone-c/drain", "/api/v1/zones/{zone}/drain", Value::Null, "200"),
        ("/api/v1/zones/zone-x/drain", "/api/v1/zones/{zone}/drain", Value::Null, "404"),
    ] {
        let mut command = api.command(path);
        if !body.is_null() {
            command = command.header("content-type", "application/json").body(body.to_string());
        }
        let answer = command.send().await?;
        assert_eq!(answer.status().as_str(), status, "{path}");
        let value = json_of(answer).await?;
        same_fields(&document, schema(&document, described, "post", status)?, &value, path)?;
    }
    let of_blob = format!("/api/v1/queue/jobs/{digest}");
    for (path, described) in [
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/cache", "/api/v1/cache"),
        ("/api/v1/cache/blobs", "/api/v1/cache/blobs"),
        ("/api/v1/traffic", "/api/v1/traffic"),
        ("/api/v1/certificates", "/api/v1/certificates"),
        ("/api/v1/zones", "/api/v1/zones"),
        ("/api/v1/queue", "/api/v1/queue"),
        ("/api/v1/queue/jobs", "/api/v1/queue/jobs"),
        (&of_blob, "/api/v1/queue/jobs/{digest}"),
        ("/api/v1/queue/sweep", "/api/v1/queue/sweep"),
    ] {
        let value = api.json(path).await?;
        same_fields(&document, schema(&document, described, "get", "200")?, &value, path)?;
    }
    Ok(())
}
