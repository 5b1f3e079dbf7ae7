//! What an operator writes, and what holds secrets: configuration, keys, sealed values, answers of token endpoints.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::DataKeyId;
use manyhands_vault::master::MasterKey;
use manyhands_vault::seal::{self, KeyBytes};

use crate::{is_one_line, text};

/// A configuration is read or refused in a few words.
pub(crate) fn config(bytes: &[u8]) {
    let Some(Err(refusal)) = text(bytes).map(manyhands_server::fuzzing::config) else {
        return;
    };
    assert!(is_one_line(refusal.lines().next().expect("words")));
}

/// A key is 32 bytes, and only in their one base64.
pub(crate) fn master_key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let decoded = BASE64_STANDARD.decode(text.trim());
    let is_key = decoded.is_ok_and(|bytes| bytes.len() == 32);
    assert_eq!(MasterKey::parse(text).is_ok(), is_key);
}

/// No text that this key did not seal is opened by it.
pub(crate) fn sealed(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let key = KeyBytes::new([7; 32]);
    let workspace = WorkspaceId::parse("wrkspc_fuzz").expect("an id");
    let id = DataKeyId::parse("dkey_fuzz").expect("an id");
    let place = seal::Place {
        workspace: &workspace,
        holder: "vlt_fuzz",
        object: "vcrd_fuzz",
        field: "token",
    };
    assert!(seal::open(&key, &id, &place, text).is_err());
    assert!(seal::unwrap(&key, b"bound", text).is_err());
}

/// A token that is taken fits into a header and is no longer than one.
pub(crate) fn token_answer(bytes: &[u8]) {
    let Some((&status, body)) = bytes.split_first() else {
        return;
    };
    let status = [200, 201, 204, 302, 400, 401, 429, 500][usize::from(status % 8)];
    let tokens = manyhands_vault::fuzzing::granted(status, body).unwrap_or_default();
    assert!(tokens.is_empty() || (200..300).contains(&status));
    if let Some(token) = tokens.first() {
        assert!(is_one_line(token) && !token.contains(' ') && token.len() <= 16 << 10);
    }
}
