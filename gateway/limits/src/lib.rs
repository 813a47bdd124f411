//! What clients share, and how much of it one of them may have: pools of slots, and the memory budget.

pub mod memory;
pub mod pool;
