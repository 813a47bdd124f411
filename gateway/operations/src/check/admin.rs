//! The check of `admin.tls`: whether commands would trust the gateway that runs here.

use config::Settings;
use tokio::net::TcpStream;

use super::advice::{Advice, StepError};
use super::step::StepNote;
use crate::AdminTls;
use crate::admin_client::AdminClient;

/// The most bytes of the answer that are read.
const ANSWER_MAX: usize = 64;

/// Connects to the admin API as commands do. If nothing listens there, there is nothing to verify.
pub(super) async fn check(settings: &Settings) -> Result<((), Option<StepNote>), StepError> {
    let address = settings.admin.listen;
    if let Err(error) = TcpStream::connect(address).await {
        let note = format!("no gateway runs at {address}, so its certificate is not verified: {error}");
        return Ok(((), Some(StepNote::Info(note))));
    }
    let explained = |error: anyhow::Error| {
        let cause = "the certificate is not for `hostname`, is signed by a CA that is not known here, or another server \
                     listens there";
        let fix = "`quay-gateway certs show --connect ADDRESS --server-name HOSTNAME` shows the certificate; add its CA to \
                   `ca`";
        StepError::Explained(format!("{error:#}"), Advice::new(cause, fix))
    };
    let tls = AdminTls::of(settings, None);
    let admin_client = AdminClient::at(address, None, Some(&tls)).map_err(explained)?;
    admin_client.raw("healthz", ANSWER_MAX).await.map_err(explained)?;
    Ok(((), None))
}
