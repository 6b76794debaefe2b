//! The targets of the test suite, for libFuzzer.

#[path = "../../proto-tests/fuzz/targets/mod.rs"]
pub mod targets;
