//! Where `sandboxd` comes from: from inside this program, or from beside it.

use std::io;
use std::path::{Path, PathBuf};

use super::{files, fingerprint};
use crate::Error;
use crate::provider::Missing;

/// The file that was named at compile time; release builds carry it, so that users get one program.
#[cfg(manyhands_embed_sandboxd)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("MANYHANDS_SANDBOXD")));
#[cfg(not(manyhands_embed_sandboxd))]
const EMBEDDED: Option<&[u8]> = None;

const NAME: &str = "manyhands-sandboxd";

/// The path of a `sandboxd` to put into sandboxes. The embedded one is written once to `directory`.
pub(in crate::provider) fn locate(
    given: Option<&Path>,
    directory: &Path,
) -> Result<PathBuf, Error> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(missing(path).into())
        };
    }
    if let Some(bytes) = EMBEDDED {
        return install(bytes, directory).map_err(|error| {
            Error::io(format!("write sandboxd to {}", directory.display()), error)
        });
    }
    let own = std::env::current_exe()
        .map_err(|error| Error::io("find this program's own path", error))?;
    // Tests run from a folder below the one with the programs.
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file());
    beside.ok_or_else(|| missing(&own.with_file_name(NAME)).into())
}

fn missing(path: &Path) -> Missing {
    Missing {
        what: "sandboxd is missing".to_owned(),
        why: format!("{} is not there", path.display()),
        install: format!(
            "build it with \"cargo build --package {NAME}\", or use a release build, which contains it"
        ),
    }
}

/// Writes the program under a name made from its content: an update never touches one that is in use.
fn install(bytes: &[u8], directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(format!("sandboxd-{:016x}", fingerprint(bytes)));
    if std::fs::read(&path).is_ok_and(|found| found == bytes) {
        return Ok(path);
    }
    files::replace(&path, bytes, 0o555)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_embedded_program_is_written_once_and_repaired() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("bin");
        let path = install(b"program", &folder).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o555
        );
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(install(b"program", &folder).unwrap(), path);
        assert_eq!(
            std::fs::metadata(&path).unwrap().modified().unwrap(),
            written
        );
        files::replace(&path, b"damaged", 0o555).unwrap();
        assert_eq!(
            std::fs::read(install(b"program", &folder).unwrap()).unwrap(),
            b"program"
        );
        assert_ne!(install(b"another", &folder).unwrap(), path);
    }

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let error =
            locate(Some(Path::new("/nowhere/sandboxd")), Path::new("/nowhere")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("sandboxd is missing: /nowhere/sandboxd is not there; build it"),
            "{error}"
        );
    }
}
