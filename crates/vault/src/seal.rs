//! Sealing: AES-256-GCM with a random nonce, bound to the place where the value belongs (security CRED-1). Pure.
//!
//! A sealed value is text: `mhs1.<data key>.<base64url of nonce, ciphertext and tag>`; a wrapped data key is `mhk1.<base64url>`.
//! What the place says is authenticated and not stored: a value that was copied to another row, field or workspace does not
//! open there.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::DataKeyId;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// A key's 32 bytes, wiped when they are dropped.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// The most bytes a secret may have.
pub const LONGEST: usize = 64 << 10;

const SEALED: &str = "mhs1";
const WRAPPED: &str = "mhk1";

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Whose it is.
    pub workspace: &'a WorkspaceId,
    /// The id of the vault, or of the session, that holds the object.
    pub holder: &'a str,
    /// The id of the credential, or of the resource.
    pub object: &'a str,
    /// The field's name.
    pub field: &'a str,
}

impl Place<'_> {
    fn associated_data(&self, key: &DataKeyId) -> Vec<u8> {
        let parts = [
            self.workspace.as_str(),
            self.holder,
            self.object,
            self.field,
            key.as_str(),
        ];
        joined(SEALED, &parts)
    }
}

/// What a data key is bound to when it is wrapped.
pub fn key_place(workspace: &WorkspaceId, key: &DataKeyId) -> Vec<u8> {
    joined(WRAPPED, &[workspace.as_str(), key.as_str()])
}

/// Parts in one, so that no two lists of parts give the same.
fn joined(form: &str, parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in std::iter::once(&form).chain(parts) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Why something does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has not the form of a sealed value of this version.
    #[error("it is not of a known form")]
    Form,
    /// It was sealed with another key than the one its workspace has.
    #[error("it was sealed with another key")]
    OtherKey,
    /// It was changed or moved, or the key is not its own.
    #[error("it was changed, moved, or sealed with another key")]
    Forged,
}

/// Why a secret is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// It has more than [`LONGEST`] bytes.
    #[error("the secret is longer than {LONGEST} bytes")]
    Long,
    /// This machine gives no random bytes.
    #[error("this machine gives no random bytes")]
    NoRandomness,
}

/// Seals a secret for its place.
///
/// # Errors
/// [`NotSealed`].
pub fn seal(
    key: &KeyBytes,
    id: &DataKeyId,
    place: &Place<'_>,
    secret: &SecretString,
) -> Result<String, NotSealed> {
    let plain = secret.expose_secret().as_bytes();
    if plain.len() > LONGEST {
        return Err(NotSealed::Long);
    }
    let sealed = encrypt(key, &place.associated_data(id), plain).ok_or(NotSealed::NoRandomness)?;
    Ok(format!("{SEALED}.{id}.{sealed}"))
}

/// Opens a sealed value at its place.
///
/// # Errors
/// [`Refusal`]; nothing of the value is given out then.
pub fn open(
    key: &KeyBytes,
    id: &DataKeyId,
    place: &Place<'_>,
    sealed: &str,
) -> Result<SecretString, Refusal> {
    let rest = sealed.strip_prefix(SEALED).ok_or(Refusal::Form)?;
    let rest = rest.strip_prefix('.').ok_or(Refusal::Form)?;
    let (named, value) = rest.split_once('.').ok_or(Refusal::Form)?;
    if named != id.as_str() {
        return Err(Refusal::OtherKey);
    }
    let plain = decrypt(key, &place.associated_data(id), value)?;
    let text = std::str::from_utf8(&plain).map_err(|_| Refusal::Form)?;
    // Of exactly its length: nothing is copied once more, and no copy is left behind.
    Ok(SecretString::from(String::from(text)))
}

/// Wraps a data key. `None` when this machine gives no random bytes.
pub fn wrap(master: &KeyBytes, bound_to: &[u8], key: &KeyBytes) -> Option<String> {
    let wrapped = encrypt(master, bound_to, key.as_slice())?;
    Some(format!("{WRAPPED}.{wrapped}"))
}

/// Unwraps a data key.
///
/// # Errors
/// [`Refusal`], as with [`open`].
pub fn unwrap(master: &KeyBytes, bound_to: &[u8], wrapped: &str) -> Result<KeyBytes, Refusal> {
    let value = wrapped.strip_prefix(WRAPPED).ok_or(Refusal::Form)?;
    let value = value.strip_prefix('.').ok_or(Refusal::Form)?;
    let plain = decrypt(master, bound_to, value)?;
    let mut key = KeyBytes::default();
    if plain.len() != key.len() {
        return Err(Refusal::Form);
    }
    key.copy_from_slice(&plain);
    Ok(key)
}

fn encrypt(key: &KeyBytes, bound_to: &[u8], plain: &[u8]) -> Option<String> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).ok()?;
    let room = plain.len() + AES_256_GCM.tag_len();
    // Room for the tag from the start: the plain text is not left behind where the bytes were before.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    bytes.extend_from_slice(plain);
    let nonce = cipher
        .seal_in_place_append_tag(Aad::from(bound_to), &mut *bytes)
        .ok()?;
    let mut value = Vec::with_capacity(NONCE_LEN + bytes.len());
    value.extend_from_slice(nonce.as_ref());
    value.extend_from_slice(&bytes);
    Some(BASE64_URL_SAFE_NO_PAD.encode(value))
}

fn decrypt(key: &KeyBytes, bound_to: &[u8], value: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    if value.len() > LONGEST * 2 {
        return Err(Refusal::Form);
    }
    let value = BASE64_URL_SAFE_NO_PAD
        .decode(value)
        .map_err(|_| Refusal::Form)?;
    if value.len() < NONCE_LEN + AES_256_GCM.tag_len() {
        return Err(Refusal::Form);
    }
    let (nonce, sealed) = value.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Refusal::Form)?;
    let cipher =
        RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| Refusal::Form)?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = cipher
        .open_in_place(nonce, Aad::from(bound_to), &mut bytes)
        .map_err(|_| Refusal::Forged)?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
