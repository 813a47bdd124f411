//! All statements of lanes and pushes. Each is a transaction of its own and uses the database's clock.

use super::super::size::merged_size;

/// Parameters: zones, digests, keys, sizes, repositories, stamp, the number of repositories that are kept.
/// The caller sorts the jobs, so that two adds of the same jobs cannot deadlock.
pub(super) const ADD: &str = concat!(
    "
WITH added AS (
    INSERT INTO quay_gateway_job AS job (zone, digest, key, size, repositories, added, due, fresh, stamp, attempts)
    SELECT zone, digest, key, size, CASE WHEN repository IS NULL THEN '{}' ELSE ARRAY[repository] END,
           now(), now(), true, $6, 0
    FROM unnest($1, $2, $3, $4, $5) AS given (zone, digest, key, size, repository)
    ON CONFLICT (zone, digest) DO UPDATE SET
        key = excluded.key,
        size = ",
    merged_size!("excluded.size"),
    ",
        repositories = (excluded.repositories || array_remove(job.repositories, excluded.repositories[1]))[1:$7],
        due = least(job.due, excluded.due),
        fresh = true,
        stamp = excluded.stamp,
        parked = NULL
    -- A job that says the same already, and that nobody has under way, is left alone.
    WHERE NOT (job.fresh AND job.parked IS NULL AND job.leased_by IS NULL AND job.key = excluded.key
               AND job.size IS NOT DISTINCT FROM ",
    merged_size!("excluded.size"),
    "
               AND (excluded.repositories = '{}' OR job.repositories[1] = excluded.repositories[1]))
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM (SELECT DISTINCT zone FROM added) AS zones"
);

/// Parameters: zone, digests that are being copied, replica, seconds of the lease. Some claims have a fifth parameter.
macro_rules! claim {
    ($kind:literal, $order:literal) => {
        concat!(
            // If an earlier lease was not ended by its owner, a try may have written, and its end is not recorded. A
            // new lease takes the read mark: from now on the size contains only what later adds state.
            "WITH found AS MATERIALIZED (SELECT digest, CASE WHEN leased_by IS NULL THEN size ELSE 0 END AS claimed ",
            "FROM quay_gateway_job WHERE zone = $1 AND ",
            $kind,
            " AND parked IS NULL AND (leased_until IS NULL OR leased_until <= now()) AND digest <> ALL ($2) ORDER BY ",
            $order,
            " LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE quay_gateway_job AS job ",
            "SET leased_by = $3, leased_until = now() + make_interval(secs => $4), size = nullif(job.size, 0) ",
            "FROM found WHERE job.zone = $1 AND job.digest = found.digest ",
            "RETURNING job.digest, key, claimed, repositories, attempts, stamp"
        )
    };
}

// This is the order of the index.
pub(super) const SMALLEST: &str = claim!("fresh AND size > 0", "size NULLS FIRST");

pub(super) const OLDEST: &str = claim!("fresh", "due");

pub(super) const RETRY: &str = claim!("NOT fresh AND due <= now()", "due");

/// The fifth parameter is the highest size in bytes.
pub(super) const SMALL: &str = claim!("fresh AND size > 0 AND size <= $5", "size NULLS FIRST");

/// The fifth parameter is the highest size in bytes.
pub(super) const SMALL_RETRY: &str = claim!("NOT fresh AND due <= now() AND size > 0 AND size <= $5", "due");

/// The fifth parameter is the longest wait in seconds. If a job is due later than that, it was written by a
/// clock that ran ahead.
pub(super) const AHEAD: &str = claim!("NOT fresh AND due > now() + make_interval(secs => $5)", "due");

/// Parameter: zone. Returns the seconds until the next job is due.
pub(super) const WAIT: &str = "
SELECT extract(epoch FROM min(due) - now())::float8 FROM quay_gateway_job
WHERE zone = $1 AND NOT fresh AND parked IS NULL AND due > now()";

/// Parameters: zone, digest, replica, seconds. Returns a row if the lease was renewed.
pub(super) const RENEW: &str = "
UPDATE quay_gateway_job SET leased_until = now() + make_interval(secs => $4)
WHERE zone = $1 AND digest = $2 AND leased_by = $3 RETURNING 1";

/// Parameters: zone, digest, replica, stamp. Returns the seconds since the job was first added.
pub(super) const DONE: &str = "
DELETE FROM quay_gateway_job WHERE zone = $1 AND digest = $2 AND leased_by = $3 AND stamp = $4
RETURNING extract(epoch FROM clock_timestamp() - added)::float8";

/// Parameters: zone, replica. Ends the leases, but keeps `leased_by`, because the ends of these tries are not recorded.
pub(super) const RELEASE: &str = "
WITH released AS (
    UPDATE quay_gateway_job SET leased_until = now()
    WHERE (zone, digest) IN (SELECT zone, digest FROM quay_gateway_job
                             WHERE zone = $1 AND leased_by = $2 FOR UPDATE SKIP LOCKED)
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM released LIMIT 1";

/// Parameters: zone, replica, digest, whether to set the read mark, whether the job goes after the jobs that wait. Ends
/// the lease of a job whose try has ended.
pub(super) const END_LEASE: &str = "
WITH ended AS (
    UPDATE quay_gateway_job SET leased_by = NULL, leased_until = NULL,
        size = CASE WHEN $4 THEN 0 ELSE size END, due = CASE WHEN $5 THEN now() ELSE due END
    WHERE zone = $1 AND leased_by = $2 AND digest = $3 RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM ended";

/// Parameters: zone, digest, replica, bytes. A read mark and contradicted sizes are kept.
pub(super) const RESIZE: &str = "
UPDATE quay_gateway_job SET size = CASE WHEN size = 0 OR $4 = 0 THEN 0 WHEN size < 0 THEN size ELSE $4 END
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Parameters: zone, digest, replica, stamp, seconds to wait, error, whether to set the read mark. A job that was
/// parked meanwhile keeps its reason.
pub(super) const FAILED: &str = "
UPDATE quay_gateway_job SET
    attempts = attempts + 1, failed = now(), error = CASE WHEN parked IS NULL THEN $6 ELSE error END,
    fresh = stamp <> $4,
    due = CASE WHEN stamp = $4 THEN now() + make_interval(secs => $5) ELSE now() END,
    size = CASE WHEN $7 THEN 0 ELSE size END,
    leased_by = NULL, leased_until = NULL
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Parameters: zone, digest, replica, stamp, why, whether to set the read mark. A job that was parked meanwhile keeps
/// its reason and time.
pub(super) const PARK: &str = "
UPDATE quay_gateway_job SET
    attempts = attempts + 1, failed = now(), error = CASE WHEN parked IS NULL THEN $5 ELSE error END,
    fresh = stamp <> $4,
    parked = CASE WHEN stamp = $4 THEN coalesce(parked, now()) ELSE parked END,
    due = now(), size = CASE WHEN $6 THEN 0 ELSE size END,
    leased_by = NULL, leased_until = NULL
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Parameters: zone, the highest number of jobs. Skips jobs that are being added or claimed at this moment, because
/// they are due anyway. Returns a row if any job was made due.
pub(super) const MAKE_DUE: &str = "
WITH made_due AS (
    UPDATE quay_gateway_job SET due = now()
    WHERE (zone, digest) IN (SELECT zone, digest FROM quay_gateway_job
                             WHERE zone = $1 AND NOT fresh AND parked IS NULL AND due > now() LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM made_due LIMIT 1";

pub(super) const COUNTS: &str = "
SELECT zone, count(*) FILTER (WHERE parked IS NULL),
       coalesce(sum(greatest(size, 0)) FILTER (WHERE parked IS NULL), 0)::float8,
       min(added) FILTER (WHERE parked IS NULL), count(failed) FILTER (WHERE parked IS NULL),
       coalesce(sum(attempts) FILTER (WHERE parked IS NULL), 0)::bigint,
       (SELECT error FROM quay_gateway_job AS other
        WHERE other.zone = job.zone AND failed IS NOT NULL AND parked IS NULL ORDER BY failed DESC LIMIT 1),
       count(parked), coalesce(sum(greatest(size, 0)) FILTER (WHERE parked IS NOT NULL), 0)::float8
FROM quay_gateway_job AS job GROUP BY zone ORDER BY zone";
