//! What to type to try it by hand.

use tests::site::{PASSWORD, USER};

use crate::pull::{REPOSITORY, TAG};
use crate::stage::Stage;

/// The lines for podman, skopeo and curl.
pub(crate) fn lines(stage: &Stage, home_down: bool) -> String {
    let host = stage.gateway.hostname();
    let trust = stage.trust().display().to_string();
    let quay = stage.site.quay.address();
    let home = &stage.home().name;
    let state = if home_down {
        format!("{home} is dead: pulls work through the gateway and fail at Quay; pushes need {home}.")
    } else {
        format!("All zones are up again (--home-down leaves {home} dead).")
    };
    format!(
        "{state} In another terminal:

  pull      podman pull --cert-dir {trust} --creds {USER}:{PASSWORD} {host}/{REPOSITORY}:{TAG}
            skopeo copy --src-cert-dir {trust} --src-creds {USER}:{PASSWORD} docker://{host}/{REPOSITORY}:{TAG} dir:/tmp/demo-image
  push      podman push --cert-dir {trust} --creds {USER}:{PASSWORD} IMAGE {host}/{USER}/mine:v1
  look      skopeo inspect --cert-dir {trust} --creds {USER}:{PASSWORD} docker://{host}/{REPOSITORY}:{TAG}
            curl {admin}
  compare   skopeo copy --src-tls-verify=false --src-creds {USER}:{PASSWORD} docker://{quay}/{REPOSITORY}:{TAG} dir:/tmp/demo-alone

For good, clients trust the gateway by its CA in /etc/containers/certs.d/{host}/ca.crt.",
        admin = stage.gateway.admin(),
    )
}
