//! The OpenAPI document of [`super::api`] and [`super::actions`], made from the types that they answer with.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::ops::TranslateAnswer;
use crate::ops::drill::DrillReport;
use crate::ops::groups::GroupsReport;
use crate::plan::FailoverPlan;

use super::actions::{ActionAnswer, BandwidthBody, DrillBody, PauseBody, ResumeBody, TokenAnswer};
use super::api::{BackupsAnswer, HistoryAnswer, MirrorAnswer};
use super::config_board::{ConfigAnswer, ReloadAnswer, ReloadBody};
use super::log_level::{LogLevelAnswer, LogLevelBody};
use super::problem::Problem;
use super::studies::DrillsAnswer;
use super::summary::MirrorsAnswer;
use super::topics::{GapsAnswer, PartitionAnswer, TopicAnswer, TopicsAnswer};

/// Version 3.0.3 of OpenAPI.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::openapi3;
    let (bodies, schemas) = (settings().into_generator(), settings().for_serialize().into_generator());
    let mut paths = Paths { bodies, schemas, all: Map::new() };
    of_mirrors(&mut paths);
    of_the_process(&mut paths);
    actions(&mut paths);
    let mut definitions = paths.bodies.take_definitions(true);
    definitions.extend(paths.schemas.take_definitions(true));
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "kmirror",
            "version": "1",
            "description": "How mirrors stand, and what can be done about them. Paths with GET read, and change nothing. The others \
                            take the token of http.token and a JSON body. On loopback reading takes no token, and it answers \
                            to no other name than localhost; on any other address everything takes the token."
        },
        "paths": paths.all,
        "components": {
            "schemas": definitions,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } }
        }
    })
}

struct Paths {
    /// What is read: a field with a default may be absent.
    bodies: SchemaGenerator,
    /// What is written: it is there.
    schemas: SchemaGenerator,
    all: Map<String, Value>,
}

fn of_mirrors(paths: &mut Paths) {
    paths.read::<MirrorsAnswer>("mirrors", "A summary of each mirror and each backup", &[], "");
    let at = |rest: &str| format!("mirrors/{{mirror}}{rest}");
    paths.read::<MirrorAnswer<'_>>(&at(""), "What kmirror status says of a mirror, and whether it is safe", &[], "");
    let words = "Lag and halts of the last hour, a sample every five seconds, oldest first";
    let since = query("since", "integer", "Only samples later than this, ms since the epoch", false, json!(0));
    paths.read::<HistoryAnswer>(&at("/history"), words, &[since], "");
    paths.read::<TopicsAnswer<'_>>(&at("/topics"), "Its topics, each over all of its partitions", &[], "");
    paths.read::<TopicAnswer<'_>>(&at("/topics/{topic}"), "A topic and its partitions", &[], "");
    let words = "A partition and its offset map";
    paths.read::<PartitionAnswer<'_>>(&at("/topics/{topic}/partitions/{partition}"), words, &[], "");
    let loss = query("loss", "boolean", "Only those whose records are missing on the target", false, json!(true));
    paths.read::<GapsAnswer<'_>>(&at("/gaps"), "All gaps of all partitions", &[loss], "");
    let words = "Where each consumer group would go on, as kmirror groups plan says";
    paths.read::<GroupsReport<'_>>(&at("/groups"), words, &[], "no-groups");
    paths.read::<DrillsAnswer>(
        &at("/drills"),
        "Reports of drills that are kept (drills[].reports), oldest first",
        &[],
        "",
    );
    let mode = query("mode", "string", "either (the default), planned or unplanned", false, json!("unplanned"));
    let words = "What a failover would do now, as kmirror failover --dry-run says. It changes nothing";
    paths.read::<FailoverPlan>(&at("/failover-plan"), words, &[mode], "");
    let translate = [
        query("topic", "string", "Topic, by its name on the side that the offset belongs to", true, json!("orders")),
        query("partition", "integer", "Partition", true, json!(0)),
        query("offset", "integer", "Offset", true, json!(4711)),
        query("reverse", "boolean", "From target to source", false, json!(false)),
    ];
    paths.read::<TranslateAnswer>(&at("/translate"), "An offset of one side on the other", &translate, "");
}

fn of_the_process(paths: &mut Paths) {
    paths.read::<BackupsAnswer>("backups", "Backups that this process keeps, and their last passes", &[], "");
    paths.read::<ConfigAnswer>(
        "config",
        "The configuration in force, and why the file as it is now is not, if so",
        &[],
        "",
    );
    paths.read::<LogLevelAnswer>("log/level", "What is logged", &[], "");
    paths.read::<TokenAnswer>("token", "Whether the token that was sent is the right one", &[], "token");
    let events = json!({ "get": {
        "summary": "Server-sent events named mirrors, each with what /api/v1/mirrors answers, every three seconds",
        "responses": { "200": { "description": "Events, until the client goes", "content": { "text/event-stream": {} } } }
    } });
    paths.all.insert("/api/v1/events".to_owned(), events);
}

fn actions(paths: &mut Paths) {
    let at = |rest: &str| format!("mirrors/{{mirror}}/{rest}");
    let one = json!({ "partitions": [{ "topic": "orders", "partition": 3 }] });
    let pause = "Stop moving data, in the whole mirror or in these partitions; lasts over restarts";
    paths.act::<PauseBody, ActionAnswer>(&at("pause"), "post", pause, &one);
    let resume = "End a pause or a halt; accepting a loss takes the very range that the halt names";
    let accepted = json!({
        "partitions": [{ "topic": "orders", "partition": 3 }], "accept_loss": { "from": 4000, "to": 5000 }
    });
    paths.act::<ResumeBody, ActionAnswer>(&at("resume"), "post", resume, &accepted);
    let bandwidth = "Another bandwidth limit; lasts over restarts";
    paths.act::<BandwidthBody, ActionAnswer>(&at("bandwidth"), "post", bandwidth, &json!({ "rate": "10MiB" }));
    let drill =
        "Rehearse a failover. Answers when it is over; the report is kept where the file has drills of the mirror";
    let terms = json!({ "max_rpo": "30s", "max_rto": "2m", "isolated": false });
    paths.act::<DrillBody, DrillReport>(&at("drill"), "post", drill, &terms);
    let reload =
        "Read the configuration file again and take it up; what is wrong with it is told, and then nothing is changed";
    paths.act::<ReloadBody, ReloadAnswer>("reload", "post", reload, &json!({ "dry_run": true }));
    let level = "Another level of the log, until the process ends";
    paths.act::<LogLevelBody, LogLevelAnswer>("log/level", "put", level, &json!({ "level": "debug" }));
}

impl Paths {
    /// A path that reads. Whatever stands in braces in it is a parameter. `problem`: one of its own.
    fn read<T: JsonSchema>(&mut self, path: &str, summary: &str, queries: &[Value], problem: &str) {
        let mut parameters = of_path(path);
        parameters.extend_from_slice(queries);
        let mut problems = vec![("401", "token-missing: on another address than loopback all takes the token")];
        if problem == "token" {
            problems.push(("403", "actions-off: there is no http.token in the configuration"));
        }
        if !queries.is_empty() {
            problems.push(("400", "bad-question: what is wrong with the parameters"));
        }
        if path.contains('{') {
            let not_there = if problem == "no-groups" {
                "unknown-mirror, or no-groups: the mirror selects none"
            } else {
                "unknown-mirror or unknown-partition: there is no such thing"
            };
            problems.extend([("404", not_there), ("502", "unreachable: the clusters do not answer")]);
        }
        let responses = self.responses::<T>(&problems);
        self.insert(path, "get", json!({ "summary": summary, "parameters": parameters, "responses": responses }));
    }

    /// A path that changes something.
    fn act<B: JsonSchema, T: JsonSchema>(&mut self, path: &str, method: &str, summary: &str, example: &Value) {
        let body: Value = self.bodies.subschema_for::<B>().into();
        let problems = [
            ("400", "bad-question: what is wrong with the body"),
            ("401", "token-missing: no token was sent, or a wrong one"),
            ("403", "actions-off: there is no http.token in the configuration"),
            ("404", "unknown-mirror: this process runs no such mirror"),
            ("409", "refused, or busy: why; nothing was changed"),
            ("415", "not-json: the body is to be application/json"),
            ("502", "unreachable: the clusters do not answer"),
        ];
        let responses = self.responses::<T>(&problems);
        let operation = json!({
            "summary": summary,
            "parameters": of_path(path),
            "security": [{ "token": [] }],
            "requestBody": { "required": true, "content": { "application/json": { "schema": body, "example": example } } },
            "responses": responses
        });
        self.insert(path, method, operation);
    }

    fn responses<T: JsonSchema>(&mut self, problems: &[(&str, &str)]) -> Value {
        let answer: Value = self.schemas.subschema_for::<T>().into();
        let problem: Value = self.schemas.subschema_for::<Problem>().into();
        let mut responses =
            json!({ "200": { "description": "The answer", "content": { "application/json": { "schema": answer } } } });
        for (status, words) in problems {
            let content = json!({ "application/problem+json": { "schema": problem } });
            responses[status] = json!({ "description": words, "content": content });
        }
        responses
    }

    fn insert(&mut self, path: &str, method: &str, operation: Value) {
        let entry = self.all.entry(format!("/api/v1/{path}")).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
}

fn of_path(path: &str) -> Vec<Value> {
    let of = |name: &str| match name {
        "mirror" => parameter("mirror", "path", "string", "Name of the mirror", true, json!("dr")),
        "topic" => parameter("topic", "path", "string", "Topic, by its name on the source", true, json!("orders")),
        name => parameter(name, "path", "integer", "Partition", true, json!(0)),
    };
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| of(name)).collect()
}

fn query(name: &str, kind: &str, words: &str, required: bool, example: Value) -> Value {
    parameter(name, "query", kind, words, required, example)
}

#[allow(clippy::needless_pass_by_value)] // json! at its callers.
fn parameter(name: &str, place: &str, kind: &str, words: &str, required: bool, example: Value) -> Value {
    json!({
        "name": name, "in": place, "required": required, "description": words, "schema": { "type": kind },
        "example": example
    })
}
