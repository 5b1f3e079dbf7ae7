//! The skills that the session's repositories bring: looked for once in each, when it is cloned (runtime SK-6).

use std::sync::Arc;

use manyhands_hands::skills::{Found as Seen, of_repository};
use manyhands_hands::{Advice, Sandbox};

use super::{Stop, Wake};
use crate::context;
use crate::record::private;
use crate::skills::{Announced, Found, SKILLS_FOUND};

impl Wake {
    /// Looks for skills in those of these repositories, by id and place, that were not looked at before, and tells the model of
    /// them. One that cannot be looked at now is looked at by the next wake.
    pub(super) async fn find_skills(
        &mut self,
        sandbox: &Arc<dyn Sandbox>,
        cloned: &[(String, String)],
    ) -> Result<(), Stop> {
        if !context::reads(&self.agent().definition) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for (id, mount_path) in cloned {
            let known = &self.transcript.skills_known;
            let mut known = known.iter().chain(&self.transcript.skills_found);
            if known.any(|found| found.mount_path == *mount_path) {
                continue;
            }
            match of_repository(sandbox, self.lease.epoch, id, mount_path).await {
                Ok(seen) => {
                    let found = Found {
                        mount_path: mount_path.clone(),
                        skills: seen.into_iter().map(announced).collect(),
                    };
                    entries.push(private(SKILLS_FOUND, &found));
                }
                Err(error) if error.advice() == Advice::Stop => return Err(Stop::Lost),
                // The call that follows finds out what has become of the sandbox.
                Err(error) => {
                    tracing::warn!(session.id = %self.lease.session, mount_path, %error, "a repository's skills are looked for later");
                }
            }
        }
        self.write(entries).await
    }
}

fn announced(seen: Seen) -> Announced {
    Announced {
        name: seen.manifest.name,
        description: seen.manifest.description,
        path: seen.path,
    }
}
