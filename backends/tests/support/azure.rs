//! The Azure driver before a scripted server.

use std::net::SocketAddr;

use backends::Secret;
use backends::azure::{AccountKey, AzureConfig, AzureStore, Credentials};

/// `hunter2`, in base64.
const KEY: &str = "aHVudGVyMg==";

/// What must not be in an error.
pub const SECRETS: &[&str] = &["SharedKey", KEY, "hunter2"];

/// A store at this address, with an account key.
pub fn store(address: SocketAddr) -> AzureStore {
    store_with(address, Credentials::Key(AccountKey::parse(&Secret::new(KEY)).expect("a key")))
}

/// A store at this address, with these credentials.
pub fn store_with(address: SocketAddr, credentials: Credentials) -> AzureStore {
    let config = AzureConfig {
        endpoint: format!("http://{address}/acct").parse().expect("a URL"),
        account: "acct".to_owned(),
        container: "blobs".to_owned(),
        root: "registry".to_owned(),
        credentials,
    };
    AzureStore::new(&config, &super::transport(super::short())).expect("builds")
}
