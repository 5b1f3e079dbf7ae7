//! User profiles through HTTP (api §23), and the models beside them (api §22).

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    each_header_shows_the_same_profile_in_its_shape,
    each_header_takes_its_own_members,
    what_a_profile_may_be,
    profiles_are_paged_in_either_order,
    links_lead_to_a_page_while_the_profile_lives,
}

const MARCH: &str = "user-profiles-2026-03-24";
const AUGUST: &str = "user-profiles-2026-08-18";
const SEPTEMBER: &str = "user-profiles-2026-09-04";
const PROFILES: &str = "/v1/user_profiles";

/// A client that asks for a shape; of the newest one without a header.
fn shape(app: &TestApp, beta: Option<&str>) -> manyhands_testkit::http::Client {
    let bare = app.client.clone().without("anthropic-beta");
    match beta {
        Some(beta) => bare.header("anthropic-beta", beta),
        None => bare,
    }
}

async fn each_header_shows_the_same_profile_in_its_shape(app: &TestApp) {
    let current = shape(app, None);
    let body = json!({"name": "Ada", "access_type": "passthrough", "metadata": {"a": "b"},
        "external_user_details": {"reference_id": "u-1", "country": "AT", "onboarded_at": "2026-01-02T03:04:05Z"}});
    let made = current.post(PROFILES, &body).await.ok();
    let at = "2026-01-02T03:04:05.000000Z";
    let head = json!({"id": made["id"], "type": "user_profile", "name": "Ada", "metadata": {"a": "b"},
        "created_at": made["created_at"], "updated_at": made["created_at"]});
    let details = json!({"account_status": null, "country": "AT", "email_hash": null, "entity_type": null,
        "name_hash": null, "onboarded_at": at, "reference_id": "u-1"});
    let more = |more: Value| {
        let mut whole = head.clone();
        let members = more.as_object().expect("an object").clone();
        whole.as_object_mut().expect("an object").extend(members);
        whole
    };
    let path = format!("{PROFILES}/{}", id(&made));
    for (beta, rest) in [
        (
            None,
            json!({"access_type": "passthrough", "external_user_details": details, "enforcement_actions": [],
                "enforcement_status": "unrestricted", "programs": {"cyber": null, "efs": null}}),
        ),
        (
            Some(SEPTEMBER),
            json!({"access_type": "passthrough", "external_user_details": details, "trust_grants": {}}),
        ),
        (
            Some(AUGUST),
            json!({"access_type": "passthrough", "external_id": "u-1", "external_user_onboarded_at": at,
                "trust_grants": {}}),
        ),
        (
            Some(MARCH),
            json!({"relationship": "resold", "external_id": "u-1", "trust_grants": {}}),
        ),
    ] {
        let shown = shape(app, beta).get(&path).await.ok();
        assert_eq!(shown, more(rest), "{beta:?}");
    }
    assert!(id(&made).starts_with("uprof_"));
    let deleted = current.delete(&path).await.ok();
    assert_eq!(
        deleted,
        json!({"id": made["id"], "type": "user_profile_deleted"})
    );
    current.get(&path).await.error(404, "not_found_error");
    current.delete(&path).await.error(404, "not_found_error");
}

async fn each_header_takes_its_own_members(app: &TestApp) {
    let members = json!({"relationship": "internal", "access_type": "application", "external_id": "u-1",
        "external_user_onboarded_at": "2026-01-02T03:04:05Z", "external_user_details": {"reference_id": "u-1"}});
    for (beta, known) in [
        (None, vec!["access_type", "external_user_details"]),
        (
            Some(SEPTEMBER),
            vec!["access_type", "external_user_details"],
        ),
        (
            Some(AUGUST),
            vec!["access_type", "external_id", "external_user_onboarded_at"],
        ),
        (Some(MARCH), vec!["relationship", "external_id"]),
    ] {
        let client = shape(app, beta);
        for (name, value) in members.as_object().expect("an object") {
            let answer = client.post(PROFILES, &json!({name: value})).await;
            if known.contains(&name.as_str()) {
                let made = answer.ok();
                assert_eq!(made["type"], "user_profile");
                if value.is_string() && name != "external_user_onboarded_at" {
                    assert_eq!(made[name], *value, "{beta:?}");
                }
            } else {
                let message = answer.error(400, "invalid_request_error");
                assert!(message.starts_with(name.as_str()), "{beta:?}: {message}");
            }
        }
    }
}

async fn what_a_profile_may_be(app: &TestApp) {
    let client = shape(app, None);
    let made = client
        .post(
            PROFILES,
            &json!({"metadata": {"a": "b", "c": "d"}, "name": null}),
        )
        .await
        .ok();
    assert_eq!(
        (&made["name"], &made["access_type"]),
        (&json!(null), &json!("application"))
    );
    let path = format!("{PROFILES}/{}", id(&made));
    assert_eq!(client.post(&path, &json!({})).await.ok(), made);
    let changes = json!({"name": "Ada", "metadata": {"a": "", "e": "f"},
        "external_user_details": {"entity_type": "non_profit", "account_status": "suspended"}});
    let changed = client.post(&path, &changes).await.ok();
    assert_eq!(changed["metadata"], json!({"c": "d", "e": "f"}));
    let again = json!({"external_user_details": {"name_hash": "x"}, "name": null});
    let again = client.post(&path, &again).await.ok();
    let details = &again["external_user_details"];
    assert_eq!(
        (
            &again["name"],
            &details["entity_type"],
            &details["name_hash"]
        ),
        (&json!(null), &json!("non_profit"), &json!("x")),
        "what is not sent stays"
    );
    let long = "x".repeat(256);
    for (body, problem) in [
        (json!({"name": long}), "name"),
        (json!({"access_type": "other"}), "access_type"),
        (json!({"metadata": {"k": "x".repeat(513)}}), "metadata"),
        (
            json!({"external_user_details": {"reference_id": ""}}),
            "external_user_details.reference_id",
        ),
        (
            json!({"external_user_details": {"email_hash": long}}),
            "external_user_details.email_hash",
        ),
        (
            json!({"external_user_details": {"country": "at"}}),
            "external_user_details.country",
        ),
        (
            json!({"external_user_details": {"country": "AUT"}}),
            "external_user_details.country",
        ),
        (
            json!({"external_user_details": {"onboarded_at": "2999-01-01T00:00:00Z"}}),
            "external_user_details.onboarded_at",
        ),
    ] {
        for path in [PROFILES, path.as_str()] {
            let message = client
                .post(path, &body)
                .await
                .error(400, "invalid_request_error");
            assert!(message.contains(problem), "{message}");
        }
    }
    let cleared = json!({"external_user_details": {"name_hash": null}});
    let message = client
        .post(&path, &cleared)
        .await
        .error(400, "invalid_request_error");
    assert!(message.contains("name_hash"), "{message}");
    let empty = json!({"metadata": {"a": ""}});
    client
        .post(PROFILES, &empty)
        .await
        .error(400, "invalid_request_error");
    assert_eq!(
        client.get(&path).await.ok(),
        again,
        "no refusal has changed it"
    );
}

async fn profiles_are_paged_in_either_order(app: &TestApp) {
    let client = shape(app, None);
    let mut made = Vec::new();
    for name in [json!("b"), json!(null), json!("a"), json!("b")] {
        made.push(id(&client
            .post(PROFILES, &json!({"name": name}))
            .await
            .ok()));
    }
    let walk = async |query: &str| {
        let mut found: Vec<String> = Vec::new();
        let mut page = client
            .get(&format!("{PROFILES}?limit=1&{query}"))
            .await
            .ok();
        loop {
            let items = page["data"].as_array().expect("a list");
            found.extend(items.iter().map(id));
            let Some(cursor) = page["next_page"].as_str() else {
                return found;
            };
            page = client
                .get(&format!("{PROFILES}?limit=1&{query}&page={cursor}"))
                .await
                .ok();
        }
    };
    let pick = |places: [usize; 4]| places.map(|place| made[place].clone()).to_vec();
    assert_eq!(walk("").await, pick([3, 2, 1, 0]));
    assert_eq!(
        walk("order=asc&order_by=created_at").await,
        pick([0, 1, 2, 3])
    );
    assert_eq!(walk("order=asc&order_by=name").await, pick([1, 2, 0, 3]));
    assert_eq!(walk("order_by=name").await, pick([3, 0, 2, 1]));
    assert_eq!(walk("enforcement_status[]=unrestricted").await.len(), 4);
    assert_eq!(walk("enforcement_status[]=banned").await.len(), 0);
    let first = client
        .get(&format!("{PROFILES}?limit=1&order_by=name"))
        .await
        .ok();
    let cursor = first["next_page"].as_str().expect("a cursor");
    for query in [
        format!("order_by=name&order=asc&page={cursor}"),
        format!("page={cursor}"),
        "order_by=age".to_owned(),
        "enforcement_status[]=jailed".to_owned(),
        "limit=101".to_owned(),
    ] {
        let answer = client.get(&format!("{PROFILES}?{query}")).await;
        answer.error(400, "invalid_request_error");
    }
}

/// security INP-5: what a request says of itself is in no link where the operator has said how the server is reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inp_5_links_begin_as_the_operator_says() {
    let place = "https://agents.example.com/base";
    let app = TestApp::with(|config| config.public_url = Some(place.to_owned())).await;
    let client = shape(&app, None);
    let made = client.post(PROFILES, &json!({})).await.ok();
    let path = format!("{PROFILES}/{}/enrollment_url", id(&made));
    for host in ["evil.example.net", "agents.example.com:1"] {
        let client = client.clone().header("host", host);
        let client = client.header("x-forwarded-proto", "http");
        let link = client.post_empty(&path).await.ok();
        let url = link["url"].as_str().expect("a link");
        assert!(url.starts_with(&format!("{place}/enroll/")), "{url}");
    }
    app.end().await;
}

async fn links_lead_to_a_page_while_the_profile_lives(app: &TestApp) {
    let client = shape(app, None);
    let made = client.post(PROFILES, &json!({})).await.ok();
    let path = format!("{PROFILES}/{}", id(&made));
    let enrollment = client
        .post_empty(&format!("{path}/enrollment_url"))
        .await
        .ok();
    assert_eq!(enrollment["type"], "enrollment_url");
    let body = json!({"action": {"type": "enroll_end_user"}});
    let action = client
        .post(&format!("{path}/action_urls"), &body)
        .await
        .ok();
    assert_eq!(action["type"], "user_profile_action_url");
    let other = json!({"action": {"type": "other"}});
    let refused = client.post(&format!("{path}/action_urls"), &other).await;
    refused.error(400, "invalid_request_error");
    let stranger = client.clone().without("authorization");
    for link in [&enrollment, &action] {
        assert!(link["expires_at"].as_str() > made["created_at"].as_str());
        let url = link["url"].as_str().expect("a link");
        let (origin, secret) = url.split_once("/enroll/").expect("a link of this server");
        assert_eq!(origin, format!("http://{}", app.server.address()));
        let page = stranger.get(&format!("/enroll/{secret}")).await;
        assert_eq!(page.status, 200, "{page}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(String::from_utf8_lossy(&page.body).contains("nothing to do"));
    }
    let url = action["url"].as_str().expect("a link");
    let secret = url.rsplit('/').next().expect("a secret");
    client.delete(&path).await.ok();
    let gone = stranger.get(&format!("/enroll/{secret}")).await;
    gone.error(404, "not_found_error");
    let never = "/enroll/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    stranger.get(never).await.error(404, "not_found_error");
    let gone = client.post_empty(&format!("{path}/enrollment_url")).await;
    gone.error(404, "not_found_error");
}
