//! `[server]`: what this server does, and where people find it.

use std::time::Duration;

use manyhands_store::Role;
use serde::Deserialize;
use url::Url;

use super::{Error, wrong};

/// The longest time between the order to stop and the closing of the port, in seconds.
const LONGEST_DRAIN: u64 = 3600;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServerSection {
    role: Option<String>,
    drain_seconds: Option<u64>,
    public_url: Option<String>,
}

/// What is in force of it.
pub(super) struct Serving {
    pub(super) role: Role,
    pub(super) drain: Duration,
    pub(super) public_url: Option<String>,
}

impl ServerSection {
    /// With what flags say, which wins. A server that is `alone` with its database has all roles.
    pub(super) fn effective(
        self,
        role: Option<Role>,
        public: Option<String>,
        alone: bool,
    ) -> Result<Serving, Error> {
        let role = match (role, self.role) {
            (Some(role), _) => role,
            (None, Some(text)) => {
                self::role(&text).map_err(|problem| wrong("server.role", problem))?
            }
            (None, None) => Role::All,
        };
        if role != Role::All && alone {
            let problem = format!(
                "{} is one of several servers' roles, and SQLite serves one: set database.url to a PostgreSQL URL, or take \
                 the role all",
                role.as_str()
            );
            return Err(wrong("server.role", problem));
        }
        let drain = self.drain_seconds.unwrap_or(0);
        if drain > LONGEST_DRAIN {
            let problem = format!("must be at most {LONGEST_DRAIN}");
            return Err(wrong("server.drain_seconds", problem));
        }
        let public = public.or(self.public_url);
        Ok(Serving {
            role,
            drain: Duration::from_secs(drain),
            public_url: public.as_deref().map(public_url).transpose()?,
        })
    }
}

/// A role by its name.
pub(super) fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| format!("{text:?} is none of all, api and brain"))
}

/// What links begin with: a place of the web, and nothing that would come behind what is added to it.
fn public_url(text: &str) -> Result<String, Error> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match url {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err(wrong(
            "server.public_url",
            "expected http:// or https:// and a host, without user, query and fragment",
        )),
    }
}
