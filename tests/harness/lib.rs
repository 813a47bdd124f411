//! Test harness: a stand-in Quay, embedded zones, fault proxies, real servers and clients.

pub mod real;
