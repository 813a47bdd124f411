//! Criterion benches of the hot paths; run with `cargo bench -p benches`.
