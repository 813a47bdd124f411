//! Placements, locks and targets of copies.

use super::*;

/// Quay's file with these lines too.
fn with_quay(gateway: &str, more: &str) -> Result<Settings, ConfigError> {
    Folder::new(gateway, &format!("{QUAY}{more}")).load(&[])
}

const SERVICES: &str = "DB_URI: postgresql://quay:hunter2@db.example.com/quay
DB_CONNECTION_ARGS: {sslmode: disable, threadlocals: true}
USER_EVENTS_REDIS: {host: redis.example.com, port: 6380, password: hunter2}
";

#[test]
fn placements_use_the_database_of_quays_file() {
    let wanted = format!("{GATEWAY}replication: {{placements: true}}\n");
    let settings = with_quay(&wanted, SERVICES).expect("is read");
    let placements = settings.replication.placements.as_ref().expect("placements");
    assert_eq!(placements.database.to_string(), "PostgreSQL db.example.com:5432/quay as quay, no TLS");
    assert_eq!(placements.lock.as_ref().expect("a lock").port, 6380);
    assert_eq!(placements.locations, ["zone-a", "zone-b", "zone-c"]);
    let shown = format!("{settings:?}{}", crate::Summary::of(&settings));
    assert!(shown.contains("Redis redis.example.com:6380") && !shown.contains("hunter2"), "{shown}");
    // Without `placements`, Quay's own passwords are not even read.
    let unusable = "DB_URI: mysql+pymysql://u:hunter2@h/q\nDB_CONNECTION_ARGS: 7\nUSER_EVENTS_REDIS: []\n";
    assert!(with_quay(GATEWAY, unusable).expect("is read").replication.placements.is_none());
    let own = format!(
        "{GATEWAY}replication: {{placements: true, quay_lock: false, database: 'postgres://u:hunter2@other/q'}}\n"
    );
    let settings = with_quay(&own, unusable).expect("is read");
    let placements = settings.replication.placements.as_ref().expect("placements");
    assert!(placements.database.to_string().contains("other:5432/q as u, TLS, verified"));
    assert!(
        placements.lock.is_none()
            && settings.warnings.iter().any(|warning| warning.contains("quay_lock is off"))
    );
}

#[test]
fn placements_that_cannot_be_kept_are_refused() {
    let wanted = format!("{GATEWAY}replication: {{placements: true}}\n");
    for (more, why) in [
        ("", "Quay's database is not known"),
        (&SERVICES.replace("postgresql:", "mysql+pymysql:"), "names a MySQL database"),
        (&SERVICES.replace("disable", "prefer"), "neither `verify-full` nor `disable`"),
        (&SERVICES.replace("USER_EVENTS_REDIS", "BUILDLOGS_REDIS"), "has no USER_EVENTS_REDIS"),
        (&SERVICES.replace("host: redis.example.com, ", ""), "USER_EVENTS_REDIS is not understood"),
        (
            &SERVICES.replace("sslmode: disable", "sslrootcert: /conf/stack/none.pem"),
            "there is no file /conf/stack/none.pem",
        ),
    ] {
        let refused = with_quay(&wanted, more).expect_err(why).to_string();
        assert!(
            refused.contains(why) && refused.contains("gateway.yaml:2") && !refused.contains("hunter2"),
            "{refused}"
        );
    }
    for (replication, why) in [
        ("{database: 'postgres://u:hunter2@h/q'}", "without replication.placements: true"),
        ("{placements: true, database: sqlite}", "Quay's database must be PostgreSQL"),
        ("{sweep: {rate: 0}}", "replication.sweep.rate: must be between"),
        ("{sweep: {every: 0s}}", "replication.sweep.every: must be at least 1s"),
    ] {
        let refused = with_quay(&format!("{GATEWAY}replication: {replication}\n"), SERVICES).expect_err(why);
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let other = "registry: {kind: distribution, url: 'http://x'}\nreplication: {placements: true}\nzones: {a: [LocalStorage, {storage_path: /a}]}\n";
    assert!(refused(other).contains("replication.placements are rows of Quay's database"));
}

#[test]
fn pushes_are_copied_if_quay_records_copies_or_orphans_are_accepted() {
    let off = QUAY.replace("REPLICATION: true", "REPLICATION: false");
    assert_ne!(off, QUAY);
    let load = |gateway: &str| Folder::new(gateway, &format!("{off}{SERVICES}")).load(&[]).expect("is read");
    let nobody = load(GATEWAY);
    assert!(nobody.targets.is_empty());
    assert!(nobody.warnings.iter().any(|warning| warning.contains("so pushes are not copied")));
    let recorded = load(&format!("{GATEWAY}replication: {{placements: true}}\n"));
    assert_eq!(recorded.targets, ["zone-b", "zone-a"]);
    let accepted = load(&format!("{GATEWAY}replication: {{accept_orphans: true}}\n"));
    assert_eq!(accepted.targets, ["zone-b", "zone-a", "zone-c"]);
    assert!(accepted.warnings.iter().any(|warning| warning.contains("accepts that")));
    // With Quay's own replication, only zones outside its default locations give a warning.
    let beyond = loaded(&format!("{GATEWAY}replication: {{accept_orphans: true}}\n"), &[]);
    assert!(beyond.warnings.iter().any(|warning| warning.contains("copies also go to zone-c")));
    let given =
        [("QUAY_GATEWAY__REPLICATION__SWEEP__RATE", "2"), ("QUAY_GATEWAY__REPLICATION__FETCH_MAX", "1GB")];
    let settings = loaded(GATEWAY, &given).replication;
    assert_eq!((settings.sweep.rate, settings.fetch_max), (2.0, 1_000_000_000));
}
