//! What is made once per server and used by every container.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::id;
use super::image::Contents;
use super::spec::Ceiling;
use crate::Error;
use crate::provider::Missing;
use crate::provider::door::Trust;
use crate::provider::namespace::{binary, seccomp};

/// What Podman lowers its own limit of processes to: without the right to raise limits it gives no container more.
const MOST_PROCESSES: u64 = 32_768;

/// What is made once and used by every start.
pub(super) struct Parts {
    /// The data directory's own name, which nothing else has.
    pub(super) id: String,
    pub(super) contents: Contents,
    /// Whether the system-call filter is for the engine's processors.
    pub(super) filtered: bool,
    /// Whom clients inside trust, where there is a way out.
    pub(super) trust: Option<Trusted>,
}

/// Whom clients inside trust.
pub(super) struct Trusted {
    pub(super) trust: Trust,
    /// A folder of this host with the files.
    pub(super) folder: PathBuf,
}

impl Parts {
    pub(super) fn make(
        data: &Path,
        folder: &Path,
        given: Option<&Path>,
        filtered: bool,
        authority: Option<String>,
    ) -> Result<Self, Error> {
        let filters = if filtered {
            seccomp::programs().map_err(|why| Missing {
                what: "the system-call filter is missing".to_owned(),
                why,
                install: "run the server on the engine's kind of processor".to_owned(),
            })?
        } else {
            Vec::new()
        };
        let path = binary::locate(given, &data.join("bin"))?;
        let sandboxd = std::fs::read(&path)
            .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        let trust = authority.map(|authority| Trust::new(authority, Path::new("/etc")));
        let trust = trust.transpose();
        let trust = trust.map_err(|error| Error::io("read the roots of the system", error))?;
        let written = |trust: Trust| {
            let folder = trust.folder(folder)?;
            Ok::<_, io::Error>(Trusted { trust, folder })
        };
        let trust = trust.map(written).transpose();
        let trust = trust.map_err(|error| Error::io("make what sandboxes trust", error))?;
        Ok(Self {
            id: id::of(folder).map_err(|error| Error::io("name the containers' folder", error))?,
            contents: Contents { sandboxd, filters },
            filtered,
            trust,
        })
    }
}

impl Ceiling {
    pub(super) fn own() -> Self {
        let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
        Self {
            open_files: hard(Resource::Nofile),
            processes: hard(Resource::Nproc).min(MOST_PROCESSES),
        }
    }
}
