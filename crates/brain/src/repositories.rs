//! The repositories of a session, as its log and its model know them (runtime GH-3). They are given when the session is created
//! and never change, so the log says them once.

use manyhands_store::NewEntry;
use serde::{Deserialize, Serialize};

use crate::record::private;

/// The type of the private entry that names them, before all others of its session.
pub(crate) const REPOSITORIES: &str = "repositories";

/// A repository that is cloned into the session's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloned {
    /// Where it is.
    pub url: String,
    /// Where the sandbox has it.
    pub mount_path: String,
}

/// What belongs before everything else into the log of a session that has repositories.
pub fn repositories(cloned: &[Cloned]) -> NewEntry {
    private(REPOSITORIES, &cloned)
}

/// What the model is told of them; nothing when there are none.
pub(crate) fn note(cloned: &[Cloned]) -> Option<String> {
    if cloned.is_empty() {
        return None;
    }
    let mut note = "These git repositories are cloned into the sandbox before your first call, unless a result says otherwise. git \
         in them reaches their host without a token of yours: fetch, pull and push work as they are, and there is none to look for."
        .to_owned();
    for Cloned { url, mount_path } in cloned {
        note.push_str(&format!("\n- {mount_path} from {url}"));
    }
    Some(note)
}
