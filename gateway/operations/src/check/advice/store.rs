//! What a store's error means.

use backends::{Error, Kind};

use super::{Advice, Peer};
use crate::check::step::Name;

/// What to say of a store's error at `step`.
pub(super) fn advise(step: Name, peer: &Peer, error: &Error) -> Advice {
    if peer.is("LocalStorage") {
        return folder(step, error);
    }
    let (code, said) = (error.code().unwrap_or_default(), error.to_string());
    of_credentials(peer, error.kind(), code, &said)
        .or_else(|| by_code(step, peer, code))
        .or_else(|| by_words(step, &said))
        .unwrap_or_else(|| by_kind(step, peer, error, code))
}

/// Of whoever gives credentials, in the words that the driver begins with: the store was not asked.
fn of_credentials(peer: &Peer, kind: Kind, code: &str, said: &str) -> Option<Advice> {
    let begins = |with: &[&str]| with.iter().any(|with| said.starts_with(with));
    let reached = !matches!(kind, Kind::Unavailable | Kind::Timeout);
    if begins(&["get credentials"]) && reached {
        return Some(Advice::new(
            "there are no keys, neither in the configuration nor where boto3 would look",
            format!("give {}, or give this machine or pod a role", peer.credentials()),
        ));
    }
    if begins(&[
        "get credentials",
        "ask the container's service",
        "ask the instance",
        "read the web identity token",
    ]) {
        return Some(Advice::new(
            "what gives this machine or pod its credentials does not",
            format!("see its role or service account, or give {}", peer.credentials()),
        ));
    }
    if !begins(&["assume the role"]) {
        return None;
    }
    match code {
        "AccessDenied" => Some(Advice::new(
            "the user that these keys are of may not assume the role, or there is no such role",
            "mend `sts_role_arn` (or the profile's `role_arn`), or name the user in the role's trust policy",
        )),
        _ if !reached => Some(Advice::new(
            "the service that gives the role's credentials cannot be reached, or fails",
            "let STS be reached from this machine: AWS_DEFAULT_REGION says of which region, and \
             AWS_ENDPOINT_URL_STS which server",
        )),
        _ => None,
    }
}

/// By the server's own word.
fn by_code(step: Name, peer: &Peer, code: &str) -> Option<Advice> {
    let (bucket, credentials) = (peer.bucket(), peer.credentials());
    Some(match code {
        "InvalidAccessKeyId" | "InvalidClientTokenId" => Advice::new(
            "the store does not know this access key",
            format!("mend {credentials}: they may belong to another store, or have been deleted"),
        ),
        "SignatureDoesNotMatch" | "AuthenticationFailed" => Advice::new(
            "the secret key is wrong, or a proxy in between changes host or path",
            format!("mend {credentials}; a proxy must pass `Host` and the path on as they are"),
        ),
        "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "InvalidRegionName" => {
            Advice::new("the bucket is in another region than the one that is asked", region(peer))
        }
        "RequestTimeTooSkewed" | "RequestExpired" => Advice::new(
            "the clocks of this machine and of the store differ",
            "compare `date -u` on both, and run NTP",
        ),
        "NoSuchBucket"
        | "NoSuchContainer"
        | "ContainerNotFound"
        | "ContainerDisabled"
        | "ContainerBeingDeleted" => Advice::new(
            format!("there is no {bucket} at this store, in this account"),
            format!(
                "make {bucket}, or mend its name; see that {credentials} are those of its owner's account"
            ),
        ),
        "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => Advice::new(
            "the temporary credentials have expired",
            "renew the session token, or leave keys and token out where this machine has a role",
        ),
        "QuotaExceeded" | "InsufficientStorage" | "StorageFull" | "507" => quota(peer),
        "413" | "EntityTooLarge" if step == Name::Put => quota(peer),
        "AccessDenied"
        | "AllAccessDisabled"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch"
        | "InsufficientAccountPermissions" => denied(step, peer),
        "AccountIsDisabled" | "NotSignedUp" | "AccountProblem" | "UserSuspended" => {
            Advice::new("the account is closed or suspended at the store", "ask whoever runs the store")
        }
        "401" if peer.is("SwiftStorage") => unknown_at_keystone(),
        "401" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
            Advice::new("the store does not know who asks", format!("mend {credentials}"))
        }
        "403" => denied(step, peer),
        _ => return None,
    })
}

/// By the words of a driver, where it knows more than the server said.
fn by_words(step: Name, said: &str) -> Option<Advice> {
    if said.contains("as Object Lock does") {
        return Some(Advice::new(
            "the bucket has Object Lock with a default retention, takes no object without a checksum, and did \
             not take `x-amz-checksum-sha256` for one",
            "give the zone a bucket without a default retention: deleted blobs would stay in this one anyway",
        ));
    }
    if said.contains("encryption at rest") {
        return Some(Advice::new(
            "S3Storage writes ask for encryption at rest, and this store refuses that, as RadosGW does over \
             plain HTTP",
            "let the zone be reached over https, or use RadosGWStorage, which asks for none",
        ));
    }
    if said.contains("objects can only be read") {
        return Some(Advice::new(
            "with `temp_url_key` and no `swift_password` the zone can be read and not written",
            "give `swift_user` and `swift_password`, or take the zone out of the targets of copies",
        ));
    }
    if step == Name::Authenticate && said.contains("catalogue has no") {
        return Some(Advice::new(
            "Keystone knows the user, and no object store as it is asked for",
            "mend `region_name`, `endpoint_type` or `service_type` in `os_options`",
        ));
    }
    None
}

fn by_kind(step: Name, peer: &Peer, error: &Error, code: &str) -> Advice {
    match error.kind() {
        Kind::Denied => denied(step, peer),
        Kind::Throttled { .. } => {
            Advice::new("the store asks for fewer requests", "try again later, or raise its limits")
        }
        Kind::Timeout => Advice::new(
            "the store is too slow, or hangs",
            "see its log and load; `timeouts.zone_first_byte` is what the gateway waits",
        ),
        Kind::Corrupt => Advice::new(
            "what the store gives back is not what it took",
            "see whether a cache, a proxy or another writer of `_verify` stands between; else its disks",
        ),
        Kind::Unavailable if code.is_empty() => Advice::new(
            "the store broke the connection off, or answered in no way that its protocol knows",
            plain_or_tls(peer),
        ),
        Kind::Unavailable => Advice::new("the store answers with a fault of its own", "see the store's log"),
        Kind::Invalid if matches!(code, "400" | "404" | "405" | "BadRequest" | "MethodNotAllowed") => {
            Advice::new("it answers, but not as a store of this driver does", plain_or_tls(peer))
        }
        Kind::Exhausted => Advice::new(
            "this machine has no file descriptor, port or memory left",
            "raise the limit of open files (`ulimit -n`), and see what else runs here",
        ),
        Kind::Invalid | Kind::Source => Advice::new(
            "the store takes the request for wrong",
            "see the zone's parameters, and the store's log",
        ),
    }
}

fn plain_or_tls(peer: &Peer) -> String {
    let other = if peer.tls { "a proxy that answers in its place" } else { "a port that wants TLS" };
    format!("see that {} lead to the store itself, not to another service or {other}", peer.place())
}

fn region(peer: &Peer) -> String {
    match peer.driver.as_deref() {
        Some("RadosGWStorage" | "RHOCSStorage") => "set `region_name` to the bucket's region".to_owned(),
        Some("IBMCloudStorage" | "GoogleCloudStorage") => format!("mend {}", peer.place()),
        _ => "set `s3_region` to the bucket's region".to_owned(),
    }
}

fn quota(peer: &Peer) -> Advice {
    Advice::new(
        "the store is full, or a quota is used up",
        format!("make room, or raise the quota of {} or of its owner", peer.bucket()),
    )
}

fn denied(step: Name, peer: &Peer) -> Advice {
    let bucket = peer.bucket();
    if step == Name::Put {
        return Advice::new(
            "the credentials may read here, and not write: a read-only key",
            format!("allow writing objects in {bucket} (S3: s3:PutObject, s3:AbortMultipartUpload)"),
        );
    }
    if peer.is("SwiftStorage") && step == Name::Authenticate {
        return unknown_at_keystone();
    }
    if peer.is("AzureStorage") {
        return Advice::new(
            "the account's firewall refuses this machine, or access by account key is off; at Azurite, the key is \
             wrong",
            "see the account's network rules and \"Allow storage account key access\", and \
             `azure_account_key`",
        );
    }
    Advice::new(
        format!("the credentials are known, and may not read {bucket}; or they are wrong"),
        format!(
            "see {}; allow reading objects and listing the bucket (S3: s3:GetObject, s3:ListBucket)",
            peer.credentials()
        ),
    )
}

fn unknown_at_keystone() -> Advice {
    Advice::new(
        "Keystone does not know this user with this password, domain and project, or gives it no role there",
        "see `swift_user` and `swift_password`, and in `os_options` that names stand under …_name and ids \
         under …_id (`tenant_name` or `tenant_id`, `user_domain_name`, `project_domain_name`), and \
         `auth_version`",
    )
}

fn folder(step: Name, error: &Error) -> Advice {
    match (error.kind(), step) {
        (Kind::Denied, Name::Put) => Advice::new(
            "this user may not write into the folder, or it is mounted read-only",
            "give the gateway's user the folder, or mount it for writing",
        ),
        (Kind::Denied, _) => {
            Advice::new("this user may not read the folder", "give the gateway's user the folder")
        }
        (Kind::Timeout, _) => {
            Advice::new("the disk, or the server of its mount, hangs", "see the kernel's log")
        }
        (Kind::Corrupt, _) => Advice::new(
            "what the disk gives back is not what it took",
            "see whether another program writes there; else the disk",
        ),
        _ => Advice::new(
            "there is no such folder on this machine, or its disk is full or fails",
            "mount it where `storage_path` says, and see `df` and the kernel's log",
        ),
    }
}
