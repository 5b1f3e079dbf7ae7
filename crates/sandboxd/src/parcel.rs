//! What a sandbox has written, out of a container and into one, over the standard streams of a process that the container's
//! engine starts inside: an [`archive`] in pieces, and then a [`Verdict`], so that a stream that was cut is never taken for
//! a whole one (security STORE-3).

use std::io::{self, Read, Write};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::archive::{self, Bounds, Owner, Top};
use crate::frame;

/// The most bytes of one piece.
pub const PIECE: usize = 256 << 10;

/// How it ended. After the last piece of what is packed; instead of an answer to what is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Verdict {
    /// All of it.
    Whole {
        /// Files, folders and links.
        entries: u64,
        /// Entries of kinds that are not kept.
        left_out: u64,
    },
    /// Not all of it.
    Failed {
        /// Whether the stream itself is wrong: another try would end the same.
        damaged: bool,
        /// Why.
        why: String,
    },
}

impl Verdict {
    fn of(done: io::Result<archive::Totals>) -> Self {
        match done {
            Ok(totals) => Self::Whole {
                entries: totals.entries,
                left_out: totals.left_out,
            },
            Err(error) => Self::Failed {
                damaged: is_damaged(&error),
                why: error.to_string(),
            },
        }
    }
}

/// Whether what was to be unpacked can never be: the reason is neither in the host nor on the way.
pub fn is_damaged(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::InvalidData | Kind::FileTooLarge | Kind::UnexpectedEof => true,
        Kind::AlreadyExists | Kind::NotADirectory => true,
        // What a decompression says.
        Kind::Other => error.raw_os_error().is_none(),
        _ => false,
    }
}

/// What is packed or unpacked: `NAME=PATH` for each folder.
pub struct Folders(Vec<(String, PathBuf)>);

impl Folders {
    /// Reads the words of a command line.
    ///
    /// # Errors
    /// When one of them is of another shape.
    pub fn parse(words: impl Iterator<Item = String>) -> io::Result<Self> {
        let folders = words.map(|word| match word.split_once('=') {
            Some((name, path)) if !name.is_empty() && !name.contains('/') => {
                Ok((name.to_owned(), PathBuf::from(path)))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a folder is NAME=PATH",
            )),
        });
        Ok(Self(folders.collect::<io::Result<_>>()?))
    }

    fn open(&self) -> io::Result<Vec<Top<'_>>> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let tops = self.0.iter().map(|(name, path)| {
            Ok(Top {
                name,
                folder: openat(CWD, path, flags, Mode::empty())?,
            })
        });
        tops.collect()
    }
}

/// Packs the folders into `output`.
///
/// # Errors
/// When nobody takes what is said; what else goes wrong is in the verdict.
pub fn pack(folders: &Folders, bounds: Bounds, output: impl Write) -> io::Result<()> {
    let mut pieces = Pieces {
        output,
        held: Vec::with_capacity(PIECE),
    };
    let packed = folders
        .open()
        .and_then(|tops| archive::pack(&tops, &mut pieces, bounds));
    pieces.piece()?;
    let mut output = pieces.output;
    output.write_all(&0_u32.to_be_bytes())?;
    frame::write(&mut output, &Verdict::of(packed)).map_err(io::Error::other)?;
    output.flush()
}

/// Unpacks `input` into the folders, which are empty, as this process's user.
///
/// # Errors
/// When nobody takes what is said; what else goes wrong is in the verdict.
pub fn unpack(
    folders: &Folders,
    bounds: Bounds,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    let owner = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let pieces = Joined {
        input,
        left: 0,
        ended: false,
    };
    let unpacked = folders
        .open()
        .and_then(|tops| archive::unpack(&tops, pieces, owner, bounds));
    frame::write(&mut output, &Verdict::of(unpacked)).map_err(io::Error::other)?;
    output.flush()
}

/// A piece as it is sent.
///
/// # Errors
/// Those of `output`.
pub fn send(output: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_be_bytes())?;
    output.write_all(piece)
}

/// What is written, in pieces.
struct Pieces<W> {
    output: W,
    held: Vec<u8>,
}

impl<W: Write> Pieces<W> {
    fn piece(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            send(&mut self.output, &self.held)?;
            self.held.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pieces as one stream, which ends with the empty one and no earlier.
struct Joined<R> {
    input: R,
    left: usize,
    ended: bool,
}

impl<R: Read> Read for Joined<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended && !buffer.is_empty() {
            let mut length = [0; 4];
            self.input.read_exact(&mut length)?;
            self.left = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
            self.ended = self.left == 0;
            if self.left > PIECE {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if self.ended {
            return Ok(0);
        }
        let most = self.left.min(buffer.len());
        let read = self.input.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BOUNDS: Bounds = Bounds {
        bytes: 8 << 20,
        entries: 100,
    };

    fn folders(at: &std::path::Path) -> Folders {
        let words = ["workspace", "home"].map(|name| {
            fs::create_dir_all(at.join(name).join("agent")).unwrap();
            let below = if name == "home" { "home/agent" } else { name };
            format!("{name}={}", at.join(below).display())
        });
        fs::remove_dir(at.join("workspace/agent")).unwrap();
        Folders::parse(words.into_iter()).unwrap()
    }

    fn packed(from: &Folders, bounds: Bounds) -> (Vec<u8>, Verdict) {
        let mut said = Vec::new();
        pack(from, bounds, &mut said).unwrap();
        let mut rest = &said[..];
        loop {
            let (length, after) = rest.split_at(4);
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            assert!(length <= PIECE);
            rest = &after[length..];
            if length == 0 {
                let verdict = frame::read(&mut &rest[..]).unwrap().unwrap();
                let pieces = said.len() - rest.len();
                said.truncate(pieces);
                return (said, verdict);
            }
        }
    }

    fn unpacked(stream: &[u8], into: &Folders) -> Verdict {
        let mut answer = Vec::new();
        unpack(into, BOUNDS, stream, &mut answer).unwrap();
        frame::read(&mut &answer[..]).unwrap().unwrap()
    }

    /// runtime EN-17, security STORE-3: folders that lie anywhere come back wherever they lie there; a stream that was cut,
    /// however little, is not taken for a whole one.
    #[test]
    fn en_17_folders_come_back_and_a_cut_stream_does_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, into) = (folders(one.path()), folders(two.path()));
        let large: Vec<u8> = (0..900_000_u32).map(|n| n as u8).collect();
        fs::write(one.path().join("workspace/f"), &large).unwrap();
        fs::write(one.path().join("home/agent/g"), "g").unwrap();
        let (stream, verdict) = packed(&from, BOUNDS);
        let whole = Verdict::Whole {
            entries: 4,
            left_out: 0,
        };
        assert_eq!(
            (&verdict, unpacked(&stream, &into)),
            (&whole, whole.clone())
        );
        assert_eq!(fs::read(two.path().join("workspace/f")).unwrap(), large);
        assert_eq!(fs::read(two.path().join("home/agent/g")).unwrap(), b"g");
        for cut in [0, 2, 600, 300_000, stream.len() - 5, stream.len() - 1] {
            let home = tempfile::tempdir().unwrap();
            let verdict = unpacked(&stream[..cut], &folders(home.path()));
            assert!(
                matches!(verdict, Verdict::Failed { damaged: true, .. }),
                "{cut}: {verdict:?}"
            );
        }
        let few = Bounds {
            bytes: 10_000,
            ..BOUNDS
        };
        let (_, verdict) = packed(&from, few);
        assert!(matches!(verdict, Verdict::Failed { .. }), "{verdict:?}");
    }

    #[test]
    fn inp_3_a_piece_has_a_limit_and_a_folder_a_name() {
        let home = tempfile::tempdir().unwrap();
        let verdict = unpacked(&u32::MAX.to_be_bytes(), &folders(home.path()));
        assert!(matches!(verdict, Verdict::Failed { damaged: true, .. }));
        for wrong in ["workspace", "=/x", "a/b=/x"] {
            assert!(Folders::parse([wrong.to_owned()].into_iter()).is_err());
        }
    }

    /// runtime EN-19
    #[test]
    fn en_19_only_what_can_never_be_unpacked_is_damaged() {
        let check = |error: io::Error, damaged| assert_eq!(is_damaged(&error), damaged);
        check(io::ErrorKind::InvalidData.into(), true);
        check(io::ErrorKind::UnexpectedEof.into(), true);
        check(io::Error::other("no frame"), true);
        check(io::Error::from_raw_os_error(5), false);
        check(io::Error::from_raw_os_error(28), false);
    }
}
