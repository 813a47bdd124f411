//! The requests of copies to Quay, with Quay's tables in a real PostgreSQL, its locks in a real Redis, and
//! its own lock beside.

mod audited;
mod check;
mod fixture;
mod placed;
mod wanted;
mod whole;
