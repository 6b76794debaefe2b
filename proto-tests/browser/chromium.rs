//! Headless Chromium, driven over WebDriver.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::e2e::http::Request;
use crate::kafka::harness::cluster::{free_port, run_folder};
use crate::kafka::harness::process::{Process, wait_ready};
use crate::kafka::harness::{Tier, tier, wait_until};

/// What is waited for on a page.
const LIMIT: Duration = Duration::from_secs(120);

/// Rules of axe-core, by its authors, under the MPL 2.0 (`axe/LICENSE`).
const AXE: &str = include_str!("axe/axe.min.js");

/// What scripts of tests use.
const HELP: &str = r#"
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const figure = (name) => { const found = all("main dt").find((dt) => dt.textContent === name); return found ? found.nextSibling.textContent : null; };
const named = (selector, words) => all(selector).find((node) => node.textContent.trim() === words);
const rows = (caption) => { const found = all("main table").find((table) => table.caption.textContent.includes(caption)); return found ? [...found.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent)) : null; };
"#;

/// Whether tests in a browser run; says so where they do not.
pub(super) fn browser_wanted(test: &str) -> bool {
    let wanted = tier() != Tier::Embedded;
    if !wanted {
        eprintln!("{test}: not run, KMIRROR_TESTS=embedded leaves the browser out");
    }
    wanted
}

/// A browser with one page. Dropping it ends it.
pub(super) struct Browser {
    driver: Process,
    port: u16,
    session: String,
}

impl Browser {
    pub(super) fn start() -> Self {
        let port = free_port();
        for program in ["chromedriver", "chromium"] {
            let found = Command::new(program).arg("--version").output();
            assert!(
                found.as_ref().is_ok_and(|output| output.status.success()),
                "{program} is not here: apt-get install chromium chromium-driver, or KMIRROR_TESTS=embedded for the tests without a \
                 browser ({found:?})"
            );
        }
        let folder = run_folder("browser");
        let mut command = Command::new("chromedriver");
        command.args([format!("--port={port}"), "--log-level=SEVERE".to_owned()]);
        let mut driver = Process::start(&command, &folder.join("out"), &folder.join("log"), None);
        wait_ready("chromedriver", &mut driver, LIMIT, || Request::get("/status").send(port).map(drop));
        let arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" }
        } } });
        let mut browser = Self { driver, port, session: String::new() };
        let session = browser.ask("POST", "/session", &wanted);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let headers = "Content-Type: application/json\r\n";
        let answer = Request { method, headers, body: &body, ..Request::get(path) }.send(self.port).unwrap();
        let value = answer.json()["value"].clone();
        assert_eq!(answer.status, 200, "{path}: {value}\n{}", self.driver.log_tail());
        value
    }

    fn tell(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{what}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    fn chromium(&self, command: &str, parameters: &Value) -> Value {
        self.tell("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    pub(super) fn open(&self, url: &str) {
        self.tell("url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub(super) fn run(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({ "script": format!("{HELP}\n{script}"), "args": [] }))
    }

    /// Waits until an expression is as wanted; gives it.
    pub(super) fn await_value(&self, what: &str, expression: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, LIMIT, || {
            let found = self.run(&format!("return {expression};"));
            if is(&found) { Ok(found) } else { Err(format!("{expression}: {found}; the page: {}", self.text())) }
        })
    }

    /// Waits until an expression holds.
    pub(super) fn await_true(&self, expression: &str) {
        self.await_value(expression, &format!("Boolean({expression})"), |found| *found == true);
    }

    /// Goes to a view, and waits for its heading.
    pub(super) fn go(&self, hash: &str, heading: &str) {
        self.run(&format!("location.hash = {};", json!(hash)));
        self.await_true(&format!("one('main h1') && one('main h1').textContent === {}", json!(heading)));
    }

    /// Clicks on the button of these words within a part of the page.
    pub(super) fn press(&self, within: &str, words: &str) {
        self.await_true(&format!("named({}, {})", json!(format!("{within} button")), json!(words)));
        self.run(&format!("named({}, {}).click();", json!(format!("{within} button")), json!(words)));
    }

    pub(super) fn text(&self) -> String {
        self.run("return document.body.innerText;").as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after the other; `Tab` and `Enter` by their names.
    pub(super) fn keys(&self, keys: &[&str]) {
        let code = |key: &str| match key {
            "Tab" => "\u{E004}".to_owned(),
            "Enter" => "\u{E007}".to_owned(),
            other => other.to_owned(),
        };
        let strokes =
            keys.iter().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": code(key) })));
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes.collect::<Vec<_>>() }] });
        self.tell("actions", &actions);
    }

    /// Errors of the console since the last call, each with where it is from.
    pub(super) fn console_errors(&self) -> Vec<(String, String)> {
        let entries = self.tell("se/log", &json!({ "type": "browser" }));
        let word = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let severe = entries.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| (word(entry, "source"), word(entry, "message"))).collect()
    }

    /// Panics where the page breaks a rule of accessibility.
    pub(super) fn assert_accessible(&self, what: &str) {
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(
                ({ violations }) => done(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html + ' ' + n.failureSummary).join('; ')}`)),
                (error) => done([String(error)]));";
        if self.run("return typeof axe;") == "undefined" {
            self.tell("execute/sync", &json!({ "script": AXE, "args": [] }));
        }
        let found = self.tell("execute/async", &json!({ "script": script, "args": [] }));
        assert_eq!(found, json!([]), "{what}");
    }

    /// A window of so many points.
    pub(super) fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.chromium("Emulation.setDeviceMetricsOverride", &metrics);
    }

    pub(super) fn dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.chromium("Emulation.setEmulatedMedia", &feature);
    }

    /// Keeps what is shown for the README, where `KMIRROR_WRITE_SCREENSHOTS` asks for it.
    pub(super) fn picture(&self, name: &str) {
        if !writes_pictures() {
            return;
        }
        let shown = self.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(shown.as_str().expect("a picture")).unwrap();
        assert!(bytes.len() < 150_000, "{name}: {} bytes", bytes.len());
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }
}

pub(super) fn writes_pictures() -> bool {
    std::env::var_os("KMIRROR_WRITE_SCREENSHOTS").is_some()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the page:\n{}",
                Request::get("/status").send(self.port).map_or_else(|e| e, |_| "the driver lives".to_owned())
            );
        }
        // Ends the browser, which is a child of the driver; the driver goes with its keeper.
        let path = format!("/session/{}", self.session);
        let _ = Request { method: "DELETE", ..Request::get(&path) }.send(self.port);
    }
}
