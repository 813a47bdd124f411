//! What passes between clients, the gateway and the registry, header by header.

mod redirects;
mod stub;
