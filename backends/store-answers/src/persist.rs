//! Bounded retries of requests that may succeed a moment later.

use std::time::Duration;

use tokio::time::sleep;

use crate::{Error, Kind, Result};

/// How often a request is sent before it fails, for example for one part of a `put`.
const TRIES: u32 = 3;

/// The first pause before a retry. The pause doubles with each retry, and has jitter.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause before a retry, whatever the store asks for.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Sends a request until it succeeds, fails with an error that no retry can change, or was tried `TRIES`
/// times.
pub async fn persist<T, F>(send: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    persist_while(Error::is_transient, send).await
}

/// Sends a request until it succeeds, was tried `TRIES` times, or fails with an error for which `again` returns
/// `false`.
pub async fn persist_while<T, F>(again: impl Fn(&Error) -> bool, mut send: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = 1;
    loop {
        match send().await {
            Err(error) if again(&error) && tries < TRIES => {
                sleep(pause(error.kind(), tries)).await;
                tries += 1;
            }
            sent => return sent,
        }
    }
}

fn pause(kind: Kind, tries: u32) -> Duration {
    let jittered = (PAUSE * 2_u32.pow(tries - 1)).mul_f64(0.5 + fastrand::f64());
    let asked = match kind {
        Kind::Throttled { retry_after } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    jittered.max(asked).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded() {
        for tries in 1..TRIES {
            assert!(pause(Kind::Unavailable, tries) < Duration::from_secs(1));
        }
        let asked = Kind::Throttled { retry_after: Some(Duration::from_secs(600)) };
        assert_eq!(pause(asked, 1), MAX_PAUSE);
    }
}
