//! Several replicas with one PostgreSQL, and a database that fails and returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backends::Backoff;
use real_servers::POSTGRES_PASSWORD;
use replication::conformance::{LONGEST_WAIT, Mode, Place as _, Scripted, blob, claim_all, new_job};
use replication::{Bounds, FanOut, Job, Journal, JournalError, LEASE, LaneStatus, Limits, Next, Setup};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use zone_router::Blob;

use super::place::DatabasePlace;

/// A timeout that is far longer than any wait in these tests.
const TIMEOUT: Duration = Duration::from_secs(120);

fn zone() -> Arc<str> {
    Arc::from("zone-b")
}

async fn claim(journal: &Journal) -> Job {
    match journal.claim(&zone(), 0, Vec::new(), LONGEST_WAIT).await.unwrap() {
        Next::Job(job) => job,
        Next::Wait(wait) => panic!("nothing for {wait:?}"),
    }
}

/// Ends all leases now. Returns the number of leases.
async fn leases_end(place: &DatabasePlace) -> u64 {
    place.sql("UPDATE quay_gateway_job SET leased_until = now() WHERE leased_until > now()").await
}

fn bounds() -> Bounds {
    let short = Backoff { base: Duration::from_millis(20), max: Duration::from_millis(200) };
    Bounds { retry: short, nowhere: short, pause: short, ..Bounds::default() }
}

/// Blobs with their sizes.
type Blobs = Vec<(Blob, Option<u64>)>;

/// A store with `count` blobs and an empty store, and the blobs.
fn stores(count: usize) -> (Arc<Scripted>, Arc<Scripted>, Blobs) {
    let (from, to) = (Scripted::new(), Scripted::new());
    let texts = (0..count).map(|n| format!("blob {n}"));
    let blobs = texts.map(|text| {
        from.holds(&blob(text.as_bytes()), text.as_bytes());
        (blob(text.as_bytes()), Some(text.len() as u64))
    });
    let blobs = blobs.collect();
    (from, to, blobs)
}

async fn replica(
    place: &DatabasePlace,
    from: &Arc<Scripted>,
    to: &Arc<Scripted>,
    end: &CancellationToken,
) -> FanOut {
    let zones = vec![from.zone("zone-a"), to.zone("zone-b")];
    let setup = Setup { bounds: bounds(), ..Setup::new(zones, place.open().await) };
    FanOut::start(setup, end.clone())
}

async fn lane(fan_out: &FanOut) -> LaneStatus {
    fan_out.status().await.unwrap().remove(1)
}

/// Waits until no job is left, whatever happens to the database.
async fn idle(fan_out: &FanOut) {
    let idle = async { while fan_out.idle().await.is_err() {} };
    timeout(TIMEOUT, idle).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_work_and_none_does_it_twice() {
    let place = DatabasePlace::start().await;
    let (from, to, blobs) = stores(60);
    to.set(Mode::Held);
    let end = CancellationToken::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(replica(&place, &from, &to, &end).await);
    }
    // One replica queues the jobs, and all replicas are notified.
    replicas[0].enqueue("org/repo", &blobs, &[zone()]).await.unwrap();
    let copies = 3 * Limits::default().copies;
    timeout(TIMEOUT, to.has_begun(copies)).await.expect("every replica takes part");
    to.gate.add_permits(1000);
    idle(&replicas[1]).await;
    assert_eq!(to.puts.load(Ordering::SeqCst), 60, "each once");
    assert_eq!(to.contents().await, from.contents().await);
    let mut copied = 0;
    for replica in &replicas {
        let lane = lane(replica).await;
        assert!(lane.copied >= Limits::default().copies as u64, "{lane:?}");
        copied += lane.copied;
    }
    assert_eq!(copied, 60);

    // A replica that stops releases its jobs at once; the leases need not end.
    to.set(Mode::Held);
    let (stopping, held) = (CancellationToken::new(), to.gate.available_permits());
    to.gate.acquire_many(u32::try_from(held).unwrap()).await.unwrap().forget();
    end.cancel();
    for replica in &replicas {
        timeout(TIMEOUT, replica.stopped()).await.expect("stops");
    }
    let leaving = replica(&place, &from, &to, &stopping).await;
    from.holds(&blob(b"last"), b"last");
    leaving.enqueue("org/repo", &[(blob(b"last"), Some(4))], &[zone()]).await.unwrap();
    timeout(TIMEOUT, to.has_begun(61)).await.expect("begins");
    stopping.cancel();
    timeout(TIMEOUT, leaving.stopped()).await.expect("stops");
    assert_eq!(leases_end(&place).await, 0);
}

#[tokio::test]
async fn jobs_of_a_dead_replica_pass_to_another_after_its_leases() {
    let place = DatabasePlace::start().await;
    let dying = place.open().await;
    dying.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
    let before = claim_all(&dying, &zone(), 0, LONGEST_WAIT).await;
    assert_eq!(before.len(), 2);
    let other = place.open().await;
    assert!(claim_all(&other, &zone(), 0, LONGEST_WAIT).await.is_empty(), "leased");
    assert_eq!(leases_end(&place).await, 2);
    let after = claim_all(&other, &zone(), 0, LONGEST_WAIT).await;
    assert_eq!(after.len(), 2);

    // The replica was only slow, not dead. Its reports about jobs that now belong to another replica are
    // ignored.
    dying.failed(&before[0], LONGEST_WAIT, "late", false).await.unwrap();
    dying.done(&before[1]).await.unwrap();
    dying.release(&zone()).await.unwrap();
    let count = other.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.failing), (2, 0));
    let begun = Instant::now();
    timeout(LEASE, dying.renew_until_lost(&before[0], begun))
        .await
        .expect("it learns that the lease is lost");
    assert!(timeout(LEASE / 2, other.renew_until_lost(&after[0], Instant::now())).await.is_err(), "renewed");
    other.done(&after[0]).await.unwrap();
    other.done(&after[1]).await.unwrap();
    assert!(other.counts().await.unwrap().is_empty());
}

#[tokio::test]
async fn other_replicas_are_notified_of_new_jobs() {
    let place = DatabasePlace::start().await;
    let (adds, hears) = (place.open().await, place.open().await);
    let wake_up = hears.wake_up(&zone());
    // A new connection wakes all zones, so such wake-ups are skipped first.
    while timeout(Duration::from_millis(500), wake_up.notified()).await.is_ok() {}
    adds.add(vec![new_job("x", "zone-c")]).await.unwrap();
    adds.add(vec![new_job("x", "zone-b")]).await.unwrap();
    timeout(Duration::from_secs(4), wake_up.notified()).await.expect("sooner than its own polling");
    claim(&hears).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_in_the_middle_loses_nothing() {
    let place = DatabasePlace::start().await;
    let (from, to, blobs) = stores(40);
    to.set(Mode::Held);
    let end = CancellationToken::new();
    let replicas = [replica(&place, &from, &to, &end).await, replica(&place, &from, &to, &end).await];
    replicas[0].enqueue("org/repo", &blobs[..20], &[zone()]).await.unwrap();
    timeout(TIMEOUT, to.has_begun(8)).await.expect("begins");
    place.crash().await;
    to.gate.add_permits(1000);
    let away = replicas[0].enqueue("org/repo", &blobs[20..], &[zone()]).await.unwrap_err();
    assert!(matches!(away, JournalError::Away { .. } | JournalError::Late(_)), "{away}");
    assert!(!away.is_lasting());
    place.restart().await;
    replicas[1].enqueue("org/repo", &blobs[20..], &[zone()]).await.unwrap();
    idle(&replicas[0]).await;
    assert_eq!(to.contents().await, from.contents().await);
}

#[tokio::test]
async fn a_start_waits_for_a_database_that_is_unreachable() {
    let place = DatabasePlace::start().await;
    place.crash().await;
    let journal = place.open().await;
    let error =
        timeout(TIMEOUT, journal.add(vec![new_job("x", "zone-b")])).await.expect("bounded").unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(timeout(TIMEOUT, journal.counts()).await.expect("bounded").is_err());
    place.restart().await;
    let added = async {
        while journal.add(vec![new_job("x", "zone-b")]).await.is_err() || journal.counts().await.is_err() {}
    };
    timeout(TIMEOUT, added).await.expect("the connection is made without help");
    claim(&journal).await;
}

#[tokio::test]
async fn refusals_contain_no_secret() {
    let place = DatabasePlace::start().await;
    let journal = place.open().await;
    assert!(!format!("{journal:?}").contains(POSTGRES_PASSWORD));
    drop(journal);
    let refused = place.connect_as("hunter3").await.unwrap_err();
    let text = format!("{refused} {refused:?}");
    assert!(matches!(refused, JournalError::Refused { lasting: true, .. }), "{text}");
    assert!(text.contains("password authentication failed") && !text.contains("hunter3"), "{text}");
    assert!(!text.contains(POSTGRES_PASSWORD), "{text}");

    place.sql("UPDATE quay_gateway_schema SET version = 9").await;
    let newer = place.connect().await.unwrap_err();
    assert!(matches!(newer, JournalError::Newer { found: 9, known: 2, .. }), "{newer}");
    assert!(newer.to_string().contains("its schema is version 9"), "{newer}");
}

/// The table of the first release, with a failed job.
#[tokio::test]
async fn older_tables_are_migrated() {
    let place = DatabasePlace::start().await;
    for statement in [
        "CREATE TABLE quay_gateway_job (zone text COLLATE \"C\" NOT NULL, digest text COLLATE \"C\" NOT NULL, \
         key text NOT NULL, size bigint, repositories text[] NOT NULL, added timestamptz NOT NULL, \
         due timestamptz NOT NULL, fresh boolean NOT NULL, stamp bigint NOT NULL, attempts integer NOT NULL, \
         failed timestamptz, error text, leased_by bigint, leased_until timestamptz, \
         PRIMARY KEY (zone, digest))",
        "CREATE INDEX quay_gateway_job_due ON quay_gateway_job (zone, fresh, due)",
        "CREATE INDEX quay_gateway_job_size ON quay_gateway_job (zone, size NULLS FIRST) WHERE fresh",
        "CREATE TABLE quay_gateway_schema AS SELECT 1::bigint AS version",
        &format!(
            "INSERT INTO quay_gateway_job VALUES ('zone-b', '{}', 'k', 5, '{{}}', now(), now(), false, 7, 2, \
             now(), 'why', NULL, NULL)",
            blob(b"tried").digest
        ),
    ] {
        place.sql(statement).await;
    }
    let journal = place.open().await;
    let job = claim(&journal).await;
    assert_eq!((job.blob.digest, job.attempts), (blob(b"tried").digest, 2));
    journal.park(&job, "scripted").await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].parked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_make_the_tables_once() {
    let place = DatabasePlace::start().await;
    let starts = (0..8).map(|_| place.connect());
    for journal in futures_util::future::join_all(starts).await {
        journal.unwrap().add(vec![new_job("x", "zone-b")]).await.unwrap();
    }
    assert_eq!(place.open().await.counts().await.unwrap()[0].jobs, 1);
}

/// Waits until `count` connections of the journal have waited for a lock for `seconds`; returns their process ids.
async fn waiting(other_client: &Client, count: usize, seconds: i32) -> Vec<i32> {
    let waiting = async {
        loop {
            let statement = "SELECT pid FROM pg_stat_activity WHERE application_name = 'quay-gateway' \
                             AND wait_event_type = 'Lock' \
                             AND now() - query_start >= make_interval(secs => $1::integer) ORDER BY pid";
            let rows = other_client.query(statement, &[&seconds]).await.unwrap();
            let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
            if pids.len() >= count {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, waiting).await.expect("in time")
}

/// Another replica seems to migrate large tables, which takes longer than the timeout of a connection or a
/// statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_waits_for_the_migration_of_another() {
    let place = DatabasePlace::start().await;
    let slow = place.client().await;
    slow.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(124748960458615)").await.unwrap();
    let journal = place.open().await;
    let error = journal.add(vec![new_job("x", "zone-b")]).await.unwrap_err();
    assert!(error.to_string().contains("it is still being made ready"), "{error}");
    let other_client = place.client().await;
    let waited = waiting(&other_client, 3, 9).await;
    slow.batch_execute("COMMIT").await.unwrap();
    let added = async { while journal.add(vec![new_job("x", "zone-b")]).await.is_err() {} };
    timeout(TIMEOUT, added).await.expect("goes on");
    claim(&journal).await;
    journal.counts().await.unwrap();
    let rows = other_client
        .query("SELECT pid FROM pg_stat_activity WHERE application_name = 'quay-gateway' ORDER BY pid", &[])
        .await
        .unwrap();
    let there: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(there, waited, "no replica gave up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_do_not_wait_for_inspections() {
    let place = DatabasePlace::start().await;
    let journal = place.open().await;
    journal.add(vec![new_job("x", "zone-b"), new_job("held", "zone-b")]).await.unwrap();
    let mut other_client = place.client().await;
    let holds = other_client.transaction().await.unwrap();
    let held = blob(b"held").digest;
    let lock = "SELECT FROM quay_gateway_job WHERE digest = $1 FOR UPDATE";
    holds.query_one(lock, &[&held.to_string()]).await.unwrap();
    let inspects = journal.clone();
    let inspection = tokio::spawn(async move { inspects.park_blobs(&[held], &[zone()], "slow").await });
    let watches = place.client().await;
    let slow = waiting(&watches, 1, 0).await;
    assert_eq!(claim(&journal).await.blob, blob(b"x"));
    journal.add(vec![new_job("y", "zone-b")]).await.unwrap();
    assert!(!inspection.is_finished(), "it still waits");
    // A caller that is cancelled leaves no statement running, and the next one is answered.
    inspection.abort();
    assert!(inspection.await.unwrap_err().is_cancelled());
    assert_eq!(timeout(TIMEOUT, journal.counts()).await.expect("in time").unwrap()[0].jobs, 3);
    let gone = async {
        let there = "SELECT FROM pg_stat_activity WHERE pid = $1";
        while !watches.query(there, &[&slow[0]]).await.unwrap().is_empty() {}
    };
    // Sooner than the statement's own timeout.
    timeout(Duration::from_secs(5), gone).await.expect("the statement is cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parking_and_adding_lock_in_one_order() {
    let place = DatabasePlace::start().await;
    let journal = place.open().await;
    let mut names: Vec<_> = (0..3).map(|n| n.to_string()).collect();
    names.sort_by_key(|name| blob(name.as_bytes()).digest.to_string());
    // They are inserted in reverse order.
    for name in names.iter().rev() {
        journal.add(vec![new_job(name, "zone-b")]).await.unwrap();
    }
    let digests: Vec<_> = names.iter().map(|name| blob(name.as_bytes()).digest).collect();
    let mut other_client = place.client().await;
    let holds = other_client.transaction().await.unwrap();
    let lock = "SELECT FROM quay_gateway_job WHERE digest = $1 FOR UPDATE";
    holds.query_one(lock, &[&digests[1].to_string()]).await.unwrap();
    let (watches, sets) = (place.client().await, journal.clone());
    let park_blobs = tokio::spawn(async move { sets.park_blobs(&digests, &[zone()], "why").await });
    waiting(&watches, 1, 0).await;
    let ends = [&names[0], &names[2]].map(|name| new_job(name, "zone-b"));
    let adds = journal.clone();
    let added = tokio::spawn(async move { adds.add(ends.into()).await });
    waiting(&watches, 2, 0).await;
    holds.rollback().await.unwrap();
    assert_eq!(park_blobs.await.unwrap().unwrap(), 3);
    added.await.unwrap().unwrap();
    assert!(!place.log().await.contains("deadlock detected"), "{}", place.log().await);
    assert_eq!(journal.counts().await.unwrap()[0].parked, 1, "the jobs that were added again are not parked");
}

#[tokio::test]
async fn a_deadlock_or_serialization_failure_is_retried() {
    let place = DatabasePlace::start().await;
    let journal = place.open().await;
    for statement in [
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION give_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         CASE nextval('tries') WHEN 1 THEN RAISE 'scripted' USING ERRCODE = '40P01'; \
         WHEN 2 THEN RAISE 'scripted' USING ERRCODE = '40001'; ELSE RETURN NEW; END CASE; END $$",
        "CREATE TRIGGER give_way BEFORE INSERT ON quay_gateway_job FOR EACH ROW EXECUTE FUNCTION give_way()",
    ] {
        place.sql(statement).await;
    }
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    assert_eq!(claim(&journal).await.blob, blob(b"x"));
    assert_eq!(
        place.client().await.query_one("SELECT nextval('tries')", &[]).await.unwrap().get::<_, i64>(0),
        4
    );
}
