//! Writes a report as files in a folder.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{BenchReport, csv, json};

/// The folder for a report. It is created before anything is measured, so that no result is lost.
#[derive(Debug, Clone)]
pub struct ReportFolder(PathBuf);

impl ReportFolder {
    /// Creates the folder if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created or written to.
    pub fn make(path: &Path) -> anyhow::Result<Self> {
        let made = std::fs::create_dir_all(path).and_then(|()| ensure_writable(path));
        made.with_context(|| format!("--report: {} cannot be written to", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes `report.json`, `summary.csv` (a line for each size class and path) and `results.csv` (a line for each
    /// read). Replaces existing files of these names.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, report: &BenchReport) -> anyhow::Result<()> {
        let files = [
            ("report.json", format!("{:#}\n", json::json(report))),
            ("summary.csv", csv::summary(report)),
            ("results.csv", csv::results(report)),
        ];
        for (name, text) in files {
            let path = self.0.join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}

/// Fails unless a file can be created in the folder.
fn ensure_writable(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".{}.new", std::process::id()));
    std::fs::write(&path, "")?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn all_files_and_no_others() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/er");
        let folder = ReportFolder::make(&path).expect("is made");
        folder.write(&example()).expect("writes");
        folder.write(&example()).expect("writes over it");
        let mut names: Vec<_> = std::fs::read_dir(&path)
            .expect("reads")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["report.json", "results.csv", "summary.csv"]);
        let error = ReportFolder::make(&path.join("report.json/x")).expect_err("is a file");
        assert!(format!("{error:#}").contains("--report"), "{error:#}");
    }
}
