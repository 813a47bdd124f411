//! Every statement on the table. Each is a transaction of its own, by the database's clock.

/// Zones, digests, keys, sizes, repositories, stamp, repositories kept. Sorted by who calls, so that two adds of the
/// same jobs never wait for each other in a circle.
pub(super) const ADD: &str = "
WITH added AS (
    INSERT INTO quay_gateway_job AS job (zone, digest, key, size, repositories, added, due, fresh, stamp, attempts)
    SELECT zone, digest, key, size, CASE WHEN repository IS NULL THEN '{}' ELSE ARRAY[repository] END,
           now(), now(), true, $6, 0
    FROM unnest($1, $2, $3, $4, $5) AS given (zone, digest, key, size, repository)
    ON CONFLICT (zone, digest) DO UPDATE SET
        key = excluded.key,
        -- A size of 0 asks for the object to be read (`Job::must_read`), and stays until the job is done. So do
        -- two that differ.
        size = CASE WHEN job.size = 0 OR job.size <> excluded.size THEN 0 ELSE coalesce(excluded.size, job.size) END,
        repositories = (excluded.repositories || array_remove(job.repositories, excluded.repositories[1]))[1:$7],
        due = least(job.due, excluded.due),
        fresh = true,
        stamp = excluded.stamp,
        parked = NULL
    -- What says the same already, and nobody has under way, is left alone.
    WHERE NOT (job.fresh AND job.parked IS NULL AND job.leased_by IS NULL AND job.key = excluded.key
               AND job.size IS NOT DISTINCT FROM
                   CASE WHEN job.size = 0 OR job.size <> excluded.size THEN 0 ELSE coalesce(excluded.size, job.size) END
               AND (excluded.repositories = '{}' OR job.repositories[1] = excluded.repositories[1]))
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM (SELECT DISTINCT zone FROM added) AS zones";

/// Zone, digests under way, replica, seconds of a lease, and of the horizon where one is needed.
macro_rules! claim {
    ($kind:literal, $order:literal) => {
        concat!(
            "UPDATE quay_gateway_job SET leased_by = $3, leased_until = now() + make_interval(secs => $4) ",
            "WHERE zone = $1 AND digest = (SELECT digest FROM quay_gateway_job WHERE zone = $1 AND ",
            $kind,
            " AND parked IS NULL AND (leased_until IS NULL OR leased_until <= now()) AND digest <> ALL ($2) ORDER BY ",
            $order,
            " LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING digest, key, size, repositories, attempts, stamp"
        )
    };
}

pub(super) const SMALLEST: &str = claim!("fresh", "size NULLS FIRST");

pub(super) const OLDEST: &str = claim!("fresh", "due");

pub(super) const RETRY: &str = claim!("NOT fresh AND due <= now()", "due");

/// And the most bytes.
pub(super) const SMALL: &str = claim!("fresh AND size > 0 AND size <= $5", "size");

/// The same.
pub(super) const SMALL_RETRY: &str = claim!("NOT fresh AND due <= now() AND size > 0 AND size <= $5", "due");

/// What is due further ahead than any wait was written by a clock that ran ahead.
pub(super) const AHEAD: &str = claim!("NOT fresh AND due > now() + make_interval(secs => $5)", "due");

/// Zone. Seconds until the next one is due; what others have under way is due when its lease ends.
pub(super) const WAIT: &str = "
SELECT extract(epoch FROM min(due) - now())::float8 FROM quay_gateway_job
WHERE zone = $1 AND NOT fresh AND parked IS NULL AND due > now()";

/// Zone, digest, replica, seconds.
pub(super) const RENEW: &str = "
UPDATE quay_gateway_job SET leased_until = now() + make_interval(secs => $4)
WHERE zone = $1 AND digest = $2 AND leased_by = $3 RETURNING 1";

/// Zone, digest, replica, stamp. Seconds since it was added.
pub(super) const DONE: &str = "
DELETE FROM quay_gateway_job WHERE zone = $1 AND digest = $2 AND leased_by = $3 AND stamp = $4
RETURNING extract(epoch FROM clock_timestamp() - added)::float8";

/// Zone, replica, digest or NULL for all.
pub(super) const RELEASE: &str = "
WITH released AS (
    UPDATE quay_gateway_job SET leased_by = NULL, leased_until = NULL
    WHERE (zone, digest) IN (SELECT zone, digest FROM quay_gateway_job
                             WHERE zone = $1 AND leased_by = $2 AND ($3 IS NULL OR digest = $3)
                             FOR UPDATE SKIP LOCKED)
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM released LIMIT 1";

/// Zone, digest, replica, stamp, seconds to wait, error. What was parked meanwhile keeps why.
pub(super) const FAILED: &str = "
UPDATE quay_gateway_job SET
    attempts = attempts + 1, failed = now(), error = CASE WHEN parked IS NULL THEN $6 ELSE error END,
    fresh = stamp <> $4,
    due = CASE WHEN stamp = $4 THEN now() + make_interval(secs => $5) ELSE due END,
    leased_by = NULL, leased_until = NULL
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Zone, digest, replica, bytes.
pub(super) const RESIZE: &str = "
UPDATE quay_gateway_job SET size = CASE WHEN size = 0 THEN 0 ELSE $4 END
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Zone, digest, replica, stamp, why. What was parked meanwhile keeps why, and since when.
pub(super) const PARK: &str = "
UPDATE quay_gateway_job SET
    attempts = attempts + 1, failed = now(), error = CASE WHEN parked IS NULL THEN $5 ELSE error END,
    fresh = stamp <> $4,
    parked = CASE WHEN stamp = $4 THEN coalesce(parked, now()) ELSE parked END,
    leased_by = NULL, leased_until = NULL
WHERE zone = $1 AND digest = $2 AND leased_by = $3";

/// Zone, how many at most. What is being added or claimed just now is due anyway. A row, if there
/// were any.
pub(super) const HASTEN: &str = "
WITH hastened AS (
    UPDATE quay_gateway_job SET due = now()
    WHERE (zone, digest) IN (SELECT zone, digest FROM quay_gateway_job
                             WHERE zone = $1 AND NOT fresh AND parked IS NULL AND due > now() LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING zone)
SELECT pg_notify('quay_gateway_job', zone) FROM hastened LIMIT 1";

pub(super) const COUNTS: &str = "
SELECT zone, count(*) FILTER (WHERE parked IS NULL),
       coalesce(sum(size) FILTER (WHERE parked IS NULL), 0)::float8,
       min(added) FILTER (WHERE parked IS NULL), count(failed) FILTER (WHERE parked IS NULL),
       coalesce(sum(attempts) FILTER (WHERE parked IS NULL), 0)::bigint,
       (SELECT error FROM quay_gateway_job AS other
        WHERE other.zone = job.zone AND failed IS NOT NULL AND parked IS NULL ORDER BY failed DESC LIMIT 1),
       count(parked), coalesce(sum(size) FILTER (WHERE parked IS NOT NULL), 0)::float8
FROM quay_gateway_job AS job GROUP BY zone ORDER BY zone";
