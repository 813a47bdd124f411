//! `quay-gateway check` on what the gateway does on its own behalf.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::certs::Authority;
use tests::real::{POSTGRES_PASSWORD, Postgres, QuayTables, REDIS_PASSWORD, Redis};
use tests::site::{PASSWORD, Site, USER};

use super::stage::{LOCATIONS, Stage};

async fn checked(gateway: &tests::gateway::Gateway) -> Result<(bool, Value, String)> {
    let output = gateway.command(&["check", "--output", "json"]).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    for secret in [POSTGRES_PASSWORD, REDIS_PASSWORD, &format!("\"{PASSWORD}\"")] {
        ensure!(!said.contains(secret) && !log.contains(secret), "{secret} is in {said}{log}");
    }
    Ok((output.status.success(), serde_json::from_str(&said)?, said))
}

#[tokio::test]
async fn account_database_and_lock_pass_and_leave_nothing() -> Result<()> {
    let stage = Stage::start().await?;
    stage.site.quay.add_repository("admin/one", false);
    let row = stage.tables.add_blob(&backends::Digest::EMPTY, true).await?;
    let (passed, report, said) = checked(&stage.prepared(&json!({}))?).await?;
    ensure!(passed, "{said}");
    for name in ["account", "database", "lock"] {
        ensure!(report[name]["ok"] == true, "{name}: {said}");
    }
    ensure!(stage.tables.locations(row).await?.is_empty(), "the try is taken back");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_fix() -> Result<()> {
    let mut stage = Stage::start().await?;
    stage.tables.run("CREATE ROLE reader LOGIN PASSWORD 'correct-horse'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await?;
    stage.redis.stop();
    let reader = stage.postgres.url().replacen("quay:", "reader:", 1);
    let gateway = stage.prepared(&json!({"replication": {"database": reader}}))?;
    std::fs::write(gateway.dir().join("password"), "wrong")?;
    let (passed, report, said) = checked(&gateway).await?;
    ensure!(!passed, "{said}");
    let step = |name: &str, at: usize| report[name]["steps"][at].clone();
    let login = step("account", 0);
    ensure!(
        login["error"].as_str().is_some_and(|error| error.contains("The name or the password is wrong")),
        "{said}"
    );
    ensure!(step("account", 1)["error"] == "not reached", "{said}");
    ensure!(
        step("database", 0)["error"].as_str().is_some_and(|error| error.contains("permission denied")),
        "{said}"
    );
    ensure!(step("database", 0)["fix"].as_str().is_some_and(|fix| fix.contains("GRANT INSERT")), "{said}");
    ensure!(
        step("lock", 0)["error"].as_str().is_some_and(|error| error.contains("cannot be reached")),
        "{said}"
    );
    // One login, for the account's sake.
    let logins = stage.site.quay.record().count(&http::Method::GET, "/v2/auth");
    ensure!(logins == 1, "{logins} logins");
    Ok(())
}

/// A robot of one namespace, where there are two.
#[tokio::test]
async fn namespaces_that_the_account_does_not_see_are_named() -> Result<()> {
    let stage = Stage::start().await?;
    stage.site.quay.add_repository("admin/one", false);
    let rows = "INSERT INTO \"user\" (username, email, organization, robot) \
                VALUES ('admin', 'a', false, false), ('elsewhere', 'e', true, false); \
                INSERT INTO repository (namespace_user_id, name) SELECT id, 'one' FROM \"user\"";
    stage.tables.run(rows).await?;
    let (passed, report, said) = checked(&stage.prepared(&json!({}))?).await?;
    ensure!(passed, "{said}");
    let warnings = report["warnings"].to_string();
    ensure!(
        warnings.contains("account: it can read no repository in 1 of 2 namespaces (elsewhere)"),
        "{said}"
    );
    ensure!(warnings.contains("GLOBAL_READONLY_SUPER_USERS"), "{said}");
    Ok(())
}

/// libpq's own default: Quay gets on with a certificate that nobody verifies, and without any.
#[tokio::test]
async fn a_missing_sslmode_fails_with_the_line_to_add() -> Result<()> {
    let postgres = Postgres::start(Some(&Authority::generate()?)).await?;
    let redis = Redis::start(None).await?;
    let tables = QuayTables::make(&postgres, &LOCATIONS).await?;
    let site = Site::start()?;
    let mut quay = site.quay.config();
    quay["DB_URI"] = postgres.tls_url().replace("postgres://", "postgresql+psycopg2://").into();
    quay["DB_CONNECTION_ARGS"] = json!({"threadlocals": true, "autorollback": true});
    quay["USER_EVENTS_REDIS"] = redis.quay_entry();
    let config = site.gateway_config(&json!({"replication": {"placements": true}}));
    let prepared = |quay: &Value| {
        let quay = quay.to_string();
        tests::gateway::Gateway::prepare(&config, &[("quay.yaml", quay.as_str())])
    };
    let gateway = prepared(&quay)?;
    let fix = |report: &Value| report["database"]["steps"][0]["fix"].as_str().unwrap_or_default().to_owned();
    let (passed, report, said) = checked(&gateway).await?;
    ensure!(!passed && fix(&report).contains("`sslrootcert: FILE`"), "{said}");
    ensure!(report["warnings"].to_string().contains("has no sslmode"), "{said}");
    let table = gateway.command(&["check"]).await?;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let last = table.lines().last().unwrap_or_default();
    ensure!(last.starts_with("FAILED: ") && last.ends_with("database failed, lock passed"), "{last}");

    tables.run("ALTER SYSTEM SET ssl = off").await?;
    tables.run("SELECT pg_reload_conf()").await?;
    let off = "DO $$ BEGIN IF current_setting('ssl') = 'on' THEN RAISE 'not yet'; END IF; END $$";
    // It reads its file again as soon as it can.
    let mut tries = 0;
    while let Err(error) = tables.run(off).await {
        tries += 1;
        ensure!(tries < 10_000, "TLS does not go off: {error:#}");
    }
    let (passed, report, said) = checked(&gateway).await?;
    ensure!(!passed && fix(&report).contains("`sslmode: disable`"), "{said}");
    // With that line it passes.
    quay["DB_CONNECTION_ARGS"]["sslmode"] = "disable".into();
    let (_, report, said) = checked(&prepared(&quay)?).await?;
    ensure!(report["database"]["ok"] == true && !said.contains("has no sslmode"), "{said}");
    Ok(())
}

#[tokio::test]
async fn quays_own_configuration_names_them_over_tls() -> Result<()> {
    let authority = Authority::generate()?;
    let postgres = Postgres::start(Some(&authority)).await?;
    let redis = Redis::start(Some(&authority)).await?;
    QuayTables::make(&postgres, &LOCATIONS).await?;
    let site = Site::start()?;
    let mut quay = site.quay.config();
    quay["DB_URI"] = postgres.tls_url().replace("postgres://", "postgresql+psycopg2://").into();
    quay["DB_CONNECTION_ARGS"] =
        json!({"sslmode": "verify-full", "sslrootcert": "/conf/stack/database.pem", "threadlocals": true});
    quay["USER_EVENTS_REDIS"] = redis.quay_entry();
    quay["USER_EVENTS_REDIS"]["ssl_ca_certs"] = "/conf/stack/database.pem".into();
    let config = site.gateway_config(&json!({
        "registry": {"account": {"username": USER, "password_file": "password"}},
        "replication": {"placements": true},
    }));
    let (quay, root) = (quay.to_string(), authority.pem());
    let files = [("quay.yaml", quay.as_str()), ("database.pem", root.as_str()), ("password", PASSWORD)];
    let gateway = tests::gateway::Gateway::prepare(&config, &files)?;
    let (_, report, said) = checked(&gateway).await?;
    for name in ["database", "lock"] {
        ensure!(report[name]["ok"] == true, "{name}: {said}");
        ensure!(report[name]["what"].as_str().is_some_and(|what| what.contains("TLS, verified")), "{said}");
    }
    Ok(())
}
