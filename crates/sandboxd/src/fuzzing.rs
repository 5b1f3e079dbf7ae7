//! Doors for the fuzz targets to what is private here (security INP-6). No part of `sandboxd`.

use crate::ansi::Strip;

/// Output that comes in these pieces, without terminal control sequences.
pub fn stripped(pieces: &[&[u8]]) -> Vec<u8> {
    let mut strip = Strip::default();
    let mut out = Vec::new();
    for piece in pieces {
        strip.push(piece, &mut out);
    }
    out
}
