//! Blobs written in blocks.

use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::Method;
use tokio::time::sleep;

use super::client::{Call, Client};
use super::request::{block_id, block_list};
use super::{CONTENT_TYPE, OCTETS};
use crate::parts::{PARTS_IN_FLIGHT, Part, Parts};
use crate::persist::persist;
use crate::upload::Upload;
use crate::{Error, Key, Kind, Result, Source};

/// The most blocks that a blob can have.
const MAX_BLOCKS: u64 = 50_000;

/// The largest block, in bytes (since version 2019-12-12).
pub(super) const MAX_BLOCK: u64 = 4000 * MIB;

/// Blocks that must grow are whole multiples of this, in bytes.
const MIB: u64 = 1024 * 1024;

/// How long Azure may take to commit a list ("Setting timeouts for Blob service operations").
const COMMIT: Duration = Duration::from_secs(60);

/// How often a blob is written before others who write other bytes to it have won.
const PUT_TRIES: u32 = 5;

/// The first pause before a blob is written again; it doubles, with jitter.
const PUT_PAUSE: Duration = Duration::from_millis(200);

/// Writes `source` in blocks of at least `block` bytes.
///
/// The blob appears by the list of its blocks, and that is sent only after everything that was
/// sent matched the source's digest. Blocks that are in no list are seen by nobody, and Azure
/// removes them with the next commit to that name, else a week after the last block.
pub(super) async fn put(client: &Client, key: &Key, source: &Source, block: u64) -> Result<()> {
    let what = format!("put {key}");
    let mut tries = 1;
    loop {
        match write(client, &what, key, source, block_size(source.size(), block)).await {
            // Another wrote other bytes, or in one piece, and what we had staged was discarded.
            Err(error) if error.code() == Some("InvalidBlockList") => {
                if tries == PUT_TRIES {
                    let why = format!("{what}: others write to it at the same time");
                    return Err(Error::new(Kind::Unavailable, why).with_cause(error));
                }
                sleep((PUT_PAUSE * 2_u32.pow(tries - 1)).mul_f64(0.5 + fastrand::f64())).await;
                tries += 1;
            }
            written => return written,
        }
    }
}

/// The size of blocks for a blob of `size` bytes: `block`, or more if they would be too many.
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
    // May be sent again: what a lost answer had committed is found in the blob.
    persist(|| client.ok(what, &call, COMMIT)).await.map(drop)
}

/// Sends a block, again if need be, and returns its id.
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
