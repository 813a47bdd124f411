//! What operators run: checks, audits, benchmarks, and commands to a running gateway.

pub mod audit;
pub mod bench;
pub mod check;
pub mod csv;
pub mod queue;
pub mod running;
pub mod zones;
