//! What a session's folder tells about its sandbox: which start was the last.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::files;
use crate::provider::Network;

const NAME: &str = "record.json";

/// The last start, written before it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider) struct Record {
    /// The instance that was to be started.
    pub(in crate::provider) instance: String,
    /// The boot of this host that it was started in: no process outlives that.
    boot: String,
    /// What it may reach: whoever finds it opens the same door. Without it, it may reach nothing.
    #[serde(default)]
    pub(in crate::provider) network: Option<Network>,
}

/// A name for a start; never given twice.
pub(super) fn new_instance() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(in crate::provider) fn write(
    folder: &Path,
    instance: &str,
    network: &Network,
) -> io::Result<()> {
    let record = Record {
        instance: instance.to_owned(),
        boot: boot()?,
        network: Some(network.clone()),
    };
    files::replace(&folder.join(NAME), &serde_json::to_vec(&record)?, 0o600)
}

/// The last start, if it was in this boot of the host. One that cannot be read is as good as none: the sandbox it
/// was about ends itself.
pub(in crate::provider) fn read(folder: &OwnedFd) -> io::Result<Option<Record>> {
    let file = match openat(
        folder,
        NAME,
        OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record: Option<Record> = serde_json::from_reader(std::fs::File::from(file)).ok();
    let boot = boot()?;
    Ok(record.filter(|record| record.boot == boot))
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_in_its_own_boot_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = files::open_directory(home.path()).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
        write(home.path(), "one", &Network::default()).unwrap();
        assert_eq!(read(&folder).unwrap().unwrap().instance, "one");
        for text in [r#"{"instance": "one", "boot": "another"}"#, "{", ""] {
            files::replace(&home.path().join(NAME), text.as_bytes(), 0o600).unwrap();
            assert_eq!(read(&folder).unwrap(), None, "{text}");
        }
    }
}
