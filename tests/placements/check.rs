//! `quay-gateway check` for the gateway's own account, database and lock.

use anyhow::{Result, ensure};
use harness::certs::Authority;
use harness::site::{PASSWORD, Site, USER};
use real_servers::{POSTGRES_PASSWORD, Postgres, QuayTables, REDIS_PASSWORD, Redis};
use serde_json::{Value, json};

use super::fixture::{Fixture, LOCATIONS};

async fn checked(gateway: &harness::gateway::Gateway) -> Result<(bool, Value, String)> {
    let output = gateway.command(&["check", "--output", "json"]).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    for secret in [POSTGRES_PASSWORD, REDIS_PASSWORD, &format!("\"{PASSWORD}\"")] {
        ensure!(!said.contains(secret) && !log.contains(secret), "{secret} is in {said}{log}");
    }
    Ok((output.status.success(), serde_json::from_str(&said)?, said))
}

#[tokio::test]
async fn account_database_and_lock_pass_without_side_effects() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.site.quay.add_repository("admin/one", false);
    let row = fixture.tables.add_blob(&backends::Digest::EMPTY, true).await?;
    let (passed, report, said) = checked(&fixture.prepared(&json!({}))?).await?;
    ensure!(passed, "{said}");
    for name in ["account", "database", "lock"] {
        ensure!(report[name]["ok"] == true, "{name}: {said}");
    }
    ensure!(fixture.tables.locations(row).await?.is_empty(), "the test row is removed");
    Ok(())
}

#[tokio::test]
async fn errors_are_reported_with_their_fix() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    fixture.tables.run("CREATE ROLE reader LOGIN PASSWORD 'correct-horse'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await?;
    fixture.redis.stop();
    let reader = fixture.postgres.url().replacen("quay:", "reader:", 1);
    let gateway = fixture.prepared(&json!({"replication": {"database": reader}}))?;
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
    // There is one login, for the account's step.
    let logins = fixture.site.quay.record().count(&http::Method::GET, "/v2/auth");
    ensure!(logins == 1, "{logins} logins");
    Ok(())
}

/// The account is a robot of one namespace, but there are two namespaces.
#[tokio::test]
async fn namespaces_that_the_account_does_not_see_are_named() -> Result<()> {
    let fixture = Fixture::start().await?;
    fixture.site.quay.add_repository("admin/one", false);
    let rows = "INSERT INTO \"user\" (username, email, organization, robot) \
                VALUES ('admin', 'a', false, false), ('elsewhere', 'e', true, false); \
                INSERT INTO repository (namespace_user_id, name) SELECT id, 'one' FROM \"user\"";
    fixture.tables.run(rows).await?;
    let (passed, report, said) = checked(&fixture.prepared(&json!({}))?).await?;
    ensure!(passed, "{said}");
    let warnings = report["warnings"].to_string();
    ensure!(
        warnings.contains("account: it can read no repository in 1 of 2 namespaces (elsewhere)"),
        "{said}"
    );
    ensure!(warnings.contains("GLOBAL_READONLY_SUPER_USERS"), "{said}");
    Ok(())
}

/// libpq's default mode. Quay accepts an unverified certificate and no TLS.
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
        harness::gateway::Gateway::prepare(&config, &[("quay.yaml", quay.as_str())])
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
    // The server reads its file again as soon as possible.
    let mut tries = 0;
    while let Err(error) = tables.run(off).await {
        tries += 1;
        ensure!(tries < 10_000, "TLS is still on: {error:#}");
    }
    let (passed, report, said) = checked(&gateway).await?;
    ensure!(!passed && fix(&report).contains("`sslmode: disable`"), "{said}");
    // With that line the check passes.
    quay["DB_CONNECTION_ARGS"]["sslmode"] = "disable".into();
    let (_, report, said) = checked(&prepared(&quay)?).await?;
    ensure!(report["database"]["ok"] == true && !said.contains("has no sslmode"), "{said}");
    Ok(())
}

#[tokio::test]
async fn quays_configuration_works_over_tls() -> Result<()> {
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
    let gateway = harness::gateway::Gateway::prepare(&config, &files)?;
    let (_, report, said) = checked(&gateway).await?;
    for name in ["database", "lock"] {
        ensure!(report[name]["ok"] == true, "{name}: {said}");
        ensure!(report[name]["what"].as_str().is_some_and(|what| what.contains("TLS, verified")), "{said}");
    }
    Ok(())
}
