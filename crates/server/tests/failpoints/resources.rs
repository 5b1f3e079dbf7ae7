//! Agents, environments and keys: made, changed and removed, each step done again when it got no answer.

use http::Method;
use serde_json::{Value, json};

use crate::objects::{delete, find_or_make, remove, text};
use crate::skills::Skills;
use crate::story::{Gone, Place, expect, get, post, send};
use crate::tenancy::Tenancy;
use crate::user_profiles::UserProfiles;

/// What a story has made.
#[derive(Debug)]
pub(crate) struct Resources {
    name: String,
    agent: Option<Value>,
    agent_changed: bool,
    environment: Option<Value>,
    environment_changed: bool,
    environment_deleted: bool,
    key: Option<Value>,
    key_revoked: bool,
    file: Option<Value>,
    file_deleted: bool,
    skills: Skills,
    tenancy: Tenancy,
    user_profiles: UserProfiles,
}

impl Resources {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            agent: None,
            agent_changed: false,
            environment: None,
            environment_changed: false,
            environment_deleted: false,
            key: None,
            key_revoked: false,
            file: None,
            file_deleted: false,
            skills: Skills::default(),
            tenancy: Tenancy::default(),
            user_profiles: UserProfiles::default(),
        }
    }

    /// Does what is left to do. Says whether all that was acknowledged is as it was answered.
    pub(crate) async fn before(&mut self, place: &Place) -> Result<bool, Gone> {
        let changed = format!("{} changed", self.name);
        let agent = match self.agent.clone() {
            Some(agent) => agent,
            None => {
                let body = json!({"name": self.name, "model": "claude-opus-4-8"});
                let agent = expect(200, post(place, "/v1/agents", &body).await?);
                self.agent.insert(agent).clone()
            }
        };
        let agent_path = format!("/v1/agents/{}", text(&agent["id"]));
        if !self.agent_changed {
            // Sent again, it changes nothing more; without a version, it meets whatever is there.
            expect(
                200,
                post(place, &agent_path, &json!({"name": changed})).await?,
            );
            self.agent_changed = true;
        }
        let environment = match self.environment.clone() {
            Some(environment) => environment,
            None => {
                // One that was made without an answer has the name already.
                let name = format!("{}-{}", self.name, text(&agent["id"]));
                let made = find_or_make(place, "/v1/environments", "name", &name).await?;
                self.environment.insert(made).clone()
            }
        };
        let environment_path = format!("/v1/environments/{}", text(&environment["id"]));
        if !self.environment_changed && !self.environment_deleted {
            let name = format!("{} changed {}", self.name, text(&environment["id"]));
            expect(
                200,
                post(place, &environment_path, &json!({"name": name})).await?,
            );
            self.environment_changed = true;
        }
        if !self.environment_deleted {
            delete(place, &environment_path).await?;
            self.environment_deleted = true;
        }
        let key = match self.key.clone() {
            Some(key) => key,
            None => {
                let body = json!({"name": self.name});
                let key = expect(200, post(place, "/v1/manyhands/keys", &body).await?);
                self.key.insert(key).clone()
            }
        };
        if !self.key_revoked {
            let path = format!("/v1/manyhands/keys/{}", text(&key["id"]));
            expect(200, send(place, Method::DELETE, &path, "").await?);
            self.key_revoked = true;
        }
        let file = match self.file.clone() {
            Some(file) => file,
            None => {
                let file = self.send_file(place).await?;
                self.file.insert(file).clone()
            }
        };
        let file_path = format!("/v1/files/{}", text(&file["id"]));
        if !self.file_deleted {
            remove(place, &file_path).await?;
            self.file_deleted = true;
        }
        self.skills.before(place).await?;
        self.tenancy.before(place, &self.name).await?;
        self.user_profiles.before(place).await?;
        let agent = expect(200, get(place, &agent_path).await?);
        let keys = expect(200, get(place, "/v1/manyhands/keys").await?);
        let mut keys = keys["data"].as_array().expect("keys").iter();
        let key = keys
            .find(|shown| shown["id"] == key["id"])
            .expect("the key");
        let gone = get(place, &environment_path).await?.status == 404;
        Ok(agent["name"] == changed
            && agent["version"] == 2
            && gone
            && !key["revoked_at"].is_null())
    }

    async fn send_file(&self, place: &Place) -> Result<Value, Gone> {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\r\nkept\r\n--b--\r\n",
            self.name
        );
        let kind = "multipart/form-data; boundary=b";
        let sender = Place {
            client: place.client.clone().header("content-type", kind),
            ..place.clone()
        };
        Ok(expect(
            200,
            send(&sender, Method::POST, "/v1/files", &body).await?,
        ))
    }
}
