//! Every statement on Quay's tables (`data/database.py`). Each is a transaction of its own, and may
//! be carried out twice.

/// That the tables and columns are there which are used below, and may be read.
pub(super) const LOOK: &str = "\
SELECT storage.id, storage.content_checksum, storage.cas_path, placement.storage_id, placement.location_id,
       location.id, location.name
FROM imagestorage AS storage, imagestorageplacement AS placement, imagestoragelocation AS location LIMIT 0;
SELECT region.user_id, region.location_id, owner.id, owner.username FROM userregion AS region, \"user\" AS owner LIMIT 0";

/// That a placement may be added: one of a late row, if there is room for one, and taken back.
pub(super) const TRY: &str = "\
BEGIN;
INSERT INTO imagestorageplacement (storage_id, location_id)
SELECT storage.id, location.id
FROM (SELECT id FROM imagestorage ORDER BY id DESC LIMIT 100) AS storage, imagestoragelocation AS location
WHERE NOT EXISTS (SELECT FROM imagestorageplacement AS other
                  WHERE other.storage_id = storage.id AND other.location_id = location.id)
LIMIT 1
ON CONFLICT DO NOTHING;
ROLLBACK";

/// That the numbers of new rows may be had: the try above adds none where none is missing.
pub(super) const NUMBERS: &str = "\
SELECT has_sequence_privilege(numbers, 'USAGE')
FROM (SELECT pg_get_serial_sequence('imagestorageplacement', 'id')) AS found (numbers) WHERE numbers IS NOT NULL";

/// Digest. Whether Quay has a row of it, of any kind.
pub(super) const KNOWN: &str = "SELECT EXISTS (SELECT FROM imagestorage WHERE content_checksum = $1)";

/// Digest, location's name. Adds what is missing: one row for each of the digest's, as
/// `content_checksum` is not unique, that lies at the digest's own path. `uploading` says nothing:
/// Quay leaves it true for all that is pushed today. Locations, rows, rows added, and whether there is
/// a row of any kind.
pub(super) const PLACE: &str = "\
WITH location AS (SELECT id FROM imagestoragelocation WHERE name = $2),
storage AS (SELECT id FROM imagestorage WHERE content_checksum = $1 AND cas_path),
added AS (
    INSERT INTO imagestorageplacement (storage_id, location_id)
    SELECT storage.id, location.id FROM storage, location ORDER BY storage.id
    ON CONFLICT (storage_id, location_id) DO NOTHING
    RETURNING 1)
SELECT (SELECT count(*) FROM location), (SELECT count(*) FROM storage), (SELECT count(*) FROM added),
       EXISTS (SELECT FROM imagestorage WHERE content_checksum = $1)";

/// Digest, location's name. Whether a row that the statement above would add is missing.
pub(super) const MISSING: &str = "\
SELECT EXISTS (SELECT FROM imagestorage AS storage
               WHERE storage.content_checksum = $1 AND storage.cas_path AND NOT EXISTS (
                   SELECT FROM imagestorageplacement AS placement
                   JOIN imagestoragelocation AS location ON location.id = placement.location_id
                   WHERE placement.storage_id = storage.id AND location.name = $2))";

/// Namespace. Names of the locations that are its own (`data/model/user.py:get_region_locations`).
pub(super) const REGIONS: &str = "\
SELECT DISTINCT location.name
FROM userregion AS region
JOIN \"user\" AS owner ON owner.id = region.user_id
JOIN imagestoragelocation AS location ON location.id = region.location_id
WHERE owner.username = $1";

/// How many at most. Names of the namespaces that have repositories.
pub(super) const NAMESPACES: &str = "\
SELECT DISTINCT owner.username::text
FROM repository JOIN \"user\" AS owner ON owner.id = repository.namespace_user_id
LIMIT $1";

/// From this digest to below that one, rows at most. Every blob that lies at its digest's own path, the
/// names of the locations of all its rows, and whether a manifest names it.
macro_rules! between {
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

pub(super) const BETWEEN_IN_MANIFESTS: &str =
    between!("bool_or(EXISTS (SELECT FROM manifestblob AS named WHERE named.blob_id = storage.id))");

/// The same without a look at manifests.
pub(super) const BETWEEN: &str = between!("true");
