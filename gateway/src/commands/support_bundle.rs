//! `support-bundle`.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use config::{ConfigError, Settings, Summary};
use operations::admin_client::AdminClient;
use operations::support_bundle::{self, BundleParts, LOG_MAX, LogTail};
use sha2::{Digest as _, Sha256};

use super::admin_client::{client_at, client_for};
use super::check::summary;
use super::output::{print, runtime};
use crate::arguments::SupportBundleArguments;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name that stands for standard output.
const STDOUT: &str = "-";

/// The size of one read of the program in bytes.
const PIECE: usize = 64 * 1024;

/// Collects the bundle and writes it.
pub(crate) fn support_bundle(arguments: &SupportBundleArguments) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now();
    let to = arguments.to.clone().unwrap_or_else(|| default_name(now));
    let to_stdout = to == Path::new(STDOUT);
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("the bundle is not written to a terminal: give --to FILE, or redirect standard output");
    }
    // Fails now, and not after everything was collected.
    if !to_stdout && to.symlink_metadata().is_ok() {
        bail!("{} exists, and is not replaced", to.display());
    }
    let log = arguments.log.as_deref().map(|log| LogTail::read(log, LOG_MAX)).transpose()?;
    let parts = parts(arguments, log);
    let progress = |step: &str| {
        if !arguments.quiet {
            eprintln!("{step}");
        }
    };
    let runtime = runtime()?;
    let files = runtime.block_on(support_bundle::collect(parts, progress));
    // A disk that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    let archive = support_bundle::archive(&files, VERSION, now)?;
    if to_stdout {
        std::io::stdout().write_all(&archive).context("standard output cannot be written")?;
        return Ok(ExitCode::SUCCESS);
    }
    support_bundle::write(&to, &archive)?;
    let mut text = format!("{} has {}\n", to.display(), ByteSize(archive.len() as u64));
    for file in &files {
        if let Some(note) = &file.note {
            text.push_str(&format!("note: {}: {note}\n", file.name));
        }
    }
    print(&format!("{text}read MANIFEST.txt in it before you send it\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Such as `quay-gateway-support-20260131T120000Z.tar`.
fn default_name(now: SystemTime) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
    PathBuf::from(format!("quay-gateway-support-{time}.tar"))
}

/// What is known without asking anybody.
fn parts(arguments: &SupportBundleArguments, log: Option<LogTail>) -> BundleParts {
    let settings = config::load(&arguments.config);
    let folders = settings.as_ref().ok().map(|settings| {
        vec![("state_dir", settings.state_dir.clone()), ("cache.dir", settings.cache.dir.clone())]
    });
    BundleParts {
        version: version(),
        keys: config::keys_set(&arguments.config, settings.is_ok()).map_err(Into::into),
        folders: folders.unwrap_or_default(),
        log,
        admin_client: admin_client(arguments, &settings),
        settings: settings.map_err(Into::into).map(|settings| checked_summary(&settings)),
    }
}

/// The summary, and why the gateway would not start with these settings.
fn checked_summary(settings: &Settings) -> String {
    match summary(settings) {
        Ok(summary) => summary.to_string(),
        Err(error) => format!("{}\nerror: {error:#}\n", Summary::of(settings)),
    }
}

/// A client of the gateway. If the configuration is refused, `--admin` is needed.
fn admin_client(
    arguments: &SupportBundleArguments,
    settings: &Result<Settings, ConfigError>,
) -> anyhow::Result<AdminClient> {
    match (settings, arguments.gateway.admin) {
        (Ok(settings), _) => client_for(&arguments.gateway, settings),
        (Err(_), Some(address)) => client_at(&arguments.gateway, address),
        (Err(_), None) => bail!("the configuration is refused: --admin says where the gateway is"),
    }
}

/// The version, and what identifies the build.
fn version() -> String {
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let checks = if cfg!(debug_assertions) { "with debug assertions" } else { "without debug assertions" };
    let program = own_hash().unwrap_or_else(|error| format!("the program cannot be read: {error}"));
    format!("quay-gateway {VERSION}\nbuilt for {arch} {os}, {checks}\nsha256 of this program: {program}\n")
}

/// The SHA-256 of this program.
fn own_hash() -> std::io::Result<String> {
    let (mut program, mut hash, mut piece) = (File::open("/proc/self/exe")?, Sha256::new(), vec![0; PIECE]);
    loop {
        match program.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
