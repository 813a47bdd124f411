//! The alerts: right for Prometheus, each tested, each with its entry of the runbook.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use harness::site::Site;
use real_servers::Program;
use serde_json::{Value, json};

use super::{BOUND, CHART, document, read, root};

const ALERTS: &str = "deploy/monitoring/alerts.yaml";
const TESTS: &str = "deploy/monitoring/alerts_test.yaml";
const PAGE: &str = "docs/src/operate/monitoring.md";

/// The rules of the file.
fn rules() -> Result<Vec<Value>> {
    let file = document(&read(ALERTS)?)?;
    let groups = file["groups"].as_array().context("groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    Ok(rules.cloned().collect())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{pointer} of {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_the_alerts_and_their_tests_pass() -> Result<()> {
    let promtool = || -> Result<Program> { Ok(Program::find("promtool")?.in_folder(&root())) };
    promtool()?.args(["check", "rules", ALERTS]).run(BOUND).await?;
    promtool()?.args(["test", "rules", TESTS]).run(BOUND).await.map(drop)
}

#[test]
fn each_alert_is_tested_loud_and_quiet() -> Result<()> {
    let file = document(&read(TESTS)?)?;
    let cases = file["tests"].as_array().context("tests")?;
    let cases: Vec<&Value> =
        cases.iter().filter_map(|test| test["alert_rule_test"].as_array()).flatten().collect();
    for rule in rules()? {
        let name = text(&rule, "/alert")?;
        let of_alert = cases.iter().filter(|case| case["alertname"] == name);
        let expects = |case: &&&Value| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        let (all, loud) = (of_alert.clone().count(), of_alert.clone().filter(expects).count());
        ensure!(loud > 0, "no test lets {name} fire");
        // With every metric of a gateway that works, and with troubles that are too short or too old.
        ensure!(all - loud > 1, "{name}: {} quiet tests", all - loud);
    }
    Ok(())
}

/// The anchor that mdBook makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn each_alert_leads_to_an_entry_of_the_runbook() -> Result<()> {
    for rule in rules()? {
        let link = text(&rule, "/annotations/runbook_url")?;
        let (page, wanted) = link.split_once(".html#").with_context(|| link.to_owned())?;
        let page = read(&format!("docs/src/{page}.md"))?;
        let mut headings = page.lines().filter_map(|line| line.strip_prefix("## "));
        ensure!(headings.any(|heading| anchor(heading) == wanted), "there is no {link}");
        for pointer in ["/annotations/summary", "/annotations/description", "/labels/severity"] {
            text(&rule, pointer)?;
        }
    }
    Ok(())
}

/// `increase` sees nothing of a counter that appears with its first event. An alert on such a counter has to say so.
#[tokio::test(flavor = "multi_thread")]
async fn counters_of_alerts_are_there_from_the_start() -> Result<()> {
    let site = Site::start()?;
    let gateway = site.gateway(&json!({})).await?;
    let metrics = gateway.metrics().await?;
    let mut counters = 0;
    for rule in rules()? {
        let expr = text(&rule, "/expr")?;
        for rest in expr.split("increase(").skip(1).chain(expr.split("rate(").skip(1)) {
            let name = rest.split(['[', '{']).next().unwrap_or_default();
            let has_sample =
                |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            let knows = expr.contains(&format!("unless {name} offset"));
            ensure!(knows || metrics.lines().any(has_sample), "{name} has no sample at the start");
            counters += 1;
        }
    }
    ensure!(counters > 7, "the alerts were not parsed");
    Ok(())
}

#[test]
fn the_page_lists_the_alerts() -> Result<()> {
    let page = read(PAGE)?;
    let section = page.split("\n## ").find(|section| section.starts_with("Alerts\n")).context("Alerts")?;
    let links = section.lines().filter_map(|line| line.split("[entry](").nth(1)?.split(')').next());
    let of_page: BTreeSet<String> =
        links.map(|link| format!("operate/{}", link.replace(".md#", ".html#"))).collect();
    let rules = rules()?;
    let links = rules.iter().map(|rule| text(rule, "/annotations/runbook_url").map(str::to_owned));
    let of_rules = links.collect::<Result<BTreeSet<_>>>()?;
    ensure!(of_page == of_rules, "{PAGE} has {of_page:#?}, {ALERTS} has {of_rules:#?}");
    for rule in &rules {
        let name = text(rule, "/alert")?;
        ensure!(section.contains(&format!("`{name}`")), "{PAGE} does not name {name}");
    }
    Ok(())
}

#[test]
fn the_chart_has_the_same_files() -> Result<()> {
    for (ours, its) in [(ALERTS, "alerts.yaml"), ("deploy/monitoring/dashboard.json", "dashboard.json")] {
        super::check_file(&format!("{CHART}/files/{its}"), &read(ours)?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_renders_the_alerts() -> Result<()> {
    let values = format!("{CHART}/ci/openshift.yaml");
    let objects = super::documents(&super::rendered(&values, "1.31", &[]).await?)?;
    let rule = super::of_kind(&objects, "PrometheusRule")[0];
    let rendered = rule["spec"]["groups"][0]["rules"].as_array().context("rules")?;
    let mut expected = rules()?;
    expected.retain(|rule| rule["alert"] != "QuayGatewayZoneLags");
    for rule in &mut expected {
        let link =
            format!("https://docs.example.com/quay-gateway/{}", text(rule, "/annotations/runbook_url")?);
        rule["annotations"]["runbook_url"] = link.into();
    }
    ensure!(*rendered == expected);
    Ok(())
}
