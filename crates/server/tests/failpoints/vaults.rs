//! Vaults and their credentials: made, changed, archived and removed, each step done again when it got no answer.

use serde_json::json;

use crate::objects::{archive_and_remove, delete, find, find_or_make, text};
use crate::story::{Gone, Place, expect, get, post};

/// The member of vaults and of credentials that is their name.
const NAME: &str = "display_name";

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
                let made = find_or_make(place, "/v1/vaults", NAME, &self.name).await?;
                self.vault.insert(text(&made["id"]).to_owned()).clone()
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
            if self.step == 1 && find(place, &credentials, NAME, name).await?.is_none() {
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
            let kept = find(place, &credentials, NAME, "KEPT")
                .await?
                .expect("it was made");
            let body = json!({"auth": {"type": "environment_variable", "secret_value": "second"}});
            let path = format!("{credentials}/{}", text(&kept["id"]));
            expect(200, post(place, &path, &body).await?);
            self.step = 3;
        }
        if let (3, Some(ended)) = (
            self.step,
            find(place, &credentials, NAME, "ARCHIVED").await?,
        ) {
            let path = format!("{credentials}/{}/archive", text(&ended["id"]));
            expect(200, post(place, &path, &json!({})).await?);
        }
        if let (3, Some(ended)) = (self.step, find(place, &credentials, NAME, "DELETED").await?) {
            let path = format!("{credentials}/{}", text(&ended["id"]));
            delete(place, &path).await?;
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
        archive_and_remove(place, &path, &mut self.step, 5).await
    }
}
