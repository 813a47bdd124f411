//! What an answer says about the instance that gave it, and whether the request goes on to the next instance. Pure.

use http::StatusCode;

use crate::Repeat;

/// What an answer says about the instance that gave it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The instance serves.
    Serves,
    /// The instance answered 500 to a request that reads or begins an upload.
    Error,
    /// There may be nothing behind the instance's proxy, or only this request takes too long. A probe
    /// decides.
    Doubt,
    /// An error that says nothing about other requests.
    OtherError,
    /// The answer says nothing.
    Nothing,
}

/// The meaning of an answer. `masked` says that a 413 stands for a 502 of Quay's nginx.
///
/// A 502, 503 or 504 alone proves too little: Quay's nginx gives up every request that takes 60 s (the
/// catalog: 10 s), and one client can send many of those.
pub(super) fn meaning(repeat: Repeat, path: &str, status: StatusCode, masked: bool) -> Meaning {
    match status {
        _ if masked || is_gone(status) => Meaning::Doubt,
        StatusCode::INTERNAL_SERVER_ERROR if repeat != Repeat::Never => Meaning::Error,
        _ if status.is_server_error() => Meaning::OtherError,
        // Quay answers `/v2/` with 401 even without its database.
        _ if path == "/v2/" || repeat == Repeat::Never => Meaning::Nothing,
        _ => Meaning::Serves,
    }
}

/// Whether a request with this answer goes on to the next instance.
pub(super) fn try_next(repeat: Repeat, status: StatusCode) -> bool {
    let error = status == StatusCode::INTERNAL_SERVER_ERROR;
    match repeat {
        Repeat::Never => false,
        // If the answer is 500, the login was not decided. If Quay refuses or counts a login, it answers 401, 403 or
        // 429.
        Repeat::Login => error,
        Repeat::Read | Repeat::Begin => error || is_gone(status),
    }
}

/// Whether this is the status of a proxy that has nothing behind it.
fn is_gone(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_was_decided_is_never_sent_again() {
        for status in [200, 400, 401, 403, 404, 405, 429, 502, 503, 504] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(!try_next(Repeat::Login, status), "{status}");
        }
        assert!(try_next(Repeat::Login, StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn reads_and_new_uploads_try_the_next_instance() {
        for repeat in [Repeat::Read, Repeat::Begin] {
            for status in [500, 502, 503, 504] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert!(try_next(repeat, status), "{status}");
                assert!(!try_next(Repeat::Never, status), "{status}");
            }
            for status in [200, 202, 401, 404, 429] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert!(!try_next(repeat, status), "{status}");
            }
        }
    }

    #[test]
    fn an_error_of_one_request_is_confirmed_by_a_probe() {
        for repeat in [Repeat::Never, Repeat::Read, Repeat::Login, Repeat::Begin] {
            for path in ["/v2/o/a/manifests/v1", "/v2/_catalog", "/v2/%5Fcatalog", "/v2/", "/health/endtoend"]
            {
                for status in [502, 503, 504] {
                    let status = StatusCode::from_u16(status).expect("a status");
                    assert_eq!(
                        meaning(repeat, path, status, false),
                        Meaning::Doubt,
                        "{repeat:?} {path} {status}"
                    );
                }
            }
        }
        let of = |repeat, path, status, masked| {
            meaning(repeat, path, StatusCode::from_u16(status).expect("a status"), masked)
        };
        assert_eq!(of(Repeat::Never, "/v2/a/blobs/uploads/1", 413, true), Meaning::Doubt);
        assert_eq!(of(Repeat::Never, "/v2/a/blobs/uploads/1", 413, false), Meaning::Nothing);
        assert_eq!(of(Repeat::Read, "/v2/a/tags/list", 500, false), Meaning::Error);
        assert_eq!(of(Repeat::Never, "/v2/a/blobs/uploads/1", 500, false), Meaning::OtherError);
        assert_eq!(of(Repeat::Read, "/v2/a/tags/list", 404, false), Meaning::Serves);
        assert_eq!(of(Repeat::Read, "/v2/", 401, false), Meaning::Nothing);
    }
}
