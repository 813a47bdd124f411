//! The laws.

mod chaos;
mod noise;
mod objects;
mod ours;
mod outage;
mod readers;
mod unseen;
