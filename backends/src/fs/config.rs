//! Parameters of Quay's `LocalStorage` (`storage/local.py`).

use std::path::PathBuf;

use crate::params::{Params, Reason};

pub(crate) const PARAMS: &[&str] = &["storage_path"];

/// A folder as a store.
#[derive(Debug, Clone)]
pub struct FsConfig {
    /// The folder.
    pub root: PathBuf,
}

impl FsConfig {
    pub(crate) fn read(params: &mut Params) -> Result<Self, Reason> {
        Ok(Self { root: params.text("storage_path")?.into() })
    }

    /// The location: the path of the folder without slashes at its end.
    pub(crate) fn location(&self) -> String {
        self.root.components().collect::<PathBuf>().display().to_string()
    }

    /// A summary for operators.
    pub(crate) fn summary(&self) -> Vec<(&'static str, String)> {
        vec![("root", self.root.display().to_string())]
    }
}
