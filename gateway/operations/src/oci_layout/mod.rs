//! Images as an OCI layout in a folder (image-spec, `image-layout.md`), which can be carried to another site.

mod export;
mod import;
mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use self::export::{ExportOptions, ExportReport, export, export_table};
pub use self::import::{ImportReport, import, import_table};

/// The version of the layout.
const VERSION: &str = "1.0.0";

/// The annotation with the name of an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The most bytes of `index.json`.
const INDEX_MAX: u64 = 16 << 20;

/// The file `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}
