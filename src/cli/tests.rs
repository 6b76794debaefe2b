//! The command line through its own parser.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// As with any other command.
#[test]
fn the_file_may_be_named_in_front_of_a_command_of_a_command() {
    for words in [["kmirror", "backup", "-c", "x.yaml", "plan"], ["kmirror", "archive", "-c", "x.yaml", "list"]] {
        assert!(Cli::try_parse_from(words).is_ok(), "{words:?}");
    }
}

#[test]
fn a_file_of_backups_alone_is_nothing_to_mirror() {
    let text = "clusters: { a: { bootstrap: [h:1] } }\nbackups:\n- { name: nightly, cluster: a, topics: { include: [x] }, \
                to: [{ url: 'memory://' }] }\n";
    let folder = std::path::PathBuf::new();
    let config = crate::config::Config::parse(text, "k.yaml", &crate::config::SystemEnv { folder }).unwrap();
    for words in [vec!["kmirror", "run"], vec!["kmirror", "--mirror", "dr", "check"]] {
        let context = Context::new(Cli::try_parse_from(words).unwrap().global);
        let refused = [context.mirrors(&config).map(drop), context.one_mirror(&config).map(drop)];
        for refused in refused.map(Result::unwrap_err) {
            assert_eq!(exit::classify(&refused), Exit::Usage);
            assert!(refused.to_string().contains("only backups (nightly): kmirror backup is for those"), "{refused}");
        }
    }
}
