//! `warm`.

use std::io::Read as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use config::Settings;
use operations::images::ImageName;
use operations::warm::{self, WarmOptions, WarmProgress, images_in_list, images_of_pods, own_names};
use tokio::io::AsyncReadExt as _;

use super::output::{csv_of, print, rendered, runtime};
use super::reading::{logins, platforms};
use crate::arguments::{Output, WarmArguments};
use crate::exit;

/// The most bytes of a list of images.
const LIST_MAX: u64 = 4 << 20;

/// The most bytes of kubectl's answer.
const PODS_MAX: u64 = 1 << 30;

/// The most bytes of kubectl's errors that are shown.
const KUBECTL_ERROR_MAX: u64 = 4096;

/// How long kubectl may take.
const KUBECTL_TIMEOUT: Duration = Duration::from_secs(120);

/// The file name that means standard input.
const STDIN: &str = "-";

/// The columns of an image in CSV.
const COLUMNS: [&str; 10] =
    ["image", "state", "manifests", "blobs", "bytes", "cached", "fetched", "not_kept", "failed", "error"];

/// Pulls images through the gateway into its cache. The exit status is 3 if an image is not whole in the cache.
pub(crate) fn warm(arguments: &WarmArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.config)?;
    let mut images = arguments.images.clone();
    for file in &arguments.from_file {
        images.extend(listed(file)?);
    }
    let logins = logins(&arguments.reading)?;
    let platforms = platforms(&arguments.reading)?;
    let progress = match arguments.output {
        Output::Table => WarmProgress::shown(),
        Output::Json | Output::Yaml | Output::Csv => WarmProgress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        if arguments.from_cluster {
            images.extend(of_cluster(&settings, arguments.context.as_deref()).await?);
        }
        let gateway = arguments.reading.gateway;
        let options = WarmOptions { images, platforms, logins, at_once: arguments.at_once, gateway };
        warm::run(&settings, &options, progress).await
    });
    // A name that does not resolve must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    let report = report?;
    let table = || warm::table(&report);
    print(&rendered(arguments.output, &report, table, csv_of(&COLUMNS, Some("images")))?)?;
    Ok(exit::of_search(report.complete))
}

/// The images of a list in a file or on standard input.
fn listed(file: &Path) -> anyhow::Result<Vec<ImageName>> {
    let mut text = String::new();
    let place = || format!("--from-file {}", file.display());
    let mut source: Box<dyn std::io::Read> = match file == Path::new(STDIN) {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).with_context(place)?),
    };
    source.by_ref().take(LIST_MAX + 1).read_to_string(&mut text).with_context(place)?;
    ensure!(text.len() as u64 <= LIST_MAX, "{}: is larger than {LIST_MAX} bytes", place());
    let images = images_in_list(&text).with_context(place)?;
    ensure!(!images.is_empty(), "{}: names no image", place());
    Ok(images)
}

/// The images of the cluster's pods.
async fn of_cluster(settings: &Settings, context: Option<&str>) -> anyhow::Result<Vec<ImageName>> {
    let names = own_names(settings);
    let pods = tokio::time::timeout(KUBECTL_TIMEOUT, pods(context)).await;
    let pods = pods.with_context(|| {
        format!(
            "--from-cluster: kubectl did not end within {} s: is the cluster reachable?",
            KUBECTL_TIMEOUT.as_secs()
        )
    })??;
    let found = images_of_pods(&pods, &names).context("--from-cluster")?;
    ensure!(
        !found.ours.is_empty(),
        "--from-cluster: no pod of the cluster has an image of {} ({} images are of other registries)",
        names.join(" or "),
        found.others
    );
    Ok(found.ours)
}

async fn pods(context: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut command = tokio::process::Command::new("kubectl");
    command.args(["get", "pods", "--all-namespaces", "--output=json"]);
    command.args(context.map(|context| format!("--context={context}")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .context("--from-cluster: kubectl cannot be started: install it, or put it into PATH")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = stdout.zip(stderr).context("--from-cluster: kubectl has no output")?;
    let (mut pods, mut said) = (Vec::new(), Vec::new());
    let mut errors = stderr.take(KUBECTL_ERROR_MAX);
    let mut answer = stdout.take(PODS_MAX + 1);
    let (answered, _) = tokio::join!(answer.read_to_end(&mut pods), errors.read_to_end(&mut said));
    answered.context("--from-cluster: kubectl's answer cannot be read")?;
    ensure!(
        pods.len() as u64 <= PODS_MAX,
        "--from-cluster: kubectl's answer is larger than {PODS_MAX} bytes"
    );
    drop((answer, errors));
    let status = child.wait().await.context("--from-cluster: kubectl")?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        bail!("--from-cluster: kubectl ended with {status}: {}: check your kubeconfig", said.trim());
    }
    Ok(pods)
}
