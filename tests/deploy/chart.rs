//! The chart renders objects that Kubernetes takes and that OpenShift's restricted-v2 admits.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{CHART, documents, helm, matrix, of_kind, rendered, validated, workload};

/// The first and the last supported version, and those in which the chart renders something else.
const VERSIONS: [&str; 4] = ["1.27", "1.31", "1.34", "1.37"];

#[tokio::test(flavor = "multi_thread")]
async fn every_values_file_lints_and_renders_valid_objects() -> Result<()> {
    for values in matrix()? {
        for version in VERSIONS {
            helm(&["lint", "--strict", "--quiet", CHART, "--values", &values, "--kube-version", version])
                .await
                .with_context(|| format!("{values} for {version}"))?;
            let objects = rendered(&values, version, &[]).await?;
            let count =
                validated(&objects, version).await.with_context(|| format!("{values} for {version}"))?;
            ensure!(count == documents(&objects)?.len(), "{values}: {count} objects were validated");
        }
    }
    Ok(())
}

#[test]
fn the_chart_has_the_version_of_the_gateway() -> Result<()> {
    let chart = super::document(&super::read(&format!("{CHART}/Chart.yaml"))?)?;
    let overlay = super::document(&super::read("deploy/kustomize/overlays/openshift/kustomization.yaml")?)?;
    for version in [&chart["version"], &chart["appVersion"], &overlay["images"][0]["newTag"]] {
        ensure!(version == env!("CARGO_PKG_VERSION"), "{version}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_of_an_object_is_refused() {
    let wrong = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, date: {}}";
    assert!(validated(wrong, "1.31").await.is_err());
    let wrong = "{apiVersion: route.openshift.io/v1, kind: Route, metadata: {nam: a}, spec: {to: {kind: Service, name: a}}}";
    assert!(validated(wrong, "1.31").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_fit_the_strictest_admission() -> Result<()> {
    for values in matrix()? {
        let objects = documents(&rendered(&values, "1.31", &[]).await?)?;
        let pod = &workload(&objects)?["spec"]["template"]["spec"];
        let openshift = values.ends_with("openshift.yaml");
        let of_pod = &pod["securityContext"];
        ensure!(of_pod["runAsNonRoot"] == true, "{values}");
        ensure!(of_pod["seccompProfile"]["type"] == "RuntimeDefault", "{values}");
        // restricted-v2 assigns both, and refuses others.
        ensure!(of_pod.get("runAsUser").is_none(), "{values}");
        ensure!(of_pod.get("fsGroup").is_none() == openshift, "{values}: {of_pod}");
        ensure!(pod["automountServiceAccountToken"] == false, "{values}");
        for name in ["hostNetwork", "hostPID", "hostIPC"] {
            ensure!(pod.get(name).is_none(), "{values}: {name}");
        }
        let container = &pod["containers"][0];
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        });
        ensure!(container["securityContext"] == expected, "{values}: {}", container["securityContext"]);
        let volumes = pod["volumes"].as_array().context("volumes")?;
        let kinds = ["configMap", "secret", "emptyDir", "ephemeral"];
        ensure!(volumes.iter().all(|volume| kinds.iter().any(|kind| volume.get(kind).is_some())), "{values}");
        check_shutdown(pod, &objects).with_context(|| values.clone())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_prometheus_speak_the_scheme_of_the_admin_side() -> Result<()> {
    for values in matrix()? {
        let objects = documents(&rendered(&values, "1.31", &[]).await?)?;
        let is_tls = gateway_yaml(&objects)?["admin"]["tls"] == true;
        ensure!(is_tls == values.ends_with("openshift.yaml"), "{values}");
        let container = &workload(&objects)?["spec"]["template"]["spec"]["containers"][0];
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let scheme = &container[probe]["httpGet"]["scheme"];
            ensure!((scheme == "HTTPS") == is_tls, "{values}: {probe}: {scheme}");
        }
        for monitor in of_kind(&objects, "ServiceMonitor") {
            let endpoint = &monitor["spec"]["endpoints"][0];
            ensure!((endpoint["scheme"] == "https") == is_tls, "{values}: {endpoint}");
            let verified = json!({
                "serverName": "registry.cluster1.example.com",
                "ca": {"secret": {"name": "gateway-tls", "key": "ca.crt"}},
            });
            ensure!(!is_tls || endpoint["tlsConfig"] == verified, "{values}: {endpoint}");
        }
    }
    Ok(())
}

/// The pod's grace period is longer than what the gateway takes to end.
fn check_shutdown(pod: &Value, objects: &[Value]) -> Result<()> {
    let config = gateway_yaml(objects)?;
    let seconds = |name: &str| -> Result<u64> {
        let text = config["timeouts"][name].as_str().context("timeouts")?;
        Ok(text.strip_suffix('s').context("seconds")?.parse()?)
    };
    let grace = pod["terminationGracePeriodSeconds"].as_u64().context("a grace period")?;
    ensure!(grace >= seconds("lame_duck")? + seconds("drain")? + 10, "{grace}");
    Ok(())
}

/// The gateway's configuration among the objects.
pub(super) fn gateway_yaml(objects: &[Value]) -> Result<Value> {
    let maps = of_kind(objects, "ConfigMap");
    let text = maps.iter().find_map(|map| map["data"]["gateway.yaml"].as_str()).context("gateway.yaml")?;
    super::document(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_configuration_replaces_the_pods() -> Result<()> {
    let values = format!("{CHART}/ci/sqlite.yaml");
    let checksum = async |more: &[&str]| -> Result<Value> {
        let objects = documents(&rendered(&values, "1.31", more).await?)?;
        Ok(workload(&objects)?["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone())
    };
    let before = checksum(&[]).await?;
    ensure!(before.is_string());
    ensure!(before == checksum(&["--set", "service.port=8443"]).await?);
    ensure!(before == checksum(&["--set", "config.limits.streams=9"]).await?, "a reload applies it");
    ensure!(before != checksum(&["--set", "config.limits.open_files=9"]).await?);
    ensure!(before != checksum(&["--set", "cache.sizeGiB=9"]).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_decides_about_the_workload() -> Result<()> {
    let objects = documents(&rendered(&format!("{CHART}/ci/sqlite.yaml"), "1.31", &[]).await?)?;
    let sqlite = workload(&objects)?;
    ensure!(sqlite["kind"] == "StatefulSet");
    ensure!(sqlite["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "state");
    let headless = &sqlite["spec"]["serviceName"];
    let services = of_kind(&objects, "Service");
    let headless = services.iter().find(|service| service["metadata"]["name"] == *headless);
    ensure!(headless.context("the StatefulSet's Service")?["spec"]["clusterIP"] == "None");

    let objects = documents(&rendered(&format!("{CHART}/ci/openshift.yaml"), "1.31", &[]).await?)?;
    let postgresql = workload(&objects)?;
    ensure!(postgresql["kind"] == "Deployment");
    ensure!(postgresql["spec"]["replicas"] == 3);
    ensure!(gateway_yaml(&objects)?["journal"] == json!({"url_file": "../journal/url"}));

    let objects = documents(&rendered(&format!("{CHART}/ci/autoscaling.yaml"), "1.31", &[]).await?)?;
    ensure!(workload(&objects)?["spec"].get("replicas").is_none(), "the autoscaler sets the number");
    ensure!(
        of_kind(&objects, "HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"]["kind"] == "Deployment"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_stay_in_their_zone_and_with_their_pod() -> Result<()> {
    let values = format!("{CHART}/ci/sqlite.yaml");
    let known = [("1.37", json!("PreferSameZone")), ("1.31", json!("PreferClose")), ("1.27", Value::Null)];
    for (version, expected) in known {
        let objects = documents(&rendered(&values, version, &[]).await?)?;
        let service = of_kind(&objects, "Service")[0];
        ensure!(service["spec"]["sessionAffinity"] == "ClientIP");
        ensure!(service["spec"]["trafficDistribution"] == expected, "{version}");
    }
    let more = ["--api-versions", "gateway.networking.k8s.io/v1alpha3/TLSRoute"];
    let objects = documents(&rendered(&format!("{CHART}/ci/autoscaling.yaml"), "1.31", &more).await?)?;
    ensure!(of_kind(&objects, "TLSRoute")[0]["apiVersion"] == "gateway.networking.k8s.io/v1alpha3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_routes_is_openshift() -> Result<()> {
    let values = format!("{CHART}/ci/sqlite.yaml");
    for (more, group) in [(&[][..], json!(1001)), (&["--api-versions", "route.openshift.io/v1"], Value::Null)]
    {
        let objects = documents(&rendered(&values, "1.31", more).await?)?;
        ensure!(workload(&objects)?["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == group);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notes_end_with_a_client() -> Result<()> {
    let fixed = ["install", "gw", CHART, "--dry-run=client", "--values"];
    for values in matrix()? {
        let shown = helm(&[&fixed[..], &[&values]].concat()).await?;
        let last = shown.trim_end().lines().next_back().unwrap_or_default();
        ensure!(last.contains(" -- quay-gateway clients "), "{values}: {last}");
    }
    Ok(())
}
