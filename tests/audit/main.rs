//! Tests of the commands that find and repair what zones lack: `audit`, `heal`, `backfill`.

mod compared;
mod healed;
mod kept;
mod queued;
mod resumed;
mod support;
