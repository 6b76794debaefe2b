//! What the project promises of its own files: who may know whom, how long a file may be, and that README, help and
//! examples name only what exists. Nothing here starts a broker.

mod licences;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use kmirror::cli::args::Cli;
use kmirror::cli::exit::Exit;
use kmirror::config::{Config, Env, SystemEnv};
use kmirror::mirror::GapReason;
use kmirror::observe::catalog::{self, METRICS};
use kmirror::plan::rights;
use serde_yaml::Value;

/// The rooms in the order in which data walks through them (`src/lib.rs`); those to come have their place already.
const ROOMS: [&str; 13] = [
    "batch", "mirror", "groups", "plan", "config", "client", "engine", "ops", "observe", "broker", "backup", "cli",
    "main",
];
/// Driven by a seeded simulation, so they may hold nothing that differs from run to run.
const PURE: [&str; 4] = ["batch", "mirror", "groups", "plan"];
const IMPURE: [&str; 8] = ["std::net", "std::fs", "std::env", "std::process", "tokio", "SystemTime", "Instant", "rand"];
const LINES_MAX: usize = 600;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(project().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The Rust files below a folder of the project, by their path within it.
fn rust_files(folder: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![project().join(folder)];
    while let Some(folder) = folders.pop() {
        let paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(project()).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(!files.is_empty(), "no Rust files in {folder}");
    files
}

/// The text without line comments; prose may speak of anything.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The words that follow each occurrence of `before` in the text.
fn words_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(before).map(move |(at, _)| word(&text[at + before.len()..]))
}

/// The identifier that a text begins with.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn holds_word(text: &str, wanted: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(wanted)
        .any(|(at, _)| !text[..at].ends_with(part_of_word) && !text[at + wanted.len()..].starts_with(part_of_word))
}

/// Other rooms that a file names: `crate::room`, or `super::room` as seen from a room's own top.
fn rooms_named(file: &str, text: &str) -> BTreeSet<String> {
    let text = code(text);
    assert!(!text.contains("crate::{"), "{file}: one `use` for each room, so that this test sees it");
    let depth = file.trim_start_matches("src/").trim_end_matches("/mod.rs").split('/').count();
    let climb = "super::".repeat(depth);
    let climbing: Vec<&str> = words_after(&text, &climb).collect();
    let named = words_after(&text, "crate::").chain(climbing);
    named.filter(|name| ROOMS.contains(name)).map(str::to_owned).collect()
}

#[test]
fn a_room_knows_only_what_stands_above_it() {
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src") {
        let room = file.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let here = place(&room).unwrap_or_else(|| panic!("{file}: give this room its place in ROOMS and src/lib.rs"));
        for other in rooms_named(&file, &text) {
            let above = place(&other).is_some_and(|there| there <= here);
            // An oracle that shares code with what it judges makes the same mistakes.
            let oracle = room != "broker" || ["broker", "batch"].contains(&other.as_str());
            if !above || !oracle {
                wrong.push(format!("{file} uses {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_rooms_know_no_socket_file_clock_or_random_source() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src") {
        if PURE.iter().any(|room| file.starts_with(&format!("src/{room}/"))) {
            let text = code(&text);
            wrong.extend(IMPURE.iter().filter(|word| holds_word(&text, word)).map(|word| format!("{file}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// kafka-protocol allocates by the counts on the wire: behind `client::shape`, or in the embedded broker, or not at all.
#[test]
fn responses_are_decoded_in_one_place() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src") {
        let text = code(text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default());
        let decodes = holds_word(&text, "Decodable") || text.contains("protocol::*");
        let may =
            file.starts_with("src/broker/") || ["src/client/shape.rs", "src/client/shape/tests.rs"].contains(&&*file);
        if decodes && !may {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_short_and_finished() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src").into_iter().chain(rust_files("proto-tests")) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{file}: {lines} lines; split it at {LINES_MAX}"));
        }
        if file.starts_with("src/") {
            for word in ["TODO", "FIXME", "XXX", "todo!", "unimplemented!"] {
                if text.contains(word) {
                    wrong.push(format!("{file}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every variable is set, and every file of secrets is there: examples name them.
struct AllSet;

impl Env for AllSet {
    fn var(&self, name: &str) -> Option<String> {
        Some(format!("the-value-of-{name}"))
    }

    fn file(&self, path: &str) -> std::io::Result<String> {
        if path.starts_with("/run/secrets/") {
            return Ok("secret".to_owned());
        }
        SystemEnv { folder: project().to_owned() }.file(path)
    }
}

pub(crate) fn valid_config(text: &str, name: &str) -> Config {
    Config::parse(text, name, &AllSet).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The fenced blocks of a Markdown file in one of these languages.
fn blocks(markdown: &str, languages: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if languages.contains(&language) {
            found.push(block.join("\n"));
        }
    }
    found
}

#[test]
fn the_readmes_configurations_are_valid() {
    let all = blocks(&read("README.md"), &["yaml"]);
    assert!(!all.is_empty());
    for text in all {
        let config = valid_config(&text, "README.md");
        assert!(!config.mirrors.is_empty() || !config.backups.is_empty());
    }
}

/// No Docker runs here: what a parser can see of the compose file is all that is checked.
#[test]
fn the_compose_file_is_consistent_with_its_configuration() {
    let mut compose: Value = serde_yaml::from_str(&read("docker-compose.yml")).unwrap();
    compose.apply_merge().unwrap();
    let services = compose["services"].as_mapping().unwrap();
    let kmirror = &services["kmirror"];
    let volume = kmirror["volumes"][0].as_str().unwrap();
    let [file, inside, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else { panic!("{volume}") };
    assert_eq!(kmirror["environment"]["KMIRROR_CONFIG"].as_str(), Some(inside));
    let config = valid_config(&read(file.trim_start_matches("./")), file);
    for (name, cluster) in &config.clusters {
        let address = cluster.bootstrap[0].to_string();
        let service = &services[cluster.bootstrap[0].host.as_str()];
        let advertised = service["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap();
        assert!(advertised.contains(&format!("//{address}")), "{name}: {advertised}");
        assert!(kmirror["depends_on"][cluster.bootstrap[0].host.as_str()].is_mapping(), "{name}");
        // The anchors were merged.
        assert_eq!(service["environment"]["KAFKA_PROCESS_ROLES"].as_str(), Some("broker,controller"));
    }
    assert_eq!(config.clusters.len(), 2);
    for (name, service) in services {
        let waits_for = service["depends_on"].as_mapping().into_iter().flat_map(|on| on.keys());
        for other in waits_for {
            assert!(services.contains_key(other), "{name:?} waits for {other:?}");
        }
        assert!(service["image"].is_string(), "{name:?}");
    }
    let command: Vec<&str> = kmirror["command"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    assert_parses(&format!("kmirror {}", command.join(" ")), "docker-compose.yml");
    let check: Vec<&str> =
        kmirror["healthcheck"]["test"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(check[0], "CMD");
    assert_parses(&check[1..].join(" "), "docker-compose.yml");
}

/// A command line as the documents write it: redirections, pipes and remarks cut off.
pub(crate) fn assert_parses(line: &str, place: &str) {
    let words: Vec<&str> =
        line.split_whitespace().take_while(|word| !["#", "|", ">", "&&", "&"].contains(word)).collect();
    let outcome = Cli::command().try_get_matches_from(&words);
    let shows = |kind| matches!(kind, clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    if let Err(error) = outcome
        && !shows(error.kind())
    {
        panic!("{place}: {line}\n{error}");
    }
}

/// Everything after `kmirror` in lines that begin with it, comment signs and prompts aside.
fn command_lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.trim_start_matches(['#', '$', ' ']));
    lines.filter(|line| line.starts_with("kmirror ") && !line.contains(['[', '…']))
}

fn helps(command: &Command, into: &mut Vec<(String, String)>) {
    if let Some(text) = command.get_after_help() {
        into.push((format!("help of {}", command.get_name()), text.to_string()));
    }
    command.get_subcommands().for_each(|below| helps(below, into));
}

#[test]
fn every_example_of_a_command_is_one() {
    let mut examples = Vec::new();
    helps(&Cli::command(), &mut examples);
    for name in ["README.md", "CONTRIBUTING.md"] {
        examples.push((name.to_owned(), blocks(&read(name), &["sh", "console"]).join("\n")));
    }
    for entry in fs::read_dir(project().join("docs/runbooks")).unwrap() {
        let name = format!("docs/runbooks/{}", entry.unwrap().file_name().display());
        let lines = blocks(&read(&name), &["sh"]).join("\n");
        examples.push((name, lines));
    }
    for entry in fs::read_dir(project().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            examples.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    let mut seen = 0;
    for (place, text) in &examples {
        for line in command_lines(text) {
            // The overview explains its examples behind several spaces.
            assert_parses(line.split("   ").next().unwrap(), place);
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} examples");
}

/// The first cells of the table below a heading, without their backticks.
fn first_cells(markdown: &str, heading: &str) -> BTreeSet<String> {
    let section = markdown.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("README.md lacks the section {heading}"));
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.filter_map(|row| row.split('|').nth(1)).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn the_readme_names_the_commands_that_are_there() {
    let readme = read("README.md");
    let command = Cli::command();
    let built: BTreeSet<String> = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .map(|below| below.get_name().to_owned())
        .collect();
    assert_eq!(first_cells(&readme, "Commands"), built);
    for word in words_after(&readme, "`kmirror ").filter(|word| !word.is_empty()) {
        let known = word == "help" || command.get_subcommands().any(|below| below.get_name() == word);
        assert!(known, "README.md: kmirror {word} is no command");
    }
}

#[test]
fn the_readme_names_every_exit_code() {
    let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Problems, Exit::Unreachable, Exit::Halted, Exit::Refused];
    let codes: BTreeSet<String> = all.iter().map(|exit| (*exit as u8).to_string()).collect();
    assert_eq!(first_cells(&read("README.md"), "Exit codes"), codes);
}

#[test]
fn the_readme_names_every_halt_and_every_gap() {
    let readme = read("README.md");
    let source = read("src/mirror/halt.rs");
    let (_, from) = source.split_once("pub enum HaltKind {").unwrap();
    let variants = from.split_once("\n}").unwrap().0.lines().map(str::trim);
    let kinds: BTreeSet<String> = variants
        .filter_map(|line| line.strip_suffix(',').filter(|name| *name == word(name)))
        .map(|name| {
            let kind: kmirror::mirror::HaltKind = serde_json::from_value(snake(name).into()).unwrap();
            kind.to_string()
        })
        .collect();
    assert_eq!(first_cells(&readme, "Halts"), kinds);
    assert_eq!(kmirror::mirror::HaltKind::ALL.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), kinds);
    let reasons: BTreeSet<String> = (0..=u8::MAX).filter_map(GapReason::from_code).map(|r| r.to_string()).collect();
    assert_eq!(first_cells(&readme, "Gaps"), reasons);
}

fn snake(name: &str) -> String {
    let parts = name.chars().enumerate().map(|(i, c)| match c {
        'A'..='Z' if i > 0 => format!("_{}", c.to_ascii_lowercase()),
        _ => c.to_ascii_lowercase().to_string(),
    });
    parts.collect()
}

#[test]
fn the_readme_declares_every_scenario_of_the_nemesis_suite() {
    let all: BTreeSet<String> = crate::nemesis::names().into_iter().map(str::to_owned).collect();
    assert_eq!(first_cells(&read("README.md"), "Under faults"), all);
}

/// What stands for a test of others is a scenario or a test function of ours.
#[test]
fn the_table_of_what_others_test_names_tests_that_exist() {
    let mut known: BTreeSet<String> = crate::nemesis::names().into_iter().map(str::to_owned).collect();
    for (_, text) in rust_files("proto-tests") {
        known.extend(words_after(&text, "fn ").map(str::to_owned));
    }
    let table = read("proto-tests/nemesis/COVERAGE.md");
    let ours = table.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(1));
    let named: BTreeSet<&str> = ours.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> = named.iter().filter(|name| !name.ends_with(':') && !known.contains(**name)).collect();
    assert!(named.len() > 30 && missing.is_empty(), "{missing:?} of {}", named.len());
}

/// `KMIRROR_WRITE_RIGHTS=1` writes the table anew.
#[test]
fn the_readme_has_the_table_of_rights() {
    let (readme, table) = (read("README.md"), rights::readme());
    if readme.contains(&table) {
        return;
    }
    assert!(
        std::env::var_os("KMIRROR_WRITE_RIGHTS").is_some(),
        "the table of rights is not that of src/plan/rights/table.rs: write it with KMIRROR_WRITE_RIGHTS=1"
    );
    let head = "| `--for` | Cluster |";
    let (before, rest) = readme.split_once(head).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    fs::write(project().join("README.md"), format!("{before}{table}\n{after}")).unwrap();
}

/// The words of `--for` are in the help.
#[test]
fn the_help_of_check_names_every_word_of_for() {
    let command = Cli::command();
    let check = command.get_subcommands().find(|below| below.get_name() == "check").unwrap();
    let help = check.get_after_help().unwrap().to_string();
    for word in rights::Command::ALL.map(rights::Command::word) {
        assert!(holds_word(&help, word), "kmirror help check: {word}");
    }
}

#[test]
fn the_readme_names_the_metrics_that_exist() {
    let mut written = BTreeSet::new();
    for (_, text) in rust_files("src") {
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            written.extend(words_after(&text, &format!("{kind}\"")).map(str::to_owned));
        }
    }
    let table: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(table, written, "src/observe/catalog.rs");
    let readme = read("README.md");
    if readme.contains(&catalog::readme()) {
        return;
    }
    assert!(
        std::env::var_os("KMIRROR_WRITE_METRICS").is_some(),
        "the table of metrics is not that of src/observe/catalog.rs: write it with KMIRROR_WRITE_METRICS=1"
    );
    let (before, rest) = readme.split_once("## Metrics\n\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::write(path, format!("{before}## Metrics\n\n{}\n{after}", catalog::readme())).unwrap();
}
