//! The advice for errors of stores.

use backends::{Error, Kind};

use super::{Advice, Peer};
use crate::check::step::StepName;

/// The advice for a store's error at `step`.
pub(super) fn advise(step: StepName, peer: &Peer, error: &Error) -> Advice {
    if peer.is("LocalStorage") {
        return folder(step, error);
    }
    let (code, message) = (error.code().unwrap_or_default(), error.to_string());
    of_credentials(peer, error.kind(), code, &message)
        .or_else(|| by_code(step, peer, code))
        .or_else(|| by_words(step, &message))
        .unwrap_or_else(|| by_kind(step, peer, error, code))
}

/// The advice if the credentials could not be obtained, so that the store was not asked. The driver's message
/// begins with the failed operation.
fn of_credentials(peer: &Peer, kind: Kind, code: &str, message: &str) -> Option<Advice> {
    let begins = |with: &[&str]| with.iter().any(|with| message.starts_with(with));
    let reached = !matches!(kind, Kind::Unavailable | Kind::Timeout);
    if begins(&["get credentials"]) && reached {
        return Some(Advice::new(
            "there are no credentials, neither in the configuration nor where boto3 looks for them",
            format!("set {}, or give this machine or pod a role", peer.credentials()),
        ));
    }
    if begins(&[
        "get credentials",
        "ask the container's service",
        "ask the instance",
        "read the web identity token",
    ]) {
        return Some(Advice::new(
            "the service that gives this machine or pod its credentials fails",
            format!("check its role or service account, or set {}", peer.credentials()),
        ));
    }
    if !begins(&["assume the role"]) {
        return None;
    }
    match code {
        "AccessDenied" => Some(Advice::new(
            "the user of these keys may not assume the role, or there is no such role",
            "correct `sts_role_arn` (or the profile's `role_arn`), or name the user in the role's trust policy",
        )),
        _ if !reached => Some(Advice::new(
            "the service that gives the role's credentials cannot be reached, or fails",
            "allow connections from this machine to STS: AWS_DEFAULT_REGION sets its region, and \
             AWS_ENDPOINT_URL_STS its server",
        )),
        _ => None,
    }
}

/// The advice for an error code of the server.
fn by_code(step: StepName, peer: &Peer, code: &str) -> Option<Advice> {
    let (bucket, credentials) = (peer.bucket(), peer.credentials());
    Some(match code {
        "InvalidAccessKeyId" | "InvalidClientTokenId" => Advice::new(
            "the store does not know this access key",
            format!("correct {credentials}: they may belong to another store, or may have been deleted"),
        ),
        "SignatureDoesNotMatch" | "AuthenticationFailed" => Advice::new(
            "the secret key is wrong, or a proxy changes the host or the path",
            format!("correct {credentials}; a proxy must pass `Host` and the path on unchanged"),
        ),
        "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "InvalidRegionName" => {
            Advice::new("the bucket is in another region than the configured one", region(peer))
        }
        "RequestTimeTooSkewed" | "RequestExpired" => Advice::new(
            "the clocks of this machine and of the store differ",
            "compare `date -u` on both, and run NTP on both",
        ),
        "NoSuchBucket"
        | "NoSuchContainer"
        | "ContainerNotFound"
        | "ContainerDisabled"
        | "ContainerBeingDeleted" => Advice::new(
            format!("there is no {bucket} at this store, in this account"),
            format!(
                "create {bucket}, or correct its name; check that {credentials} belong to the account of its owner"
            ),
        ),
        "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => Advice::new(
            "the temporary credentials have expired",
            "renew the session token, or remove keys and token if this machine has a role",
        ),
        "QuotaExceeded" | "InsufficientStorage" | "StorageFull" | "507" => quota(peer),
        "413" | "EntityTooLarge" if step == StepName::Put => quota(peer),
        "AccessDenied"
        | "AllAccessDisabled"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "InsufficientAccountPermissions" => denied(step, peer),
        "AccountIsDisabled" | "NotSignedUp" | "AccountProblem" | "UserSuspended" => {
            Advice::new("the account is closed or suspended at the store", "ask the store's operator")
        }
        "401" if peer.is("SwiftStorage") => unknown_at_keystone(),
        "401" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
            Advice::new("the store does not accept the credentials", format!("correct {credentials}"))
        }
        "403" => denied(step, peer),
        _ => return None,
    })
}

/// The advice for a message of a driver that knows more than the server's code.
fn by_words(step: StepName, message: &str) -> Option<Advice> {
    if message.contains(": the proxy ") {
        return Some(Advice::new(
            "the proxy did not pass the request on: the store was not asked",
            "check the proxy and its log, and correct `proxy`; if no proxy is meant to lead to this store, name its host \
             in `proxy.no_proxy` (or in NO_PROXY)",
        ));
    }
    if message.contains("because of Object Lock") {
        return Some(Advice::new(
            "the bucket has Object Lock with a default retention, so it refuses an object without a checksum, and \
             it does not accept `x-amz-checksum-sha256` as one",
            "use a bucket without a default retention: deleted blobs would stay in this one anyway",
        ));
    }
    if message.contains("encryption at rest") {
        return Some(Advice::new(
            "S3Storage requests encryption at rest, and this store refuses that, as RadosGW does over plain HTTP",
            "use https for the zone, or use RadosGWStorage, which does not request encryption",
        ));
    }
    if message.contains("allows only reads") {
        return Some(Advice::new(
            "with `temp_url_key` and without `swift_password`, the zone can be read but not written",
            "set `swift_user` and `swift_password`, or remove the zone from the targets of copies",
        ));
    }
    if step == StepName::Authenticate && message.contains("catalogue has no") {
        return Some(Advice::new(
            "Keystone accepts the user, but its catalogue has no object store that matches the configuration",
            "correct `region_name`, `endpoint_type` or `service_type` in `os_options`",
        ));
    }
    None
}

fn by_kind(step: StepName, peer: &Peer, error: &Error, code: &str) -> Advice {
    match error.kind() {
        Kind::Denied => denied(step, peer),
        Kind::Throttled { .. } => {
            Advice::new("the store limits the rate of requests", "try again later, or raise its limits")
        }
        Kind::Timeout => Advice::new(
            "the store is too slow, or hangs",
            "check its log and its load; the gateway waits for `timeouts.zone_first_byte`",
        ),
        Kind::Corrupt => Advice::new(
            "the store returns other bytes than were written",
            "check whether a cache, a proxy or another writer of `_verify` changes them; otherwise check its disks",
        ),
        Kind::Unavailable if code.is_empty() => Advice::new(
            "the store closed the connection, or its answer is not valid in its protocol",
            plain_or_tls(peer),
        ),
        Kind::Unavailable if step == StepName::Put && peer.is("S3Storage") => Advice::new(
            "the store has an internal error, or it cannot encrypt at rest, which S3Storage requests as Quay does",
            "check the store's log; for a store that is not Amazon's, use RadosGWStorage, which does not request encryption",
        ),
        Kind::Unavailable => Advice::new("the store has an internal error", "check the store's log"),
        Kind::Invalid if matches!(code, "400" | "404" | "405" | "BadRequest" | "MethodNotAllowed") => {
            Advice::new("the server answers, but not as a store of this driver does", plain_or_tls(peer))
        }
        Kind::Exhausted => Advice::new(
            "this machine has no file descriptor, port or memory left",
            "raise the limit of open files (`ulimit -n`), and check what else runs on this machine",
        ),
        Kind::Invalid | Kind::Source => Advice::new(
            "the store considers the request invalid",
            "check the zone's parameters, and the store's log",
        ),
    }
}

fn plain_or_tls(peer: &Peer) -> String {
    let other = if peer.tls { "a proxy that answers instead" } else { "a port that requires TLS" };
    format!("check that {} lead to the store itself, not to another service or {other}", peer.place())
}

fn region(peer: &Peer) -> String {
    match peer.driver.as_deref() {
        Some("RadosGWStorage" | "RHOCSStorage") => "set `region_name` to the bucket's region".to_owned(),
        Some("IBMCloudStorage" | "GoogleCloudStorage") => format!("correct {}", peer.place()),
        _ => "set `s3_region` to the bucket's region".to_owned(),
    }
}

fn quota(peer: &Peer) -> Advice {
    Advice::new(
        "the store is full, or a quota is used up",
        format!("free space, or raise the quota of {} or of its owner", peer.bucket()),
    )
}

fn denied(step: StepName, peer: &Peer) -> Advice {
    let bucket = peer.bucket();
    if step == StepName::Put {
        return Advice::new(
            "the credentials may read but not write: this is a read-only key",
            format!("allow writing objects in {bucket} (S3: s3:PutObject, s3:AbortMultipartUpload)"),
        );
    }
    if peer.is("SwiftStorage") && step == StepName::Authenticate {
        return unknown_at_keystone();
    }
    if peer.is("AzureStorage") {
        return Advice::new(
            "the account's firewall refuses this machine, or access by account key is disabled; with Azurite, the \
             key is wrong",
            "check the account's network rules, its setting \"Allow storage account key access\", and \
             `azure_account_key`",
        );
    }
    Advice::new(
        format!("the credentials may not read {bucket}, or they are wrong"),
        format!(
            "check {}; allow reading objects and listing the bucket (S3: s3:GetObject, s3:ListBucket)",
            peer.credentials()
        ),
    )
}

fn unknown_at_keystone() -> Advice {
    Advice::new(
        "Keystone does not know a user with this password, domain and project, or the user has no role there",
        "check `swift_user`, `swift_password` and `auth_version`; in `os_options`, names must be in keys that end in \
         _name and ids in keys that end in _id (`tenant_name` or `tenant_id`, `user_domain_name`, \
         `project_domain_name`)",
    )
}

fn folder(step: StepName, error: &Error) -> Advice {
    match (error.kind(), step) {
        (Kind::Denied, StepName::Put) => Advice::new(
            "this user may not write into the folder, or it is mounted read-only",
            "allow the gateway's user to write into the folder, or mount it read-write",
        ),
        (Kind::Denied, _) => {
            Advice::new("this user may not read the folder", "allow the gateway's user to read the folder")
        }
        (Kind::Timeout, _) => {
            Advice::new("the disk, or the server of its mount, hangs", "check the kernel's log")
        }
        (Kind::Corrupt, _) => Advice::new(
            "the disk returns other bytes than were written",
            "check whether another program writes to the folder; otherwise check the disk",
        ),
        _ => Advice::new(
            "there is no such folder on this machine, or its disk is full or fails",
            "mount it at `storage_path`, and check `df` and the kernel's log",
        ),
    }
}
