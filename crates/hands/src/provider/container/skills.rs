//! The skills that a container reads, carried in as its files are: written by a user that no tool can become, so that they are
//! read-only where they live (runtime SK-3, security INP-7).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use manyhands_sandboxd::exchange::{Laid, Lay};
use tokio::io::AsyncWriteExt as _;

use super::files::say;
use super::host::Host;
use super::spec::{KEEPER, SANDBOXD};
use crate::Error;
use crate::provider::laid::listed;
use crate::provider::link;
use crate::provider::namespace::files;
use crate::skills::{SKILLS, Skill, fetch};

/// The name of the list of what is in a container.
const LIST: &str = "skills.json";

/// What is in a container: SHA-256 of the archive by name.
type List = BTreeMap<String, String>;

impl Host {
    /// Lays a session's skills into its running container, unless they are there. The session's folder is held. One whose bytes
    /// are damaged is left out, and said.
    pub(super) async fn lay_skills(
        &self,
        session: &str,
        folder: &OwnedFd,
        skills: &[Skill],
    ) -> Result<(), Error> {
        let doing = format!("lay out the skills of {session}");
        let fail = |error: io::Error| Error::io(doing.clone(), error);
        let wanted: List = skills
            .iter()
            .map(|skill| (skill.name.clone(), skill.sha256.clone()))
            .collect();
        if wanted.is_empty() || listed::<List>(folder, LIST).map_err(fail)? == wanted {
            return Ok(());
        }
        let name = self.name(session).await?;
        let command = [SANDBOXD, "lay", SKILLS];
        let streams = self.engine.run(&name, KEEPER, &command).await;
        let mut streams = streams.map_err(|why| fail(io::Error::other(why)))?;
        // Whatever is there by halves goes.
        let keep = Lay::Keep { paths: Vec::new() };
        say(&mut streams.input, &keep).await.map_err(fail)?;
        for skill in skills {
            let Some(unpacked) = fetch(session, self.blobs()?, skill).await? else {
                continue;
            };
            for (path, entry) in unpacked.files() {
                let file = Lay::File {
                    path: format!("{}/{path}", skill.name),
                    size: entry.bytes.len() as u64,
                    executable: entry.executable,
                };
                say(&mut streams.input, &file).await.map_err(fail)?;
                streams.input.write_all(&entry.bytes).await.map_err(fail)?;
            }
        }
        say(&mut streams.input, &Lay::Done).await.map_err(fail)?;
        let answer: Result<Laid, _> = link::frame(&mut streams.output).await;
        answer.map_err(|_| fail(io::Error::other(streams.said())))?;
        let list = serde_json::to_vec(&wanted).map_err(|error| fail(error.into()))?;
        files::replace(&self.folder(session).join(LIST), &list, 0o600).map_err(fail)
    }
}

/// Forgets what was in a container: the next one has nothing.
pub(super) fn forget(session: &Path) -> io::Result<()> {
    match std::fs::remove_file(session.join(LIST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
