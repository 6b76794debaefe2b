//! The command line through its own parser.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
    args::command_with_later().debug_assert();
}
