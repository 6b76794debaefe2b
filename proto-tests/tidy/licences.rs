//! The licences of what is built, as `cargo deny check licenses` looks at them, but offline and with every run of the tests: of the
//! features that these were built with. Before a release `cargo deny` looks at all (CONTRIBUTING, "Release").

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

use super::{project, read};

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(project()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The list behind a key of deny.toml.
fn listed(key: &str) -> BTreeSet<String> {
    let text = read("deny.toml");
    let (_, rest) = text.split_once(&format!("\n{key} = [\n")).unwrap();
    let (list, _) = rest.split_once("\n]").unwrap();
    list.lines().map(|line| line.trim().trim_end_matches(',').trim_matches('"').to_owned()).collect()
}

/// Crates that no licence of the list covers, each with what it says of its own.
fn uncovered(metadata: &Value, allowed: &BTreeSet<String>) -> Vec<String> {
    let covered = |package: &&Value| {
        let text = package["license"].as_str().unwrap_or_default();
        Expression::parse_mode(text, ParseMode::LAX)
            .is_ok_and(|expression| expression.evaluate(|licence| allowed.contains(&licence.to_string())))
    };
    let packages = metadata["packages"].as_array().unwrap();
    let uncovered = packages.iter().filter(|package| !covered(package));
    uncovered.map(|package| format!("{}: {}", package["name"], package["license"])).collect()
}

#[test]
fn every_crate_is_under_a_licence_that_deny_toml_allows() {
    let told = output("rustc", &["-vV"]);
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let args = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&output(env!("CARGO"), &args)).unwrap();
    let mut allowed = listed("allow");
    assert_eq!(uncovered(&metadata, &allowed), [""; 0]);
    // It would be seen: ring is under this one as well.
    assert!(allowed.remove("ISC"));
    assert!(uncovered(&metadata, &allowed).iter().any(|one| one.starts_with("\"ring\"")));
}
