//! The requests of copies to Quay: Quay's tables are in a real PostgreSQL, its locks in a real Redis, and
//! Quay's own lock code runs beside the gateway's.

mod audited;
mod check;
mod fixture;
mod placed;
mod wanted;
mod whole;
