//! A server with two workspaces, each of which has one of everything that a path can name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use manyhands_hands::provider::fake::Fake;
use manyhands_protocol::time::SystemClock;
use manyhands_store::{Conduct, Database, SharedMemory};
use manyhands_testkit::http::{Answer, Client};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Access, Route, table};
use crate::config::{Config, Flags};
use crate::server::{Overrides, Server};

const BOUNDARY: &str = "between-the-parts";

/// A server on a database in memory that counts how often it is used.
pub(super) struct Bed {
    pub(super) server: Server,
    url: String,
    uses: Arc<AtomicU64>,
    _dir: TempDir,
}

impl Bed {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::load(Flags {
            listen: Some("127.0.0.1:0".parse().expect("an address")),
            data_dir: Some(dir.path().to_owned()),
            ..Flags::default()
        })
        .expect("a configuration");
        let uses = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&uses);
        let memory = SharedMemory::new(Arc::new(SystemClock)).expect("a database");
        config.database = Database::Memory(memory.with_conduct(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Conduct::default()
        }));
        let overrides = Overrides {
            hands: Some(Arc::new(Fake::new())),
            ..Overrides::default()
        };
        let server = Server::start(config, overrides).await.expect("a server");
        Self {
            url: format!("http://{}", server.address()),
            server,
            uses,
            _dir: dir,
        }
    }

    /// The key that the server was started with: the operator's.
    pub(super) fn first_key(&self) -> &str {
        self.server.first_key().expect("a key").expose_secret()
    }

    /// A client with this key and the headers that a route asks for.
    pub(super) fn client(&self, key: &str, access: Access) -> Client {
        let client = Client::with_key(&self.url, key).without("anthropic-beta");
        match access {
            Access::Open | Access::Key | Access::Link => client,
            Access::Beta => client.header("anthropic-beta", "managed-agents-2026-04-01"),
            Access::Memory => client.header("anthropic-beta", "agent-memory-2026-07-22"),
            Access::Named(beta) => client.header("anthropic-beta", beta),
        }
    }

    /// A client without a key.
    pub(super) fn stranger(&self, access: Access) -> Client {
        self.client("mh_key_wrong", access).without("authorization")
    }

    /// An answer, and how often the database was used for it: what else goes on is left out as far as it can be.
    pub(super) async fn weigh(
        &self,
        client: &Client,
        method: &Method,
        path: &str,
        body: &str,
    ) -> (Answer, u64) {
        let before = self.uses.load(Ordering::SeqCst);
        let answer = client.send(method.clone(), path, body.to_owned()).await;
        let uses = self.uses.load(Ordering::SeqCst) - before;
        (answer.expect("an answer"), uses)
    }
}

/// A workspace that has one of everything, and the ids of it by the names that paths have for them.
pub(super) struct Tenant {
    pub(super) key: String,
    pub(super) ids: BTreeMap<String, String>,
}

impl Tenant {
    /// Puts a template's names in braces by the ids of this workspace.
    pub(super) fn fill(&self, template: &str) -> String {
        fill(template, |name| self.id(name))
    }

    /// The id that a path calls by this name.
    pub(super) fn id(&self, name: &str) -> String {
        let found = self.ids.get(name);
        found
            .unwrap_or_else(|| {
                panic!(
                    "a path has {{{name}}}: let Tenant::furnish make one of it in each workspace"
                )
            })
            .clone()
    }

    /// Makes one of everything, and two where a list can be cut.
    pub(super) async fn furnish(bed: &Bed, key: &str) -> Self {
        let mut tenant = Self {
            key: key.to_owned(),
            ids: BTreeMap::new(),
        };
        let agent = json!({"name": "a", "model": "claude-sonnet-4-5", "tools": [{"type": "agent_toolset_20260401"}]});
        tenant.make(bed, "/v1/agents", &agent, "agent_id").await;
        tenant
            .post(bed, "/v1/agents/{agent_id}", &json!({"name": "b"}))
            .await;
        tenant
            .make(
                bed,
                "/v1/environments",
                &json!({"name": "e"}),
                "environment_id",
            )
            .await;
        tenant
            .make(bed, "/v1/vaults", &json!({"display_name": "v"}), "vault_id")
            .await;
        for n in 0..2 {
            let auth = json!({"type": "static_bearer", "token": "t", "mcp_server_url": format!("https://mcp.example.com/{n}")});
            let path = "/v1/vaults/{vault_id}/credentials";
            tenant
                .make_one(bed, path, &json!({"auth": auth}), "credential_id")
                .await;
        }
        for _ in 0..2 {
            let part = "Content-Disposition: form-data; name=\"file\"; filename=\"f.txt\"";
            tenant
                .upload(bed, "/v1/files", &[(part, "text")], "file_id")
                .await;
        }
        for name in ["second", "first"] {
            let head = format!(
                "Content-Disposition: form-data; name=\"files[]\"; filename=\"{name}/SKILL.md\""
            );
            let text = format!("---\nname: {name}\ndescription: d\n---\nbody\n");
            let parts = [(head.as_str(), text.as_str())];
            tenant.upload(bed, "/v1/skills", &parts, "skill_id").await;
            if name == "first" {
                let versions = "/v1/skills/{skill_id}/versions";
                tenant.upload(bed, versions, &parts, "version").await;
            }
        }
        tenant
            .make(
                bed,
                "/v1/memory_stores",
                &json!({"name": "m"}),
                "memory_store_id",
            )
            .await;
        for n in 0..2 {
            let path = "/v1/memory_stores/{memory_store_id}/memories";
            let memory = json!({"path": format!("/{n}.md"), "content": "c"});
            tenant.make_one(bed, path, &memory, "memory_id").await;
        }
        let versions = "/v1/memory_stores/{memory_store_id}/memory_versions";
        tenant.first(bed, versions, "memory_version_id").await;
        tenant
            .make(
                bed,
                "/v1/user_profiles",
                &json!({"name": "u"}),
                "user_profile_id",
            )
            .await;
        let session = json!({
            "agent": "{agent_id}", "environment_id": "{environment_id}",
            "resources": [{"type": "file", "file_id": "{file_id}"}, {"type": "memory_store", "memory_store_id": "{memory_store_id}"}]
        });
        tenant
            .make(bed, "/v1/sessions", &session, "session_id")
            .await;
        for _ in 0..2 {
            let events = json!({"events": [{"type": "user.interrupt"}]});
            let sent = tenant
                .post(bed, "/v1/sessions/{session_id}/events", &events)
                .await;
            tenant.keep("event_id", &sent["data"][0]["id"]);
        }
        tenant
            .first(bed, "/v1/sessions/{session_id}/threads", "thread_id")
            .await;
        tenant
            .first(bed, "/v1/sessions/{session_id}/resources", "resource_id")
            .await;
        tenant
            .make(
                bed,
                "/v1/manyhands/keys",
                &json!({"name": "k", "role": "read_only"}),
                "key_id",
            )
            .await;
        tenant
    }

    /// Two of a kind; the name is the first one's, so that it stands behind the end of a page of one.
    async fn make(&mut self, bed: &Bed, path: &str, body: &Value, name: &str) {
        self.make_one(bed, path, body, name).await;
        let first = self.id(name);
        self.post(bed, path, body).await;
        self.keep(name, &json!(first));
    }

    async fn make_one(&mut self, bed: &Bed, path: &str, body: &Value, name: &str) {
        let made = self.post(bed, path, body).await;
        self.keep(name, &made["id"]);
    }

    async fn first(&mut self, bed: &Bed, path: &str, name: &str) {
        let client = bed.client(&self.key, access(path));
        let list = client.get(&self.fill(path)).await.ok();
        let items = list["data"].as_array().expect("a list");
        // Memory stores of sessions have none.
        let with_id = items.iter().find(|item| item.get("id").is_some());
        self.keep(name, &with_id.expect("an item with an id")["id"]);
    }

    fn keep(&mut self, name: &str, id: &Value) {
        let id = id.as_str().expect("an id").to_owned();
        self.ids.insert(name.to_owned(), id);
    }

    async fn post(&self, bed: &Bed, path: &str, body: &Value) -> Value {
        let client = bed.client(&self.key, access(path));
        let body = self.fill(&body.to_string());
        let answer = client.send(Method::POST, &self.fill(path), body).await;
        answer.expect("an answer").ok()
    }

    /// Sends a form with these parts, each with its head.
    async fn upload(&mut self, bed: &Bed, path: &str, parts: &[(&str, &str)], name: &str) {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let client = bed
            .client(&self.key, access(path))
            .header("content-type", &kind);
        let mut body = String::new();
        for (head, content) in parts {
            body.push_str(&format!("--{BOUNDARY}\r\n{head}\r\n\r\n{content}\r\n"));
        }
        body.push_str(&format!("--{BOUNDARY}--\r\n"));
        let answer = client.send(Method::POST, &self.fill(path), body).await;
        let made = answer.expect("an answer").ok();
        self.keep(name, &made["id"]);
    }
}

/// What the route with this path asks for.
fn access(path: &str) -> Access {
    let route = table().into_iter().find(|route| route.path == path);
    route.unwrap_or_else(|| panic!("{path} is a route")).access
}

/// The names in braces in a path.
pub(super) fn names(template: &str) -> Vec<String> {
    let parts = template.split('{').skip(1);
    let names = parts.filter_map(|part| part.split_once('}'));
    names
        .map(|(name, _)| name.to_owned())
        .filter(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .collect()
}

/// Puts something in the place of each name in braces.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut text = template.to_owned();
    for name in names(template) {
        text = text.replace(&format!("{{{name}}}"), &value(&name));
    }
    text
}

/// An id of the same kind and length that nobody has.
pub(super) fn missing(id: &str) -> String {
    let (body, last) = id.split_at(id.len() - 1);
    format!("{body}{}", if last == "1" { "2" } else { "1" })
}

/// A row that is built, takes a key and names something in its path.
pub(super) fn is_built(route: &Route) -> bool {
    use crate::openapi::operation::Content;
    !matches!(route.operation.gives, Content::Never)
}

/// What a body says without what differs between two requests.
pub(super) fn essence(answer: &Answer, ids: &[&str]) -> (u16, String) {
    let mut text = String::from_utf8_lossy(&answer.body).into_owned();
    if let Some(id) = answer.header("request-id") {
        text = text.replace(id, "REQUEST");
    }
    for id in ids {
        text = text.replace(id, "ID");
    }
    (answer.status, text)
}
