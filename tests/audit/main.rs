//! What zones lack is found and mended: `audit`, `heal`, `backfill`.

mod compared;
mod healed;
mod kept;
mod queued;
mod resumed;
mod support;
