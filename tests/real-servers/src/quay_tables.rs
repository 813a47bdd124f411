//! Quay's own tables in a real PostgreSQL, as far as copies need them. Names, columns, constraints and
//! indexes are those of Quay's migrations (`data/migrations/versions/c156deb8845d…`, `c91c564aad34`,
//! `b8ae68ad3e52`, `152edccba18c`). Users, repositories and manifests have only the rows that these tables
//! refer to.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backends::Digest;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::Postgres;

const TABLES: &str = r#"
CREATE TABLE "user" (
    id serial NOT NULL,
    username character varying(255) NOT NULL,
    email character varying(255) NOT NULL,
    organization boolean NOT NULL,
    robot boolean NOT NULL,
    CONSTRAINT pk_user PRIMARY KEY (id));
CREATE UNIQUE INDEX user_username ON "user" (username);
CREATE UNIQUE INDEX user_email ON "user" (email);

CREATE TABLE repository (
    id serial NOT NULL,
    namespace_user_id integer,
    name character varying(255) NOT NULL,
    CONSTRAINT pk_repository PRIMARY KEY (id),
    CONSTRAINT fk_repository_namespace_user_id_user FOREIGN KEY (namespace_user_id) REFERENCES "user" (id));
CREATE UNIQUE INDEX repository_namespace_user_id_name ON repository (namespace_user_id, name);

CREATE TABLE imagestorage (
    id serial NOT NULL,
    uuid character varying(255) NOT NULL,
    image_size bigint,
    uncompressed_size bigint,
    uploading boolean,
    cas_path boolean DEFAULT false NOT NULL,
    content_checksum character varying(255),
    CONSTRAINT pk_imagestorage PRIMARY KEY (id));
CREATE INDEX imagestorage_content_checksum ON imagestorage (content_checksum);
CREATE UNIQUE INDEX imagestorage_uuid ON imagestorage (uuid);

CREATE TABLE imagestoragelocation (
    id serial NOT NULL,
    name character varying(255) NOT NULL,
    CONSTRAINT pk_imagestoragelocation PRIMARY KEY (id));
CREATE UNIQUE INDEX imagestoragelocation_name ON imagestoragelocation (name);

CREATE TABLE imagestorageplacement (
    id serial NOT NULL,
    storage_id integer NOT NULL,
    location_id integer NOT NULL,
    CONSTRAINT pk_imagestorageplacement PRIMARY KEY (id),
    CONSTRAINT fk_imagestorageplacement_location_id_imagestoragelocation
        FOREIGN KEY (location_id) REFERENCES imagestoragelocation (id),
    CONSTRAINT fk_imagestorageplacement_storage_id_imagestorage
        FOREIGN KEY (storage_id) REFERENCES imagestorage (id));
CREATE INDEX imagestorageplacement_location_id ON imagestorageplacement (location_id);
CREATE INDEX imagestorageplacement_storage_id ON imagestorageplacement (storage_id);
CREATE UNIQUE INDEX imagestorageplacement_storage_id_location_id ON imagestorageplacement (storage_id, location_id);

CREATE TABLE manifestblob (
    id serial NOT NULL,
    repository_id integer NOT NULL,
    manifest_id integer NOT NULL,
    blob_id integer NOT NULL,
    CONSTRAINT pk_manifestblob PRIMARY KEY (id),
    CONSTRAINT fk_manifestblob_blob_id_imagestorage FOREIGN KEY (blob_id) REFERENCES imagestorage (id));
CREATE INDEX manifestblob_blob_id ON manifestblob (blob_id);

CREATE TABLE userregion (
    id serial NOT NULL,
    user_id integer NOT NULL,
    location_id integer NOT NULL,
    CONSTRAINT pk_userregion PRIMARY KEY (id),
    CONSTRAINT fk_userregion_location_id_imagestoragelocation
        FOREIGN KEY (location_id) REFERENCES imagestoragelocation (id),
    CONSTRAINT fk_userregion_user_id_user FOREIGN KEY (user_id) REFERENCES "user" (id));
CREATE INDEX userregion_location_id ON userregion (location_id);
CREATE INDEX userregion_user_id ON userregion (user_id);

CREATE TABLE blobupload (
    id serial NOT NULL,
    repository_id integer NOT NULL,
    uuid character varying(255) NOT NULL,
    byte_count bigint NOT NULL,
    sha_state text,
    location_id integer NOT NULL,
    storage_metadata text,
    chunk_count integer DEFAULT '0' NOT NULL,
    uncompressed_byte_count bigint,
    created timestamp without time zone DEFAULT now() NOT NULL,
    piece_sha_state text,
    piece_hashes text,
    CONSTRAINT pk_blobupload PRIMARY KEY (id),
    CONSTRAINT fk_blobupload_location_id_imagestoragelocation
        FOREIGN KEY (location_id) REFERENCES imagestoragelocation (id),
    CONSTRAINT fk_blobupload_repository_id_repository FOREIGN KEY (repository_id) REFERENCES repository (id));
CREATE INDEX blobupload_created ON blobupload (created);
CREATE INDEX blobupload_location_id ON blobupload (location_id);
CREATE INDEX blobupload_repository_id ON blobupload (repository_id);
CREATE UNIQUE INDEX blobupload_repository_id_uuid ON blobupload (repository_id, uuid);
CREATE UNIQUE INDEX blobupload_uuid ON blobupload (uuid);
"#;

/// The pause between two tries to connect, and the number of tries.
const POLL: Duration = Duration::from_millis(50);
const TRIES: u32 = 600;

/// Quay's tables, and the changes that Quay makes to them.
#[derive(Debug)]
pub struct QuayTables {
    client: Client,
}

impl QuayTables {
    /// Creates the tables with these locations.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn make(postgres: &Postgres, locations: &[&str]) -> Result<Self> {
        let tables = Self::again(postgres).await?;
        tables.client.batch_execute(TABLES).await?;
        for name in locations {
            tables.client.execute("INSERT INTO imagestoragelocation (name) VALUES ($1)", &[name]).await?;
        }
        Ok(tables)
    }

    /// Uses existing tables, for example after a restart of the database.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn again(postgres: &Postgres) -> Result<Self> {
        let config = Config::from_str(&postgres.url())?;
        for _ in 0..TRIES {
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return Ok(Self { client });
                }
                // The server listens before it accepts logins.
                Err(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the database does not start")
    }

    /// Adds the row of a blob, like a push. `cas` says whether the blob has a path made from its digest, as
    /// all new blobs have.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn add_blob(&self, digest: &Digest, cas: bool) -> Result<i32> {
        let (digest, uuid) = (digest.to_string(), format!("{:032x}", fastrand::u128(..)));
        let insert = "INSERT INTO imagestorage (uuid, image_size, uploading, cas_path, content_checksum) \
                      VALUES ($1, 1, true, $2, $3) RETURNING id";
        Ok(self.client.query_one(insert, &[&uuid, &cas, &digest]).await?.get(0))
    }

    /// Adds a manifest that names the blob of this row.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn add_to_manifest(&self, storage: i32) -> Result<()> {
        let insert = "INSERT INTO manifestblob (repository_id, manifest_id, blob_id) VALUES (1, 1, $1)";
        self.client.execute(insert, &[&storage]).await?;
        Ok(())
    }

    /// The locations of a row.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn locations(&self, storage: i32) -> Result<Vec<String>> {
        let select = "SELECT name FROM imagestorageplacement JOIN imagestoragelocation AS location \
                      ON location.id = location_id WHERE storage_id = $1 ORDER BY name";
        Ok(self.client.query(select, &[&storage]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Removes the rows of a blob, like garbage collection (`data/model/storage.py:garbage_collect_storage`).
    ///
    /// # Errors
    /// The database refuses.
    pub async fn collect(&mut self, digest: &Digest) -> Result<()> {
        let digest = digest.to_string();
        let transaction = self.client.transaction().await?;
        let placements = "DELETE FROM imagestorageplacement WHERE storage_id IN \
                          (SELECT id FROM imagestorage WHERE content_checksum = $1)";
        transaction.execute(placements, &[&digest]).await?;
        let manifests = "DELETE FROM manifestblob WHERE blob_id IN \
                         (SELECT id FROM imagestorage WHERE content_checksum = $1)";
        transaction.execute(manifests, &[&digest]).await?;
        transaction.execute("DELETE FROM imagestorage WHERE content_checksum = $1", &[&digest]).await?;
        Ok(transaction.commit().await?)
    }

    /// Adds a namespace with its own location.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn add_region(&self, namespace: &str, location: &str) -> Result<()> {
        let user = self.add_user(namespace).await?;
        let insert = "INSERT INTO userregion (user_id, location_id) \
                      SELECT $1, id FROM imagestoragelocation WHERE name = $2";
        self.client.execute(insert, &[&user, &location]).await?;
        Ok(())
    }

    async fn add_user(&self, name: &str) -> Result<i32> {
        let insert = "INSERT INTO \"user\" (username, email, organization, robot) \
                      VALUES ($1, $1, true, false) RETURNING id";
        let row = self.client.query_one(insert, &[&name]).await.context("a user")?;
        Ok(row.get(0))
    }

    /// Runs statements as the owner of Quay's tables.
    ///
    /// # Errors
    /// The database refuses them.
    pub async fn run(&self, statements: &str) -> Result<()> {
        Ok(self.client.batch_execute(statements).await?)
    }
}
