//! Writes blobs in blocks.

use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::Method;
use tokio::time::sleep;

use super::call::Call;
use super::client::Client;
use super::request::{block_id, block_list};
use super::{CONTENT_TYPE, OCTETS};
use crate::parts::{PARTS_IN_FLIGHT, Part, Parts};
use crate::persist::persist;
use crate::upload::Upload;
use crate::{Error, Key, Kind, Result, Source};

/// The maximum number of blocks of a blob.
const MAX_BLOCKS: u64 = 50_000;

/// The largest block, in bytes (since version 2019-12-12).
pub(super) const MAX_BLOCK: u64 = 4000 * MIB;

/// If blocks must be larger than usual, their size is a multiple of this, in bytes.
const MIB: u64 = 1024 * 1024;

/// How long Azure may take to commit a block list ("Setting timeouts for Blob service operations").
const COMMIT: Duration = Duration::from_secs(60);

/// How often a blob is written before the call fails because other writers keep discarding its blocks.
const PUT_TRIES: u32 = 5;

/// The first pause before a blob is written again. The pause doubles with each try, and has jitter.
const PUT_PAUSE: Duration = Duration::from_millis(200);

/// Writes `source` in blocks of at least `block` bytes.
///
/// The commit of the block list makes the blob visible. The list is sent only after all bytes that were sent
/// match the source's digest. Nobody sees blocks that are in no list. Azure removes them at the next commit
/// to that name, or a week after the last block.
pub(super) async fn put(client: &Client, key: &Key, source: &Source, block: u64) -> Result<()> {
    let what = format!("put {key}");
    let mut tries = 1;
    loop {
        match write(client, &what, key, source, block_size(source.size(), block)).await {
            // Another writer committed other bytes or a single-request blob, so Azure discarded our staged
            // blocks.
            Err(error) if error.code() == Some("InvalidBlockList") => {
                if tries == PUT_TRIES {
                    let why = format!("{what}: other writers keep replacing it");
                    return Err(Error::new(Kind::Unavailable, why).with_cause(error));
                }
                sleep((PUT_PAUSE * 2_u32.pow(tries - 1)).mul_f64(0.5 + fastrand::f64())).await;
                tries += 1;
            }
            written => return written,
        }
    }
}

/// The block size for a blob of `size` bytes: `block`, or more if there would be too many blocks.
fn block_size(size: u64, block: u64) -> u64 {
    if size.div_ceil(block) <= MAX_BLOCKS { block } else { size.div_ceil(MAX_BLOCKS).next_multiple_of(MIB) }
}

async fn write(client: &Client, what: &str, key: &Key, source: &Source, block_size: u64) -> Result<()> {
    if block_size > MAX_BLOCK {
        return Err(Error::new(Kind::Invalid, format!("{what}: larger than a blob can be")));
    }
    let parts = Parts::open(source, block_size, client.http.timeouts().stall).await?;
    let ids: Vec<String> = parts
        .stream()
        .map_ok(|part| stage(client, what, key, part))
        .try_buffered(PARTS_IN_FLIGHT)
        .try_collect()
        .await?;
    let call = Call::new(Method::PUT, client.address.blob(key, &[("comp", "blocklist")])?)
        .with_header(CONTENT_TYPE, OCTETS)?
        .with_body(block_list(&ids));
    // The commit may be repeated: if the answer was lost, the committed blocks are found in the blob.
    persist(|| client.ok(what, &call, COMMIT)).await.map(drop)
}

/// Sends a block, with retries, and returns its id.
async fn stage(client: &Client, what: &str, key: &Key, part: Part) -> Result<String> {
    let what = format!("{what}, block {}", part.number);
    let id = block_id(part.number, part.digest);
    let call = Call::new(Method::PUT, client.address.blob(key, &[("comp", "block"), ("blockid", &id)])?);
    persist(|| client.upload(&what, key, &call, Upload::pieces(part.pieces.clone()))).await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn blocks_are_never_too_many_nor_too_small(
            size in 1..MAX_BLOCKS * MAX_BLOCK, block in 1..MAX_BLOCK
        ) {
            let chosen = block_size(size, block);
            proptest::prop_assert!(size.div_ceil(chosen) <= MAX_BLOCKS);
            proptest::prop_assert!((block..=MAX_BLOCK).contains(&chosen));
        }
    }
}
