//! `cache`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use config::Settings;
use operations::admin_client::AdminClient;
use operations::audit::Progress;
use operations::contents::{contents_table, verify_all, verify_table};
use operations::oci_layout::{ExportOptions, export, export_table, import, import_table};
use operations::warm::{WarmProgress, own_names};

use super::admin_client::admin_client;
use super::output::{csv_of, print, rendered, runtime};
use super::reading::{logins, platforms};
use crate::arguments::{CacheArguments, CacheCommand, EvictArguments, ExportArguments, Output};
use crate::exit;

/// The columns of a blob in CSV.
const BLOB_COLUMNS: [&str; 6] = ["digest", "size", "uses", "pinned", "proven", "unused_seconds"];

/// The columns of a wrong blob in CSV.
const VERDICT_COLUMNS: [&str; 3] = ["digest", "verdict", "error"];

const EVICT_COLUMNS: [&str; 4] = ["evicted", "bytes", "pinned", "absent"];
const EXPORT_COLUMNS: [&str; 5] = ["images", "manifests", "blobs", "bytes", "there_before"];
const IMPORT_COLUMNS: [&str; 8] =
    ["complete", "imported", "bytes", "there_before", "manifests", "unnamed", "missing", "failed"];

/// Shows the cache of a running gateway, or changes it.
pub(crate) fn cache(arguments: &CacheArguments) -> anyhow::Result<ExitCode> {
    let (output, config) = (arguments.output, arguments.config.as_deref());
    let runtime = runtime()?;
    let done = match &arguments.command {
        CacheCommand::Export(wanted) => runtime.block_on(exported(wanted, config, output)),
        command => {
            let admin = admin_client(&arguments.gateway, config)?;
            runtime.block_on(at_gateway(&admin, command, config, output))
        }
    };
    // A name that does not resolve must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    done
}

async fn at_gateway(
    admin: &AdminClient,
    command: &CacheCommand,
    config: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let progress = match output {
        Output::Table => Progress::shown(),
        Output::Json | Output::Yaml | Output::Csv => Progress::hidden(),
    };
    match command {
        CacheCommand::Ls { pinned } => {
            let mut blobs = admin.cache_contents().await?;
            blobs.retain(|blob| blob.pinned || !pinned);
            print(&rendered(output, &blobs, || contents_table(&blobs), csv_of(&BLOB_COLUMNS, None))?)?;
        }
        CacheCommand::Verify { digests } => {
            let digests = digests.iter().map(ToString::to_string).collect();
            let report = verify_all(admin, digests, progress).await?;
            let csv = csv_of(&VERDICT_COLUMNS, Some("findings"));
            print(&rendered(output, &report, || verify_table(&report), csv)?)?;
            return Ok(exit::of_search(report.findings.is_empty()));
        }
        CacheCommand::Evict(evict) => {
            let done = admin.evict(&chosen(admin, evict).await?).await?;
            let text = || {
                let (bytes, pinned, absent) = (ByteSize(done.bytes), done.pinned, done.absent);
                let evicted = done.evicted;
                format!(
                    "{evicted} blobs with {bytes} are evicted; {pinned} are pinned and stay, {absent} were not there\n"
                )
            };
            print(&rendered(output, &done, text, csv_of(&EVICT_COLUMNS, None))?)?;
        }
        CacheCommand::Import { dir } => {
            let settings = config.map(config::load).transpose()?;
            let names = settings.as_ref().map(own_names).unwrap_or_default();
            let report = import(admin, dir, &names, progress).await?;
            print(&rendered(output, &report, || import_table(&report), csv_of(&IMPORT_COLUMNS, None))?)?;
            return Ok(exit::of_search(report.complete));
        }
        // It is a client of the gateway's public endpoint.
        CacheCommand::Export(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The digests to evict.
async fn chosen(admin: &AdminClient, evict: &EvictArguments) -> anyhow::Result<Vec<String>> {
    if !evict.digests.is_empty() {
        return Ok(evict.digests.iter().map(ToString::to_string).collect());
    }
    let least = evict.older_than.unwrap_or_default().as_secs();
    let blobs = admin.cache_contents().await?.into_iter();
    Ok(blobs.filter(|blob| !blob.pinned && blob.unused_seconds >= least).map(|blob| blob.digest).collect())
}

async fn exported(
    arguments: &ExportArguments,
    config: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let config = config.context("give the gateway's configuration file with --config")?;
    let settings: Settings = config::load(config)?;
    let options = ExportOptions {
        images: arguments.images.clone(),
        platforms: platforms(&arguments.reading)?,
        logins: logins(&arguments.reading)?,
        gateway: arguments.reading.gateway,
        to: arguments.to.clone(),
    };
    let progress = match output {
        Output::Table => WarmProgress::shown(),
        Output::Json | Output::Yaml | Output::Csv => WarmProgress::hidden(),
    };
    let report = export(&settings, &options, progress).await?;
    print(&rendered(output, &report, || export_table(&report), csv_of(&EXPORT_COLUMNS, None))?)?;
    Ok(ExitCode::SUCCESS)
}
