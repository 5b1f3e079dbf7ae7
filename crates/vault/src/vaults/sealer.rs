//! What seals without waiting for anything, as inside of a transaction.

use std::sync::Arc;

use manyhands_protocol::WorkspaceId;
use manyhands_protocol::vault::Credential;
use secrecy::SecretString;

use super::{Field, OpenKey};
use crate::error::Error;
use crate::seal::{self, Place};

/// Seals secrets of one workspace.
#[derive(Clone)]
pub struct Sealer {
    pub(super) key: Arc<OpenKey>,
}

impl Sealer {
    /// Seals a secret for a place in this workspace.
    ///
    /// # Errors
    /// [`Error::NotSealed`].
    pub fn seal(&self, place: &Place<'_>, secret: &SecretString) -> Result<String, Error> {
        Ok(seal::seal(&self.key.bytes, &self.key.id, place, secret)?)
    }

    /// Seals a secret for a field of a credential.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_field(
        &self,
        workspace: &WorkspaceId,
        credential: &Credential,
        field: Field,
        secret: &SecretString,
    ) -> Result<String, Error> {
        self.seal(&place_of(workspace, credential, field), secret)
    }
}

/// Where a field of a credential belongs.
pub(super) fn place_of<'a>(
    workspace: &'a WorkspaceId,
    credential: &'a Credential,
    field: Field,
) -> Place<'a> {
    Place {
        workspace,
        holder: credential.vault_id.as_str(),
        object: credential.id.as_str(),
        field: field.as_str(),
    }
}
