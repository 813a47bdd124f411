//! Commands for trying the gateway by hand.

use harness::site::{PASSWORD, USER};

use crate::fixture::Fixture;
use crate::pull::{REPOSITORY, TAG};

/// The commands for podman, skopeo and curl.
pub(crate) fn lines(fixture: &Fixture, home_down: bool) -> String {
    let host = fixture.gateway.hostname();
    let trust = fixture.trust().display().to_string();
    let quay = fixture.site.quay.address();
    let home = &fixture.home().name;
    let state = if home_down {
        format!("{home} is down: pulls work through the gateway and fail with Quay only; pushes need {home}.")
    } else {
        format!("All zones are up again (--home-down leaves {home} down).")
    };
    format!(
        "{state} Run these in another terminal:

  pull      podman pull --cert-dir {trust} --creds {USER}:{PASSWORD} {host}/{REPOSITORY}:{TAG}
            skopeo copy --src-cert-dir {trust} --src-creds {USER}:{PASSWORD} docker://{host}/{REPOSITORY}:{TAG} dir:/tmp/demo-image
  push      podman push --cert-dir {trust} --creds {USER}:{PASSWORD} IMAGE {host}/{USER}/mine:v1
  look      skopeo inspect --cert-dir {trust} --creds {USER}:{PASSWORD} docker://{host}/{REPOSITORY}:{TAG}
            curl {admin}
  compare   skopeo copy --src-tls-verify=false --src-creds {USER}:{PASSWORD} docker://{quay}/{REPOSITORY}:{TAG} dir:/tmp/demo-alone

To trust the gateway permanently, copy its CA to /etc/containers/certs.d/{host}/ca.crt.",
        admin = fixture.gateway.admin(),
    )
}
