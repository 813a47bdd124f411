#![doc = include_str!("../README.md")]

pub mod memory;
pub mod pool;
