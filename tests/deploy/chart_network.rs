//! The NetworkPolicy of the chart lets through what the gateway needs, and not everything.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{CHART, documents, of_kind, rendered};

/// A connection from or to a pod of the gateway.
struct Connection {
    port: u16,
    protocol: &'static str,
    /// The namespace's name, if the other end is a pod. An address outside of the cluster, otherwise.
    namespace: Option<&'static str>,
}

impl Connection {
    fn tcp(port: u16) -> Self {
        Self { port, protocol: "TCP", namespace: None }
    }

    fn of(self, namespace: &'static str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// Whether a rule of this direction (`from`, `to`) allows it. Of peers, the chart's own forms are understood.
    fn is_allowed(&self, rules: &Value, peers: &str) -> bool {
        let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        rules.iter().any(|rule| {
            let has_port = |port: &Value| port["port"] == self.port && port["protocol"] == self.protocol;
            let ports = rule["ports"].as_array().is_some_and(|ports| ports.iter().any(has_port));
            let peer = rule.get(peers).is_none_or(|peers| {
                peers.as_array().is_some_and(|peers| peers.iter().any(|peer| self.is_peer(peer)))
            });
            ports && peer
        })
    }

    fn is_peer(&self, peer: &Value) -> bool {
        let Some(namespace) = self.namespace else { return peer["ipBlock"]["cidr"] == "10.0.0.0/8" };
        let expressions = peer["namespaceSelector"]["matchExpressions"].as_array();
        expressions.is_some_and(|all| {
            all.iter().all(|expression| {
                expression["key"] == "kubernetes.io/metadata.name"
                    && expression["operator"] == "In"
                    && expression["values"].as_array().is_some_and(|names| names.contains(&json!(namespace)))
            })
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_lets_through_what_the_gateway_needs() -> Result<()> {
    let more = ["--set", "config.registry.url=https://quay.internal:5443"];
    let objects = documents(&rendered(&format!("{CHART}/ci/sqlite.yaml"), "1.31", &more).await?)?;
    let policies = of_kind(&objects, "NetworkPolicy");
    let spec = &policies.first().context("a policy")?["spec"];
    ensure!(spec["policyTypes"] == json!(["Ingress", "Egress"]));
    let workload = super::workload(&objects)?;
    ensure!(spec["podSelector"] == workload["spec"]["selector"], "the policy is for other pods");

    let udp = |port| Connection { protocol: "UDP", ..Connection::tcp(port) };
    let allowed_out = [
        ("DNS", udp(53)),
        ("DNS of OpenShift", udp(5353)),
        ("DNS over TCP", Connection::tcp(53)),
        ("the registry", Connection::tcp(5443)),
        ("a store", Connection::tcp(443)),
        ("NooBaa", Connection::tcp(6443).of("openshift-storage")),
        ("PostgreSQL", Connection::tcp(5432).of("databases")),
        ("Redis", Connection::tcp(6379)),
    ];
    for (what, connection) in allowed_out {
        ensure!(connection.is_allowed(&spec["egress"], "to"), "{what} cannot be reached");
    }
    ensure!(!Connection::tcp(22).is_allowed(&spec["egress"], "to"), "everything can be reached");
    let allowed_in = [
        ("a client", Connection::tcp(8443)),
        ("a client in the cluster", Connection::tcp(8443).of("team")),
        ("Prometheus", Connection::tcp(9090).of("openshift-user-workload-monitoring")),
    ];
    for (what, connection) in allowed_in {
        ensure!(connection.is_allowed(&spec["ingress"], "from"), "{what} cannot connect");
    }
    ensure!(!Connection::tcp(9090).of("team").is_allowed(&spec["ingress"], "from"), "the admin side is open");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_can_be_narrowed() -> Result<()> {
    let objects = documents(&rendered(&format!("{CHART}/ci/autoscaling.yaml"), "1.31", &[]).await?)?;
    let spec = &of_kind(&objects, "NetworkPolicy")[0]["spec"];
    // The registry is at port 8080, which the values do not list.
    for port in [443, 5432, 8080] {
        ensure!(Connection::tcp(port).is_allowed(&spec["egress"], "to"), "{port}");
    }
    ensure!(Connection::tcp(4317).of("tracing").is_allowed(&spec["egress"], "to"), "extra rules");
    ensure!(!Connection::tcp(443).of("team").is_allowed(&spec["egress"], "to"), "any peer");
    ensure!(!Connection::tcp(6379).is_allowed(&spec["egress"], "to"), "any port");
    ensure!(!Connection::tcp(8443).of("team").is_allowed(&spec["ingress"], "from"), "any client");
    ensure!(!Connection::tcp(3128).is_allowed(&spec["egress"], "to"), "any port");
    let proxy = ["--set", "config.proxy.url=http://proxy.example.com:3128"];
    let objects = documents(&rendered(&format!("{CHART}/ci/autoscaling.yaml"), "1.31", &proxy).await?)?;
    let spec = &of_kind(&objects, "NetworkPolicy")[0]["spec"];
    ensure!(Connection::tcp(3128).is_allowed(&spec["egress"], "to"), "the proxy cannot be reached");
    let login = ["--set", "config.proxy.url=http://user:hunter2@proxy.example.com:3128"];
    ensure!(
        rendered(&format!("{CHART}/ci/autoscaling.yaml"), "1.31", &login).await.is_err(),
        "a login in a ConfigMap"
    );
    Ok(())
}
