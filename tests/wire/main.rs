//! The headers between clients, the gateway and the registry.

mod headers;
mod redirects;
mod stub;
mod translation;
