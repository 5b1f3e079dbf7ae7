//! The files that a sandbox has written for the user: looked at and brought among the blobs beneath a handle, without
//! following a link, while the sandbox may go on writing (runtime FI-5, security SBX-4).

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use manyhands_blobs::{Blobs, Writer, fresh};
use manyhands_protocol::file::LARGEST;
use manyhands_sandboxd::exchange::stamp;
use rustix::fs::{FileType, fstat};
use tokio::io::AsyncReadExt as _;

use super::blocking;
use super::writable::Tree;
use crate::Error;
use crate::provider::progress::Progress;
use crate::provider::{Capture, Captured, Seen};

/// The folder's name in the writable tree.
const FOLDER: &str = "outputs";
/// The most files of a session.
pub(in crate::provider) const FILES: usize = 1_000;
/// The most bytes of all of them together.
pub(in crate::provider) const TOTAL: u64 = 5 << 30;
/// The longest path.
pub(in crate::provider) const LONGEST: usize = 1_024;

/// A file that the look has found.
struct Output {
    at: PathBuf,
    path: String,
    stamp: String,
    size: u64,
}

/// Captures what is new or changed since these were seen.
pub(super) async fn capture(
    session: &str,
    tree: Tree,
    blobs: &Blobs,
    seen: &[Seen],
) -> Result<Capture, Error> {
    let doing = format!("look at the outputs of {session}");
    let tree = std::sync::Arc::new(tree);
    let looked = std::sync::Arc::clone(&tree);
    let (outputs, mut left_out) = blocking(&doing, move || look(&looked)).await?;
    let mut gathered = Gathered::new(blobs, seen);
    let mut wanted = Vec::new();
    let mut total: u64 = 0;
    for output in outputs {
        total = total.saturating_add(output.size);
        if output.size > LARGEST || total > TOTAL {
            total -= output.size;
            left_out += 1;
            continue;
        }
        if !gathered.knows(&output.path, &output.stamp) {
            wanted.push(output);
        }
    }
    let mut progress = Progress::new(session, wanted.iter().map(|output| output.size));
    for output in &wanted {
        let kept = keep(session, &tree, blobs, output, &mut progress).await;
        gathered.add(kept).await?;
        progress.file_ended();
    }
    Ok(gathered.end(session, left_out))
}

/// What has come together of a session's outputs.
pub(in crate::provider) struct Gathered<'a> {
    blobs: &'a Blobs,
    seen: &'a [Seen],
    capture: Capture,
}

impl<'a> Gathered<'a> {
    /// Nothing yet, where these were seen before.
    pub(in crate::provider) fn new(blobs: &'a Blobs, seen: &'a [Seen]) -> Self {
        Self {
            blobs,
            seen,
            capture: Capture::default(),
        }
    }

    fn seen(&self, path: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.path == path)
    }

    /// Whether a file is as it was seen.
    pub(in crate::provider) fn knows(&self, path: &str, stamp: &str) -> bool {
        self.seen(path).is_some_and(|seen| seen.stamp == stamp)
    }

    /// Takes a file that was brought among the blobs; `None` when it went or was written meanwhile.
    ///
    /// # Errors
    /// Those of the file: nothing is kept then.
    pub(in crate::provider) async fn add(
        &mut self,
        kept: Result<Option<Captured>, Error>,
    ) -> Result<(), Error> {
        match kept {
            Ok(Some(captured)) => {
                let seen = self.seen(&captured.path);
                if seen.is_none_or(|seen| seen.sha256 != captured.sha256) {
                    self.capture.files.push(captured);
                    return Ok(());
                }
                remove(self.blobs, &captured.blob).await;
                self.capture.same.push(Seen {
                    path: captured.path,
                    stamp: captured.stamp,
                    sha256: captured.sha256,
                });
            }
            Ok(None) => self.capture.unsteady = true,
            Err(error) => {
                for captured in &self.capture.files {
                    remove(self.blobs, &captured.blob).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// All of it, beside so many that are not captured.
    pub(in crate::provider) fn end(self, session: &str, left_out: u64) -> Capture {
        if left_out > 0 {
            metrics::counter!("manyhands_outputs_left_out_total").increment(left_out);
            tracing::warn!(
                session.id = session,
                left_out,
                "outputs are too large, too many or too deep to be captured"
            );
        }
        self.capture
    }
}

/// Removes a blob that no row will point to; the sweep finds what stays.
pub(in crate::provider) async fn remove(blobs: &Blobs, blob: &str) {
    if let Err(error) = blobs.delete(blob).await {
        tracing::debug!(%error, "a blob is left to the sweep");
    }
}

/// All regular files below the folder, by path, and how many there are beside those.
fn look(tree: &Tree) -> std::io::Result<(Vec<Output>, u64)> {
    let mut outputs = Vec::new();
    let mut left_out = 0;
    let walked = tree.walk(Path::new(FOLDER), |entry| {
        if entry.kind != FileType::RegularFile {
            return Ok(ControlFlow::Continue(()));
        }
        let below = entry.path.strip_prefix(FOLDER).unwrap_or(&entry.path);
        let path = text(below.as_os_str().as_bytes());
        if path.len() > LONGEST || outputs.len() >= FILES {
            left_out += 1;
        } else {
            outputs.push(Output {
                path,
                stamp: stamp(&entry.stat),
                size: u64::try_from(entry.stat.st_size).unwrap_or(0),
                at: entry.path,
            });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    outputs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((outputs, left_out + walked.left_out))
}

/// A path as text: what is no text, no plain character or a percent sign is written in hex, so that no two paths look alike.
pub(crate) fn text(path: &[u8]) -> String {
    let mut written = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                let mut bytes = [0; 4];
                escape(&mut written, character.encode_utf8(&mut bytes).as_bytes());
            } else {
                written.push(character);
            }
        }
        escape(&mut written, chunk.invalid());
    }
    written
}

fn escape(written: &mut String, bytes: &[u8]) {
    for byte in bytes {
        written.push_str(&format!("%{byte:02X}"));
    }
}

/// Brings one file among the blobs; `None` when it went or was written meanwhile.
async fn keep(
    session: &str,
    tree: &Tree,
    blobs: &Blobs,
    output: &Output,
    progress: &mut Progress<'_>,
) -> Result<Option<Captured>, Error> {
    let doing = || format!("read an output of {session}");
    let (file, before) = match tree.open_file(&output.at) {
        Ok(opened) => opened,
        Err(error) => {
            // It is a link, a pipe, a folder or nothing now, or closed to us.
            tracing::debug!(session.id = session, %error, "an output is not what it was");
            return Ok(None);
        }
    };
    let name = fresh("files");
    let stored = match blobs.create(&name, LARGEST) {
        Ok(writer) => copy(writer, file.try_clone(), progress).await,
        Err(error) => Err(error),
    };
    let stored = match stored {
        Ok(stored) => stored,
        // It has grown beyond the cap under our hands.
        Err(manyhands_blobs::Error::TooLarge { .. }) => return Ok(None),
        Err(manyhands_blobs::Error::NoSpace { .. }) => {
            return Err(Error::NoSpace {
                what: format!("for the outputs of {session}"),
            });
        }
        Err(error) => return Err(Error::io(doing(), std::io::Error::other(error))),
    };
    let after = fstat(&file).map_err(|error| Error::io(doing(), error))?;
    if stamp(&before) != stamp(&after) || Ok(stored.size) != u64::try_from(after.st_size) {
        remove(blobs, &name).await;
        return Ok(None);
    }
    metrics::counter!("manyhands_outputs_captured_bytes_total").increment(stored.size);
    Ok(Some(Captured {
        path: output.path.clone(),
        stamp: stamp(&after),
        blob: name,
        size: stored.size,
        sha256: stored.sha256,
    }))
}

async fn copy(
    mut writer: Writer,
    file: std::io::Result<std::fs::File>,
    progress: &mut Progress<'_>,
) -> Result<manyhands_blobs::Stored, manyhands_blobs::Error> {
    let source = |error: std::io::Error| manyhands_blobs::Error::Source {
        reason: error.to_string(),
    };
    let mut file = tokio::fs::File::from_std(file.map_err(source)?);
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut piece).await.map_err(source)?;
        if read == 0 {
            return writer.finish().await;
        }
        writer.write(&piece[..read]).await?;
        progress.came(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inp_5_no_two_paths_look_alike_and_none_breaks_a_line() {
        for (path, expected) in [
            (&b"report.csv"[..], "report.csv"),
            ("d/ü e".as_bytes(), "d/ü e"),
            (b"a\nb", "a%0Ab"),
            (b"a%0Ab", "a%250Ab"),
            (b"\xff/x", "%FF/x"),
            (b"\xc3", "%C3"),
        ] {
            assert_eq!(text(path), expected);
        }
    }
}
