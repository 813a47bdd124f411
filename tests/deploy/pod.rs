//! The chart's pod, started by podman, with a push and a pull through it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::certs::Authority;
use harness::http_client;
use harness::port::Port;
use harness::site::{PASSWORD, Site, USER as LOGIN};
use http::Method;
use real_servers::{Certificates, ImageDir, Login, Packing, Part, Postgres, Skopeo, Types};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{Engine, IMAGE, USER};
use super::image::ready;
use super::{documents, of_kind, rendered, workload};

/// The name of the pod.
const POD: &str = "gw-0";

/// What the chart's pod runs with in these tests.
struct Surroundings {
    engine: Engine,
    site: Site,
    certificates: Certificates,
    postgres: Postgres,
    postgres_root: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rendered_pods_serve_a_push_and_a_pull() -> Result<()> {
    let authority = Authority::generate()?;
    let around = Surroundings {
        engine: Engine::with_image().await?,
        site: Site::start()?,
        certificates: Certificates::make()?,
        postgres: Postgres::start(Some(&authority)).await?,
        postgres_root: authority.pem(),
    };
    for journal in ["sqlite", "postgresql"] {
        around.play(journal).await.with_context(|| journal.to_owned())?;
    }
    Ok(())
}

impl Surroundings {
    /// Starts the pod with this journal, uses it, and ends it.
    async fn play(&self, journal: &str) -> Result<()> {
        let folder = TempDir::new()?;
        // The kubelet opens folders of Secrets to the pod's user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (listen, admin) = (Port::free()?, Port::free()?);
        let hostname = format!("localhost:{}", listen.address().port());
        let mut values = chart_values(&self.site, &hostname, &listen, &admin);
        if journal == "postgresql" {
            values["journal"] = json!({"kind": journal, "postgresql": {"secretName": "journal"}});
            values["ca"] = json!({"configMapName": "roots"});
        }
        let file = folder.path().join("values.yaml");
        std::fs::write(&file, values.to_string())?;
        let objects = documents(&rendered(file.to_str().context("a path in UTF-8")?, "1.31", &[]).await?)?;
        let secrets = self.secrets(folder.path())?;
        let pod = pod(&objects, &secrets, admin.address().port(), &self.postgres_root)?;
        let played = folder.path().join("pod.yaml");
        std::fs::write(&played, pod)?;

        let name = format!("{POD}-quay-gateway");
        let played = played.to_str().context("a path in UTF-8")?;
        self.engine.podman(&["kube", "play", played]).await?;
        ready(&self.engine, &name, admin.address().port()).await?;
        self.is_confined(&name).await?;
        let zones = self.engine.podman(&["exec", &name, "quay-gateway", "zones"]).await?;
        ensure!(zones.contains("zone-c"), "{zones}");
        push_and_pull(&self.site, self.certificates.trusted(), &hostname, journal).await?;
        let url = format!("http://{}/readyz", admin.address());
        let text = http_client()?.get(url).send().await?.text().await?;
        ensure!(!text.contains("journal"), "the journal takes no jobs: {text}");

        // The same signal as the kubelet's, and the chart's own timeouts.
        self.engine.podman(&["stop", "--time", "85", &name]).await?;
        let state = self.engine.inspect("container", &name).await?["State"].clone();
        ensure!(state["ExitCode"] == 0, "{state}");
        self.engine.podman(&["kube", "down", played]).await.map(drop)
    }

    /// Checks that podman took what the pod asks for.
    async fn is_confined(&self, name: &str) -> Result<()> {
        let container = self.engine.inspect("container", name).await?;
        ensure!(container["HostConfig"]["ReadonlyRootfs"] == true, "the root can be written");
        let user = USER.to_string();
        ensure!(container["Config"]["User"] == user.as_str(), "{}", container["Config"]["User"]);
        let capabilities = &container["EffectiveCaps"];
        ensure!(capabilities.as_array().is_none_or(Vec::is_empty), "{capabilities}");
        Ok(())
    }

    /// The Secrets that the values name, as folders.
    fn secrets(&self, folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
        let tls = self.certificates.server();
        let files = [
            ("quay", "config.yaml", self.site.quay.config().to_string()),
            ("tls", "tls.crt", std::fs::read_to_string(tls.certificate)?),
            ("tls", "tls.key", std::fs::read_to_string(tls.key)?),
            ("admin", "token", "0123456789abcdef0123456789abcdef".to_owned()),
            ("journal", "url", self.postgres.tls_url()),
        ];
        let mut found = BTreeMap::new();
        for (secret, key, text) in files {
            let at = folder.join(secret);
            std::fs::create_dir_all(&at)?;
            std::fs::write(at.join(key), text)?;
            // As the chart asks for: group 0, to which every user of OpenShift belongs.
            std::fs::set_permissions(at.join(key), std::fs::Permissions::from_mode(0o440))?;
            found.insert(secret.to_owned(), at);
        }
        Ok(found)
    }
}

/// Pushes an image to the repository `name` and pulls it twice. `trusted` is a folder with `ca.crt`.
pub(super) async fn push_and_pull(site: &Site, trusted: PathBuf, hostname: &str, name: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let part = Part { seed: 1, size: 3_000_000, packing: Packing::Gzip };
    let image = ImageDir::image(&folder.path().join("image"), Types::Oci, &[part])?;
    let skopeo = Skopeo { trusted, login: Some(Login::new(LOGIN, PASSWORD)) };
    let reference = format!("{hostname}/{LOGIN}/{name}:1");
    skopeo.push(&image.path, &reference).await.context("a push")?;
    ensure!(
        site.quay.record().count(&Method::PUT, &format!("/{name}/manifests/")) == 1,
        "Quay got no manifest"
    );
    // The second pull is from the cache.
    for name in ["first", "second"] {
        let to = folder.path().join(name);
        skopeo.pull(&reference, &to).await.context(name)?;
        image.same_as(&to).context(name)?;
    }
    Ok(())
}

/// Values for this site. Ports and a short lame duck are set where an operator would set them, in the environment.
fn chart_values(site: &Site, hostname: &str, listen: &Port, admin: &Port) -> Value {
    let variable = |name: &str, port: &Port| json!({"name": name, "value": port.address().to_string()});
    json!({
        "fullnameOverride": "gw",
        "platform": "openshift",
        "image": {"repository": IMAGE.rsplit_once(':').map(|(name, _)| name), "tag": "latest"},
        "hostname": hostname,
        "quay": {"configSecret": "quay"},
        "config": {"registry": {"url": site.quay.url()}},
        "tls": {"secretName": "tls"},
        "admin": {"secretName": "admin"},
        "cache": {"sizeGiB": 1},
        "shutdown": {"lameDuckSeconds": 0},
        "extraEnv": [
            variable("QUAY_GATEWAY__LISTEN", listen),
            variable("QUAY_GATEWAY__ADMIN__LISTEN", admin),
        ],
    })
}

/// A pod of the workload and its ConfigMaps, for podman 4.3: it has no StatefulSets, no volumes of Secrets, and
/// no ports with the host's network. The user id is what OpenShift's restricted-v2 would assign.
fn pod(objects: &[Value], secrets: &BTreeMap<String, PathBuf>, admin: u16, root: &str) -> Result<String> {
    let set = workload(objects)?;
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": set["spec"]["template"]["spec"],
    });
    let spec = &mut pod["spec"];
    spec["hostNetwork"] = true.into();
    spec["securityContext"]["runAsUser"] = USER.into();
    let container = spec["containers"][0].as_object_mut().context("a container")?;
    container.remove("ports");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        container.get_mut(probe).context(probe)?["httpGet"]["port"] = admin.into();
    }
    let volumes = spec["volumes"].as_array_mut().context("volumes")?;
    for volume in volumes.iter_mut() {
        let Some(name) = volume["secret"]["secretName"].as_str() else { continue };
        let path = secrets.get(name).with_context(|| format!("no Secret {name}"))?;
        *volume = json!({"name": volume["name"], "hostPath": {"path": path, "type": "Directory"}});
    }
    let claims = set["spec"]["volumeClaimTemplates"].as_array();
    let mut played = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "roots"}, "data": {"ca-bundle.crt": root},
    })];
    for claim in claims.into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let of_pod = format!("{}-{POD}", name.as_str().context("a name")?);
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": of_pod}}));
        let mut claim = claim.clone();
        claim["metadata"] = json!({"name": of_pod});
        played.push(claim);
    }
    played.extend(of_kind(objects, "ConfigMap").into_iter().cloned());
    played.push(pod);
    // JSON is YAML.
    Ok(played.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n"))
}
