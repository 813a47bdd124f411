//! Temporary URLs: requests signed with the account's key instead of a token.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::{Error, Kind, Result, Secret};

/// How long a URL is valid. Quay uses the same time (`get_direct_download_url`).
const LIFE: Duration = Duration::from_secs(600);

/// The query that permits a request with this method and decoded path.
///
/// It uses SHA-1, because Quay does and all servers accept it. This is an HMAC, so collisions of SHA-1 do not
/// matter.
pub(super) fn query(
    key: &Secret,
    method: &str,
    path: &str,
    now: SystemTime,
) -> Result<[(&'static str, String); 2]> {
    let expires = now + LIFE;
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok([("temp_url_sig", signature(key, method, path, expires)?), ("temp_url_expires", expires.to_string())])
}

fn signature(key: &Secret, method: &str, path: &str, expires: u64) -> Result<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key.reveal().as_bytes())
        .map_err(|_| Error::new(Kind::Invalid, "temp_url_key is not a valid key"))?;
    mac.update(format!("{method}\n{expires}\n{path}").as_bytes());
    Ok(hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in Catalyst Cloud's documentation of `swift tempurl GET 600 … "testkey"`.
    #[test]
    fn signs_as_documented() {
        let path = "/v1/AUTH_b24e9ee3447e48eab1bc99cb894cac6f/my-container/file2.txt";
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_483_990_005) - LIFE;
        let query = query(&Secret::new("testkey"), "GET", path, now).expect("signs");
        assert_eq!(
            query,
            [
                ("temp_url_sig", "2dbc1c2335a53d5548dab178d59ece7801e973b4".to_owned()),
                ("temp_url_expires", "1483990005".to_owned())
            ]
        );
    }
}
