//! Repositories: cloned inside the sandbox, by the git that is there (runtime GH-3, GH-7; security SBX-6).
//!
//! A clone is a command of the sandbox like any other, with an id that the sandbox knows: however often it is asked for, it runs
//! once per start. It speaks to the host through the sandbox's door, where the token is added; nothing inside has it (runtime
//! GH-4). What it answers is text of the sandbox: it decides what the user reads, and nothing else.

mod script;

use std::fmt;
use std::time::Duration;

use manyhands_protocol::repository::Checkout;
use serde_json::json;

use crate::error::Error;
use crate::provider::{Block, Call, Output, Sandbox};
use crate::toolset;

/// How long one clone may take, its checkout included.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often a clone that breaks off is begun in one start of a sandbox.
const TRIES: u32 = 3;

/// Why a clone failed that said this; `None` when it did not.
#[cfg(feature = "fuzzing")]
pub(crate) fn failure(said: &str) -> Option<(Cause, String)> {
    let failure = script::outcome(said).err()?;
    Some((failure.cause, failure.detail))
}

/// A repository that a sandbox is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The id of the session's resource.
    pub id: String,
    /// Where it is, in the one spelling that was checked: an https URL.
    pub url: String,
    /// Where it is cloned to: a canonical path below `/workspace`.
    pub mount_path: String,
    /// What is checked out; the default branch where there is nothing.
    pub checkout: Option<Checkout>,
}

/// Why a sandbox lacks a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The host wants a token, or another one.
    Authentication,
    /// The token does not reach this repository.
    Forbidden,
    /// The host has none of this name, or does not say.
    NotFound,
    /// It has no such branch or commit.
    Checkout,
    /// Anything else.
    Clone,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authentication => {
                "the host asks for a token, or does not accept the one it was given"
            }
            Self::Forbidden => "the token gives no access to it",
            Self::NotFound => {
                "the host has no such repository, or does not show it without a token"
            }
            Self::Checkout => "the branch or commit cannot be checked out",
            Self::Clone => "it cannot be cloned",
        })
    }
}

/// A repository that a sandbox lacks. Tell the user and the model; the next start of a sandbox tries again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Where the repository is.
    pub url: String,
    /// Where it should be in the sandbox.
    pub mount_path: String,
    /// Why it is not.
    pub cause: Cause,
    /// What git said, in one short line without control characters; empty where the cause says it all.
    pub detail: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            mount_path,
            cause,
            detail,
        } = self;
        write!(f, "the repository {url} is not at {mount_path}: {cause}")?;
        match detail.as_str() {
            "" => Ok(()),
            detail => write!(f, " ({detail})"),
        }
    }
}

/// What an earlier clone of the workspace has left, where the sandbox reads it (runtime GH-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its path inside.
    pub path: String,
    /// How many of its bytes, at the beginning, are the references.
    pub head: u64,
}

/// How a repository has come into its place. Text of the sandbox: it decides what is kept for others, whose own git proves it, and
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// From the host alone, as this one pack: 40 hexadecimal digits.
    New(String),
    /// With the help of what was shown.
    Borrowed,
    /// The same, but much was missing in it, or it had what the host does not show any more: it should be made anew.
    Outgrown,
    /// What was shown could not be used; from the host alone, perhaps as this one pack.
    Unusable(Option<String>),
    /// It was there already, or is nothing that could be kept.
    Other,
}

/// The folder of git's own in a clone, and its two files that together are all of it, references first.
pub fn parts(repository: &Repository, pack: &str) -> (String, [String; 2]) {
    let folder = format!("{}/.git", repository.mount_path);
    let pack = format!("objects/pack/pack-{pack}.pack");
    (folder, ["packed-refs".to_owned(), pack])
}

/// Clones a repository into a sandbox unless it is there, or waits for the clone that this start of the sandbox has begun. One
/// that broke off, as when the server with its door was killed, is begun again. What is shown is made use of.
///
/// # Errors
/// As [`Sandbox::execute`]. That a repository cannot be cloned is no error but an [`Absent`].
pub async fn clone(
    sandbox: &dyn Sandbox,
    epoch: i64,
    repository: &Repository,
    shown: Option<&Shown>,
) -> Result<Result<Made, Absent>, Error> {
    let command = script::clone(repository, shown);
    let input = json!({"command": command, "timeout_ms": LIMIT.as_millis()});
    let mut tries = 1;
    loop {
        let call = Call {
            call_id: format!("clone-{}-{tries}", repository.id),
            epoch,
            name: "bash".to_owned(),
            deadline: toolset::deadline("bash", &input),
            input: input.clone(),
        };
        let output = sandbox.execute(&call).await?;
        let failure = match script::outcome(&text(&output)) {
            Ok(made) => return Ok(Ok(made)),
            Err(failure) => failure,
        };
        if !failure.broke_off || tries == TRIES {
            return Ok(Err(Absent {
                url: repository.url.clone(),
                mount_path: repository.mount_path.clone(),
                cause: failure.cause,
                detail: failure.detail,
            }));
        }
        tries += 1;
    }
}

fn text(output: &Output) -> String {
    let blocks = output.content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        Block::Image { .. } | Block::Document { .. } => None,
    });
    blocks.collect()
}
