//! The fixtures of `proto-tests/goldens` are what Kafka's own classes write (`java/Goldens.java`). Unit tests beside the
//! code hold kmirror against them.
//!
//! `KMIRROR_WRITE_GOLDENS=1 cargo test --test proto-tests goldens` writes them anew. The compressed batches are those
//! of the codecs in Kafka's jars and of the JDK's zlib: another zlib may compress gzip otherwise.

use std::fs;
use std::process::Command;

use crate::kafka::harness::{jars, real_kafka_wanted};

#[test]
fn kafka_still_writes_the_goldens() {
    if !real_kafka_wanted("kafka_still_writes_the_goldens") {
        return;
    }
    let class_path = jars::driver_class_path();
    for name in ["wire", "batches"] {
        let fresh = jars::run(Command::new("java").args(["-Xmx256m", "-cp", &class_path, "Goldens", name]));
        let file = jars::tests_folder("goldens").join(format!("{name}.txt"));
        if std::env::var_os("KMIRROR_WRITE_GOLDENS").is_some() {
            fs::write(&file, &fresh).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap();
        for (number, (kept, fresh)) in kept.lines().zip(fresh.lines()).enumerate() {
            assert_eq!(kept, fresh, "line {} of {}", number + 1, file.display());
        }
        assert_eq!(kept.lines().count(), fresh.lines().count(), "lines of {}", file.display());
    }
}
