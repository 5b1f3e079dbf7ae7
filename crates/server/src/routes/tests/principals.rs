//! Each route with each kind of caller (security API-1): the test is the table's, and the table's exceptions are written out here.

use http::Method;
use manyhands_testkit::http::{Answer, Client};
use serde_json::json;

use super::super::{Access, Needs, Route, table};
use super::bed::{Bed, fill};

/// An id of the right kind that nobody has is enough: who may call a route is decided before what it names is looked for.
fn nobody(name: &str) -> String {
    let prefix = match name {
        "agent_id" => "agent_",
        "environment_id" => "env_",
        "session_id" => "sesn_",
        "thread_id" => "sthr_",
        "resource_id" => "sesrsc_",
        "vault_id" => "vlt_",
        "credential_id" => "vcrd_",
        "file_id" => "file_",
        "memory_store_id" => "memstore_",
        "memory_id" => "mem_",
        "memory_version_id" => "memver_",
        "skill_id" => "skill_",
        "user_profile_id" => "uprof_",
        "key_id" => "apikey_",
        "workspace_id" => "wrkspc_",
        _ => "x_",
    };
    format!("{prefix}01none")
}

/// Asks for a route with a body that has nothing in it.
pub(super) async fn ask(client: &Client, route: &Route) -> Answer {
    let path = fill(route.path, nobody);
    let body = match route.method {
        Method::POST => "{}",
        _ => "",
    };
    let answer = client.send(route.method.clone(), &path, body).await;
    answer.expect("an answer")
}

/// security API-1, API-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_1_every_route_takes_the_callers_it_names_and_no_others() {
    let bed = Bed::start().await;
    let operator = bed.client(bed.first_key(), Access::Key);
    let make = async |path: &str, body| {
        let beta = bed.client(bed.first_key(), Access::Beta);
        beta.post(path, &body).await.ok()
    };
    let elsewhere = make("/v1/manyhands/workspaces", json!({"name": "w"})).await;
    let elsewhere = elsewhere["id"].as_str().expect("an id").to_owned();
    let environment = make("/v1/environments", json!({"name": "e"})).await;
    let mut keys = Vec::new();
    for body in [
        json!({"name": "r", "role": "read_only"}),
        json!({"name": "d", "role": "developer"}),
        json!({"name": "a", "role": "admin"}),
        json!({"name": "o", "role": "admin", "workspace_id": elsewhere}),
        json!({"name": "e", "environment_id": environment["id"]}),
    ] {
        let made = operator.post("/v1/manyhands/keys", &body).await.ok();
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    let [reader, developer, admin, other_admin, worker] = &keys[..] else {
        panic!("five keys");
    };
    let mut refused = 0;
    for route in table() {
        let name = format!("{} {}", route.method, route.path);
        if route.needs == Needs::Nothing {
            continue;
        }
        ask(&bed.stranger(route.access), &route)
            .await
            .error(401, "authentication_error");
        ask(&bed.client("mh_key_wrong", route.access), &route)
            .await
            .error(401, "authentication_error");
        let least = match route.needs {
            Needs::Nothing | Needs::Reader => 0,
            Needs::Developer => 1,
            Needs::Admin => 2,
            Needs::Operator => 3,
        };
        for (key, rank) in [(reader, 0), (developer, 1), (other_admin, 2), (admin, 3)] {
            let answer = ask(&bed.client(key, route.access), &route).await;
            if rank < least {
                answer.error(403, "permission_error");
                refused += 1;
            } else {
                assert!(
                    !matches!(answer.status, 401 | 403),
                    "{name} {rank}: {answer}"
                );
            }
        }
        let answer = ask(&bed.client(worker, route.access), &route).await;
        if route.workers {
            assert!(!matches!(answer.status, 401 | 403), "{name}: {answer}");
        } else {
            answer.error(403, "permission_error");
            refused += 1;
        }
    }
    assert!(refused > 80, "{refused}");
    bed.server.stop().await;
}

/// security API-1: what differs from "a GET is a reader's, all else a developer's" is decided here, not by a slip in the table.
#[test]
fn api_1_the_exceptions_of_the_table_are_these() {
    let rows = |chosen: fn(&Route) -> bool| {
        let mut rows: Vec<String> = table()
            .iter()
            .filter(|route| chosen(route))
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(
        rows(|route| route.needs == Needs::Nothing),
        [
            "GET /enroll/{link}",
            "GET /healthz",
            "GET /metrics",
            "GET /openapi.json",
            "GET /readyz",
        ]
    );
    assert_eq!(
        rows(|route| route.needs == Needs::Admin),
        [
            "DELETE /v1/manyhands/keys/{key_id}",
            "GET /v1/manyhands/keys",
            "POST /v1/manyhands/keys",
        ]
    );
    assert_eq!(
        rows(|route| route.needs == Needs::Operator),
        [
            "GET /v1/manyhands/workspaces",
            "POST /v1/manyhands/workspaces",
            "POST /v1/manyhands/workspaces/{workspace_id}",
        ]
    );
    let wrong = rows(|route| {
        let usual = match route.method {
            Method::GET => Needs::Reader,
            _ => Needs::Developer,
        };
        !matches!(route.needs, Needs::Nothing | Needs::Admin | Needs::Operator)
            && route.needs != usual
    });
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(
        rows(|route| route.workers),
        [
            "GET /v1/environments/{environment_id}/work",
            "GET /v1/environments/{environment_id}/work/poll",
            "GET /v1/environments/{environment_id}/work/stats",
            "GET /v1/sessions/{session_id}",
            "GET /v1/sessions/{session_id}/events",
            "GET /v1/sessions/{session_id}/events/stream",
            "GET /v1/skills/{skill_id}/versions/{version}",
            "GET /v1/skills/{skill_id}/versions/{version}/content",
            "POST /v1/environments/{environment_id}/work/{work_id}/ack",
            "POST /v1/environments/{environment_id}/work/{work_id}/heartbeat",
            "POST /v1/environments/{environment_id}/work/{work_id}/stop",
            "POST /v1/sessions/{session_id}/events",
        ]
    );
    assert_eq!(
        rows(|route| !route.repeatable),
        [
            "POST /v1/manyhands/keys",
            "POST /v1/user_profiles/{user_profile_id}/action_urls",
            "POST /v1/user_profiles/{user_profile_id}/enrollment_url",
        ]
    );
}

/// runtime RL-1
#[test]
fn rl_1_what_makes_something_counts_as_a_create() {
    use crate::api::rates::Kind;
    let creates = table()
        .into_iter()
        .filter(|route| route.rate() == Kind::Create);
    let mut paths: Vec<&str> = creates
        .map(|route| {
            assert_eq!(route.method, Method::POST, "{}", route.path);
            route.path
        })
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/v1/agents",
            "/v1/environments",
            "/v1/files",
            "/v1/manyhands/keys",
            "/v1/manyhands/workspaces",
            "/v1/memory_stores",
            "/v1/memory_stores/{memory_store_id}/memories",
            "/v1/sessions",
            "/v1/sessions/{session_id}/resources",
            "/v1/skills",
            "/v1/skills/{skill_id}/versions",
            "/v1/user_profiles",
            "/v1/user_profiles/{user_profile_id}/action_urls",
            "/v1/user_profiles/{user_profile_id}/enrollment_url",
            "/v1/vaults",
            "/v1/vaults/{vault_id}/credentials",
        ]
    );
}
