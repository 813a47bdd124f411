//! Every SQL statement on Quay's tables (`data/database.py`). Each is a transaction of its own, and running
//! it twice does no harm.

/// Fails unless the tables and columns that are used below exist and may be read.
pub(super) const CHECK_TABLES: &str = "\
SELECT storage.id, storage.content_checksum, storage.cas_path, placement.storage_id, placement.location_id,
       location.id, location.name
FROM imagestorage AS storage, imagestorageplacement AS placement, imagestoragelocation AS location LIMIT 0;
SELECT region.user_id, region.location_id, owner.id, owner.username FROM userregion AS region, \"user\" AS owner LIMIT 0";

/// Fails unless a placement may be added. It adds one for a recent row that has none, and rolls back.
pub(super) const TRY_INSERT: &str = "\
BEGIN;
INSERT INTO imagestorageplacement (storage_id, location_id)
SELECT storage.id, location.id
FROM (SELECT id FROM imagestorage ORDER BY id DESC LIMIT 100) AS storage, imagestoragelocation AS location
WHERE NOT EXISTS (SELECT FROM imagestorageplacement AS other
                  WHERE other.storage_id = storage.id AND other.location_id = location.id)
LIMIT 1
ON CONFLICT DO NOTHING;
ROLLBACK";

/// Whether the user may take ids for new rows. [`TRY_INSERT`] finds that out only if a placement is missing.
pub(super) const SEQUENCE_PRIVILEGE: &str = "\
SELECT has_sequence_privilege(ids, 'USAGE')
FROM (SELECT pg_get_serial_sequence('imagestorageplacement', 'id')) AS sequence (ids) WHERE ids IS NOT NULL";

/// Parameter: digest. Result: whether Quay has a row for it, of any kind.
pub(super) const BLOB_EXISTS: &str = "SELECT EXISTS (SELECT FROM imagestorage WHERE content_checksum = $1)";

/// Parameters: digest, name of a location. Adds the placements that are missing.
///
/// `content_checksum` is not unique, so there is one placement for each row of the digest whose object is at
/// the digest's own key. `uploading` is ignored: Quay leaves it true for everything that is pushed today.
/// Result: numbers of locations, of rows, and of placements added, and whether there is a row of any kind.
pub(super) const ADD_PLACEMENT: &str = "\
WITH location AS (SELECT id FROM imagestoragelocation WHERE name = $2),
storage AS (SELECT id FROM imagestorage WHERE content_checksum = $1 AND cas_path),
added AS (
    INSERT INTO imagestorageplacement (storage_id, location_id)
    SELECT storage.id, location.id FROM storage, location ORDER BY storage.id
    ON CONFLICT (storage_id, location_id) DO NOTHING
    RETURNING 1)
SELECT (SELECT count(*) FROM location), (SELECT count(*) FROM storage), (SELECT count(*) FROM added),
       EXISTS (SELECT FROM imagestorage WHERE content_checksum = $1)";

/// Parameters: digest, name of a location. Result: whether [`ADD_PLACEMENT`] would add a row.
pub(super) const PLACEMENT_MISSING: &str = "\
SELECT EXISTS (SELECT FROM imagestorage AS storage
               WHERE storage.content_checksum = $1 AND storage.cas_path AND NOT EXISTS (
                   SELECT FROM imagestorageplacement AS placement
                   JOIN imagestoragelocation AS location ON location.id = placement.location_id
                   WHERE placement.storage_id = storage.id AND location.name = $2))";

/// Parameter: namespace. Result: the names of its own locations (`data/model/user.py:get_region_locations`).
pub(super) const NAMESPACE_LOCATIONS: &str = "\
SELECT DISTINCT location.name
FROM userregion AS region
JOIN \"user\" AS owner ON owner.id = region.user_id
JOIN imagestoragelocation AS location ON location.id = region.location_id
WHERE owner.username = $1";

/// Parameter: limit. Result: the names of the namespaces that have repositories.
pub(super) const NAMESPACES: &str = "\
SELECT DISTINCT owner.username::text
FROM repository JOIN \"user\" AS owner ON owner.id = repository.namespace_user_id
LIMIT $1";

/// Parameters: first digest, end of the range (not in it), limit. Result: every blob whose object is at the
/// digest's own key, the names of the locations of all its rows, and whether a manifest references it.
macro_rules! blobs {
    ($named:literal) => {
        concat!(
            "SELECT storage.content_checksum, array_remove(array_agg(DISTINCT location.name::text), NULL), ",
            $named,
            " FROM imagestorage AS storage \
             LEFT JOIN imagestorageplacement AS placement ON placement.storage_id = storage.id \
             LEFT JOIN imagestoragelocation AS location ON location.id = placement.location_id \
             WHERE storage.content_checksum >= $1 AND storage.content_checksum < $2 AND storage.cas_path \
             GROUP BY storage.content_checksum LIMIT $3"
        )
    };
}

pub(super) const BLOBS_WITH_MANIFESTS: &str =
    blobs!("bool_or(EXISTS (SELECT FROM manifestblob AS named WHERE named.blob_id = storage.id))");

/// Like [`BLOBS_WITH_MANIFESTS`], without reading `manifestblob`.
pub(super) const BLOBS: &str = blobs!("true");
