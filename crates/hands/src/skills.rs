//! Skills in a sandbox: folders that are laid read-only before its first call (runtime SK-3), and those that a repository
//! brings (runtime SK-6).

use std::io;
use std::sync::Arc;

use manyhands_blobs::{Blobs, Error as Blob, Stored};
pub use manyhands_protocol::skill::SKILLS;
use manyhands_skills::{ARCHIVE, Folder, MANIFEST, Manifest, front_matter, is_name};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::provider::{Block, Call, Output, Sandbox};
use crate::{Error, toolset};

/// A skill that a sandbox reads, at [`SKILLS`] in a folder of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Its name, unlike those of the session's other skills.
    pub name: String,
    /// The name of its archive among the blobs.
    pub blob: String,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// The folder of a skill. `None` when its bytes are not what they should be: the others are laid, and it is said (security
/// STORE-3).
pub(crate) async fn fetch(
    session: &str,
    blobs: &Blobs,
    skill: &Skill,
) -> Result<Option<Folder>, Error> {
    let fail = |error: io::Error| Error::io(format!("bring a skill of {session}"), error);
    let damaged = |why: String| {
        tracing::error!(
            session.id = session,
            skill = skill.name,
            why,
            "a skill is not laid into a sandbox"
        );
        Ok(None)
    };
    let stored = Stored {
        size: skill.size,
        sha256: skill.sha256.clone(),
    };
    let archive = match blobs.read(&skill.blob, &stored, ARCHIVE as u64).await {
        Ok(archive) => archive,
        Err(error @ (Blob::Damaged { .. } | Blob::Missing { .. } | Blob::TooLarge { .. })) => {
            return damaged(error.to_string());
        }
        Err(error) => return Err(fail(io::Error::other(error))),
    };
    let opened =
        tokio::task::spawn_blocking(move || manyhands_skills::read(&archive).and_then(Folder::new));
    match opened
        .await
        .map_err(|error| fail(io::Error::other(error)))?
    {
        Ok(folder) if folder.manifest().name == skill.name => Ok(Some(folder)),
        Ok(folder) => damaged(format!("it is the skill {:?}", folder.manifest().name)),
        Err(problem) => damaged(problem.to_string()),
    }
}

/// Where a repository has its skills.
const FOLDER: &str = ".claude/skills";
/// How many of a repository's skills are announced.
const MOST: usize = 100;
/// The first lines of a `SKILL.md`, in which its front matter is.
const LINES: u64 = 100;

/// A skill that a repository brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What its `SKILL.md` says.
    pub manifest: Manifest,
    /// Where that is in the sandbox.
    pub path: String,
}

/// The skills of a repository that was cloned to `mount_path`: exactly the `SKILL.md` of each folder right below
/// `.claude/skills`, read by the sandbox's own tools and taken as data. What is no skill is passed over. `id` tells the
/// repository from the session's others.
///
/// # Errors
/// As [`Sandbox::execute`].
pub async fn of_repository(
    sandbox: &Arc<dyn Sandbox>,
    epoch: i64,
    id: &str,
    mount_path: &str,
) -> Result<Vec<Found>, Error> {
    let folder = format!("{mount_path}/{FOLDER}");
    let mut calls = Vec::new();
    let glob = json!({"pattern": format!("*/{MANIFEST}"), "path": folder});
    let listed = look(
        sandbox,
        epoch,
        format!("skills-{id}"),
        "glob",
        glob,
        &mut calls,
    )
    .await?;
    // Without the folder there are none.
    let listed = listed.unwrap_or_default();
    let mut names: Vec<&str> = listed
        .lines()
        .filter_map(|line| name_at(line, &folder))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MOST {
        tracing::warn!(
            mount_path,
            found = names.len(),
            "a repository has more skills than are announced"
        );
    }
    let mut found = Vec::new();
    for (index, name) in names.into_iter().take(MOST).enumerate() {
        let path = format!("{folder}/{name}/{MANIFEST}");
        let input = json!({"file_path": path, "view_range": [1, LINES]});
        let call_id = format!("skills-{id}-{index}");
        let text = look(sandbox, epoch, call_id, "read", input, &mut calls).await?;
        match text.map(|text| front_matter(text.as_bytes())) {
            Some(Ok(manifest)) => found.push(Found { manifest, path }),
            Some(Err(problem)) => tracing::debug!(path, %problem, "no skill of a repository"),
            None => tracing::debug!(path, "a skill of a repository cannot be read"),
        }
    }
    if let Err(error) = sandbox.forget(&calls, epoch).await {
        tracing::debug!(%error, "results in a sandbox are kept for nothing");
    }
    Ok(found)
}

/// The name of the folder whose `SKILL.md` a line of a listing is. Names that a prompt could not hold on a line are none.
fn name_at<'l>(line: &'l str, folder: &str) -> Option<&'l str> {
    let below = line.trim().strip_prefix(folder)?.strip_prefix('/')?;
    let name = below.strip_suffix(MANIFEST)?.strip_suffix('/')?;
    is_name(name).then_some(name)
}

/// One look with a tool; `None` when the tool fails.
async fn look(
    sandbox: &Arc<dyn Sandbox>,
    epoch: i64,
    call_id: String,
    name: &str,
    input: serde_json::Value,
    calls: &mut Vec<String>,
) -> Result<Option<String>, Error> {
    calls.push(call_id.clone());
    let call = Call {
        call_id,
        epoch,
        name: name.to_owned(),
        deadline: toolset::deadline(name, &input),
        input,
    };
    let output = sandbox.execute(&call).await?;
    Ok((!output.is_error).then(|| text(&output)))
}

fn text(output: &Output) -> String {
    let texts = output.content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        Block::Image { .. } | Block::Document { .. } => None,
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime SK-6
    #[test]
    fn sk_6_only_folders_right_below_count() {
        let check = |line: &str, name: Option<&str>| {
            assert_eq!(name_at(line, "/workspace/r/.claude/skills"), name, "{line}");
        };
        check("/workspace/r/.claude/skills/a-1/SKILL.md", Some("a-1"));
        check("/workspace/r/.claude/skills/a/b/SKILL.md", None);
        check("/workspace/r/.claude/skills/SKILL.md", None);
        check("/workspace/r/.claude/skills/a/skill.md", None);
        check("/workspace/r/skills/a/SKILL.md", None);
        check("/workspace/r/.claude/skills/A b/SKILL.md", None);
        check("No files found", None);
    }
}
