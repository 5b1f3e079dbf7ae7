//! The versions that sessions have: noted down with the session, and let go with it.

use manyhands_protocol::agent::SkillRef;
use manyhands_protocol::{SessionId, Timestamp, WorkspaceId};

use super::BUILT_IN;
use crate::db::{Lock, Tx, values};
use crate::error::Error;

/// Notes down that a session has these versions. The place of the first one that is not there any more, and then nothing
/// may be kept of the transaction.
pub(crate) async fn hold(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    skills: &[SkillRef],
) -> Result<Result<(), usize>, Error> {
    let mut places: Vec<usize> = (0..skills.len()).collect();
    // Everybody locks versions in this order.
    places.sort_by(|one, other| skills[*one].version.cmp(&skills[*other].version));
    for place in places {
        let skill = &skills[place];
        let found = tx
            .locked(
                Lock::Share,
                "SELECT id FROM skill_versions
                 WHERE id = $1 AND skill_id = $2 AND workspace IN ($3, $4) AND deleted_at IS NULL",
                values![
                    skill.version.as_str(),
                    skill.skill_id.as_str(),
                    workspace.as_str(),
                    BUILT_IN,
                ],
            )
            .await?;
        if found.is_empty() {
            return Ok(Err(place));
        }
        tx.run(
            "INSERT INTO session_skills (session_id, version_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            values![session.as_str(), skill.version.as_str()],
        )
        .await?;
    }
    Ok(Ok(()))
}

/// Deletes a version whose row is locked: at once, or with the last session that has it.
pub(super) async fn let_go(tx: &mut Tx, version: &str, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE skill_versions SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL";
    tx.run(sql, values![version, now]).await?;
    remove_unheld(tx, version).await
}

/// Removes a version whose row is locked, if it is deleted and no session has it.
async fn remove_unheld(tx: &mut Tx, version: &str) -> Result<(), Error> {
    for sql in [
        "INSERT INTO loose_blobs (blob) SELECT blob FROM skill_versions
         WHERE id = $1 AND deleted_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM session_skills WHERE version_id = $1) ON CONFLICT DO NOTHING",
        "DELETE FROM skill_versions
         WHERE id = $1 AND deleted_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM session_skills WHERE version_id = $1)",
    ] {
        tx.run(sql, values![version]).await?;
    }
    Ok(())
}

/// Lets go of all versions that a session has, with the session.
pub(crate) async fn remove_of_session(tx: &mut Tx, session: &SessionId) -> Result<(), Error> {
    // Whoever else lets one of them go at this moment comes before or after, and one of both removes it.
    let rows = tx
        .locked(
            Lock::Update,
            "SELECT id FROM skill_versions
             WHERE id IN (SELECT version_id FROM session_skills WHERE session_id = $1) ORDER BY id",
            values![session.as_str()],
        )
        .await?;
    let sql = "DELETE FROM session_skills WHERE session_id = $1";
    tx.run(sql, values![session.as_str()]).await?;
    for row in &rows {
        remove_unheld(tx, row.text(0)?).await?;
    }
    Ok(())
}
