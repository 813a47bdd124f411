//! The laws.

mod chaos;
mod noise;
mod ours;
mod outage;
mod unseen;
