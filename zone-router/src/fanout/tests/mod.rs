//! Tests of the fan-out as a whole.

mod copies;
mod crash;
mod journal;
mod lanes;
mod scripted;

use std::sync::Arc;

use backends::{Digest, Key};

use super::{Job, NewJob};
use crate::Blob;

/// The blob of these bytes.
fn blob(bytes: &[u8]) -> Blob {
    let digest = Digest::of(bytes);
    Blob { digest, key: Key::new(format!("sha256/{}/{}", &digest.hex()[..2], digest.hex())) }
}

fn new_job(text: &str, target: &str) -> NewJob {
    NewJob::new(blob(text.as_bytes()), target.into(), Some(text.len() as u64), "org/repo")
}

fn job(blob: Blob, target: &str, size: Option<u64>) -> Job {
    Job { blob, target: Arc::from(target), size, repositories: Vec::new(), attempts: 0, stamp: 0 }
}
