//! Where Kafka comes from: jars through Maven, the driver through `javac`, each made once and kept under `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::Version;

/// The version whose client classes the driver is compiled and run with.
const DRIVER_VERSION: Version = Version::V4_3_1;

/// `target/kafka`: jars, compiled driver, run folders.
pub(crate) fn home() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tmp.parent().unwrap_or(tmp).join("kafka");
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("cannot create {}: {error}", home.display()));
    home
}

/// A folder under the project's `proto-tests/`.
pub(crate) fn tests_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-tests").join(name)
}

/// The class path (a `java -cp` wildcard) of this version, fetched at the first call.
pub(crate) fn class_path(version: Version) -> String {
    let folder = made_once(version.name(), |folder| fetch(version, folder));
    format!("{}/*", folder.display())
}

/// The class path of the compiled driver, Kafka's client classes included.
pub(crate) fn driver_class_path() -> String {
    let kafka = class_path(DRIVER_VERSION);
    let sources = java_sources("java");
    // Named after what it was made from: an edited source is compiled anew, and old test binaries keep theirs.
    let name = format!("driver-{:016x}", fingerprint(&sources));
    let classes = made_once(&name, |folder| compile(&kafka, &sources, folder));
    format!("{}:{kafka}", classes.display())
}

fn java_sources(name: &str) -> Vec<PathBuf> {
    let folder = tests_folder(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut sources: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    sources.sort();
    sources
}

fn fingerprint(sources: &[PathBuf]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for source in sources {
        let text = fs::read(source).unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
        for byte in text {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// `target/kafka/<name>`, filled by `make` where it is missing. Tests run side by side, in threads and in processes:
/// a file lock lets one of them work, and the rename shows others only finished folders.
fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let done = home().join(name);
    if done.is_dir() {
        return done;
    }
    let lock_path = home().join(format!("{name}.lock"));
    let lock =
        File::create(&lock_path).unwrap_or_else(|error| panic!("cannot create {}: {error}", lock_path.display()));
    lock.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", lock_path.display()));
    if !done.is_dir() {
        let partial = home().join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).unwrap_or_else(|error| panic!("cannot create {}: {error}", partial.display()));
        make(&partial);
        fs::rename(&partial, &done).unwrap_or_else(|error| panic!("cannot rename to {}: {error}", done.display()));
    }
    done
}

fn fetch(version: Version, folder: &Path) {
    run(Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(tests_folder("kafka").join("pom.xml"))
        .arg(format!("-Dkafka.version={}", version.name()))
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .arg("dependency:copy-dependencies"));
}

fn compile(class_path: &str, sources: &[PathBuf], folder: &Path) {
    run(Command::new("javac").args(["-nowarn", "-cp", class_path, "-d"]).arg(folder).args(sources));
}

/// Runs a tool to its end and panics with all it said where it fails or is not there.
pub(crate) fn run(command: &mut Command) -> String {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "cannot run `{tool}`: {error}\nThese tests run against real Kafka and need a JDK (17 or later) and Maven \
             on the PATH; KMIRROR_TESTS=embedded runs the ones that do without."
        )
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{tool}` failed ({}): {command:?}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
