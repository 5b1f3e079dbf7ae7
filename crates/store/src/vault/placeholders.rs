//! What a session's sandbox sees in the place of a secret (security CRED-3, runtime VA-9).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use manyhands_protocol::vault::CredentialAuth;
use manyhands_protocol::{CredentialId, SessionId, VaultId, WorkspaceId};

use super::{CredentialRecord, credential_columns, credential_of};
use crate::db::{Lock, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::store::Store;

/// What every placeholder begins with; 32 characters of `a` to `z` and `2` to `7` follow.
pub const PREFIX: &str = "mhp_";
/// Its random bytes: 160 bits.
const BYTES: usize = 20;

/// What a session's sandbox sees in the place of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// The environment variable.
    pub secret_name: String,
    /// Its value in the sandbox: [`PREFIX`] and 32 letters and digits.
    pub placeholder: String,
    /// The credential it stands for.
    pub credential: CredentialId,
    /// The vault of that.
    pub vault: VaultId,
}

impl Store {
    /// The placeholders of a session, by the names of their variables, made where there are none yet. Of several vaults with
    /// the same name the first one's credential is taken (runtime VA-8). None for a session that is gone. Repeating it gives
    /// the same, also elsewhere at the same time.
    pub async fn placeholders(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Vec<Placeholder>, Error> {
        let Some(record) = self.session(workspace, session).await? else {
            return Ok(Vec::new());
        };
        if record.vault_ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut first: BTreeMap<String, (CredentialId, VaultId)> = BTreeMap::new();
        for record in self
            .active_credentials(workspace, &record.vault_ids, "env ")
            .await?
        {
            if let CredentialAuth::EnvironmentVariable { secret_name, .. } = record.credential.auth
            {
                let credential = (record.credential.id, record.credential.vault_id);
                first.entry(secret_name).or_insert(credential);
            }
        }
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let mut made = self.made(session).await?;
        let missing: BTreeSet<CredentialId> = first
            .values()
            .map(|(credential, _)| credential.clone())
            .filter(|credential| !made.contains_key(credential))
            .collect();
        if !missing.is_empty() {
            self.make(workspace, session, missing).await?;
            made = self.made(session).await?;
        }
        let placeholders = first
            .into_iter()
            .filter_map(|(secret_name, (credential, vault))| {
                Some(Placeholder {
                    secret_name,
                    placeholder: made.get(&credential)?.clone(),
                    credential,
                    vault,
                })
            });
        Ok(placeholders.collect())
    }

    /// The active credential that a placeholder stands for in this session; `None` for every other text.
    pub async fn placeholder(
        &self,
        session: &SessionId,
        placeholder: &str,
    ) -> Result<Option<CredentialRecord>, Error> {
        let sql = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM placeholders p JOIN credentials c ON c.id = p.credential_id
              WHERE p.placeholder = $1 AND p.session_id = $2 AND c.archived_at IS NULL"
        );
        let values = values![placeholder, session.as_str()];
        self.inner.db.find(sql, values, credential_of).await
    }

    /// The active credentials that have a placeholder in this session.
    pub async fn credentials_in_use(
        &self,
        session: &SessionId,
    ) -> Result<Vec<CredentialRecord>, Error> {
        let sql = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM placeholders p JOIN credentials c ON c.id = p.credential_id
              WHERE p.session_id = $1 AND c.archived_at IS NULL ORDER BY c.id"
        );
        self.inner
            .db
            .list(sql, values![session.as_str()], credential_of)
            .await
    }

    async fn made(&self, session: &SessionId) -> Result<BTreeMap<CredentialId, String>, Error> {
        let sql = "SELECT credential_id, placeholder FROM placeholders WHERE session_id = $1";
        let rows = self.inner.db.read(sql, values![session.as_str()]).await?;
        let mut made = BTreeMap::new();
        for row in &rows {
            let id = CredentialId::parse(row.text(0)?).map_err(|error| {
                Error::damaged(format!("a placeholder of session {session}"), error)
            })?;
            made.insert(id, row.text(1)?.to_owned());
        }
        Ok(made)
    }

    async fn make(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        missing: BTreeSet<CredentialId>,
    ) -> Result<(), Error> {
        let services = self.inner.services.clone();
        let (workspace, session) = (workspace.clone(), session.clone());
        self.inner
            .db
            .write(Scope::of(session.as_str()), move |tx| {
                Box::pin(async move {
                    // A deletion that comes after this one removes what it makes.
                    let sql = "SELECT id FROM sessions WHERE id = $1 AND workspace = $2";
                    let values = values![session.as_str(), workspace.as_str()];
                    if tx.locked(Lock::Share, sql, values).await?.is_empty() {
                        return Ok(());
                    }
                    let now = services.clock.now();
                    for credential in missing {
                        tx.run(
                            "INSERT INTO placeholders (session_id, credential_id, placeholder, created_at)
                             VALUES ($1, $2, $3, $4) ON CONFLICT (session_id, credential_id) DO NOTHING",
                            values![session.as_str(), credential.as_str(), mint()?, now],
                        )
                        .await?;
                    }
                    failpoint!("store::placeholders::made");
                    Ok(())
                })
            })
            .await
    }
}

/// Removes what a session's sandbox saw, with the session.
pub(crate) async fn remove_of_session(tx: &mut Tx, session: &SessionId) -> Result<(), Error> {
    let sql = "DELETE FROM placeholders WHERE session_id = $1";
    tx.run(sql, values![session.as_str()]).await
}

fn mint() -> Result<String, Error> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Unavailable {
            operation: "making a placeholder",
            reason: "this machine gives no random bytes".to_owned(),
        })?;
    Ok(format!("{PREFIX}{}", base32(&bytes)))
}

/// Base 32 of RFC 4648 in lower case, of whole groups of five bytes.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len() / 5 * 8);
    for group in bytes.chunks(5) {
        let number = group
            .iter()
            .fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        for digit in (0..8).rev() {
            let digit = (number >> (digit * 5) & 31) as usize;
            text.push(char::from(ALPHABET[digit]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security CRED-3
    #[test]
    fn cred_3_placeholders_are_long_random_and_of_one_form() {
        assert_eq!(base32(b"hello"), "nbswy3dp");
        assert_eq!(base32(&[0xff; 5]), "77777777");
        let minted: BTreeSet<String> = (0..1000).map(|_| mint().expect("random")).collect();
        assert_eq!(minted.len(), 1000);
        for placeholder in minted {
            let rest = placeholder.strip_prefix(PREFIX).expect("the prefix");
            assert_eq!(rest.len() * 5, 160);
            assert!(
                rest.bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
            );
        }
    }
}
