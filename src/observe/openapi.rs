//! The OpenAPI document of [`super::api`], made from the types that it answers with.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use crate::ops::TranslateAnswer;

use super::api::{Failed, HistoryAnswer, MirrorAnswer, MirrorsAnswer};

/// Version 3.0.3 of OpenAPI.
pub(super) fn document() -> Value {
    let mut schemas = SchemaSettings::openapi3().into_generator();
    let mirror = parameter("mirror", "path", "string", "Name of the mirror", true);
    let translate = [
        mirror.clone(),
        parameter("topic", "query", "string", "Topic, by its name on the side that the offset belongs to", true),
        parameter("partition", "query", "integer", "Partition", true),
        parameter("offset", "query", "integer", "Offset", true),
        parameter("reverse", "query", "boolean", "From target to source", false),
    ];
    let paths = json!({
        "/api/v1/mirrors": path("A summary of each mirror", &[], &answer::<MirrorsAnswer>(&mut schemas), &mut schemas),
        "/api/v1/mirrors/{mirror}": path(
            "What kmirror status says of a mirror, and whether it is safe",
            std::slice::from_ref(&mirror),
            &answer::<MirrorAnswer<'_>>(&mut schemas),
            &mut schemas
        ),
        "/api/v1/mirrors/{mirror}/history": path(
            "Lag and halts of the last hour, a sample every five seconds, oldest first",
            std::slice::from_ref(&mirror),
            &answer::<HistoryAnswer>(&mut schemas),
            &mut schemas
        ),
        "/api/v1/mirrors/{mirror}/translate": path(
            "An offset of one side on the other",
            &translate,
            &answer::<TranslateAnswer>(&mut schemas),
            &mut schemas
        ),
        "/api/v1/events": {
            "get": {
                "summary": "Server-sent events named mirrors, each with what /api/v1/mirrors answers, every three seconds",
                "responses": { "200": { "description": "Events, until the client goes", "content": { "text/event-stream": {} } } }
            }
        }
    });
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "kmirror",
            "version": "1",
            "description": "How mirrors stand. It reads, and changes nothing. It listens on loopback and answers to no other name."
        },
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) }
    })
}

fn answer<T: schemars::JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().into()
}

fn path(summary: &str, parameters: &[Value], answer: &Value, schemas: &mut SchemaGenerator) -> Value {
    let failed: Value = schemas.subschema_for::<Failed>().into();
    let mut responses =
        json!({ "200": { "description": "The answer", "content": { "application/json": { "schema": answer } } } });
    if !parameters.is_empty() {
        for (status, words) in [
            ("400", "A question that cannot be understood"),
            ("404", "No such mirror, topic or partition"),
            ("502", "The clusters do not answer"),
        ] {
            responses[status] =
                json!({ "description": words, "content": { "application/json": { "schema": failed } } });
        }
    }
    json!({ "get": { "summary": summary, "parameters": parameters, "responses": responses } })
}

fn parameter(name: &str, place: &str, kind: &str, words: &str, required: bool) -> Value {
    json!({ "name": name, "in": place, "required": required, "description": words, "schema": { "type": kind } })
}
