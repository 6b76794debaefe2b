//! The dashboard in a real browser: every view loads and shows true numbers, follows what happens, survives a restart of kmirror, and
//! breaks no rule of accessibility. On embedded brokers, and once on a live mirror between real ones.

mod chromium;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kmirror::batch::Codec;
use serde_json::{Value, json};

use crate::e2e::Mirror;
use crate::embedded::Pair;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::{Produce, TopicSpec, driver, real_kafka_wanted, source, target};
use chromium::{Browser, browser_wanted, writes_pictures};

const TOKEN: &str = "a-token-that-nobody-guesses";
const TOPIC: &str = "dashboard";

fn section(port: u16) -> String {
    format!("http: {{ listen: \"127.0.0.1:{port}\", token: {TOKEN} }}\n")
}

fn number(n: i64) -> String {
    let digits = n.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
    grouped.join(",")
}

/// Records of now: older ones would be lag of weeks, and retention would be at them.
fn write(pair: &Pair, partition: i32, from: u64, to: u64) {
    let records: Vec<_> = (from..to).map(|number| (None, Some(Bytes::from(format!("order {number}"))))).collect();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    pair.source.append_records(TOPIC, partition, Codec::None, now_ms, &records).unwrap();
}

/// A mirror of three partitions with a group, drills of which reports are kept, and a browser that shows it.
struct Stage {
    pair: Pair,
    browser: Browser,
    port: u16,
}

impl Stage {
    fn new() -> Self {
        let port = free_port();
        let reports = tempfile::tempdir().unwrap().keep();
        let groups = "    groups: { include: [\".*\"], interval: 1s }\n";
        let drills =
            format!("drills: [{{ mirror: {TOPIC}, reports: \"{}\", max_rpo: 1h, every: 1d }}]\n", reports.display());
        let mut pair = Pair::new(TOPIC, 2, 3, &format!("{groups}{}{drills}", section(port)));
        for (partition, records) in [(0, 1_210), (1, 800), (2, 35)] {
            write(&pair, partition, 0, records);
        }
        pair.source.commit_offset("billing", TOPIC, 0, 400);
        pair.mirror.start();
        pair.mirror.await_caught_up(3);
        let browser = Browser::start();
        Self { pair, browser, port }
    }

    /// Rows of the topic's table agree with both clusters, in every partition.
    fn assert_true_numbers(&self) {
        self.browser.go(&format!("#/mirrors/{TOPIC}/topics/{TOPIC}"), &format!("Topic {TOPIC}"));
        for partition in 0..3 {
            let end = |cluster: &kmirror::broker::Cluster| cluster.log(TOPIC, partition).unwrap().end_offset;
            let (from, to) = (number(end(&self.pair.source)), number(end(&self.pair.target)));
            let name = format!("{TOPIC}:{partition}");
            let wanted = json!([name, "mirroring", from, from, "0", "0 s"]);
            let row = format!("(rows('partition') || []).find((row) => row[0] === {})", json!(name));
            let row = self.browser.await_value("a true row", &row, |row| {
                row.as_array().is_some_and(|row| row[..6] == *wanted.as_array().unwrap())
            });
            assert_eq!(row[7], to, "{row}");
        }
    }

    fn enter_token(&self, token: &str) {
        self.browser.run(&format!(
            "one('#keys').open = true; one('#token').value = {}; one('#token-form button').click();",
            json!(token)
        ));
    }

    /// Presses a button of the actions, and says yes.
    fn act(&self, button: &str, yes: &str) {
        self.browser.press("main .acts", button);
        self.browser.await_true("one('#sure').open");
        self.browser.press("#sure", yes);
    }

    fn await_said(&self, words: &str) {
        self.browser.await_true(&format!("one('#said').textContent.includes({})", json!(words)));
    }

    fn assert_no_console_error(&self) {
        assert_eq!(self.browser.console_errors(), Vec::new());
    }

    fn await_figure(&self, name: &str, value: &str) {
        self.browser.await_value(name, &format!("figure({})", json!(name)), |found| found == value);
    }
}

/// The first screen, by mouse and by keyboard, wide and narrow, light and dark.
fn first_screen(stage: &Stage) {
    let browser = &stage.browser;
    browser.open(&format!("http://localhost:{}/", stage.port));
    browser.await_true("one('main .verdict') && one('main .verdict').textContent === '✓ Safe'");
    stage.await_figure("Lag, records", "0");
    stage.await_figure("Partitions", "3");
    stage.await_figure("Would lose now", "0 s");
    assert!(browser.text().contains("In step: a failover now would lose nothing."), "{}", browser.text());
    browser.await_true("one('#live').textContent === 'live'");
    browser.await_true("one('main .plot canvas')");
    browser.assert_accessible("the first screen");
    browser.dark(true);
    browser.assert_accessible("the first screen, dark");
    browser.dark(false);
    // Who has no mouse comes to the content, and from there to the mirror.
    browser.keys(&["Tab"]);
    assert_eq!(browser.run("return document.activeElement.textContent;"), "To the content");
    browser.keys(&["Enter"]);
    assert_eq!(browser.run("return document.activeElement.id;"), "main");
    browser.keys(&["Tab"]);
    assert_eq!(browser.run("return document.activeElement.textContent;"), TOPIC);
    browser.keys(&["Enter"]);
    browser.await_true(&format!("one('main h1').textContent === 'Mirror {TOPIC}'"));
}

/// On a phone nothing but tables and plots is wider than the screen.
fn narrow(stage: &Stage, views: &[(String, String)]) {
    stage.browser.size(360, 740);
    for (hash, heading) in views {
        stage.browser.go(hash, heading);
        stage.browser.await_value("a page as wide as the phone", "document.documentElement.scrollWidth", |width| {
            width.as_i64() <= Some(360)
        });
    }
    stage.browser.assert_accessible("on a phone");
    stage.browser.size(1280, 900);
}

/// A pause, lag that is seen to rise, and to fall.
fn actions(stage: &Stage) {
    let browser = &stage.browser;
    browser.go(&format!("#/mirrors/{TOPIC}/topics/{TOPIC}/0"), &format!("{TOPIC}:0"));
    assert_eq!(browser.run("return one('main .acts');"), Value::Null, "no token, no buttons");
    stage.assert_no_console_error();
    stage.enter_token("not-the-token-at-all");
    stage.await_said("not the one of http.token");
    let refused = browser.console_errors();
    assert!(refused.iter().all(|(source, words)| source == "network" && words.contains("401")), "{refused:?}");
    stage.enter_token(TOKEN);
    stage.await_said("The token is right");
    stage.act("Pause", "Pause it");
    stage.await_figure("State", "paused");
    stage.pair.await_pause_heeded();
    write(&stage.pair, 0, 1_210, 1_300);
    stage.await_figure("Lag, records", "90");
    browser.assert_accessible("a paused partition");
    browser.go("#/", "Are we safe right now?");
    browser.await_true("one('main .verdict').textContent === '! Look at it'");
    stage.await_figure("Lag, records", "90");
    browser.go(&format!("#/mirrors/{TOPIC}/topics/{TOPIC}/0"), &format!("{TOPIC}:0"));
    stage.act("Resume", "Resume it");
    stage.await_figure("State", "mirroring");
    stage.await_figure("Lag, records", "0");
    stage.await_figure("Source end", "1,300");
    assert!(!browser.run("return document.documentElement.outerHTML;").as_str().unwrap().contains(TOKEN));
    assert_eq!(browser.run("return localStorage.length + sessionStorage.length + document.cookie.length;"), 0);
}

fn translation(stage: &Stage) {
    // Who is in the form has it left alone.
    stage.browser.run(
        "const field = one('main form input[name=offset]'); field.focus(); field.value = '777'; \
         named('main form button', 'Translate').click();",
    );
    let (target, _) = stage.pair.mirror.translate(TOPIC, 0, 777, &[]);
    let wanted = format!("{TOPIC}:0 offset {}, exactly that record", number(target));
    stage.browser.await_true(&format!("one('main form + p').textContent === {}", json!(wanted)));
    stage.browser.run("document.activeElement.blur();");
    let segments = stage.browser.run("return all('main svg.axis .done').length;");
    assert_eq!(segments, 1, "one segment from 0");
}

fn studies(stage: &Stage) {
    let browser = &stage.browser;
    browser.go(&format!("#/mirrors/{TOPIC}/groups"), &format!("Consumer groups of {TOPIC}"));
    let row = browser.await_value("the group", "rows('Where each group')", |rows| rows[0][0] == "billing");
    assert_eq!((&row[0][2], &row[0][3]), (&json!("400"), &json!("400 (the same record)")), "{row}");
    browser.assert_accessible("groups");
    browser.go(&format!("#/mirrors/{TOPIC}/drills"), &format!("Drills of {TOPIC}"));
    stage.act("Drill now", "Rehearse");
    stage.await_said("The drill passed");
    browser.await_value("reports", "(rows('the newest first') || []).length", |rows| rows.as_i64() >= Some(2));
    browser.assert_accessible("drills");
    browser.go(&format!("#/mirrors/{TOPIC}/failover"), &format!("Failover plan of {TOPIC}"));
    let plan = stage.pair.mirror.json(&["failover", "--dry-run"], 0);
    stage.await_figure("Kind", plan["mode"].as_str().unwrap());
    stage.await_figure("Not mirrored now", "0 records");
    let steps = browser.run("return all('main ol li strong').map((step) => step.textContent);");
    let said: Vec<&Value> = plan["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, json!(said));
    browser.assert_accessible("a failover plan");
    browser.go("#/backups", "Backups");
}

/// What was open goes on by itself.
fn restart(stage: &mut Stage) {
    stage.browser.go("#/", "Are we safe right now?");
    stage.assert_no_console_error();
    stage.pair.mirror.stop();
    let before = stage.browser.run("return one('main').firstElementChild.textContent;");
    write(&stage.pair, 2, 35, 50);
    stage.pair.mirror.start();
    stage.browser.go(&format!("#/mirrors/{TOPIC}/topics/{TOPIC}/2"), &format!("{TOPIC}:2"));
    stage.await_figure("Mirrored to", "50");
    let lost = stage.browser.console_errors();
    assert!(lost.iter().all(|(source, _)| source == "network"), "{before}: {lost:?}");
    // A clean end and start leave no marker; what was in step is in step again.
    stage.assert_true_numbers();
    stage.assert_no_console_error();
}

#[test]
fn every_view_is_true_and_live_and_survives_a_restart() {
    if !browser_wanted("every_view_is_true_and_live_and_survives_a_restart") {
        return;
    }
    let mut stage = Stage::new();
    stage.browser.size(1280, 900);
    first_screen(&stage);
    stage.assert_true_numbers();
    stage.browser.assert_accessible("a topic");
    actions(&stage);
    translation(&stage);
    studies(&stage);
    let mirror = (format!("#/mirrors/{TOPIC}"), format!("Mirror {TOPIC}"));
    let partition = (format!("#/mirrors/{TOPIC}/topics/{TOPIC}/0"), format!("{TOPIC}:0"));
    narrow(&stage, &[("#/".to_owned(), "Are we safe right now?".to_owned()), partition, mirror.clone()]);
    restart(&mut stage);
    if writes_pictures() {
        pictures(&stage, &mirror);
    }
    stage.pair.mirror.stop();
}

/// Lag that rises and falls, for the README.
fn pictures(stage: &Stage, mirror: &(String, String)) {
    let browser = &stage.browser;
    let mut next = 1_300;
    let began = Instant::now();
    for (paused, seconds) in [(true, 30), (false, 20), (true, 15)] {
        let args = ["pause", "resume"][usize::from(!paused)];
        stage.pair.mirror.output(&[args, "--partition", &format!("{TOPIC}:0")]);
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            write(&stage.pair, 0, next, next + 40);
            next += 40;
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    eprintln!("drawn for {:?}", began.elapsed());
    for (dark, word) in [(false, "light"), (true, "dark")] {
        browser.dark(dark);
        browser.size(1100, 560);
        browser.go("#/", "Are we safe right now?");
        browser.await_true("one('main .plot canvas')");
        browser.picture(&format!("dashboard-{word}"));
        browser.size(1100, 980);
        browser.go(&mirror.0, &mirror.1);
        browser.await_true("one('main .plot.big canvas') && rows('topic')");
        browser.picture(&format!("mirror-{word}"));
    }
    browser.dark(false);
    stage.pair.mirror.output(&["resume", "--partition", &format!("{TOPIC}:0")]);
}

#[test]
fn a_live_mirror_between_real_clusters_is_shown_as_it_is() {
    let test = "a_live_mirror_between_real_clusters_is_shown_as_it_is";
    if !browser_wanted(test) || !real_kafka_wanted(test) {
        return;
    }
    let topic = "dashboard-live";
    let port = free_port();
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 2));
    driver().produce(&source().bootstrap(), &Produce { partitions: 2, ..Produce::new(topic, 3_000) });
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], &section(port));
    mirror.start();
    mirror.await_caught_up(2);
    let browser = Browser::start();
    browser.open(&format!("http://127.0.0.1:{port}/#/mirrors/{topic}/topics/{topic}"));
    let agrees = |browser: &Browser| {
        for (at, cluster) in [(2, source()), (7, target())] {
            for row in driver().offsets(&cluster.bootstrap(), &[topic]) {
                let name = format!("{topic}:{}", row.partition);
                let cell = format!("((rows('partition') || []).find((row) => row[0] === {}) || [])[{at}]", json!(name));
                browser.await_value(&name, &cell, |cell| *cell == number(row.end));
            }
        }
    };
    agrees(&browser);
    browser.assert_accessible("a topic of a real cluster");
    // It follows: more records, without anybody's touching the page.
    driver().produce(&source().bootstrap(), &Produce { seed: 2, partitions: 2, ..Produce::new(topic, 500) });
    mirror.await_caught_up(2);
    agrees(&browser);
    browser.go("#/", "Are we safe right now?");
    browser.await_value("safe", "one('main .verdict').textContent", |word| word == "✓ Safe");
    assert_eq!(browser.console_errors(), Vec::new());
    mirror.stop();
}
