//! Tests of the fan-out as a whole.
