//! The schema 1 manifest that Quay creates if the client does not accept the image's own type.

use bytes::Bytes;
use serde_json::{Value, json};

use super::state::StoredManifest;

const MEDIA_TYPE: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// `image` as an unsigned schema 1 manifest. `None` if it is not an image.
pub(super) fn converted(repository: &str, tag: &str, image: &StoredManifest) -> Option<StoredManifest> {
    let json: Value = serde_json::from_slice(&image.bytes).ok()?;
    let layers = json.get("layers")?.as_array()?;
    let id = |index: usize| format!("{:064x}", index + 1);
    let mut history = Vec::new();
    let mut files = Vec::new();
    for (index, layer) in layers.iter().enumerate().rev() {
        let mut v1 = json!({ "id": id(index) });
        if index > 0 {
            v1["parent"] = id(index - 1).into();
        }
        history.push(json!({ "v1Compatibility": v1.to_string() }));
        files.push(json!({ "blobSum": layer["digest"] }));
    }
    let old = json!({
        "schemaVersion": 1, "name": repository, "tag": tag, "architecture": "amd64", "history": history, "fsLayers": files,
    });
    Some(StoredManifest { media_type: MEDIA_TYPE.to_owned(), bytes: Bytes::from(super::pretty(&old)) })
}
