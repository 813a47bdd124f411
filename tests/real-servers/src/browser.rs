//! Chromium, driven by Playwright. It opens one page at a time.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::process::tools;

const DRIVER: &str = include_str!("browser/driver.mjs");

/// Debian's package `chromium`.
const CHROMIUM: &str = "/usr/bin/chromium";

/// The timeout of a wait for something that the page shows, and of a click.
const SHOWN: Duration = Duration::from_secs(60);

/// The timeout of one command, which may wait for [`SHOWN`].
const COMMAND: Duration = Duration::from_secs(120);

/// The size of a window in pixels, and whether the system's colours are `light` or `dark`.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// A running Chromium. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _driver: Child,
    _folder: TempDir,
}

impl Browser {
    /// Starts Chromium without a window.
    ///
    /// # Errors
    /// Chromium, Node.js or Playwright is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        ensure!(Path::new(CHROMIUM).is_file(), "{CHROMIUM} does not exist: run tests/run --install-only");
        let folder = tempfile::Builder::new().prefix("browser-").tempdir()?;
        let script = folder.path().join("driver.mjs");
        std::fs::write(&script, DRIVER)?;
        let mut driver = Command::new("node")
            .arg(&script)
            .arg(tools().join("browser"))
            .arg(CHROMIUM)
            .env("TMPDIR", folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node: tests/run --install-only installs it")?;
        let input = driver.stdin.take().context("no input")?;
        let output = BufReader::new(driver.stdout.take().context("no output")?).lines();
        Ok(Self { input, output, _driver: driver, _folder: folder })
    }

    /// Opens a page in a window of its own. Over TLS, certificates are not verified.
    ///
    /// # Errors
    /// The page cannot be loaded, or has another status than 200.
    pub async fn open(&mut self, url: &str, look: Look) -> Result<()> {
        let Look { width, height, scheme } = look;
        let arguments = json!({"url": url, "width": width, "height": height, "scheme": scheme});
        let status: u16 = self.ask("open", arguments).await?;
        ensure!(status == 200, "{url}: {status}");
        Ok(())
    }

    /// Changes the window and the system's colours.
    ///
    /// # Errors
    /// The driver has ended.
    pub async fn look(&mut self, look: Look) -> Result<()> {
        let Look { width, height, scheme } = look;
        self.ask("look", json!({"width": width, "height": height, "scheme": scheme})).await
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    /// The expression throws an error, or has a value of another type.
    pub async fn evaluate<T: DeserializeOwned>(&mut self, expression: &str) -> Result<T> {
        self.ask("evaluate", json!({"expression": expression})).await
    }

    /// Waits until a JavaScript expression is true in the page, and returns its value.
    ///
    /// # Errors
    /// It does not become true within a minute.
    pub async fn wait<T: DeserializeOwned>(&mut self, expression: &str) -> Result<T> {
        self.ask("wait", json!({"expression": expression, "timeout": milliseconds(SHOWN)})).await
    }

    /// Clicks on the element that this CSS selector finds.
    ///
    /// # Errors
    /// There is no such element, or it cannot be clicked.
    pub async fn click(&mut self, selector: &str) -> Result<()> {
        self.ask("click", json!({"selector": selector, "timeout": milliseconds(SHOWN)})).await
    }

    /// Enters a text into the field that this CSS selector finds.
    ///
    /// # Errors
    /// There is no such field.
    pub async fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        let arguments = json!({"selector": selector, "text": text, "timeout": milliseconds(SHOWN)});
        self.ask("fill", arguments).await
    }

    /// Presses a key, such as `Tab` or `Enter`.
    ///
    /// # Errors
    /// There is no such key.
    pub async fn press(&mut self, key: &str) -> Result<()> {
        self.ask("press", json!({"key": key})).await
    }

    /// What axe-core finds wrong for people who use the page without a mouse or without seeing it.
    ///
    /// # Errors
    /// axe-core is not installed or does not run.
    pub async fn axe(&mut self) -> Result<Vec<String>> {
        self.ask("axe", json!({})).await
    }

    /// Writes a picture of the upper `height` pixels of the page as PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn screenshot(&mut self, file: &Path, height: u32) -> Result<()> {
        self.ask("screenshot", json!({"path": file, "height": height})).await
    }

    /// The errors and warnings on the console of all pages so far.
    ///
    /// # Errors
    /// The driver has ended.
    pub async fn errors(&mut self) -> Result<Vec<String>> {
        self.ask("errors", json!({})).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, command: &str, mut arguments: Value) -> Result<T> {
        arguments["command"] = command.into();
        self.input.write_all(format!("{arguments}\n").as_bytes()).await?;
        let answered = tokio::time::timeout(COMMAND, self.output.next_line()).await;
        let line = answered.with_context(|| format!("no answer to {command}"))??;
        let mut answer: Value = serde_json::from_str(&line.context("the driver has ended")?)?;
        if let Some(error) = answer.get("error") {
            bail!("{arguments}: {error}");
        }
        serde_json::from_value(answer["value"].take()).with_context(|| format!("{arguments}"))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
