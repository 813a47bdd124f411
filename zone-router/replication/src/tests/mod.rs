//! Tests of the fan-out as a whole.

mod authority;
mod copies;
mod crash;
mod flood;
mod inspect;
mod journal;
mod lanes;
mod place;
mod replicas;
mod scripted;
mod server_side;
mod simulation;
mod throttle;

use std::sync::Arc;

use backends::{Digest, Key};
use zone_router::Blob;

use super::{Job, NewJob};

/// Makes tests of these functions: one each over an SQLite file, and one over all of them in
/// databases of one PostgreSQL.
macro_rules! over_both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Place::file()).await;
            })*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_over_postgresql() {
            let postgres = super::place::Postgres::start().await;
            $(
                eprintln!("{}", stringify!($case));
                $case(postgres.place().await).await;
            )*
        }
    };
}
use over_both;

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
