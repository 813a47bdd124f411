#![doc = include_str!("../README.md")]

pub mod audit;
pub mod bench;
pub mod check;
pub mod csv;
pub mod queue;
pub mod running;
pub mod zones;
