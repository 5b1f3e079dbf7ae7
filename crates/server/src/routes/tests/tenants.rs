//! One workspace against another, over the whole table (security API-2): paths with every mixture of ids, filters, cursors, and what
//! bodies refer to. A row that is added is in it by itself, or fails for want of a fixture.

use std::collections::BTreeSet;

use http::Method;
use manyhands_testkit::http::Client;
use serde_json::{Value, json};

use super::super::{Access, Needs, Route, table};
use super::bed::{Bed, Tenant, essence, fill, is_built, missing, names};
use super::bodies::{BODIES, NO_REFERENCES, REFERENCES};
use crate::openapi::operation::{Body as TakenBody, Content};
use crate::openapi::parameter::Kind;

/// The kind of a body that is a form.
const FORM: &str = "multipart/form-data; boundary=b";

struct World {
    bed: Bed,
    ours: Tenant,
    theirs: Tenant,
}

impl World {
    /// Theirs is the operator's own workspace: nobody else's has more to lose.
    async fn new() -> Self {
        let bed = Bed::start().await;
        let first = bed.first_key().to_owned();
        let operator = bed.client(&first, Access::Key);
        let made = operator
            .post("/v1/manyhands/workspaces", &json!({"name": "ours"}))
            .await
            .ok();
        let ours = json!({"name": "admin", "role": "admin", "workspace_id": made["id"]});
        let key = operator.post("/v1/manyhands/keys", &ours).await.ok();
        let mut ours = Tenant::furnish(&bed, key["key"].as_str().expect("a key")).await;
        let mut theirs = Tenant::furnish(&bed, &first).await;
        let all = operator.get("/v1/manyhands/workspaces").await.ok();
        for (tenant, at) in [(&mut theirs, 0), (&mut ours, 1)] {
            let id = all["data"][at]["id"].as_str().expect("an id");
            tenant.ids.insert("workspace_id".to_owned(), id.to_owned());
        }
        Self { bed, ours, theirs }
    }

    /// Us, with the headers that a route asks for.
    fn client(&self, route: &Route) -> Client {
        let client = self.bed.client(&self.ours.key, route.access);
        match route.operation.takes {
            TakenBody::Form(_) => client.header("content-type", FORM),
            TakenBody::Nothing | TakenBody::Json(_) => client,
        }
    }

    /// No answer to us has anything of theirs in it.
    fn check_free(&self, name: &str, text: &str) {
        for id in self.theirs.ids.values() {
            assert!(!text.contains(id.as_str()), "{name} shows {id}: {text}");
        }
    }

    /// A request of ours with their ids answers as one with ids that nobody has, and costs as much.
    async fn check_alike(&self, route: &Route, path: &str, body: &str, names: &BTreeSet<String>) {
        let client = self.client(route);
        let name = format!("{} {path} {body} with their {names:?}", route.method);
        let id = |name: &str, foreign: bool| match (names.contains(name), foreign) {
            (false, _) => self.ours.id(name),
            (true, true) => self.theirs.id(name),
            (true, false) => missing(&self.theirs.id(name)),
        };
        // Chores of the server use the database as well: of a few tries one is without them.
        for last in [false, false, false, false, true] {
            let mut seen = Vec::new();
            for foreign in [true, false] {
                let (path, body) = (
                    fill(path, |name| id(name, foreign)),
                    fill(body, |name| id(name, foreign)),
                );
                let (answer, uses) = self.bed.weigh(&client, &route.method, &path, &body).await;
                let hidden: Vec<String> = names.iter().map(|name| id(name, foreign)).collect();
                let hidden: Vec<&str> = hidden.iter().map(String::as_str).collect();
                assert!(answer.status >= 400, "{name}: {answer}");
                seen.push((essence(&answer, &hidden), uses));
            }
            assert_eq!(seen[0].0, seen[1].0, "{name}");
            if seen[0].1 == seen[1].1 {
                return;
            }
            assert!(
                !last,
                "{name}: {} uses of the database against {}",
                seen[0].1, seen[1].1
            );
        }
    }
}

/// Routes with something of a workspace in their paths.
fn rows() -> impl Iterator<Item = Route> {
    table()
        .into_iter()
        .filter(|route| is_built(route) && route.needs != Needs::Nothing)
}

fn own_names(route: &Route) -> Vec<String> {
    let mut names = names(route.path);
    // Models are everybody's.
    names.retain(|name| name != "model_id");
    names
}

fn body_of(route: &Route) -> &'static str {
    let found = BODIES.iter().find(|(id, _)| *id == route.operation.id);
    match (found, &route.method) {
        (Some((_, body)), _) => body,
        (None, &Method::POST) => "{}",
        (None, _) => "",
    }
}

/// A session grows older while it is looked at.
fn without_age(text: &str) -> String {
    let mut parts = text.split("\"duration_seconds\":");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    }
    kept
}

/// All that they have, as they see it.
async fn shown(world: &World) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for route in rows() {
        let is_json = matches!(route.operation.gives, Content::Json(_) | Content::Bytes);
        if route.method == Method::GET && is_json && !route.path.contains("{model_id}") {
            let path = world.theirs.fill(route.path);
            let client = world.bed.client(&world.theirs.key, route.access);
            let answer = client.get(&path).await;
            shown.push((path, without_age(&essence(&answer, &[]).1)));
        }
    }
    shown
}

/// security API-2, runtime SC-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_2_what_is_anothers_is_not_there() {
    let world = World::new().await;
    let before = shown(&world).await;
    assert!(before.len() > 20, "{}", before.len());
    let mut asked = 0;
    for route in rows() {
        let names = own_names(&route);
        for mixture in 1..1_usize << names.len() {
            let theirs = names.iter().enumerate();
            let theirs = theirs.filter(|(place, _)| mixture >> place & 1 == 1);
            let theirs: BTreeSet<String> = theirs.map(|(_, name)| name.clone()).collect();
            let body = world.ours.fill(body_of(&route));
            world.check_alike(&route, route.path, &body, &theirs).await;
            let client = world.client(&route);
            let path = fill(route.path, |name| match theirs.contains(name) {
                true => world.theirs.id(name),
                false => world.ours.id(name),
            });
            let answer = client.send(route.method.clone(), &path, body).await;
            let answer = answer.expect("an answer");
            match route.needs {
                Needs::Operator => answer.error(403, "permission_error"),
                _ => answer.error(404, "not_found_error"),
            };
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
    assert_eq!(shown(&world).await, before, "nothing of theirs has changed");
    world.bed.server.stop().await;
}

/// security API-2: filters and cursors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_2_lists_show_nothing_of_anothers() {
    let world = World::new().await;
    let (mut filters, mut cursors) = (0, 0);
    for route in rows() {
        let is_list = matches!(route.operation.gives, Content::Json(_));
        if route.method != Method::GET || !is_list {
            continue;
        }
        let path = world
            .ours
            .fill(&route.path.replace("{model_id}", "claude-sonnet-4-5"));
        let client = world.client(&route);
        if route.needs != Needs::Operator {
            let plain = client.get(&path).await;
            world.check_free(&path, &essence(&plain, &[]).1);
        }
        for parameter in route.operation.query {
            let name = match parameter.kind {
                Kind::Text if parameter.name == "page" => continue,
                Kind::Text => parameter.name.to_owned(),
                Kind::List => format!("{}%5B%5D", parameter.name),
                _ => continue,
            };
            for id in world.theirs.ids.values() {
                let nobodys = missing(id);
                let foreign = client.get(&format!("{path}?{name}={id}")).await;
                let absent = client.get(&format!("{path}?{name}={nobodys}")).await;
                let foreign = essence(&foreign, &[id.as_str()]);
                assert_eq!(foreign, essence(&absent, &[&nobodys]), "{path}?{name}={id}");
                world.check_free(&path, &foreign.1);
                filters += 1;
            }
        }
        let paged = route
            .operation
            .query
            .iter()
            .any(|parameter| parameter.name == "page");
        // A session has one thread.
        if paged && route.operation.id != "list_threads" && route.operation.id != "list_models" {
            let their_path = world.theirs.fill(route.path);
            let them = world.bed.client(&world.theirs.key, route.access);
            let page = them.get(&format!("{their_path}?limit=1")).await.ok();
            let cursor = page["next_page"].as_str();
            let cursor = cursor
                .unwrap_or_else(|| panic!("{their_path}: let Tenant::furnish make two: {page}"));
            let answer = client.get(&format!("{path}?limit=1&page={cursor}")).await;
            assert!(matches!(answer.status, 200 | 400), "{path}: {answer}");
            world.check_free(&path, &essence(&answer, &[]).1);
            cursors += 1;
        }
    }
    assert!(filters > 50 && cursors > 8, "{filters} {cursors}");
    world.bed.server.stop().await;
}

/// security API-2: what bodies refer to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_2_bodies_refer_to_nothing_of_anothers() {
    let world = World::new().await;
    let before = shown(&world).await;
    for (operation, path, body, good) in REFERENCES {
        let route = rows().find(|route| route.path == *path && route.operation.id == *operation);
        let route = route.unwrap_or_else(|| panic!("{operation} is a route"));
        let own_path = world.ours.fill(path);
        for name in names(body) {
            world
                .check_alike(&route, &own_path, body, &BTreeSet::from([name]))
                .await;
        }
        let client = world.client(&route);
        let answer = client.send(Method::POST, &own_path, world.ours.fill(body));
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status == 200, *good, "{operation} {body}: {answer}");
    }
    assert_eq!(shown(&world).await, before, "nothing of theirs has changed");
    world.bed.server.stop().await;
}

/// Every member of a body that is called an id is tried out above, or known to be none.
#[test]
fn api_2_every_reference_in_a_body_is_tried_out() {
    let document = crate::openapi::document();
    let mut tried: BTreeSet<&str> = NO_REFERENCES.iter().copied().collect();
    let bodies: String = REFERENCES.iter().map(|(_, _, body, _)| *body).collect();
    let mut found = BTreeSet::new();
    for route in rows() {
        let at = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
        members(
            &document,
            &at["requestBody"],
            &mut BTreeSet::new(),
            &mut found,
        );
    }
    tried.extend(
        found
            .iter()
            .map(String::as_str)
            .filter(|name| bodies.contains(&format!("\"{name}\""))),
    );
    let untried: Vec<&String> = found
        .iter()
        .filter(|name| !tried.contains(name.as_str()))
        .collect();
    assert!(untried.is_empty(), "add to REFERENCES: {untried:?}");
    assert!(found.len() > 5, "{found:?}");
}

/// Collects the members of a schema whose names end in `_id` or `_ids`.
fn members(
    document: &Value,
    schema: &Value,
    seen: &mut BTreeSet<String>,
    found: &mut BTreeSet<String>,
) {
    match schema {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str)
                && seen.insert(reference.to_owned())
            {
                let target = document.pointer(reference.trim_start_matches('#'));
                members(document, target.expect("a schema"), seen, found);
            }
            if let Some(Value::Object(properties)) = map.get("properties") {
                let ids = properties
                    .keys()
                    .filter(|name| name.ends_with("_id") || name.ends_with("_ids"));
                found.extend(ids.cloned());
            }
            for value in map.values() {
                members(document, value, seen, found);
            }
        }
        Value::Array(all) => all
            .iter()
            .for_each(|value| members(document, value, seen, found)),
        _ => {}
    }
}
