//! Memory stores as resources of sessions (api §8, runtime ME-12, ME-13).

use super::*;

stories! {
    me_12_a_session_shows_its_stores,
    me_12_which_stores_a_session_cannot_have,
    me_12_stores_come_with_the_session_and_stay,
    li_3_sessions_are_listed_by_store,
    up_8_a_store_outlives_its_sessions,
}

fn resource(store: &str) -> Value {
    json!({"type": "memory_store", "memory_store_id": store.rsplit('/').next()})
}

struct Door {
    agent: String,
    environment: String,
}

impl Door {
    async fn new(app: &TestApp) -> Self {
        Self {
            agent: app.agent().await,
            environment: app.environment().await,
        }
    }

    fn body(&self, resources: &[Value]) -> Value {
        json!({"agent": self.agent, "environment_id": self.environment, "resources": resources})
    }

    async fn session(&self, app: &TestApp, resources: &[Value]) -> Value {
        let body = self.body(resources);
        app.client.post("/v1/sessions", &body).await.ok()
    }
}

async fn me_12_a_session_shows_its_stores(app: &TestApp) {
    let door = Door::new(app).await;
    let named = json!({"name": "Team Notes!", "description": "Shared."});
    let named = app.client.post(STORES, &named).await.ok();
    let path = format!("{STORES}/{}", id(&named));
    let other = store(app, "team notes!").await;
    let wanted = [
        json!({"type": "memory_store", "memory_store_id": named["id"], "access": "read_only", "instructions": "Read."}),
        json!({"type": "memory_store", "memory_store_id": other.rsplit('/').next(), "access": null, "instructions": null}),
    ];
    let session = door.session(app, &wanted).await;
    let expected = json!([
        {"type": "memory_store", "memory_store_id": named["id"], "access": "read_only", "instructions": "Read.",
         "name": "Team Notes!", "description": "Shared.", "mount_path": "/mnt/memory/team-notes-"},
        {"type": "memory_store", "memory_store_id": other.rsplit('/').next(), "access": "read_write",
         "instructions": null, "name": "team notes!", "description": "", "mount_path": "/mnt/memory/team-notes--2"},
    ]);
    assert_eq!(session["resources"], expected, "no ids and no times");
    app.client.post(&path, &json!({"name": "Other"})).await.ok();
    let session_path = format!("/v1/sessions/{}", id(&session));
    assert_eq!(app.retrieve(&id(&session)).await["resources"], expected);
    let listed = app.client.get("/v1/sessions").await.ok();
    assert_eq!(listed["data"][0]["resources"], expected);
    let resources = format!("{session_path}/resources");
    assert_eq!(
        app.client.get(&resources).await.ok(),
        json!({"data": expected, "next_page": null})
    );
    let changed = json!({"title": "new"});
    let changed = app.client.post(&session_path, &changed).await.ok();
    assert_eq!(changed["resources"], expected);
    let archived = app
        .client
        .post_empty(&format!("{session_path}/archive"))
        .await
        .ok();
    assert_eq!(archived["resources"], expected);
}

async fn me_12_which_stores_a_session_cannot_have(app: &TestApp) {
    let door = Door::new(app).await;
    let (fine, archived) = (store(app, "fine").await, store(app, "archived").await);
    app.client
        .post_empty(&format!("{archived}/archive"))
        .await
        .ok();
    let mut nine = Vec::new();
    for _ in 0..9 {
        nine.push(resource(&store(app, "one of nine").await));
    }
    let with = |name: &str, value: Value| {
        let mut resource = resource(&fine);
        resource[name] = value;
        resource
    };
    for (resources, problem) in [
        (
            vec![resource(&fine), resource(&archived)],
            "resources[1].memory_store_id: the memory store is archived",
        ),
        (
            vec![resource(&fine), resource(&fine)],
            "resources[1].memory_store_id: the store is given twice",
        ),
        (
            nine.clone(),
            "resources: a session has at most 8 memory stores",
        ),
        (
            vec![with("access", json!("write_only"))],
            "resources[0].access: ",
        ),
        (
            vec![with("instructions", json!("x".repeat(4097)))],
            "resources[0].instructions: is 4097",
        ),
        (
            vec![with("memory_store_id", json!("mem_1"))],
            "resources[0].memory_store_id: expected an id",
        ),
        (
            vec![json!({"type": "memory_store"})],
            "resources[0]: missing field `memory_store_id`",
        ),
    ] {
        app.client
            .post("/v1/sessions", &door.body(&resources))
            .await
            .refused(problem);
    }
    let missing = vec![json!({"type": "memory_store", "memory_store_id": "memstore_01none"})];
    let refused = app.client.post("/v1/sessions", &door.body(&missing)).await;
    assert_eq!(
        refused.error(404, "not_found_error"),
        "memory store not found"
    );
    let none = app.client.get("/v1/sessions").await.ok();
    assert_eq!(none["data"], json!([]), "no session is half made");
    let most = with("instructions", json!("é".repeat(4096)));
    door.session(app, &[most]).await;
    let eight = door.session(app, &nine[..8]).await;
    let shown = eight["resources"].as_array().expect("a list");
    let paths = texts(shown, "mount_path");
    assert_eq!(paths[0], "/mnt/memory/one-of-nine");
    assert_eq!(paths[7], "/mnt/memory/one-of-nine-8");
}

/// runtime ME-12, LC-12
async fn me_12_stores_come_with_the_session_and_stay(app: &TestApp) {
    let door = Door::new(app).await;
    let (one, two) = (store(app, "one").await, store(app, "two").await);
    let session = door.session(app, &[resource(&one)]).await;
    let resources = format!("/v1/sessions/{}/resources", id(&session));
    app.client
        .post(&resources, &resource(&two))
        .await
        .refused("type: repositories and memory stores");
    let file = app.client.post(&resources, &json!({"type": "file"})).await;
    file.error(400, "invalid_request_error");
    app.client.delete(&one).await.ok();
    let shown = app.retrieve(&id(&session)).await;
    assert_eq!(
        shown["resources"], session["resources"],
        "what it was called is kept"
    );
}

/// Pages of resources of both kinds, oldest first.
async fn li_3_sessions_are_listed_by_store(app: &TestApp) {
    let door = Door::new(app).await;
    let (one, two) = (store(app, "one").await, store(app, "two").await);
    let repository = json!({"type": "github_repository", "url": "https://github.com/acme/tools"});
    let mixed = [repository, resource(&two), resource(&one)];
    let first = door.session(app, &mixed).await;
    let second = door.session(app, &[resource(&two)]).await;
    door.session(app, &[]).await;
    let kinds = texts(first["resources"].as_array().expect("a list"), "type");
    assert_eq!(kinds, ["memory_store", "memory_store", "github_repository"]);
    let resources = format!("/v1/sessions/{}/resources", id(&first));
    for limit in [1, 2, 3, 1000] {
        let found = all(app, &resources, &format!("limit={limit}")).await;
        assert_eq!(json!(found), first["resources"], "pages of {limit}");
    }
    for (store, expected) in [(&one, vec![&first]), (&two, vec![&second, &first])] {
        let query = format!(
            "memory_store_id={}",
            store.rsplit('/').next().expect("an id")
        );
        let found = all(app, "/v1/sessions", &query).await;
        let ids: Vec<_> = found.iter().map(id).collect();
        assert_eq!(ids, expected.into_iter().map(id).collect::<Vec<_>>());
    }
    let none = all(app, "/v1/sessions", "memory_store_id=memstore_01none").await;
    assert_eq!(none, Vec::<Value>::new());
    let strange = app.client.get("/v1/sessions?memory_store_id=mem_1").await;
    strange.error(400, "invalid_request_error");
}

async fn up_8_a_store_outlives_its_sessions(app: &TestApp) {
    let door = Door::new(app).await;
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a", "x").await;
    let session = door.session(app, &[resource(&path)]).await;
    app.client
        .delete(&format!("/v1/sessions/{}", id(&session)))
        .await
        .ok();
    assert_eq!(app.client.get(&at(&path, &made)).await.ok()["content"], "x");
}
