//! The S3 driver before a scripted server.

use backends::s3::S3Store;
use backends::{Key, Kind, Result, Store as _};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{Answer, Scripted, answer};

/// The key of the tests.
pub fn key() -> Key {
    Key::new("sha256/ab/abcd")
}

/// A store at this server.
pub fn store(server: &Scripted) -> S3Store {
    S3Store::new(&super::config(server.address), &super::transport(super::short())).expect("builds")
}

/// A server with these answers, which have no bodies, and a store at it.
pub async fn scripted(answers: &[&str]) -> (Scripted, S3Store) {
    let answers = answers.iter().map(|text| Answer::Bytes(answer(text, ""))).collect();
    let server = Scripted::start(answers).await;
    let store = store(&server);
    (server, store)
}

/// Reads the object, or a range of it.
pub async fn read(store: &S3Store, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
    let object = store.get(&key(), range).await?.expect("there");
    let pieces: Vec<Bytes> = object.body.try_collect().await?;
    Ok(pieces.concat().into())
}

/// The kind of a failure. Panics if the error contains a secret.
pub fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    super::kind(result, &["Signature", super::SECRET_KEY])
}
