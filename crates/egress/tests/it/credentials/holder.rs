//! A holder of secrets with the conditions of a real one, which a test can change at any moment.

use std::sync::Mutex;

use async_trait::async_trait;
use manyhands_egress::host::{Pattern, Target};
use manyhands_egress::secrets::{
    Asked, Attached, Basic, Credential, Hosts, Passage, Place, Secrets, Unavailable, Visit,
};
use secrecy::SecretString;

use super::Change;

/// A credential of a session.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) session: String,
    pub(super) placeholder: String,
    pub(super) secret: String,
    pub(super) credential: Credential,
}

impl Held {
    /// For the good host, in headers and bodies.
    pub(super) fn new(session: &str, placeholder: &str, secret: &str) -> Self {
        let good = Pattern::parse("good.example").expect("a pattern");
        Self {
            session: session.to_owned(),
            placeholder: placeholder.to_owned(),
            secret: secret.to_owned(),
            credential: Credential {
                hosts: Hosts::Listed(vec![good]),
                header: true,
                body: true,
            },
        }
    }
}

/// A repository of a session: its place, the beginning of its paths, its token.
type Repository = (String, Target, &'static str, Option<&'static str>);

#[derive(Default)]
pub(super) struct Holder {
    held: Mutex<Vec<Held>>,
    repositories: Mutex<Vec<Repository>>,
    /// What was released: session, host.
    released: Mutex<Vec<(String, String)>>,
    away: Mutex<bool>,
}

impl Holder {
    pub(super) fn hold(&self, held: Held) {
        self.held.lock().expect("a lock").push(held);
    }

    /// A repository below this path of a host of git.
    pub(super) fn repository(
        &self,
        session: &str,
        path: &'static str,
        token: Option<&'static str>,
    ) {
        let target = Target::parse("git.wild.example:443", None).expect("a target");
        let repository = (session.to_owned(), target, path, token);
        self.repositories.lock().expect("a lock").push(repository);
    }

    pub(super) fn rotate(&self, session: &str, secret: &str) {
        let mut held = self.held.lock().expect("a lock");
        for held in held.iter_mut().filter(|held| held.session == session) {
            held.secret = secret.to_owned();
        }
    }

    pub(super) fn change(&self, session: &str, change: Change) {
        let mut all = self.held.lock().expect("a lock");
        match change {
            Change::Archived => all.retain(|held| held.session != session),
            Change::Elsewhere | Change::NotInHeaders => {
                for held in all.iter_mut().filter(|held| held.session == session) {
                    match change {
                        Change::Elsewhere => held.credential.hosts = Hosts::Listed(Vec::new()),
                        _ => held.credential.header = false,
                    }
                }
            }
        }
    }

    /// Nothing can be looked up any more.
    pub(super) fn leave(&self) {
        *self.away.lock().expect("a lock") = true;
    }

    pub(super) fn released(&self, session: &str) -> Vec<String> {
        let released = self.released.lock().expect("a lock");
        let own = released.iter().filter(|(of, _)| of == session);
        own.map(|(_, host)| host.clone()).collect()
    }

    fn check(&self) -> Result<(), Unavailable> {
        match *self.away.lock().expect("a lock") {
            true => Err(Unavailable("nobody is there".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Secrets for Holder {
    async fn attached(&self, session: &str) -> Result<Attached, Unavailable> {
        let held = self.held.lock().expect("a lock");
        let own = held.iter().filter(|held| held.session == session);
        let repositories = self.repositories.lock().expect("a lock");
        let places = repositories.iter().filter(|(of, ..)| of == session);
        Ok(Attached {
            credentials: own.map(|held| held.credential.clone()).collect(),
            repositories: places.map(|(_, target, ..)| target.clone()).collect(),
        })
    }

    async fn release(&self, asked: &Asked<'_>) -> Result<Option<SecretString>, Unavailable> {
        self.check()?;
        let held = self.held.lock().expect("a lock");
        let found = held.iter().find(|held| {
            let place = match asked.place {
                Place::Header => held.credential.header,
                Place::Body => held.credential.body,
            };
            held.session == asked.session
                && held.placeholder == asked.placeholder
                && held.credential.hosts.admit(&asked.target.host)
                && place
        });
        let Some(found) = found else {
            return Ok(None);
        };
        let row = (asked.session.to_owned(), asked.target.host.to_string());
        self.released.lock().expect("a lock").push(row);
        Ok(Some(found.secret.as_str().into()))
    }

    async fn repository(&self, visit: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        self.check()?;
        let repositories = self.repositories.lock().expect("a lock");
        let own = repositories.iter().find(|(session, target, path, _)| {
            session == visit.session
                && target == visit.target
                && visit.path.path().starts_with(path)
        });
        Ok(own.map(|(.., token)| match token {
            None => Passage::Public,
            Some(token) => Passage::With(Basic {
                user: "x-access-token".to_owned(),
                token: (*token).into(),
            }),
        }))
    }
}
