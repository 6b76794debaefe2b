//! The command line through its own parser.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
    args::command_with_later().debug_assert();
}

#[test]
fn commands_to_come_are_refused_by_name_whatever_follows() {
    for name in args::LATER {
        for words in [vec!["kmirror", name], vec!["kmirror", "-c", "x.yaml", name, "--dry-run", "--help", "y"]] {
            let refused = parse(&words);
            assert!(matches!(&refused, Err(Parsed::Later(named)) if named == name), "{words:?}: {refused:?}");
        }
    }
    assert!(matches!(parse(["kmirror", "mirror"]), Err(Parsed::Clap(_))));
}
