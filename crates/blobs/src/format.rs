//! How a blob is stored: its content in blocks, each followed by the SHA-256 of all content up to its end.
//!
//! So a reader verifies each block before it gives away any of it, whatever the blob's size, and needs one pass and one block
//! of memory (security STORE-3). A block that was swapped with another, or belongs to another blob, does not match either; and
//! the last digest is the whole content's, which is in the row that points here.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// How much content a block has, but the last.
pub(crate) const BLOCK: usize = 256 << 10;
/// What follows it.
pub(crate) const SEAL: usize = SHA256_OUTPUT_LEN;

/// What was stored: to be kept in the row that points to the blob, and handed in to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in lower-case hex.
    pub sha256: String,
}

/// How many bytes are stored for content of this size. An empty blob has one empty block. `None` for what no disk holds.
pub(crate) fn length(size: u64) -> Option<u64> {
    let blocks = size.div_ceil(BLOCK as u64).max(1);
    blocks.checked_mul(SEAL as u64)?.checked_add(size)
}

/// The digests of a blob's blocks, one after the other.
pub(crate) struct Seals(Context);

impl Seals {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// What stands behind this block, when it follows those before.
    pub(crate) fn seal(&mut self, block: &[u8]) -> [u8; SEAL] {
        self.0.update(block);
        let mut seal = [0; SEAL];
        seal.copy_from_slice(self.0.clone().finish().as_ref());
        seal
    }
}

/// Lower-case hex.
pub(crate) fn hex(seal: &[u8; SEAL]) -> String {
    seal.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_a_seal_and_an_empty_blob_has_one() {
        let (block, seal) = (BLOCK as u64, SEAL as u64);
        for (size, expected) in [
            (0, Some(seal)),
            (1, Some(1 + seal)),
            (block, Some(block + seal)),
            (block + 1, Some(block + 1 + 2 * seal)),
            (u64::MAX, None),
        ] {
            assert_eq!(length(size), expected, "{size}");
        }
    }

    #[test]
    fn store_3_the_last_seal_is_the_digest_of_all() {
        let mut seals = Seals::new();
        let first = hex(&seals.seal(b"a"));
        let last = hex(&seals.seal(b"bc"));
        assert_eq!(
            last,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_ne!(first, last);
    }
}
