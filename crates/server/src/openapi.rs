//! The OpenAPI document of the whole surface, made from the route table: `GET /openapi.json`.
//!
//! Bodies and answers come from the handlers' signatures ([`operation`]), so the document says what the code does. Where
//! a type is read and shown in different forms, the form that is read is called `…Input`.

pub(crate) mod operation;
pub(crate) mod parameter;
mod schemas;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use manyhands_protocol::error::ErrorBody;
use serde_json::{Map, Value, json};

use crate::api::auth::betas;
use crate::api::query;
use crate::routes::{self, Access, Route};
use operation::{Body, Content};
use schemas::Schemas;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// The document, OpenAPI 3.1.
pub(crate) fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for route in routes::table() {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = described(&route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    let error = schemas.shown(|generator| generator.subschema_for::<ErrorBody>());
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Manyhands",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Agents, environments, sessions and what belongs to them. Members that are not described here \
                are tolerated in requests.",
        },
        "security": [{"bearer": []}, {"api_key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "responses": {
                "Error": {
                    "description": "What was wrong, in the envelope of all errors.",
                    "headers": {"request-id": {"schema": {"type": "string"}}},
                    "content": {"application/json": {"schema": error}},
                },
            },
        },
    });
    schemas.finish(&mut document);
    document
}

/// One operation of the document.
fn described(route: &Route, schemas: &mut Schemas) -> Value {
    let operation = &route.operation;
    let mut parameters: Vec<Value> = path_parameters(route.path).collect();
    parameters.extend(
        operation
            .query
            .iter()
            .filter_map(|parameter| parameter.shown()),
    );
    parameters.extend(beta_header(route.access));
    let mut described = json!({
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": responses(route, schemas),
    });
    match operation.gives {
        Content::Never => described["x-not-built"] = true.into(),
        _ => {
            described["operationId"] = operation.id.into();
            described["summary"] = summary(operation.id).into();
        }
    }
    if matches!(route.access, Access::Open | Access::Link) {
        described["security"] = json!([]);
    }
    let body = match operation.takes {
        Body::Nothing => None,
        Body::Json(of) => Some(("application/json", schemas.read(of))),
        Body::Form(of) => Some(("multipart/form-data", schemas.read(of))),
    };
    if let Some((media_type, schema)) = body {
        described["requestBody"] =
            json!({"required": true, "content": {media_type: {"schema": schema}}});
    }
    described
}

fn responses(route: &Route, schemas: &mut Schemas) -> Value {
    let error = json!({"$ref": "#/components/responses/Error"});
    let mut responses = match route.access {
        // What tells of the server itself answers in its own form, also when it is not well.
        Access::Open => json!({}),
        _ => json!({"4XX": error, "5XX": error}),
    };
    let (media_type, schema) = match route.operation.gives {
        Content::Unsaid => return responses,
        Content::Never => {
            responses["501"] = error;
            return responses;
        }
        Content::Json(of) => ("application/json", schemas.shown(of)),
        Content::Stream => ("text/event-stream", json!({"type": "string"})),
        Content::Bytes => ("*/*", json!({})),
        Content::Text => ("text/plain", json!({"type": "string"})),
    };
    let content = json!({media_type: {"schema": schema}});
    responses["200"] = json!({"description": "Done.", "content": content});
    if route.access == Access::Open {
        responses["503"] = json!({"description": "Not now.", "content": content});
    }
    responses
}

/// `create_agent_version` as people write it.
fn summary(id: &str) -> String {
    let mut words = id.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// The resource that a path is about.
fn tag(path: &str) -> &str {
    let mut segments = path.trim_start_matches('/').split('/');
    match segments.next() {
        Some("v1") => segments.next().unwrap_or("v1"),
        _ => "server",
    }
}

fn path_parameters(path: &str) -> impl Iterator<Item = Value> {
    let names = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        json!({"name": name, "in": "path", "required": true, "schema": query::path_schema(name)})
    })
}

/// The header that opens a path (runtime HT-1).
fn beta_header(access: Access) -> Option<Value> {
    let value = betas::of(access)?;
    Some(json!({
        "name": "anthropic-beta", "in": "header", "required": true,
        "description": format!("Holds `{value}`, beside others after commas."),
        "schema": {"type": "string", "const": value},
    }))
}

#[cfg(test)]
mod tests;
