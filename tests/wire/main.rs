//! What passes between clients, the gateway and the registry, header by header.

mod headers;
mod redirects;
mod stub;
mod translation;
