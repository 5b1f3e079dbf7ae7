//! The trees that sandboxes have written, as hosts keep them: the [`archive`](manyhands_sandboxd::archive) that sandboxes know
//! too, compressed with zstd.

use std::io::{self, Read, Write};

use manyhands_sandboxd::archive as plain;
pub(crate) use manyhands_sandboxd::archive::{Bounds, Owner, Top, Totals};

/// How hard the stream is compressed: the fastest there is; a checkpoint is made more often than it is read.
const LEVEL: i32 = 1;

/// Writes the folders of a tree, which nobody changes meanwhile.
///
/// # Errors
/// Those of the tree and of `into`; [`io::ErrorKind::FileTooLarge`] when it is beyond `bounds`.
pub(crate) fn pack(tops: &[Top<'_>], into: impl Write, bounds: Bounds) -> io::Result<Totals> {
    let mut into = compress(into)?;
    let totals = plain::pack(tops, &mut into, bounds)?;
    into.finish()?.flush()?;
    Ok(totals)
}

/// Fills the folders of a tree, which are empty. What it leaves after a failure is to be thrown away.
///
/// # Errors
/// Those of the tree and of `from`; [`io::ErrorKind::InvalidData`] for a stream that is no tree, and
/// [`io::ErrorKind::FileTooLarge`] for one beyond `bounds`.
pub(crate) fn unpack(
    tops: &[Top<'_>],
    from: impl Read,
    owner: Owner,
    bounds: Bounds,
) -> io::Result<Totals> {
    plain::unpack(tops, expand(from)?, owner, bounds)
}

/// What compresses an archive that somebody else writes; it has to be finished.
pub(crate) fn compress<W: Write>(into: W) -> io::Result<zstd::Encoder<'static, W>> {
    zstd::Encoder::new(into, LEVEL)
}

/// What a compressed archive was. It ends well only where the compressed one does.
pub(crate) fn expand(from: impl Read) -> io::Result<impl Read> {
    zstd::Decoder::new(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn tops(root: &Path) -> Vec<Top<'static>> {
        fs::create_dir_all(root.join("workspace")).unwrap();
        let folder = fs::File::open(root.join("workspace")).unwrap().into();
        let name = "workspace";
        vec![Top { name, folder }]
    }

    /// security STORE-3: a stream that was cut anywhere is no tree.
    #[test]
    fn store_3_a_stream_that_was_cut_is_refused() {
        let bounds = Bounds {
            bytes: 1 << 20,
            entries: 10,
        };
        let owner = Owner {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        let home = tempfile::tempdir().unwrap();
        let from = tops(home.path());
        let content: Vec<u8> = (0..20_000_u32)
            .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        fs::write(home.path().join("workspace/f"), &content).unwrap();
        let mut stream = Vec::new();
        pack(&from, &mut stream, bounds).unwrap();
        for cut in [0, 10, stream.len() / 2, stream.len() - 1] {
            let into = tempfile::tempdir().unwrap();
            let unpacked = unpack(&tops(into.path()), &stream[..cut], owner, bounds);
            assert!(unpacked.is_err(), "cut at {cut}");
        }
        let into = tempfile::tempdir().unwrap();
        unpack(&tops(into.path()), &stream[..], owner, bounds).unwrap();
        assert_eq!(fs::read(into.path().join("workspace/f")).unwrap(), content);
    }
}
