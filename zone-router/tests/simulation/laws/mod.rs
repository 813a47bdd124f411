//! The laws.

mod chaos;
mod noise;
mod outage;
mod unseen;
