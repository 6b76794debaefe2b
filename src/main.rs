//! The `kmirror` binary: parses, runs, maps errors to exit codes.
fn main() {}
