//! Vaults and their credentials: made, changed, archived and removed, each step done again when it got no answer.

use http::Method;
use serde_json::{Value, json};

use crate::story::{Gone, Place, expect, get, post, send};

/// What a story keeps in vaults.
#[derive(Debug)]
pub(crate) struct Vaults {
    name: String,
    vault: Option<String>,
    /// Of what is left to do, the first: each step is at an end only when it was answered.
    step: usize,
}

impl Vaults {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            vault: None,
            step: 0,
        }
    }

    /// The vault whose credential sessions of the story have: made and changed when it is there.
    pub(crate) async fn before(&mut self, place: &Place) -> Result<String, Gone> {
        let vault = match &self.vault {
            Some(vault) => vault.clone(),
            None => {
                let made = find(place, "/v1/vaults", &self.name).await?;
                let made = match made {
                    Some(made) => made,
                    None => {
                        let body = json!({"display_name": self.name});
                        expect(200, post(place, "/v1/vaults", &body).await?)
                    }
                };
                self.vault.insert(text(&made["id"])).clone()
            }
        };
        let path = format!("/v1/vaults/{vault}");
        let credentials = format!("{path}/credentials");
        if self.step == 0 {
            let body = json!({"metadata": {"kept": "yes"}});
            let changed = expect(200, post(place, &path, &body).await?);
            assert_eq!(changed["metadata"], json!({"kept": "yes"}));
            self.step = 1;
        }
        for name in ["KEPT", "ARCHIVED", "DELETED"] {
            if self.step == 1 && find(place, &credentials, name).await?.is_none() {
                let auth = json!({
                    "type": "environment_variable", "secret_name": name, "secret_value": "first",
                    "networking": {"type": "unrestricted"},
                });
                let body = json!({"display_name": name, "auth": auth});
                let answer = post(place, &credentials, &body).await?;
                assert!([200, 409].contains(&answer.status), "{answer}");
            }
        }
        self.step = self.step.max(2);
        if self.step == 2 {
            let kept = find(place, &credentials, "KEPT")
                .await?
                .expect("it was made");
            let body = json!({"auth": {"type": "environment_variable", "secret_value": "second"}});
            let path = format!("{credentials}/{}", text(&kept["id"]));
            expect(200, post(place, &path, &body).await?);
            self.step = 3;
        }
        if let (3, Some(ended)) = (self.step, find(place, &credentials, "ARCHIVED").await?) {
            let path = format!("{credentials}/{}/archive", text(&ended["id"]));
            expect(200, post(place, &path, &json!({})).await?);
        }
        if let (3, Some(ended)) = (self.step, find(place, &credentials, "DELETED").await?) {
            let path = format!("{credentials}/{}", text(&ended["id"]));
            let answer = send(place, Method::DELETE, &path, "").await?;
            assert!([200, 404].contains(&answer.status), "{answer}");
        }
        self.step = self.step.max(4);
        Ok(vault)
    }

    /// What was acknowledged is there; then the vault is archived and removed.
    pub(crate) async fn after(&mut self, place: &Place) -> Result<(), Gone> {
        let Some(vault) = self.vault.clone() else {
            return Ok(());
        };
        let path = format!("/v1/vaults/{vault}");
        if self.step == 4 {
            let all = expect(200, get(place, &format!("{path}/credentials")).await?);
            let shown = all["data"].as_array().expect("credentials").iter();
            let names: Vec<_> = shown.map(|shown| text(&shown["display_name"])).collect();
            assert_eq!(names, ["KEPT"], "{}", self.name);
            self.step = 5;
        }
        if self.step == 5 {
            expect(
                200,
                post(place, &format!("{path}/archive"), &json!({})).await?,
            );
            self.step = 6;
        }
        if self.step == 6 {
            let answer = send(place, Method::DELETE, &path, "").await?;
            assert!([200, 404].contains(&answer.status), "{answer}");
            expect(404, get(place, &path).await?);
            self.step = 7;
        }
        Ok(())
    }
}

/// The object of a list that has this name, among those that are not archived.
async fn find(place: &Place, path: &str, name: &str) -> Result<Option<Value>, Gone> {
    let all = expect(200, get(place, &format!("{path}?limit=100")).await?);
    let mut all = all["data"].as_array().expect("a list").iter();
    Ok(all.find(|shown| shown["display_name"] == *name).cloned())
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
