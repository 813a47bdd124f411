//! The configuration changes while the gateway runs.

mod fixture;
mod limits;
mod mounted;
mod refused;
mod zones;
