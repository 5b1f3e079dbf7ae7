//! What every sandbox of a server is made of, made once: the program inside, the system and its `/etc`, whom clients trust,
//! the filter of system calls.

use std::path::{Path, PathBuf};

use super::{base, binary, image, seccomp};
use crate::Error;
use crate::provider::Missing;
use crate::provider::door::Trust;

/// What is made once and used by every start.
pub(super) struct Parts {
    pub(super) sandboxd: PathBuf,
    /// The system that sandboxes see: the host's, or an image's.
    pub(super) root: PathBuf,
    pub(super) base: PathBuf,
    /// Whom clients inside trust, where there is a way out.
    pub(super) trust: Option<PathBuf>,
    pub(super) filters: Vec<Vec<u8>>,
}

impl Parts {
    pub(super) fn make(
        data: &Path,
        image: Option<&Path>,
        given: Option<&Path>,
        authority: Option<String>,
    ) -> Result<Self, Error> {
        let filters = seccomp::programs().map_err(|why| Missing {
            what: "the system-call filter is missing".to_owned(),
            why,
            install: "run the server on x86_64, which has one".to_owned(),
        })?;
        let sandboxd = binary::locate(given, &data.join("bin"))?;
        let root = match image {
            Some(image) => image::ensure(image, &data.join("images")).map_err(|error| {
                Error::io(format!("unpack the image {}", image.display()), error)
            })?,
            None => PathBuf::from("/"),
        };
        let (etc, bases) = (Path::new("/etc"), data.join("sandbox-base"));
        let trust = authority.map(|authority| Trust::new(authority, etc));
        let trust = trust.transpose();
        let trust = trust.map_err(|error| Error::io("read the roots of the system", error))?;
        let base = base::ensure(
            &root.join("etc"),
            &bases,
            trust.as_ref().map(|trust| &trust.roots[..]),
        )
        .map_err(|error| Error::io("make the /etc of sandboxes", error))?;
        let trust = trust.map(|trust| trust.folder(&bases)).transpose();
        let trust = trust.map_err(|error| Error::io("make what sandboxes trust", error))?;
        Ok(Self {
            sandboxd,
            root,
            base,
            trust,
            filters,
        })
    }
}
