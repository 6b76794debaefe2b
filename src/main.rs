//! The `kmirror` binary: parses, runs, maps errors to exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    kmirror::cli::main()
}
