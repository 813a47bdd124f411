//! The configuration files of Swift.

use std::fmt::Write as _;
use std::path::Path;

use super::keystone::Keystone;

/// The source of a proxy's users.
pub(super) enum Users<'a> {
    /// The proxy itself (`tempauth`), with the S3 interface (`s3api`).
    Own { account: &'a str, user: &'a str, key: &'a str },
    /// The Keystone at this URL, including the version.
    Keystone { url: String },
}

/// `swift.conf`, which all servers read.
pub(super) fn common(max_file_size: u64) -> String {
    format!(
        "[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = Policy-0
default = yes
[swift-constraints]
max_file_size = {max_file_size}
"
    )
}

/// The configuration of an object, container or account server.
pub(super) fn storage(folder: &Path, role: &str, port: u16) -> String {
    let (head, folder) = (head(folder, port), folder.display());
    format!(
        "{head}devices = {folder}/devices
mount_check = false
disable_fallocate = true
recon_cache_path = {folder}
[pipeline:main]
pipeline = {role}-server
[app:{role}-server]
use = egg:swift#{role}
"
    )
}

/// The configuration of the proxy. Its filters are those of Swift's sample configuration.
pub(super) fn proxy(folder: &Path, port: u16, memcached: u16, users: &Users<'_>, region: &str) -> String {
    let auth = match users {
        Users::Own { .. } => "s3api tempauth",
        Users::Keystone { .. } => "authtoken keystoneauth",
    };
    let mut text = head(folder, port);
    text += &format!(
        "[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl {auth} copy \
container_quotas account_quotas slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:s3api]
use = egg:swift#s3api
location = {region}
"
    );
    for filter in [
        "catch_errors",
        "gatekeeper",
        "healthcheck",
        "listing_formats",
        "bulk",
        "tempurl",
        "copy",
        "container_quotas",
        "account_quotas",
        "slo",
        "dlo",
        "symlink",
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "[filter:{filter}]\nuse = egg:swift#{filter}");
    }
    text + &match users {
        Users::Own { account, user, key } => format!(
            "[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {key} .admin
"
        ),
        Users::Keystone { url } => format!(
            "[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {url}
auth_url = {url}
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = {user}
password = {password}
delay_auth_decision = True
cache = swift.cache
include_service_catalog = False
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin,swiftoperator
",
            user = Keystone::SERVICE_USER,
            password = Keystone::SERVICE_PASSWORD,
        ),
    }
}

/// There is one process, so that stopping or suspending it affects the whole server.
fn head(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {folder}
log_address = {folder}/nowhere
"
    )
}
