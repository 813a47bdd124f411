//! `top`: one frame for a pipe, a whole screen for a terminal.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::site::{LOGIN, Site};
use serde_json::json;

use super::quay_gateway;

/// Takes and gives back the alternate screen.
const SCREEN: [&str; 2] = ["\u{1b}[?1049h", "\u{1b}[?1049l"];

/// A gateway from which an image was pulled twice.
async fn pulled(site: &Site) -> Result<Gateway> {
    let gateway = site.gateway(&json!({})).await?;
    let (client, image) = (gateway.client(LOGIN)?, Spec::layers(1, &[40_000]).build()?);
    client.push("admin/app", "v1", &image).await?;
    for _ in 0..2 {
        client.pull("admin/app", "v1").await?;
    }
    Ok(gateway)
}

#[tokio::test]
async fn one_frame_shows_where_blobs_come_from() -> Result<()> {
    let site = Site::start()?;
    let gateway = pulled(&site).await?;
    for arguments in [&["top", "--once", "--interval", "200ms"][..], &["top", "--interval", "200ms"]] {
        let output = gateway.command(arguments).await?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success() && !text.contains('\u{1b}'), "{text}");
        for part in
            [" a second, ", "cache        ", "50 %", "localhost for ", "zone-c", "healthy", "│ cache "]
        {
            ensure!(text.contains(part), "{part}: {text}");
        }
    }
    let down = gateway.command(&["top", "--once", "--admin", "127.0.0.1:1"]).await?;
    let said = String::from_utf8(down.stderr)?;
    ensure!(!down.status.success() && said.contains("no gateway answers"), "{said}");
    Ok(())
}

/// What `top` writes to a terminal until q is pressed.
fn until_q(config: &str, no_colour: bool) -> Result<String> {
    let command = quay_gateway(&["top", "--config", config, "--interval", "200ms"]);
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let mut script = Command::new("script");
    // Without a size, a terminal has no room for a table.
    let sized = format!("stty cols 120 rows 40; {}", words.join(" "));
    script.args(["--quiet", "--return", "--command", &sized, "/dev/null"]).env("TERM", "xterm");
    script.env_remove("NO_COLOR").env_remove("QUAY_GATEWAY_CONFIG");
    script.envs(no_colour.then_some(("NO_COLOR", "1")));
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut keys = child.stdin.take();
    if let Some(keys) = &mut keys {
        std::io::Write::write_all(keys, b"q")?;
    }
    let output = child.wait_with_output()?;
    drop(keys);
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn q_ends_the_screen_and_gives_the_terminal_back() -> Result<()> {
    let site = Site::start()?;
    let gateway = pulled(&site).await?;
    let config = gateway.config_file().display().to_string();
    for no_colour in [false, true] {
        let shown = until_q(&config, no_colour)?;
        let places = SCREEN.map(|part| shown.find(part));
        ensure!(places[0].is_some() && places[0] < places[1], "{shown:?}");
        // Bold headers.
        ensure!(shown.contains("\u{1b}[1m") != no_colour, "{shown:?}");
        ensure!(shown.contains("zone-c"), "{shown:?}");
    }
    Ok(())
}
