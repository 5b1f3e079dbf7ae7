//! What the agent left in its outputs folder, read from the data directory on the same machine.
//!
//! The agent may write anything there, so nothing below the data directory is trusted: no link is followed, only a
//! regular file is opened, and only so much of it is read (security SBX-4).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// More than anybody reads on a terminal.
const MOST_BYTES: u64 = 64 * 1024;

/// The text of `name` in the session's outputs folder, its first 64 KiB; `None` when there is no such regular file in a
/// folder: a server that runs as root keeps them on a disk of the session's own.
pub(crate) fn read(data_dir: &Path, session: &str, name: &str) -> io::Result<Option<String>> {
    let root = File::open(data_dir)?;
    let path = format!("sandboxes/{session}/writable/outputs/{name}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::from(file).take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_4_only_a_regular_file_reached_without_links_is_read() {
        let data = tempfile::tempdir().unwrap();
        let outputs = data.path().join("sandboxes/sesn_1/writable/outputs");
        std::fs::create_dir_all(&outputs).unwrap();
        let secret = data.path().join("secret");
        std::fs::write(&secret, "host").unwrap();
        std::fs::write(outputs.join("plain"), "0\n1\n").unwrap();
        std::fs::create_dir(outputs.join("folder")).unwrap();
        std::os::unix::fs::symlink(&secret, outputs.join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, outputs.join("fifo"), Mode::RWXU).unwrap();

        let check = |name: &str, expected: Option<&str>| {
            let found = read(data.path(), "sesn_1", name).unwrap();
            assert_eq!(found.as_deref(), expected, "{name}");
        };
        check("plain", Some("0\n1\n"));
        check("absent", None);
        check("folder", None);
        check("link", None);
        check("fifo", None);
        assert!(read(data.path(), "sesn_1", "../../../../../etc/passwd").is_err());
    }

    #[test]
    fn sbx_4_a_huge_file_is_cut() {
        let data = tempfile::tempdir().unwrap();
        let outputs = data.path().join("sandboxes/sesn_1/writable/outputs");
        std::fs::create_dir_all(&outputs).unwrap();
        std::fs::write(outputs.join("huge"), vec![b'x'; 1 << 20]).unwrap();
        let found = read(data.path(), "sesn_1", "huge").unwrap().unwrap();
        assert_eq!(found.len() as u64, MOST_BYTES);
    }
}
