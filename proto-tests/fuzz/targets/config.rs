//! Configuration files: valid, or wrong at a place.

use std::io;

use kmirror::config::{Config, Env};

struct NoEnv;

impl Env for NoEnv {
    fn var(&self, name: &str) -> Option<String> {
        (name == "SET").then(|| "set".to_owned())
    }

    fn file(&self, _path: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::parse(&text, "fuzzed.yaml", &NoEnv) {
        Ok(config) => assert!(config.mirrors.iter().all(|mirror| config.source(mirror).is_some())),
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            for error in &errors.errors {
                assert!(error.place.is_some_and(|place| place.line > 0 && place.column > 0), "{errors}");
                assert!(!error.message.is_empty());
            }
        }
    }
}
