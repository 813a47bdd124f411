//! What copies ask and tell Quay, with its tables in a real PostgreSQL, its locks in a real Redis, and
//! its own lock beside.

mod audited;
mod check;
mod placed;
mod stage;
mod wanted;
mod whole;
